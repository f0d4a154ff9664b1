// SPDX-License-Identifier: MIT
#include "trainer/calibration.hpp"

#include <algorithm>
#include <cmath>

#include "score/score.hpp"

namespace petrel {
namespace {

constexpr int kNewtonSteps = 100;
constexpr double kConverged = 1e-10;
constexpr double kLeastSlope = 0.05;
constexpr double kLargestSlope = 20;
constexpr double kLeastBlockShare = 0.01;  // of all weight
constexpr double kLeastBlockRows = 200;
constexpr double kLargestLogOdds = 32;     // of a knot
// Of a block whose rows are all alike: as if half a row more were of either label.
constexpr double kHalfRow = 0.5;

double sigmoid(double log_odds) {
  return 1 / (1 + std::exp(-log_odds));
}

double logit(double probability) {
  return std::log(probability / (1 - probability));
}

// softplus, which does not overflow: -ln of the probability of what happened.
double loss(double log_odds, bool retried) {
  const double against = retried ? -log_odds : log_odds;
  return std::max(against, 0.0) + std::log1p(std::exp(-std::abs(against)));
}

double total_loss(std::span<const UnseenRow> rows, double slope, double offset) {
  double sum = 0;
  for (const UnseenRow& row : rows) {
    sum += row.weight * loss(slope * row.log_odds + offset, row.retried);
  }
  return sum;
}

struct NewtonStep {
  double slope = 0;
  double offset = 0;
};

NewtonStep newton_step(std::span<const UnseenRow> rows, double slope, double offset) {
  double gradient_slope = 0, gradient_offset = 0;
  double curve_slope = 1e-9, curve_both = 0, curve_offset = 1e-9;  // never singular
  for (const UnseenRow& row : rows) {
    const double p = sigmoid(slope * row.log_odds + offset);
    const double off = row.weight * (p - (row.retried ? 1 : 0));
    const double curve = row.weight * p * (1 - p);
    gradient_slope += off * row.log_odds;
    gradient_offset += off;
    curve_slope += curve * row.log_odds * row.log_odds;
    curve_both += curve * row.log_odds;
    curve_offset += curve;
  }
  const double determinant = curve_slope * curve_offset - curve_both * curve_both;
  return {(curve_offset * gradient_slope - curve_both * gradient_offset) / determinant,
          (curve_slope * gradient_offset - curve_both * gradient_slope) / determinant};
}

bool has_both(std::span<const UnseenRow> rows) {
  const auto retried = [](const UnseenRow& row) { return row.retried; };
  return std::any_of(rows.begin(), rows.end(), retried) &&
         !std::all_of(rows.begin(), rows.end(), retried);
}

// Between blocks in proportion; beyond them with a slope of 1, as the table does beyond its knots.
CalibrationKnots knots_through(const std::vector<PooledBlock>& blocks, double row_weight) {
  std::vector<double> from, to;
  for (const PooledBlock& block : blocks) {
    const double half = kHalfRow * row_weight;
    const double share = (block.share * block.weight + half) / (block.weight + 2 * half);
    from.push_back(logit(std::clamp(block.mean_predicted, 1e-9, 1 - 1e-9)));
    // Half a row moves small blocks more than large ones: order is kept by hand.
    to.push_back(to.empty() ? logit(share) : std::max(to.back(), logit(share)));
  }
  CalibrationKnots knots{};
  for (size_t i = 0; i < knots.size(); i++) {
    const double at = (CALIBRATION_FIRST_Q16 + static_cast<double>(i) * (1 << CALIBRATION_STEP_SHIFT)) /
                      double{Q16_ONE};
    const auto above = static_cast<size_t>(std::upper_bound(from.begin(), from.end(), at) - from.begin());
    double value = 0;
    if (above == 0) {
      value = to.front() + (at - from.front());
    } else if (above == from.size()) {
      value = to.back() + (at - from.back());
    } else {
      const double part = (at - from[above - 1]) / (from[above] - from[above - 1]);
      value = std::lerp(to[above - 1], to[above], part);
    }
    value = std::clamp(value, -kLargestLogOdds, kLargestLogOdds);
    knots[i] = static_cast<int32_t>(std::lround(value * Q16_ONE));
  }
  return knots;
}

}  // namespace

std::string_view calibration_name(CalibrationMethod method) {
  switch (method) {
    case CalibrationMethod::kNone:
      return "none";
    case CalibrationMethod::kPlatt:
      return "platt";
    case CalibrationMethod::kIsotonic:
      return "isotonic";
  }
  return "none";
}

double Calibration::apply(double log_odds) const {
  Model table;
  table.calibration_q16 = knots_q16;
  return float_calibrate(table, slope * log_odds + offset);
}

std::vector<PooledBlock> pool_neighbours(std::span<const UnseenRow> ascending,
                                         double least_weight) {
  std::vector<PooledBlock> blocks;  // with sums for means until the end
  const auto merge_last = [&blocks] {
    const PooledBlock last = blocks.back();
    blocks.pop_back();
    blocks.back().weight += last.weight;
    blocks.back().mean_predicted += last.mean_predicted;
    blocks.back().share += last.share;
  };
  const auto falls = [&blocks] {
    const PooledBlock& last = blocks.back();
    const PooledBlock& before = blocks[blocks.size() - 2];
    return before.share * last.weight >= last.share * before.weight;
  };
  PooledBlock open;
  for (size_t i = 0; i < ascending.size(); i++) {
    const UnseenRow& row = ascending[i];
    open.weight += row.weight;
    open.mean_predicted += row.weight * sigmoid(row.log_odds);
    open.share += row.retried ? row.weight : 0;
    const bool ends = i + 1 == ascending.size() || ascending[i + 1].log_odds != row.log_odds;
    if (!ends || (open.weight < least_weight && i + 1 < ascending.size())) continue;
    const bool small = open.weight < least_weight;  // the last one, of what was left
    blocks.push_back(open);
    open = {};
    if (small && blocks.size() > 1) merge_last();
    while (blocks.size() > 1 && falls()) merge_last();
  }
  for (PooledBlock& block : blocks) {
    block.mean_predicted /= block.weight;
    block.share /= block.weight;
  }
  return blocks;
}

Calibration fit_platt(std::span<const UnseenRow> rows) {
  Calibration result{.method = CalibrationMethod::kPlatt};
  if (!has_both(rows)) return {};
  double now = total_loss(rows, result.slope, result.offset);
  for (int step = 0; step < kNewtonSteps; step++) {
    NewtonStep move = newton_step(rows, result.slope, result.offset);
    double next = now;
    double slope = result.slope, offset = result.offset;
    // Halved until it is no worse: a full step may overshoot where nearly all is certain.
    for (int halving = 0; halving < 30; halving++) {
      slope = std::clamp(result.slope - move.slope, kLeastSlope, kLargestSlope);
      offset = result.offset - move.offset;
      next = total_loss(rows, slope, offset);
      if (next <= now) break;
      move.slope /= 2;
      move.offset /= 2;
    }
    if (!(next <= now)) break;
    const bool done = now - next <= kConverged * now;
    result.slope = slope;
    result.offset = offset;
    now = next;
    if (done) break;
  }
  return result;
}

Calibration fit_isotonic(std::span<const UnseenRow> rows) {
  Calibration result = fit_platt(rows);
  if (result.method == CalibrationMethod::kNone) return result;
  result.method = CalibrationMethod::kIsotonic;
  std::vector<UnseenRow> ascending(rows.begin(), rows.end());
  double weight = 0;
  for (UnseenRow& row : ascending) {
    row.log_odds = result.slope * row.log_odds + result.offset;
    weight += row.weight;
  }
  std::stable_sort(ascending.begin(), ascending.end(),
                   [](const auto& left, const auto& right) { return left.log_odds < right.log_odds; });
  const double row_weight = weight / static_cast<double>(rows.size());
  const double least = std::max(kLeastBlockShare * weight, kLeastBlockRows * row_weight);
  result.knots_q16 = knots_through(pool_neighbours(ascending, least), row_weight);
  return result;
}

Calibration fit_calibration(CalibrationMethod method, std::span<const UnseenRow> rows) {
  switch (method) {
    case CalibrationMethod::kNone:
      break;
    case CalibrationMethod::kPlatt:
      return fit_platt(rows);
    case CalibrationMethod::kIsotonic:
      return fit_isotonic(rows);
  }
  return {};
}

Result<void> calibrate(Model& model, const Calibration& calibration) {
  for (ModelFeature& feature : model.features) {
    feature.coefficient = round_to_file_digits(calibration.slope * feature.coefficient);
  }
  model.bias = round_to_file_digits(calibration.slope * model.bias + calibration.offset);
  model.calibration_q16 = calibration.knots_q16;
  return quantize(model);
}

}  // namespace petrel
