// SPDX-License-Identifier: MIT
// A model judged on synthetic rows that it is the true model of.
#include "trainer/evaluation.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "score/score.hpp"
#include "trainer/run_choice.hpp"

namespace petrel {
namespace {

using Runs = std::vector<Run>;  // in a test's body, Run is GoogleTest's own

constexpr auto kAge = static_cast<size_t>(Feature::kWaitingAge);
constexpr auto kFailures = static_cast<size_t>(Feature::kBackendFailures);

// Weighs the age, and the failures at the backend.
Model sample_model() {
  Model model;
  model.name = "sample";
  model.bias = -1;
  model.features[kAge] = {.mean = 2, .scale = 1, .coefficient = 1.5, .max_q16 = 8 * Q16_ONE};
  model.features[kFailures] = {.mean = 0, .scale = 1, .coefficient = 2, .max_q16 = Q16_ONE};
  EXPECT_TRUE(quantize(model));
  return model;
}

// Rows at all points; at answers and ends with all failures. Labelled by the model.
Runs sample_runs(size_t runs, size_t rows_of_run, uint64_t seed) {
  const Model model = sample_model();
  std::mt19937_64 random(seed);
  Runs result;
  for (size_t r = 0; r < runs; r++) {
    Run run{"run-" + std::to_string(r), {}};
    for (size_t i = 0; i < rows_of_run; i++) {
      LabelledRow row;
      row.connection_id = random();
      row.request = 1;
      row.time_ns = random() % 1'000'000'000;
      row.point = static_cast<Point>(random() % kPointCount);
      if (row.point == Point::kAnswer || row.point == Point::kEnd) {
        row.failure = static_cast<uint8_t>(random() % bpf::FAILURE_KINDS);
      }
      row.features[kAge] = static_cast<int32_t>(random() % (4 * Q16_ONE));
      row.features[kFailures] = static_cast<int32_t>(random() % Q16_ONE);
      row.elapsed_ns = random() % 1'000'000'000;
      row.retried = random() % Q16_ONE < probability_q16(model, row.features);
      run.rows.push_back(row);
    }
    result.push_back(std::move(run));
  }
  return result;
}

EvaluationReport evaluated(const Runs& runs, const EvaluationOptions& options = {}) {
  std::vector<const Run*> pointers;
  for (const auto& run : runs) pointers.push_back(&run);
  return evaluate_runs(sample_model(), pointers, options);
}

TEST(Evaluation, OfTheTrueModelIsGoodCalibratedAndWithinItsIntervals) {
  const EvaluationReport report = evaluated(sample_runs(10, 2000, 1));
  EXPECT_EQ(report.all.rows, 20'000U);
  EXPECT_EQ(report.all.runs, 10U);
  EXPECT_GT(report.all.of(Measure::kAuc).value, 0.8);
  EXPECT_LT(report.all.of(Measure::kEce).value, 0.02);
  for (size_t i = 0; i < kMeasureCount; i++) {
    const Estimate& it = report.all.values[i];
    ASSERT_TRUE(it.has_interval()) << measure_name(static_cast<Measure>(i));
    EXPECT_LT(it.low, it.high);
    // Resamples of a calibration error near 0 are above it: it cannot be negative.
    if (static_cast<Measure>(i) == Measure::kEce) continue;
    EXPECT_LE(it.low, it.value);
    EXPECT_GE(it.high, it.value);
  }
  uint64_t rows = 0;
  for (const CalibrationBin& bin : report.calibration) rows += bin.rows;
  EXPECT_EQ(rows, report.all.rows);
}

TEST(Evaluation, PartsTheRowsByPointAndByFailure) {
  const Runs runs = sample_runs(4, 1000, 2);
  const EvaluationReport report = evaluated(runs);
  std::array<uint64_t, kPointCount> points{};
  std::array<uint64_t, bpf::FAILURE_KINDS> failures{};
  for (const auto& run : runs) {
    for (const LabelledRow& row : run.rows) {
      points[static_cast<size_t>(row.point)]++;
      if (row.point == Point::kAnswer || row.point == Point::kEnd) failures[row.failure]++;
    }
  }
  for (size_t i = 0; i < points.size(); i++) EXPECT_EQ(report.by_point[i].rows, points[i]);
  for (size_t i = 0; i < failures.size(); i++) EXPECT_EQ(report.by_failure[i].rows, failures[i]);
  EXPECT_EQ(report.waiting.rows, points[0] + points[1]);
}

TEST(Evaluation, ShuffledLabelsCannotBePredicted) {
  Runs runs = sample_runs(8, 2000, 3);
  EXPECT_GT(evaluated(runs).all.of(Measure::kAuc).value, 0.8);
  shuffle_labels(runs, 1);
  const EvaluationReport report = evaluated(runs);
  EXPECT_NEAR(report.all.of(Measure::kAuc).value, 0.5, 0.02);
  EXPECT_NEAR(report.all.of(Measure::kAucWithinRuns).value, 0.5, 0.02);
  EXPECT_NEAR(report.all.of(Measure::kAveragePrecision).value,
              static_cast<double>(report.all.retried) / static_cast<double>(report.all.rows), 0.03);
}

// What a permutation within runs leaves: that some runs have more retries, and higher
// probabilities.
TEST(Evaluation, ShuffledLabelsOfUnlikeRunsAreToldApartBetweenRunsAlone) {
  Runs runs = sample_runs(8, 2000, 4);
  for (size_t r = 0; r < runs.size(); r += 2) {
    for (LabelledRow& row : runs[r].rows) {
      row.features[kAge] += 3 * Q16_ONE;
      row.retried = row.retried || row.time_ns % 2 == 0;
    }
  }
  shuffle_labels(runs, 1);
  const EvaluationReport report = evaluated(runs);
  EXPECT_NEAR(report.all.of(Measure::kAucWithinRuns).value, 0.5, 0.02);
  EXPECT_GT(report.all.of(Measure::kAuc).value, 0.55);
}

const BaselineReport& baseline(const EvaluationReport& report, const std::string& name) {
  for (const BaselineReport& it : report.baselines) {
    if (it.name == name) return it;
  }
  throw std::logic_error("no baseline " + name);
}

TEST(Evaluation, HoldsTheModelAgainstSimpleRules) {
  const EvaluationReport report = evaluated(sample_runs(8, 2000, 5));
  ASSERT_EQ(report.baselines.size(), 6U);
  for (const BaselineReport& it : report.baselines) {
    EXPECT_EQ(it.all.rows, report.all.rows) << it.name;
    EXPECT_EQ(it.waiting.rows, report.waiting.rows) << it.name;
    EXPECT_FALSE(it.meaning.empty());
    EXPECT_EQ(it.meaning.find('\n'), std::string::npos);
  }
  const BaselineReport& base = baseline(report, "base rate");
  EXPECT_DOUBLE_EQ(base.all.of(Measure::kAuc).value, 0.5);
  EXPECT_NEAR(base.all.of(Measure::kEce).value, 0, 1e-9);
  EXPECT_NEAR(base.waiting.of(Measure::kEce).value, 0, 1e-9);
  EXPECT_GT(base.all.of(Measure::kLogLoss).value, report.all.of(Measure::kLogLoss).value);
  EXPECT_GT(base.auc_gain.low, 0.25);
  // Half of the model: better than nothing, and worse than both of it.
  const BaselineReport& failures = baseline(report, "failure threshold");
  EXPECT_GT(failures.all.of(Measure::kAuc).value, 0.55);
  EXPECT_GT(failures.auc_gain.low, 0.1);
  EXPECT_TRUE(failures.all.of(Measure::kPrecision).has_value());
  EXPECT_FALSE(failures.all.of(Measure::kLogLoss).has_value());
  EXPECT_NEAR(baseline(report, "response time").all.of(Measure::kAuc).value, 0.5, 0.03);
  const BaselineReport& in_float = baseline(report, "float model");
  EXPECT_NEAR(in_float.all.of(Measure::kLogLoss).value, report.all.of(Measure::kLogLoss).value,
              1e-3);
  EXPECT_NEAR(in_float.auc_gain.value, 0, 1e-4);
}

TEST(Evaluation, TheWorkingPointTradesRecallForPrecision) {
  const Runs runs = sample_runs(4, 2000, 6);
  const Measures low = evaluated(runs, {.working_point = 0.2, .resamples = 0}).all;
  const Measures high = evaluated(runs, {.working_point = 0.9, .resamples = 0}).all;
  EXPECT_LT(low.of(Measure::kPrecision).value, high.of(Measure::kPrecision).value);
  EXPECT_GT(low.of(Measure::kRecall).value, high.of(Measure::kRecall).value);
  EXPECT_FALSE(low.of(Measure::kAuc).has_interval());
  EXPECT_DOUBLE_EQ(low.of(Measure::kAuc).value, high.of(Measure::kAuc).value);
}

}  // namespace
}  // namespace petrel
