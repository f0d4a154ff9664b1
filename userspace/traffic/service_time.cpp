// SPDX-License-Identifier: MIT
#include "traffic/service_time.hpp"

#include <cmath>
#include <string>

namespace petrel::traffic {

Result<Distribution> parse_distribution(std::string_view name) {
  if (name == "exponential") return Distribution::kExponential;
  if (name == "lognormal") return Distribution::kLognormal;
  if (name == "constant") return Distribution::kConstant;
  return Error(ExitCode::kUsage,
               "expected exponential, lognormal or constant, found '" + std::string(name) + "'");
}

std::chrono::nanoseconds ServiceTime::draw(Random& random) const {
  double time_ms = mean_ms;
  if (distribution == Distribution::kExponential) {
    time_ms = -std::log1p(-random.uniform()) * mean_ms;
  } else if (distribution == Distribution::kLognormal) {
    // A lognormal's mean is exp(mu + sigma^2 / 2): take that half back, so that mean_ms holds.
    std::normal_distribution<double> normal(-sigma * sigma / 2, sigma);
    time_ms = mean_ms * std::exp(normal(random.engine()));
  }
  return std::chrono::nanoseconds(static_cast<std::int64_t>(time_ms * 1e6));
}

}  // namespace petrel::traffic
