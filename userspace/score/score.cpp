// SPDX-License-Identifier: MIT
#include "score/score.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace petrel {

FeatureVector clamp_to_trained(const Model& model, const FeatureVector& features) {
  FeatureVector clamped{};
  for (size_t i = 0; i < kFeatureCount; i++) {
    clamped[i] = std::clamp(features[i], model.features[i].min_q16, model.features[i].max_q16);
  }
  return clamped;
}

int32_t log_odds_q16(const Model& model, const FeatureVector& features) {
  const bpf::scoring_model scoring = make_scoring_model(model);
  return bpf::scoring_log_odds_q16(&scoring, features.data(), kFeatureCount);
}

int32_t calibrate_q16(const Model& model, int32_t log_odds) {
  if (!model.calibration_q16) return log_odds;
  return bpf::calibrate_log_odds_q16(model.calibration_q16->data(), log_odds);
}

uint32_t probability_q16(const Model& model, const FeatureVector& features) {
  return probability_q16(make_scoring_model(model), features);
}

double float_log_odds(const Model& model, const FeatureVector& features) {
  double log_odds = model.bias;
  for (size_t i = 0; i < kFeatureCount; i++) {
    const ModelFeature& feature = model.features[i];
    const double value = features[i] / double{Q16_ONE};
    log_odds += feature.coefficient * (value - feature.mean) / feature.scale;
  }
  return log_odds;
}

double float_calibrate(const Model& model, double log_odds) {
  if (!model.calibration_q16) return log_odds;
  const CalibrationKnots& knots = *model.calibration_q16;
  constexpr double kFirst = CALIBRATION_FIRST_Q16 / double{Q16_ONE};
  constexpr double kStep = (1 << CALIBRATION_STEP_SHIFT) / double{Q16_ONE};
  constexpr double kLast = CALIBRATION_KNOTS - 1;
  const double place = (log_odds - kFirst) / kStep;
  if (place < 0) return knots.front() / double{Q16_ONE} + place * kStep;
  if (place >= kLast) return knots.back() / double{Q16_ONE} + (place - kLast) * kStep;
  const auto below = static_cast<size_t>(place);
  return std::lerp(knots[below], knots[below + 1], place - static_cast<double>(below)) / Q16_ONE;
}

double float_probability(const Model& model, const FeatureVector& features) {
  const double log_odds = float_log_odds(model, clamp_to_trained(model, features));
  return 1 / (1 + std::exp(-float_calibrate(model, log_odds)));
}

std::vector<Contribution> contributions(const Model& model, const FeatureVector& features) {
  const FeatureVector clamped = clamp_to_trained(model, features);
  std::vector<Contribution> result;
  for (size_t i = 0; i < kFeatureCount; i++) {
    const bpf::model_coefficient& weight = model.coefficients[i];
    // The mean lies within the trained range, so it fits Q16.
    const auto mean_q16 = static_cast<int32_t>(std::lround(model.features[i].mean * Q16_ONE));
    const int32_t from_mean = bpf::subtract_saturating(clamped[i], mean_q16);
    const int32_t added = bpf::mul_shift_saturating(from_mean, weight.mantissa, weight.shift);
    if (added != 0) result.push_back({kFeatures[i].name, clamped[i], added});
  }
  std::stable_sort(result.begin(), result.end(), [](const auto& left, const auto& right) {
    return std::abs(int64_t{left.log_odds_q16}) > std::abs(int64_t{right.log_odds_q16});
  });
  return result;
}

}  // namespace petrel
