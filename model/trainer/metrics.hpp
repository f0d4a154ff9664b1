// SPDX-License-Identifier: MIT
// How well probabilities tell retried rows from others, and whether they can be believed.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "score/model.hpp"
#include "telemetry/row.hpp"

namespace petrel {

// Area under the ROC curve: how often a retried row scores above another; ties count half.
// 0.5 where there is only one class. The spans have equal length.
double roc_auc(std::span<const double> scores, std::span<const uint8_t> labels);

// Mean distance of predicted and retried share over 10 bins of equal mass; 0 of no rows.
double calibration_error(std::span<const double> probabilities, std::span<const uint8_t> labels);

// Mean -ln of the probability given to what happened; probabilities are kept off 0 and 1 by 2^-17,
// half of what the fixed-point score resolves.
double log_loss(std::span<const double> probabilities, std::span<const uint8_t> labels);
double log_loss_of(double probability, bool retried);  // of one row

// About one tenth of the rows, by predicted probability: a calibrated model has both means alike.
struct CalibrationBin {
  uint64_t rows = 0;
  double least_predicted = 0;
  double most_predicted = 0;
  double mean_predicted = 0;
  double share_retried = 0;
};

struct PointResult {
  uint64_t rows = 0;
  double positive_share = 0;
  double auc = 0.5;
  double ece = 0;  // expected calibration error over 10 bins of equal mass
};

struct Evaluation {
  uint64_t rows = 0;
  double positive_share = 0;
  double auc = 0.5;
  double ece = 0;
  double log_loss = 0;
  double base_rate_log_loss = 0;                    // of predicting the positive share always
  std::array<PointResult, kPointCount> by_point{};  // by enum Point
  std::vector<CalibrationBin> calibration;          // ascending
};

struct Baseline {
  std::string name;
  double auc = 0.5;
};

// The model as it is shipped: fixed-point probabilities.
Evaluation evaluate(const Model& model, std::span<const Run* const> runs);
Evaluation evaluate(const Model& model, std::span<const Run> runs);

// What simple rules reach on the same rows: "elapsed alone", "waiting age alone", "failure alone".
std::vector<Baseline> baselines(std::span<const Run* const> runs);

}  // namespace petrel
