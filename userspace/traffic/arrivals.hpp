// SPDX-License-Identifier: MIT
// Arrivals: when an open-loop client sends its requests, whatever becomes of the earlier ones.
#pragma once

#include <chrono>

#include "traffic/random.hpp"

namespace petrel::traffic {

// A Poisson process: independent, exponentially distributed gaps. Times are since its beginning.
class Arrivals {
 public:
  // rate_per_s > 0.
  Arrivals(double rate_per_s, Random random) : rate_per_s_(rate_per_s), random_(random) {}

  std::chrono::nanoseconds next();

 private:
  double rate_per_s_;
  Random random_;
  double elapsed_s_ = 0;
};

}  // namespace petrel::traffic
