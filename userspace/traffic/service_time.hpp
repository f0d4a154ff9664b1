// SPDX-License-Identifier: MIT
// ServiceTime: how long a backend works on a request.
#pragma once

#include <chrono>
#include <string_view>

#include "base/error.hpp"
#include "traffic/random.hpp"

namespace petrel::traffic {

enum class Distribution { kExponential, kLognormal, kConstant };

// "exponential", "lognormal" or "constant".
Result<Distribution> parse_distribution(std::string_view name);

struct ServiceTime {
  Distribution distribution = Distribution::kExponential;
  double mean_ms = 10;  // the mean of every distribution, the lognormal one too
  double sigma = 0.5;   // lognormal: standard deviation of the logarithm

  std::chrono::nanoseconds draw(Random& random) const;
};

}  // namespace petrel::traffic
