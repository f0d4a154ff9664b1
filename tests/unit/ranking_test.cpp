// SPDX-License-Identifier: MIT
// Measures of scored rows, by hand and against themselves.
#include "trainer/ranking.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace petrel {
namespace {

constexpr ScoreKind kProbability{.is_probability = true, .threshold = 0.5};

double of(const MeasureValues& values, Measure measure) {
  return values[static_cast<size_t>(measure)];
}

double uniform(std::mt19937_64& random) {
  return static_cast<double>(random() >> 11) / static_cast<double>(1ULL << 53);
}

TEST(Ranking, SmallAnswersAreThoseByHand) {
  const RankedRows ranked({{0.1, 0, false}, {0.4, 0, false}, {0.35, 0, true}, {0.8, 0, true}}, 1,
                          kProbability);
  const MeasureValues values = ranked.measure();
  EXPECT_DOUBLE_EQ(of(values, Measure::kAuc), 3.0 / 4);  // 0.35 is below 0.4
  EXPECT_DOUBLE_EQ(of(values, Measure::kAucWithinRuns), 3.0 / 4);
  EXPECT_DOUBLE_EQ(of(values, Measure::kAveragePrecision), 0.5 * 1 + 0.5 * 2 / 3);
  EXPECT_DOUBLE_EQ(of(values, Measure::kLogLoss),
                   -(std::log(0.9) + std::log(0.6) + std::log(0.35) + std::log(0.8)) / 4);
  EXPECT_DOUBLE_EQ(of(values, Measure::kBrier), (0.01 + 0.16 + 0.4225 + 0.04) / 4);
  EXPECT_DOUBLE_EQ(of(values, Measure::kEce), (0.1 + 0.4 + 0.65 + 0.2) / 4);  // a bin each
  EXPECT_DOUBLE_EQ(of(values, Measure::kPrecision), 1);
  EXPECT_DOUBLE_EQ(of(values, Measure::kRecall), 0.5);
  EXPECT_EQ(ranked.rows(), 4U);
  EXPECT_EQ(ranked.retried(), 2U);
}

TEST(Ranking, TiesCountHalfAndAreOneStep) {
  const RankedRows ranked({{0.2, 0, false}, {0.5, 0, true}, {0.5, 0, false}, {0.9, 0, true}}, 1,
                          kProbability);
  const MeasureValues values = ranked.measure();
  EXPECT_DOUBLE_EQ(of(values, Measure::kAuc), 3.5 / 4);
  EXPECT_DOUBLE_EQ(of(values, Measure::kAveragePrecision), 0.5 * 1 + 0.5 * 2 / 3);
  EXPECT_DOUBLE_EQ(of(values, Measure::kPrecision), 2.0 / 3);  // from the threshold on
  EXPECT_DOUBLE_EQ(of(values, Measure::kRecall), 1);
}

TEST(Ranking, WhatIsNotDefinedIsNotANumber) {
  const MeasureValues one_class = RankedRows({{0.1, 0, true}}, 1, kProbability).measure();
  EXPECT_TRUE(std::isnan(of(one_class, Measure::kAuc)));
  EXPECT_TRUE(std::isnan(of(one_class, Measure::kAucWithinRuns)));
  EXPECT_TRUE(std::isnan(of(one_class, Measure::kPrecision)));  // nothing is predicted
  EXPECT_DOUBLE_EQ(of(one_class, Measure::kRecall), 0);
  EXPECT_DOUBLE_EQ(of(one_class, Measure::kAveragePrecision), 1);
  const MeasureValues no_probability =
      RankedRows({{7, 0, true}, {3, 0, false}}, 1, {.threshold = {}}).measure();
  EXPECT_DOUBLE_EQ(of(no_probability, Measure::kAuc), 1);
  for (const Measure measure :
       {Measure::kLogLoss, Measure::kBrier, Measure::kEce, Measure::kPrecision, Measure::kRecall}) {
    EXPECT_TRUE(std::isnan(of(no_probability, measure))) << measure_name(measure);
  }
  for (const double value : RankedRows({}, 1, kProbability).measure())
    EXPECT_TRUE(std::isnan(value));
}

TEST(Ranking, WhatRunsDifferInCountsOnlyBetweenThem) {
  // Each run has one probability for all: it tells runs apart, and nothing within one.
  std::vector<ScoredRow> rows;
  for (int i = 0; i < 100; i++) {
    rows.push_back({0.8, 0, i < 80});
    rows.push_back({0.1, 1, i < 10});
  }
  const MeasureValues values = RankedRows(rows, 2, kProbability).measure();
  EXPECT_DOUBLE_EQ(of(values, Measure::kAucWithinRuns), 0.5);
  EXPECT_GT(of(values, Measure::kAuc), 0.8);
  EXPECT_NEAR(of(values, Measure::kEce), 0, 1e-12);
}

TEST(Ranking, ARunDrawnTwiceIsARunThatIsThereTwice) {
  std::mt19937_64 random(1);
  const std::vector<uint32_t> weights = {2, 0, 3, 1};
  std::vector<ScoredRow> once;
  std::vector<ScoredRow> drawn;
  for (int i = 0; i < 2000; i++) {
    // Few values: many ties, within runs and between them.
    const ScoredRow row{static_cast<double>(random() % 50) / 50,
                        static_cast<uint32_t>(random() % 4), random() % 3 == 0};
    once.push_back(row);
    for (uint32_t k = 0; k < weights[row.run]; k++) drawn.push_back(row);
  }
  const MeasureValues weighed = RankedRows(once, 4, kProbability).measure(weights);
  const MeasureValues repeated = RankedRows(drawn, 4, kProbability).measure();
  for (size_t i = 0; i < kMeasureCount; i++) {
    if (static_cast<Measure>(i) == Measure::kAucWithinRuns) continue;  // pairs of two copies count
    EXPECT_NEAR(weighed[i], repeated[i], 1e-12) << measure_name(static_cast<Measure>(i));
  }
}

TEST(Ranking, CalibratedProbabilitiesHaveNoCalibrationErrorAndOthersDo) {
  std::mt19937_64 random(2);
  std::vector<ScoredRow> calibrated;
  std::vector<ScoredRow> overconfident;
  for (int i = 0; i < 50'000; i++) {
    const double probability = uniform(random);
    const bool retried = uniform(random) < probability;
    calibrated.push_back({probability, 0, retried});
    overconfident.push_back(
        {probability < 0.5 ? probability / 4 : 1 - (1 - probability) / 4, 0, retried});
  }
  const RankedRows ranked(calibrated, 1, kProbability);
  EXPECT_LT(of(ranked.measure(), Measure::kEce), 0.01);
  EXPECT_GT(of(RankedRows(overconfident, 1, kProbability).measure(), Measure::kEce), 0.15);
  const std::vector<CalibrationBin> bins = ranked.calibration();
  ASSERT_EQ(bins.size(), 10U);
  for (size_t i = 0; i < bins.size(); i++) {
    EXPECT_EQ(bins[i].rows, 5000U);
    EXPECT_NEAR(bins[i].mean_predicted, 0.05 + 0.1 * static_cast<double>(i), 0.02);
    EXPECT_NEAR(bins[i].share_retried, bins[i].mean_predicted, 0.03);
    EXPECT_LE(bins[i].least_predicted, bins[i].most_predicted);
  }
}

TEST(Ranking, RowsOfOneProbabilityAreNotParted) {
  std::vector<ScoredRow> rows;
  for (int i = 0; i < 100; i++) rows.push_back({0.25, 0, i % 4 == 0});
  const RankedRows ranked(rows, 1, kProbability);
  ASSERT_EQ(ranked.calibration().size(), 1U);
  EXPECT_EQ(ranked.calibration()[0].rows, 100U);
  EXPECT_NEAR(of(ranked.measure(), Measure::kEce), 0, 1e-12);
}

}  // namespace
}  // namespace petrel
