// SPDX-License-Identifier: MIT
#include "loop/explanation.hpp"

#include <cmath>

namespace petrel {
namespace {

constexpr double kHalfLifeSeconds = 1.0;
constexpr double kNothing = 1e-6;  // observations: all are forgotten

}  // namespace

void Explanation::add(const Model& model, const FeatureVector& features, double count) {
  const FeatureVector clamped = clamp_to_trained(model, features);
  for (std::size_t i = 0; i < kFeatureCount; ++i) sums_[i] += count * clamped[i];
  weight_ += count;
}

void Explanation::decay(std::chrono::nanoseconds elapsed) {
  const double keep = std::exp2(-std::chrono::duration<double>(elapsed).count() / kHalfLifeSeconds);
  for (double& sum : sums_) sum *= keep;
  weight_ *= keep;
}

std::vector<Contribution> Explanation::pushes(const Model& model) const {
  if (weight_ < kNothing) return {};
  FeatureVector mean{};
  for (std::size_t i = 0; i < kFeatureCount; ++i) {
    mean[i] = static_cast<std::int32_t>(std::lround(sums_[i] / weight_));
  }
  return contributions(model, mean);
}

}  // namespace petrel
