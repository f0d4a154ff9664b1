// SPDX-License-Identifier: MIT
#include "maps/bpf_error.hpp"

#include <bpf/libbpf.h>
#include <spdlog/spdlog.h>

#include <array>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <string>

namespace petrel {
namespace {

int forward_to_log(libbpf_print_level level, const char* format, va_list arguments) {
  std::array<char, 4096> text{};
  const int length = std::vsnprintf(text.data(), text.size(), format, arguments);
  std::string_view line(text.data());
  while (!line.empty() && line.back() == '\n') line.remove_suffix(1);
  if (level == LIBBPF_WARN) {
    spdlog::debug("libbpf: {}", line);
  } else {
    spdlog::trace("libbpf: {}", line);
  }
  return length;
}

}  // namespace

void capture_libbpf_log() { libbpf_set_print(forward_to_log); }

Error bpf_error(int negative_errno, std::string_view what) {
  const int value = negative_errno < 0 ? -negative_errno : negative_errno;
  Error error = Error::from_errno(value, what);
  if (value == EPERM || value == EACCES) {
    return Error(ExitCode::kMissing,
                 error.message() + ": needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON: run as root");
  }
  return error;
}

}  // namespace petrel
