// SPDX-License-Identifier: MIT
// Intervals: how often they hold what they are about.
#include "trainer/bootstrap.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "trainer/ranking.hpp"

namespace petrel {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
constexpr double kPi = 3.14159265358979323846;

TEST(RunResamples, DrawAsManyRunsAsThereAre) {
  const RunResamples resamples(7, 50, 1);
  bool any_twice = false;
  for (size_t i = 0; i < resamples.count(); i++) {
    const auto weights = resamples.weights(i);
    ASSERT_EQ(weights.size(), 7U);
    EXPECT_EQ(std::accumulate(weights.begin(), weights.end(), 0U), 7U);
    any_twice =
        any_twice || std::any_of(weights.begin(), weights.end(), [](auto w) { return w > 1; });
  }
  EXPECT_TRUE(any_twice);
}

TEST(RunResamples, AreTheSeedsOwn) {
  const auto all = [](uint64_t seed) {
    const RunResamples resamples(5, 20, seed);
    std::vector<uint32_t> weights;
    for (size_t i = 0; i < resamples.count(); i++) {
      weights.insert(weights.end(), resamples.weights(i).begin(), resamples.weights(i).end());
    }
    return weights;
  };
  EXPECT_EQ(all(3), all(3));
  EXPECT_NE(all(3), all(4));
}

TEST(Estimate, HasNoIntervalWhereItCannotBeKnown) {
  const std::vector<double> resampled = {1, 2, 3, 4};
  EXPECT_FALSE(estimate(2, resampled, 1).has_interval());  // a single run
  EXPECT_FALSE(estimate(2, {}, 5).has_interval());
  EXPECT_FALSE(estimate(2, {1, kNone, kNone, kNone}, 5).has_interval());
  EXPECT_FALSE(estimate(kNone, resampled, 5).has_value());
  EXPECT_FALSE(estimate(kNone, resampled, 5).has_interval());
  const Estimate some = estimate(2, {1, 3, kNone, 2}, 5);
  EXPECT_TRUE(some.has_interval());
  EXPECT_GE(some.low, 1);
  EXPECT_LE(some.high, 3);
}

TEST(Estimate, IsWiderOverFewerRuns) {
  std::vector<double> resampled(1001);
  std::iota(resampled.begin(), resampled.end(), 0.0);
  const Estimate many = estimate(500, resampled, 10'000);
  EXPECT_NEAR(many.low, 25, 0.5);  // the plain percentiles
  EXPECT_NEAR(many.high, 975, 0.5);
  const Estimate few = estimate(500, resampled, 8);
  EXPECT_LT(few.low, 10);
  EXPECT_GT(few.high, 990);
}

TEST(WeightedQuantile, IsTheLeastValueWithTheShareUpToIt) {
  const std::vector<RunValue> values = {{1, 0}, {2, 1}, {3, 0}, {4, 2}};
  const std::vector<uint32_t> once = {1, 1, 1};
  EXPECT_EQ(weighted_quantile(values, once, 0.5), 2);
  EXPECT_EQ(weighted_quantile(values, once, 0.9), 4);
  const std::vector<uint32_t> drawn = {0, 0, 2};
  EXPECT_EQ(weighted_quantile(values, drawn, 0.5), 4);
  const std::vector<uint32_t> never = {0, 0, 0};
  EXPECT_TRUE(std::isnan(weighted_quantile(values, never, 0.5)));
}

// Scores of others are normal (0, 1), of the retried normal (s, 1), where s differs from run to
// run: normal (1, 1). So the AUC is P(normal (1, 3) > 0).
class Population {
 public:
  explicit Population(uint64_t seed) : random_(seed) {}

  static double auc() { return 0.5 * std::erfc(-1 / std::sqrt(3.0) / std::sqrt(2.0)); }

  std::vector<ScoredRow> draw(uint32_t runs, int rows_of_run) {
    std::vector<ScoredRow> rows;
    for (uint32_t run = 0; run < runs; run++) {
      const double shift = 1 + normal();
      for (int i = 0; i < rows_of_run; i++) {
        const bool retried = i % 2 == 0;
        rows.push_back({normal() + (retried ? shift : 0), run, retried});
      }
    }
    return rows;
  }

 private:
  double uniform() { return (static_cast<double>(random_() >> 12) + 0.5) / 0x1p52; }
  double normal() { return std::sqrt(-2 * std::log(uniform())) * std::cos(2 * kPi * uniform()); }

  std::mt19937_64 random_;
};

// Of how many data sets the interval holds the population's AUC.
double coverage(bool over_rows) {
  constexpr int kSets = 200;
  constexpr uint32_t kRuns = 10;
  constexpr int kRows = 40;
  Population population(5);
  int held = 0;
  for (int set = 0; set < kSets; set++) {
    std::vector<ScoredRow> rows = population.draw(kRuns, kRows);
    if (over_rows) {
      for (size_t i = 0; i < rows.size(); i++) rows[i].run = static_cast<uint32_t>(i);
    }
    const size_t runs = over_rows ? rows.size() : kRuns;
    const RankedRows ranked(rows, runs, {.threshold = {}});
    const RunResamples resamples(runs, 200, static_cast<uint64_t>(set));
    constexpr auto kAuc = static_cast<size_t>(Measure::kAuc);
    std::vector<double> resampled;
    for (size_t i = 0; i < resamples.count(); i++) {
      resampled.push_back(ranked.measure(resamples.weights(i))[kAuc]);
    }
    const Estimate auc = estimate(ranked.measure()[kAuc], std::move(resampled), runs);
    held += auc.low <= Population::auc() && Population::auc() <= auc.high ? 1 : 0;
  }
  testing::Test::RecordProperty("coverage", std::to_string(static_cast<double>(held) / kSets));
  return static_cast<double>(held) / kSets;
}

TEST(Bootstrap, IntervalsOverRunsHoldTheTruthAsOftenAsTheySay) {
  const double held = coverage(false);
  EXPECT_GE(held, 0.91);
  EXPECT_LE(held, 0.99);
}

TEST(Bootstrap, IntervalsOverRowsWouldNot) {
  EXPECT_LT(coverage(true), 0.6);
}

}  // namespace
}  // namespace petrel
