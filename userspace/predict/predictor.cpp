// SPDX-License-Identifier: MIT
#include "predict/predictor.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

#include "score/score.hpp"

namespace petrel {

std::string_view source_name(Source source) {
  switch (source) {
    case Source::kRequest:
      return "request";
    case Source::kFeature:
      return "feature";
    case Source::kMedian:
      return "median";
    case Source::kMean:
      return "mean";
  }
  return "unknown";
}

Predictor::Predictor(const Model& model) : model_(model), scoring_(make_scoring_model(model)) {
  for (std::size_t i = 0; i < kFeatureCount; i++) {
    const ModelFeature& feature = model.features[i];
    has_medians_ = has_medians_ && feature.median_q16.has_value();
    const auto mean_q16 = static_cast<std::int32_t>(std::lround(feature.mean * Q16_ONE));
    middle_[i] = feature.median_q16.value_or(mean_q16);
  }
}

std::optional<InputProblem> Predictor::features_of(const Request& request, FeatureVector& features,
                                                   Scored& scored, const Plan*& plan) {
  Moment moment;
  if (auto problem = find_moment(request, moment)) return problem;
  plan = &planner_.plan(moment, request.given);
  situation_.reset();
  situation_.seen.point = moment.point.value_or(Point::kEnd);
  situation_.seen.failure = moment.failure.value_or(bpf::FAILURE_NONE);
  for (std::uint64_t left = request.given; left != 0; left &= left - 1) {
    const auto i = static_cast<std::size_t>(std::countr_zero(left));
    const Quantity& quantity = quantities()[i];
    if (quantity.apply != nullptr) quantity.apply(request.values[i], situation_);
  }
  features = situation_.features();
  scored.unknown = plan->unknown_features & ~request.given_features;
  for (std::uint64_t left = scored.unknown; left != 0; left &= left - 1) {
    const auto i = static_cast<std::size_t>(std::countr_zero(left));
    features[i] = middle_[i];
  }
  for (std::uint64_t left = request.given_features; left != 0; left &= left - 1) {
    const auto i = static_cast<std::size_t>(std::countr_zero(left));
    features[i] = request.features[i];
  }
  return std::nullopt;
}

void Predictor::finish(const FeatureVector& features, Scored& scored) const {
  scored.probability_q16 = probability_q16(scoring_, features);
  scored.outside = 0;
  for (std::size_t i = 0; i < kFeatureCount; i++) {
    const ModelFeature& feature = model_.features[i];
    const bool outside = features[i] < feature.min_q16 || features[i] > feature.max_q16;
    scored.outside |= std::uint64_t{outside} << i;
  }
  scored.outside &= ~scored.unknown;  // a mean may be rounded out of a range of one value
}

std::optional<InputProblem> Predictor::score(const Request& request, Scored& scored) {
  FeatureVector features{};
  const Plan* plan = nullptr;
  if (auto problem = features_of(request, features, scored, plan)) return problem;
  finish(features, scored);
  return std::nullopt;
}

Scored Predictor::score(const FeatureVector& features) const {
  Scored scored;
  finish(features, scored);
  return scored;
}

std::optional<InputProblem> Predictor::predict(const Request& request, Prediction& prediction) {
  FeatureVector features{};
  Scored scored;
  const Plan* plan = nullptr;
  if (auto problem = features_of(request, features, scored, plan)) return problem;
  finish(features, scored);
  prediction = Prediction();
  prediction.probability_q16 = scored.probability_q16;
  const std::int32_t log_odds = log_odds_q16(model_, features);
  prediction.log_odds = log_odds / double{Q16_ONE};
  if (model_.calibration_q16) {
    prediction.calibrated = calibrate_q16(model_, log_odds) / double{Q16_ONE};
  }
  prediction.plan = *plan;
  if (scored.outside != 0) {
    const double beyond = float_calibrate(model_, float_log_odds(model_, features));
    prediction.extrapolated = 1 / (1 + std::exp(-beyond));
  }
  const FeatureVector taken = clamp_to_trained(model_, features);
  for (std::size_t i = 0; i < kFeatureCount; i++) {
    const ModelFeature& feature = model_.features[i];
    Source source = Source::kRequest;
    if ((scored.unknown >> i & 1) != 0)
      source = feature.median_q16 ? Source::kMedian : Source::kMean;
    if ((request.given_features >> i & 1) != 0) source = Source::kFeature;
    const double from_mean = taken[i] / double{Q16_ONE} - feature.mean;
    prediction.features.push_back({.feature = i,
                                   .source = source,
                                   .value_q16 = features[i],
                                   .outside = (scored.outside >> i & 1) != 0,
                                   .log_odds = feature.coefficient * from_mean / feature.scale});
  }
  std::stable_sort(prediction.features.begin(), prediction.features.end(),
                   [](const auto& left, const auto& right) {
                     return std::abs(left.log_odds) > std::abs(right.log_odds);
                   });
  prediction.unused = request.given & ~used_quantities();
  return std::nullopt;
}

}  // namespace petrel
