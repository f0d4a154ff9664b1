// SPDX-License-Identifier: MIT
#include "agent/explanation.hpp"

#include <algorithm>
#include <cmath>

namespace petrel {
namespace {

constexpr double kHalfLifeSeconds = 1.0;
constexpr double kOne = 65536.0;  // Q16

}  // namespace

void Explanation::add(const Model& model, const FeatureVector& features, double count) {
  for (const Contribution& part : contributions(model, features)) {
    const auto known = std::find_if(kFeatures.begin(), kFeatures.end(),
                                    [&](const FeatureInfo& info) { return info.name == part.feature; });
    const auto index = static_cast<std::size_t>(known - kFeatures.begin());
    log_odds_[index] += count * part.log_odds_q16 / kOne;
    values_[index] += count * part.value_q16 / kOne;
  }
  weight_ += count;
}

void Explanation::decay(std::chrono::nanoseconds elapsed) {
  const double keep = std::exp2(-std::chrono::duration<double>(elapsed).count() / kHalfLifeSeconds);
  for (double& sum : log_odds_) sum *= keep;
  for (double& sum : values_) sum *= keep;
  weight_ *= keep;
}

std::vector<Explanation::Push> Explanation::pushes() const {
  std::vector<Push> out;
  if (weight_ < 1e-6) return out;
  for (std::size_t i = 0; i < kFeatureCount; ++i) {
    if (log_odds_[i] == 0) continue;
    out.push_back({static_cast<Feature>(i), log_odds_[i] / weight_, values_[i] / weight_});
  }
  std::sort(out.begin(), out.end(), [](const Push& a, const Push& b) {
    return std::abs(a.log_odds) > std::abs(b.log_odds);
  });
  return out;
}

}  // namespace petrel
