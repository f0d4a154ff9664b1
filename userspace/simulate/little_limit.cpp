// SPDX-License-Identifier: MIT
#include "simulate/little_limit.hpp"

#include <algorithm>

namespace petrel::simulate {
namespace {

constexpr double kSmoothingS = 1.0;
constexpr double kPatiencePart = 1.0 / 3;
constexpr double kUsualSmoothingS = 30;
constexpr double kLearningS = 2;  // before it has seen so much it limits nothing
constexpr double kRoom = 4;       // times what is usually in flight: never below
constexpr double kLeast = 16;     // requests
constexpr double kRetryPart = 0.8;

}  // namespace

InflightLimits LittleLimit::tick(const InflightFacts& facts) {
  const double seconds = static_cast<double>(facts.elapsed_ns) * 1e-9;
  if (seconds <= 0) return {};
  const double now_per_s = static_cast<double>(facts.answered) / seconds;
  seen_s_ += seconds;  // a mean at first, so that it does not begin at nothing
  per_s_ += (now_per_s - per_s_) * std::min(1.0, seconds / std::min(seen_s_, kSmoothingS));
  if (facts.abandoned == 0) {
    usual_ += (static_cast<double>(facts.waiting) - usual_) *
              std::min(1.0, seconds / std::min(seen_s_, kUsualSmoothingS));
  }
  if (seen_s_ < kLearningS) return {};
  const double wait_s =
      seconds_ > 0 ? seconds_ : static_cast<double>(facts.patience_ns) * 1e-9 * kPatiencePart;
  const double limit = std::max({per_s_ * wait_s, usual_ * kRoom, kLeast});
  return {static_cast<std::uint64_t>(limit),
          std::max<std::uint64_t>(1, static_cast<std::uint64_t>(limit * kRetryPart))};
}

}  // namespace petrel::simulate
