// SPDX-License-Identifier: MIT
// Error and Result: how anything that touches the system fails.
//
// An Error names what was attempted, on what, and why it failed. It climbs with context added at
// each level ("start balancer on eth0: load: EPERM (Operation not permitted)") and is logged once,
// at the top, where kind() decides the process's exit code.
#pragma once

#include <boost/system/result.hpp>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace petrel {

// Exit codes of every petrel program; Error carries one so that the top level need not guess.
enum class ExitCode : int {
  kGood = 0,
  kRuntime = 1,
  kUsage = 2,
  kInput = 3,       // configuration or an input file is wrong
  kWarnings = 4,    // usable with warnings
  kMissing = 5,     // a capability or kernel feature is missing
  kUnreachable = 6, // the agent cannot be reached
  kConflict = 7,    // another XDP program, another agent, another map layout
  kUnhealthy = 8,   // a check says unhealthy
};

class Error {
 public:
  Error() = default;  // no error: what boost::system::result holds beside a value
  Error(ExitCode kind, std::string message) : kind_(kind), message_(std::move(message)) {}

  // From an errno value (positive): "<what>: EPERM (Operation not permitted)".
  static Error from_errno(int errno_value, std::string_view what);

  // The same error with what the caller was doing put in front.
  Error within(std::string_view context) const;

  ExitCode kind() const { return kind_; }
  const std::string& message() const { return message_; }
  std::error_code code() const { return code_; }

 private:
  ExitCode kind_ = ExitCode::kGood;
  std::string message_;
  std::error_code code_;
};

// boost::system::result asks how to throw when value() is called on an error: that is our own bug.
[[noreturn]] void throw_exception_from_error(const Error& error, const boost::source_location&);

template <class T = void>
using Result = boost::system::result<T, Error>;

// "EPERM" for 1; "errno 9999" for a number without a name.
std::string errno_name(int errno_value);

}  // namespace petrel
