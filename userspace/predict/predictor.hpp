// SPDX-License-Identifier: MIT
// Predictor: a request's retry probability by a model, and what it is made of.
//
// Features come of compute(), as in training and in the agent; those that hang on what is not given
// take the training median (the mean, of a model without medians); the probability is the
// fixed-point score. Not thread-safe: it keeps plans.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "predict/plan.hpp"
#include "score/model.hpp"

namespace petrel {

struct Scored {
  std::uint32_t probability_q16 = 0;
  std::uint64_t unknown = 0;  // bits of features that took the median
  std::uint64_t outside = 0;  // bits of features outside what was trained on: they were clamped
};

// Where a feature's value came from.
enum class Source : std::uint8_t { kRequest, kFeature, kMedian, kMean };
std::string_view source_name(Source source);  // "request", "feature", "median", "mean"

struct PredictedFeature {
  std::size_t feature = 0;
  Source source = Source::kRequest;
  std::int32_t value_q16 = 0;  // as found
  bool outside = false;        // of the trained range; the score takes the nearer end
  double log_odds = 0;         // coefficient * (value - mean) / scale, of what the score takes
};

struct Prediction {
  std::uint32_t probability_q16 = 0;
  double log_odds = 0;             // bias and what each feature adds
  std::optional<double> calibrated;  // the log-odds of the probability, where the model calibrates
  // In floating point with nothing clamped: beside the probability, where a feature is outside.
  std::optional<double> extrapolated;
  std::vector<PredictedFeature> features;  // all, the largest |log_odds| first
  Plan plan;
  std::uint64_t unused = 0;  // bits of quantities given that no feature is computed of
};

class Predictor {
 public:
  // The model must outlive it.
  explicit Predictor(const Model& model);

  // For streams: no allocation once a plan is known. The problem's field is a quantity.
  std::optional<InputProblem> score(const Request& request, Scored& scored);

  // A row of features that are all known.
  Scored score(const FeatureVector& features) const;

  std::optional<InputProblem> predict(const Request& request, Prediction& prediction);

  const Model& model() const { return model_; }
  bool has_medians() const { return has_medians_; }  // of all features

 private:
  std::optional<InputProblem> features_of(const Request& request, FeatureVector& features,
                                          Scored& scored, const Plan*& plan);
  void finish(const FeatureVector& features, Scored& scored) const;

  const Model& model_;
  bpf::scoring_model scoring_;
  bool has_medians_ = true;
  FeatureVector middle_{};  // medians or means
  Planner planner_;
  Situation situation_;
};

}  // namespace petrel
