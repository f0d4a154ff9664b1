// SPDX-License-Identifier: MIT
// Random numbers of the simulator: one generator, and one stream of it for each thing that is
// drawn, so that another policy changes neither the arrivals nor the clients.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <numbers>

namespace petrel::simulate {

// xoshiro256** 1.0 (Blackman, Vigna 2018), seeded by splitmix64: the standard library's
// distributions differ between implementations, and the same seed is to give the same bytes.
class Random {
 public:
  Random(std::uint64_t seed, std::uint64_t stream) {
    std::uint64_t state = seed * 0x9e3779b97f4a7c15 + stream * 0xd1342543de82ef95;
    for (std::uint64_t& word : state_) {
      state += 0x9e3779b97f4a7c15;
      std::uint64_t mixed = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9;
      mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111eb;
      word = mixed ^ (mixed >> 31);
    }
  }

  std::uint64_t bits() {
    const std::uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
    const std::uint64_t shifted = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= shifted;
    state_[3] = std::rotl(state_[3], 45);
    return result;
  }

  // 0 to below 1, in steps of 2^-53.
  double uniform() { return static_cast<double>(bits() >> 11) * 0x1p-53; }
  // 0 to bound - 1, by multiplication: the bias is below 2^-32.
  std::uint32_t below(std::uint32_t bound) {
    return static_cast<std::uint32_t>(((bits() >> 32) * bound) >> 32);
  }
  double exponential(double mean) { return -mean * std::log1p(-uniform()); }
  // Box and Muller 1958, one of the two.
  double normal() {
    const double radius = std::sqrt(exponential(2.0));
    return radius * std::cos(2 * std::numbers::pi * uniform());
  }

 private:
  std::uint64_t state_[4];
};

}  // namespace petrel::simulate
