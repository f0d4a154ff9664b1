// SPDX-License-Identifier: MIT
// Counts that forget, in integers.
#pragma once

#include <algorithm>
#include <cstdint>

namespace petrel {

// What is left of a count after a while; linear between ticks, nothing after the time constant.
inline uint64_t decayed(uint64_t count_q16, uint64_t elapsed_ms, uint64_t time_constant_ms) {
  const uint64_t part_ms = std::min(elapsed_ms, time_constant_ms);
  return count_q16 - count_q16 * part_ms / time_constant_ms;
}

}  // namespace petrel
