// SPDX-License-Identifier: MIT
#include "base/error.hpp"

#include <cerrno>
#include <cstring>
#include <stdexcept>

namespace petrel {

std::string errno_name(int errno_value) {
  const char* name = strerrorname_np(errno_value);
  return name != nullptr ? name : "errno " + std::to_string(errno_value);
}

Error Error::from_errno(int errno_value, std::string_view what) {
  const bool denied = errno_value == EPERM || errno_value == EACCES;
  Error error(denied ? ExitCode::kMissing : ExitCode::kRuntime,
              std::string(what) + ": " + errno_name(errno_value) + " (" +
                  std::generic_category().message(errno_value) + ")");
  error.code_ = std::error_code(errno_value, std::generic_category());
  return error;
}

Error Error::within(std::string_view context) const {
  Error outer = *this;
  outer.message_ = std::string(context) + ": " + message_;
  return outer;
}

void throw_exception_from_error(const Error& error, const boost::source_location&) {
  throw std::logic_error("value() of a failed Result: " + error.message());
}

}  // namespace petrel
