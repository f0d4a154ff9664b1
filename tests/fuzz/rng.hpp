// SPDX-License-Identifier: MIT
// Random numbers that are the same on every machine: the standard's distributions are not.
#pragma once

#include <cstdint>
#include <iterator>
#include <random>

namespace petrel::fuzz {

class Rng {
 public:
  explicit Rng(std::uint64_t seed) : engine_(seed) {}

  // 0 to bound - 1; bound 0 counts as 1.
  std::uint32_t below(std::uint64_t bound) {
    return static_cast<std::uint32_t>(engine_() % (bound == 0 ? 1 : bound));
  }
  bool one_in(std::uint32_t count) { return below(count) == 0; }
  std::uint32_t word() { return static_cast<std::uint32_t>(engine_()); }
  std::uint8_t byte() { return static_cast<std::uint8_t>(engine_()); }
  template <class Range>
  auto& pick(Range& range) {
    return range[below(std::size(range))];
  }

 private:
  std::mt19937_64 engine_;
};

}  // namespace petrel::fuzz
