// SPDX-License-Identifier: MIT
// The watch's figures, by hand and against exact ones; the window; live beside shadow.
#include "watch/model_watch.hpp"

#include <gtest/gtest.h>

#include "tests/unit/watch_samples.hpp"
#include "trainer/ranking.hpp"
#include "watch/comparison.hpp"

namespace petrel::test {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kStart = 1000 * kMinuteNs;

class ModelWatchTest : public testing::Test {
 protected:
  ModelWatchTest() {
    watch_.advance(kStart);
    watch_.watch_live(line_model(0));
  }

  void add(double probability, bool retried, Point point = Point::kAnswer) {
    watch_.add(row_of(probability, retried, ++connection_, point), now_ns_);
  }
  // Rows whose label has the probability that the model says, or that less `off`.
  void add_random(int rows, double off = 0) {
    for (int i = 0; i < rows; ++i) {
      const double probability = 0.01 + 0.98 * uniform(random_) * uniform(random_);
      add(probability, uniform(random_) < std::max(0.0, probability - off));
    }
  }
  void minutes(std::uint64_t count) {
    now_ns_ += count * kMinuteNs;
    watch_.advance(now_ns_);
  }

  ModelWatch watch_{1h};
  std::mt19937_64 random_{11};
  std::uint64_t connection_ = 0;
  std::uint64_t now_ns_ = kStart;
};

TEST_F(ModelWatchTest, NothingIsKnownOfNoRows) {
  const WatchMeasures none = watch_.live_report().all;
  EXPECT_EQ(none.rows, 0U);
  EXPECT_TRUE(std::isnan(none.auc));
  EXPECT_TRUE(std::isnan(none.ece));
  EXPECT_TRUE(std::isnan(none.log_loss));
}

TEST_F(ModelWatchTest, SmallAnswersAreThoseByHand) {
  add(0.1, false);
  add(0.4, false);
  add(0.35, true);
  add(0.8, true);
  const WatchMeasures seen = watch_.live_report().all;
  EXPECT_EQ(seen.rows, 4U);
  EXPECT_EQ(seen.retried, 2U);
  EXPECT_NEAR(seen.predicted, 1.65, 1e-3);
  EXPECT_NEAR(seen.auc, 0.75, 1e-9);  // 0.35 is below 0.4
  EXPECT_NEAR(seen.log_loss, -(std::log(0.9) + std::log(0.6) + std::log(0.35) + std::log(0.8)) / 4,
              1e-3);
  EXPECT_NEAR(seen.brier, (0.01 + 0.16 + 0.4225 + 0.04) / 4, 1e-3);
}

TEST_F(ModelWatchTest, BinnedFiguresAreCloseToExactOnes) {
  std::vector<ScoredRow> rows;
  const Model model = line_model(0);
  for (int i = 0; i < 20'000; ++i) {
    const double probability = std::pow(uniform(random_), 3);
    const LabelledRow row =
        row_of(std::clamp(probability, 1e-4, 1 - 1e-4), uniform(random_) < probability, i);
    watch_.add(row, now_ns_);
    rows.push_back({probability_q16(model, row.features) / 65536.0, 0, row.retried});
  }
  const MeasureValues exact = RankedRows(rows, 1, {.is_probability = true}).measure();
  const auto value = [&](Measure measure) { return exact[static_cast<std::size_t>(measure)]; };
  const WatchMeasures seen = watch_.live_report().all;
  EXPECT_NEAR(seen.auc, value(Measure::kAuc), 0.002);
  EXPECT_NEAR(seen.log_loss, value(Measure::kLogLoss), 1e-4);
  EXPECT_NEAR(seen.brier, value(Measure::kBrier), 1e-6);
  EXPECT_NEAR(seen.ece, value(Measure::kEce), 0.005);
}

TEST_F(ModelWatchTest, AMiscalibratedModelsErrorIsWhatItIsOffBy) {
  for (int i = 0; i < 5000; ++i) {
    add(0.5, i % 10 < 3);   // off by 0.2
    add(0.9, i % 10 != 0);  // right
  }
  const WatchMeasures seen = watch_.live_report().all;
  EXPECT_NEAR(seen.ece, 0.1, 1e-3);
  EXPECT_LT(seen.ece_chance, 0.02);
}

TEST_F(ModelWatchTest, ACalibratedModelsErrorIsWithinChance) {
  add_random(2000);
  const WatchMeasures seen = watch_.live_report().all;
  EXPECT_LT(seen.ece, seen.ece_chance);
  EXPECT_LT(seen.ece_chance, 0.1);
}

TEST_F(ModelWatchTest, RowsOfOneRequestSayLessThanAsManyRequests) {
  for (int i = 0; i < 1000; ++i) add(0.5, i % 2 == 0);
  const double alone = watch_.live_report().all.ece_chance;
  watch_.watch_live(line_model(0));
  for (int i = 0; i < 1000; ++i) watch_.add(row_of(0.5, i / 4 % 2 == 0, i / 4), now_ns_);
  EXPECT_NEAR(watch_.live_report().all.ece_chance, 2 * alone, 1e-6);
}

TEST_F(ModelWatchTest, PointsAreApart) {
  add(0.2, false, Point::kAnswer);
  add(0.9, true, Point::kEnd);
  const WatchReport report = watch_.live_report();
  EXPECT_EQ(report.points[static_cast<std::size_t>(Point::kAnswer)].retried, 0U);
  EXPECT_EQ(report.points[static_cast<std::size_t>(Point::kEnd)].retried, 1U);
  EXPECT_EQ(report.points[static_cast<std::size_t>(Point::kWaitingSyn)].rows, 0U);
  EXPECT_EQ(report.all.rows, 2U);
}

TEST_F(ModelWatchTest, ShuffledLabelsTellNothing) {
  std::vector<LabelledRow> rows;
  for (int i = 0; i < 4000; ++i) {
    const double probability = 0.02 + 0.96 * uniform(random_);
    rows.push_back(row_of(probability, uniform(random_) < probability, i));
  }
  for (const LabelledRow& row : rows) watch_.add(row, now_ns_);
  EXPECT_GT(watch_.live_report().all.auc, 0.75);
  std::vector<bool> labels;
  for (const LabelledRow& row : rows) labels.push_back(row.retried);
  std::shuffle(labels.begin(), labels.end(), random_);
  watch_.watch_live(line_model(0));
  for (std::size_t i = 0; i < rows.size(); ++i) {
    rows[i].retried = labels[i];
    watch_.add(rows[i], now_ns_);
  }
  EXPECT_NEAR(watch_.live_report().all.auc, 0.5, 0.03);
}

TEST_F(ModelWatchTest, TheWindowForgetsItsOldestMinute) {
  for (int i = 0; i < 10; ++i) add(0.2, false);
  minutes(30);
  add(0.2, true);
  EXPECT_EQ(watch_.live_report().all.rows, 11U);
  minutes(29);
  EXPECT_EQ(watch_.live_report().all.rows, 11U);
  minutes(1);  // the first minute is an hour old, though no row came since
  EXPECT_EQ(watch_.live_report().all.rows, 1U);
  minutes(30);
  EXPECT_EQ(watch_.live_report().all.rows, 0U);
  add(0.2, true);  // where an old minute lay
  EXPECT_EQ(watch_.live_report().all.rows, 1U);
}

// --- PSI ----------------------------------------------------------------------------------------

Model with_reference(double coefficient_of_second = 0) {
  Model model = line_model(0);
  model.features[1].coefficient = coefficient_of_second;
  for (const std::size_t feature : {0, 1}) {
    model.references.push_back({feature, Point::kAnswer, {0, 65536}, {0.5, 0.25, 0.25}});
  }
  EXPECT_TRUE(quantize(model));
  return model;
}

LabelledRow at(double first, double second, std::uint64_t connection) {
  LabelledRow row = row_of(0.5, false, connection);
  row.features[0] = static_cast<std::int32_t>(first * 65536);
  row.features[1] = static_cast<std::int32_t>(second * 65536);
  return row;
}

TEST_F(ModelWatchTest, PsiOfAKnownShiftIsTheFormulas) {
  watch_.watch_live(with_reference(3));
  for (std::uint64_t i = 0; i < 1000; ++i) {
    // The first as in training: 50, 25, 25 %. The second: 10, 20, 70
    // %.
    const double first = i % 4 < 2 ? -1 : i % 4 == 2 ? 0.5 : 2;
    const double second = i % 10 < 1 ? -0.5 : i % 10 < 3 ? 0.5 : 7;
    watch_.add(at(first, second, i), now_ns_);
  }
  const PsiMeasures psi = watch_.psi();
  ASSERT_TRUE(psi.known);
  const double shifted = (0.1 - 0.5) * std::log(0.1 / 0.5) + (0.2 - 0.25) * std::log(0.2 / 0.25) +
                         (0.7 - 0.25) * std::log(0.7 / 0.25);
  ASSERT_EQ(psi.drifts.size(), 2U);
  EXPECT_EQ(psi.drifts[0].feature, 1U);
  EXPECT_NEAR(psi.drifts[0].psi, shifted, 1e-9);
  EXPECT_NEAR(psi.drifts[1].psi, 0, 1e-9);
  EXPECT_NEAR(psi.mean, 3 * shifted / 4, 1e-9);  // weighed by coefficients: 1 and 3
}

TEST_F(ModelWatchTest, DriftOfWhatTheModelDoesNotUseCountsForNothing) {
  watch_.watch_live(with_reference(0));
  for (std::uint64_t i = 0; i < 1000; ++i) {
    watch_.add(at(i % 4 < 2 ? -1 : i % 4 == 2 ? 0.5 : 2, 9, i), now_ns_);
  }
  EXPECT_NEAR(watch_.psi().mean, 0, 1e-9);
}

TEST_F(ModelWatchTest, PsiIsNotKnownOfFewRowsOrWithoutReferences) {
  watch_.watch_live(with_reference(1));
  for (std::uint64_t i = 1; i < ModelWatch::kLeastPsiRows; ++i) watch_.add(at(5, 5, i), now_ns_);
  EXPECT_FALSE(watch_.psi().known);
  watch_.add(at(5, 5, 0), now_ns_);
  EXPECT_TRUE(watch_.psi().known);
  watch_.watch_live(line_model(0));
  add_random(2000);
  EXPECT_FALSE(watch_.psi().known);
}

// --- the shadow ---------------------------------------------------------------------------------

TEST_F(ModelWatchTest, AShadowIsComparedOnTheRowsThatBothHaveSeen) {
  add_random(500);
  watch_.watch_shadow(line_model(1));
  add_random(100);  // of the minute in which it came: not the shadow's
  EXPECT_EQ(watch_.shadow_report().all.rows, 0U);
  minutes(1);
  add_random(200);
  const Comparison comparison = compare(watch_);
  EXPECT_EQ(comparison.parts, 1U);
  EXPECT_EQ(comparison.all.live.rows, 200U);
  EXPECT_EQ(comparison.all.shadow.rows, 200U);
  EXPECT_FALSE(comparison.all.differences.log_loss.has_interval());  // of one minute
  EXPECT_EQ(watch_.live_report().all.rows, 800U);
  watch_.watch_shadow(std::nullopt);
  EXPECT_EQ(compare(watch_).parts, 0U);
}

TEST_F(ModelWatchTest, AWorseShadowIsFoundOutAndAnEqualOneIsNot) {
  for (const double bias : {0.0, 2.0}) {
    watch_.watch_shadow(line_model(bias));
    for (int minute = 0; minute < 20; ++minute) {
      minutes(1);
      add_random(200);
    }
    const Comparison comparison = compare(watch_);
    const Estimate& log_loss = comparison.all.differences.log_loss;
    ASSERT_TRUE(log_loss.has_interval());
    if (bias == 0) {
      EXPECT_EQ(log_loss.value, 0);
      EXPECT_EQ(objection(comparison, 0.15), "");
    } else {
      EXPECT_GT(log_loss.low, 0);
      EXPECT_NEAR(comparison.all.differences.auc.value, 0, 1e-3);  // the order is the same
      EXPECT_GT(comparison.all.differences.ece.low, 0.05);
      EXPECT_NE(objection(comparison, 0.9).find("clearly worse"), std::string::npos);
      EXPECT_NE(objection(comparison, 0.15).find("calibration error"), std::string::npos);
    }
  }
}

TEST_F(ModelWatchTest, AShadowThatWasSeenOnTooLittleIsNotPromoted) {
  watch_.watch_shadow(line_model(0));
  minutes(1);
  add_random(500);
  EXPECT_NE(objection(compare(watch_), 0.15).find("500 rows, needs 1000"), std::string::npos);
  add_random(1500);
  EXPECT_NE(objection(compare(watch_), 0.15).find("in 1 parts"), std::string::npos);
  watch_.watch_shadow(line_model(0));
  minutes(1);
  for (int i = 0; i < 2000; ++i) add(0.01, i < 20);
  EXPECT_NE(objection(compare(watch_), 0.15).find("20 retried rows, needs 50"), std::string::npos);
}

}  // namespace
}  // namespace petrel::test
