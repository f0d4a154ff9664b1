// SPDX-License-Identifier: MIT
// ProgramConstants: what the loader set in the balancer that is attached now, read from the
// program.
//
// The maps do not say how long a failure makes a retry: only the program's read-only data does.
#pragma once

#include <cstdint>
#include <string>

#include "base/error.hpp"

namespace petrel::inspect {

struct ProgramConstants {
  std::uint64_t retry_window_ns = 5'000'000'000;
  std::uint64_t handshake_timeout_ns = 200'000'000;
  std::uint64_t failover_after_ns = 150'000'000;
  std::uint64_t half_open_secret = 0;
  std::uint32_t half_open_mask = 0;
  std::uint32_t pending_mask = 0;
  bool wire_sensor = true;
};

// Of the program behind any of the links pinned under `pin_path`. kUnreachable: there is none (the
// maps may be pinned nevertheless).
Result<ProgramConstants> read_program_constants(const std::string& pin_path);

}  // namespace petrel::inspect
