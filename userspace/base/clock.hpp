// SPDX-License-Identifier: MIT
// The clock that the maps use.
#pragma once

#include <cstdint>
#include <ctime>

namespace petrel {

// CLOCK_MONOTONIC in nanoseconds: what bpf_ktime_get_ns() returns.
inline std::uint64_t monotonic_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
         static_cast<std::uint64_t>(now.tv_nsec);
}

}  // namespace petrel
