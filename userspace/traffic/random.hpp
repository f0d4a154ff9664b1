// SPDX-License-Identifier: MIT
// Random: the generator of every random choice here, and independent streams of one seed.
//
// Each purpose draws from a stream of its own, so that a run with another retry policy still sees
// the same arrivals and the same client addresses: two runs of one seed can be compared.
#pragma once

#include <cstdint>
#include <random>

namespace petrel::traffic {

enum class Stream : std::uint64_t {
  kArrivals = 1,
  kClients,
  kRetries,
  kServiceTimes,
  kErrors,
  kPaths,
  kPollers,
  kPosts
};

class Random {
 public:
  Random(std::uint64_t seed, Stream stream)
      : engine_(seed * 0x9E3779B97F4A7C15ULL + static_cast<std::uint64_t>(stream)) {}

  // Uniform in [0, 1), with all 53 bits that a double holds.
  double uniform() { return static_cast<double>(engine_() >> 11) * 0x1.0p-53; }

  // Uniform in [0, bound); the bias of the multiplication is below 2^-20 for bounds up to 2^32.
  std::uint64_t below(std::uint64_t bound) {
    return static_cast<std::uint64_t>(uniform() * static_cast<double>(bound));
  }

  std::mt19937_64& engine() { return engine_; }

 private:
  std::mt19937_64 engine_;
};

}  // namespace petrel::traffic
