// SPDX-License-Identifier: MIT
#include "traffic/arrivals.hpp"

#include <cmath>

namespace petrel::traffic {

std::chrono::nanoseconds Arrivals::next() {
  // log1p(-u), not log(u): u may be 0 and is never 1.
  elapsed_s_ += -std::log1p(-random_.uniform()) / rate_per_s_;
  return std::chrono::nanoseconds(static_cast<std::int64_t>(elapsed_s_ * 1e9));
}

}  // namespace petrel::traffic
