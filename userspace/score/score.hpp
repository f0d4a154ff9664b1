// SPDX-License-Identifier: MIT
// Scoring: a feature vector's probability of being retried, and what it is made of.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "features/features.hpp"
#include "score/model.hpp"

namespace petrel {

// Each feature within the range that the model was trained on: a linear model must not extrapolate.
FeatureVector clamp_to_trained(const Model& model, const FeatureVector& features);

// The model in the form that BPF and userspace score by: made once, used for many. `generation` says
// which model an event was scored by.
bpf::scoring_model make_scoring_model(const Model& model, uint32_t generation = 1);

// Of the features alone, before calibration: bias and contributions add up to it.
int32_t log_odds_q16(const Model& model, const FeatureVector& features);
// By the model's calibration; as they are where it has none.
int32_t calibrate_q16(const Model& model, int32_t log_odds);

// 0 to 65536, calibrated.
inline uint32_t probability_q16(const bpf::scoring_model& model, const FeatureVector& features) {
  return bpf::score_probability_q16(&model, features.data(), kFeatureCount);
}

// Makes the scoring model first: for who scores now and then.
uint32_t probability_q16(const Model& model, const FeatureVector& features);

// Log-odds and probability in floating point, before quantization. The log-odds are of the features
// as they are, not clamped; the probability's are, as in scoring.
double float_log_odds(const Model& model, const FeatureVector& features);
double float_calibrate(const Model& model, double log_odds);
double float_probability(const Model& model, const FeatureVector& features);

struct Contribution {
  std::string_view feature;  // of kFeatures
  int32_t value_q16 = 0;     // after clamping
  int32_t log_odds_q16 = 0;  // added, relative to the training mean of the feature
};

// Of the log-odds before calibration. One for each feature that adds or takes anything, the largest magnitude first.
std::vector<Contribution> contributions(const Model& model, const FeatureVector& features);

}  // namespace petrel
