// SPDX-License-Identifier: MIT
// The parts of Maglev hashing that decide where a backend's slots lie. Internal to ring/.
#pragma once

#include <cstdint>

#include "ring/ring.hpp"

namespace petrel {

// The finisher of splitmix64 (Steele, Lea, Flood 2014): every input bit reaches every output bit.
constexpr std::uint64_t ring_mix(std::uint64_t value) {
  value += 0x9e3779b97f4a7c15;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

// The order that all hosts agree on.
constexpr bool ring_before(const RingMember& left, const RingMember& right) {
  return left.seed != right.seed ? left.seed < right.seed : left.backend_id < right.backend_id;
}

// A member's permutation of the slots, walked by addition.
class RingWalk {
 public:
  RingWalk(std::uint64_t seed, std::uint32_t slots)
      : slots_(slots),
        skip_(slots > 1 ? static_cast<std::uint32_t>(ring_mix(~seed) % (slots - 1)) + 1 : 0),
        at_(static_cast<std::uint32_t>(seed % slots)) {}

  std::uint32_t next() {
    const std::uint32_t slot = at_;
    at_ = at_ >= slots_ - skip_ ? at_ - (slots_ - skip_) : at_ + skip_;
    return slot;
  }

 private:
  std::uint32_t slots_;
  std::uint32_t skip_;  // 1 to slots - 1
  std::uint32_t at_;
};

}  // namespace petrel
