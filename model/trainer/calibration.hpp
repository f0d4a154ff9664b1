// SPDX-License-Identifier: MIT
// Calibration: from a model's log-odds to those that were observed, learned on runs that the model
// was not fitted to.
//
// Platt's is a line and is folded into the coefficients. The isotonic one is any rising curve on
// top of that, by pooled neighbours, and goes into the model file's table of knots.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "score/model.hpp"

namespace petrel {

enum class CalibrationMethod { kNone, kPlatt, kIsotonic };
std::string_view calibration_name(CalibrationMethod method);  // "none", "platt", "isotonic"

// One row's log-odds by a model that did not see its run.
struct UnseenRow {
  double log_odds = 0;
  double weight = 1;
  bool retried = false;
};

struct Calibration {
  CalibrationMethod method = CalibrationMethod::kNone;
  double slope = 1;
  double offset = 0;
  std::optional<CalibrationKnots> knots_q16 = {};  // of slope * log-odds + offset

  double apply(double log_odds) const;
};

// Rows of equal share, pooled until none has a larger share than the next.
struct PooledBlock {
  double weight = 0;
  double mean_predicted = 0;  // probability
  double share = 0;           // of weight, retried
};

// Pool-adjacent-violators on rows of ascending log-odds, after neighbours were put together until
// each block has `least_weight`. Rows of the same log-odds are never parted.
std::vector<PooledBlock> pool_neighbours(std::span<const UnseenRow> ascending, double least_weight);

// Maximum likelihood. The slope stays within (0.05, 20): what asks for more tells nothing, or is
// separated by its scores. None where there is only one class.
Calibration fit_platt(std::span<const UnseenRow> rows);
// On top of Platt's. No part of the curve rests on less than a hundredth of the rows' weight.
Calibration fit_isotonic(std::span<const UnseenRow> rows);
Calibration fit_calibration(CalibrationMethod method, std::span<const UnseenRow> rows);

// The line into coefficients and bias, the curve into the knots.
Result<void> calibrate(Model& model, const Calibration& calibration);

}  // namespace petrel
