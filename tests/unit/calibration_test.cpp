// SPDX-License-Identifier: MIT
// Calibrations on scores whose true probabilities are known, and what the whole training makes of
// scores that are off.
#include "trainer/calibration.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "score/score.hpp"
#include "synthetic_runs.hpp"
#include "trainer/metrics.hpp"
#include "trainer/trainer.hpp"

namespace petrel {
namespace {

double sigmoid(double log_odds) {
  return 1 / (1 + std::exp(-log_odds));
}

// Scores spread over -6 to 6 whose true log-odds are `truth(score)`.
template <class Truth>
std::vector<UnseenRow> scored_rows(size_t count, uint64_t seed, Truth truth) {
  std::mt19937_64 random(seed);
  std::vector<UnseenRow> rows;
  for (size_t i = 0; i < count; i++) {
    const double score = 12 * uniform(random) - 6;
    rows.push_back({score, 1, uniform(random) < sigmoid(truth(score))});
  }
  return rows;
}

TEST(Calibration, PoolingRaisesWhatFallsAndLeavesTheRest) {
  // Shares by score: 0, 1, 0, 1/2, 1: the second and third fall, and pooled with the fourth.
  const std::vector<UnseenRow> rows = {{-2, 1, false}, {-1, 1, true}, {0, 1, false},
                                       {1, 1, true},   {1, 1, false}, {2, 1, true}};
  const std::vector<PooledBlock> blocks = pool_neighbours(rows, 0);
  ASSERT_EQ(blocks.size(), 3U);
  EXPECT_DOUBLE_EQ(blocks[0].share, 0);
  EXPECT_DOUBLE_EQ(blocks[1].share, 0.5);
  EXPECT_DOUBLE_EQ(blocks[1].weight, 4);
  EXPECT_DOUBLE_EQ(blocks[2].share, 1);
  EXPECT_DOUBLE_EQ(blocks[0].mean_predicted, sigmoid(-2));
}

TEST(Calibration, PoolingHeedsWeights) {
  const std::vector<UnseenRow> rows = {{0, 3, true}, {1, 1, false}, {2, 1, true}};
  const std::vector<PooledBlock> blocks = pool_neighbours(rows, 0);
  ASSERT_EQ(blocks.size(), 2U);
  EXPECT_DOUBLE_EQ(blocks[0].share, 0.75);
}

TEST(Calibration, NoBlockIsSmallerThanAskedForAndNoScoreIsParted) {
  const std::vector<UnseenRow> rows =
      scored_rows(10'000, 1, [](double score) { return std::round(score); });
  std::vector<UnseenRow> ascending = rows;
  for (UnseenRow& row : ascending) row.log_odds = std::round(row.log_odds);
  std::sort(ascending.begin(), ascending.end(),
            [](const auto& left, const auto& right) { return left.log_odds < right.log_odds; });
  const std::vector<PooledBlock> blocks = pool_neighbours(ascending, 600);
  ASSERT_GT(blocks.size(), 3U);
  EXPECT_LE(blocks.size(), 13U);
  for (size_t i = 0; i < blocks.size(); i++) {
    EXPECT_GE(blocks[i].weight, 600);
    if (i > 0) {
      EXPECT_GT(blocks[i].share, blocks[i - 1].share);
    }
  }
}

TEST(Calibration, PlattFindsTheLine) {
  const auto rows = scored_rows(60'000, 2, [](double score) { return 0.6 * score - 1.2; });
  const Calibration found = fit_platt(rows);
  EXPECT_NEAR(found.slope, 0.6, 0.02);
  EXPECT_NEAR(found.offset, -1.2, 0.04);
  EXPECT_FALSE(found.knots_q16);
}

TEST(Calibration, PlattHeedsWeights) {
  auto rows = scored_rows(20'000, 3, [](double score) { return score; });
  for (UnseenRow& row : rows) row.weight = row.retried ? 4 : 1;  // odds four times as high
  const Calibration found = fit_platt(rows);
  EXPECT_NEAR(found.slope, 1, 0.05);
  EXPECT_NEAR(found.offset, std::log(4), 0.08);
}

TEST(Calibration, OfOneLabelOrSeparatedScoresNothingRunsAway) {
  std::vector<UnseenRow> rows = {{-1, 1, false}, {1, 1, false}};
  EXPECT_EQ(fit_platt(rows).method, CalibrationMethod::kNone);
  EXPECT_EQ(fit_isotonic(rows).method, CalibrationMethod::kNone);
  rows[1].retried = true;
  const Calibration separated = fit_platt(rows);
  EXPECT_LE(separated.slope, 20);
  EXPECT_TRUE(std::isfinite(separated.offset));
  std::swap(rows[0].retried, rows[1].retried);  // the wrong way round: order is kept all the same
  EXPECT_GT(fit_platt(rows).slope, 0);
}

TEST(Calibration, IsotonicFindsACurveThatALineMisses) {
  const auto truth = [](double score) { return score < 0 ? 0.3 * score - 1 : 1.5 * score - 1; };
  const auto rows = scored_rows(100'000, 4, truth);
  const Calibration line = fit_platt(rows);
  const Calibration curve = fit_isotonic(rows);
  ASSERT_TRUE(curve.knots_q16);
  EXPECT_TRUE(std::is_sorted(curve.knots_q16->begin(), curve.knots_q16->end()));
  double largest_line = 0, largest_curve = 0;
  for (double score = -5; score <= 5; score += 0.25) {
    const double exact = sigmoid(truth(score));
    largest_line = std::max(largest_line, std::abs(sigmoid(line.apply(score)) - exact));
    largest_curve = std::max(largest_curve, std::abs(sigmoid(curve.apply(score)) - exact));
  }
  EXPECT_GT(largest_line, 0.05);
  EXPECT_LT(largest_curve, 0.03);
}

TEST(Calibration, BeyondItsRowsTheCurveGoesOnWithASlopeOfOne) {
  const auto rows = scored_rows(50'000, 5, [](double score) { return score / 2; });
  const Calibration curve = fit_isotonic(rows);
  EXPECT_NEAR(curve.apply(30) - curve.apply(28), 2 * curve.slope, 1e-6);
  EXPECT_NEAR(curve.apply(-28) - curve.apply(-30), 2 * curve.slope, 1e-6);
}

TEST(Calibration, ALineIsFoldedIntoTheModelAndACurveGoesToItsTable) {
  const Runs runs = synthetic_runs(3, 500, 1);
  const RunPointers pointers = {&runs[0], &runs[1], &runs[2]};
  const Result<Model> fitted = LogisticProblem(pointers).fit({.c = 0.1});
  ASSERT_TRUE(fitted);
  Model model = *fitted;
  const Calibration line{.method = CalibrationMethod::kPlatt, .slope = 0.5, .offset = -1};
  ASSERT_TRUE(calibrate(model, line));
  EXPECT_FALSE(model.calibration_q16);
  for (const LabelledRow& row : runs[0].rows) {
    const double before = float_log_odds(*fitted, row.features);
    ASSERT_NEAR(float_log_odds(model, row.features), 0.5 * before - 1, 1e-6);
    ASSERT_NEAR(log_odds_q16(model, row.features) / double{Q16_ONE}, 0.5 * before - 1, 1e-3);
  }
}

// Retried rows counted 8 times: without calibration all probabilities are far too high.
TEST(Calibration, PutsRightWhatClassWeightsDo) {
  const Runs runs = synthetic_runs(10, 2000, 6);
  RunPointers pointers;
  for (const auto& run : runs) pointers.push_back(&run);
  const Runs others = synthetic_runs(5, 4000, 7);
  const FitChoice choice{.c = 0.1, .class_weight = 8};
  double ece[2] = {};
  for (const bool calibrated : {false, true}) {
    FitChoice one = choice;
    if (!calibrated) one.calibration = CalibrationMethod::kNone;
    const Result<Model> model = fit_as_chosen(pointers, one, {});
    ASSERT_TRUE(model) << model.error().message();
    ece[calibrated] = evaluate(*model, std::span<const petrel::Run>(others)).ece;
    EXPECT_EQ(model->training.fit->calibration, calibrated ? "platt" : "none");
    EXPECT_EQ(model->training.fit->class_weight, 8);
  }
  EXPECT_GT(ece[0], 0.1);
  EXPECT_LT(ece[1], 0.02);
}

TEST(Calibration, IsNotUsedWhereItGainsNothing) {
  const Runs runs = synthetic_runs(10, 2000, 8);
  RunPointers pointers;
  for (const auto& run : runs) pointers.push_back(&run);
  FitReport report;
  const Result<Model> model = fit_as_chosen(pointers, {.c = 0.1}, {}, &report);
  ASSERT_TRUE(model);
  EXPECT_EQ(report.calibrations.size(), 5U);
  EXPECT_EQ(report.chosen.method, CalibrationMethod::kNone);
  EXPECT_FALSE(model->calibration_q16);
}

// The curve of a model that cannot be one: labels by a probability that rises with a feature, and
// then no more.
TEST(Calibration, ACurveIsChosenWhereItIsBetterOnRunsThatItWasNotLearnedOn) {
  Runs runs = synthetic_runs(10, 3000, 9);
  std::mt19937_64 random(10);
  for (auto& run : runs) {
    for (LabelledRow& row : run.rows) {
      row.features[1] = row.features[2] = row.features[3] = 0;
      const double value = row.features[0] / double{Q16_ONE};
      row.retried = uniform(random) < (value < 2 ? 0.02 : 0.5);
    }
  }
  RunPointers pointers;
  for (const auto& run : runs) pointers.push_back(&run);
  const Result<Model> model = fit_as_chosen(pointers, {.c = 0.1}, {});
  ASSERT_TRUE(model);
  EXPECT_EQ(model->training.fit->calibration, "isotonic");
  ASSERT_TRUE(model->calibration_q16);
  const FitFacts& fit = *model->training.fit;
  EXPECT_LT(fit.log_loss, fit.uncalibrated_log_loss);
  EXPECT_LT(fit.ece, fit.uncalibrated_ece);
}

}  // namespace
}  // namespace petrel
