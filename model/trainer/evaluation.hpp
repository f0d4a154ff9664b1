// SPDX-License-Identifier: MIT
// Evaluation: how good a model is on labelled runs, with intervals, beside simple rules.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "score/model.hpp"
#include "telemetry/row.hpp"
#include "trainer/bootstrap.hpp"
#include "trainer/lead_time.hpp"
#include "trainer/ranking.hpp"

namespace petrel {

struct EvaluationOptions {
  double working_point = 0.5;  // a retry is predicted from this probability on
  size_t resamples = 200;
  uint64_t seed = 1;
};

struct Measures {
  uint64_t rows = 0;
  uint64_t retried = 0;
  size_t runs = 0;  // that have such rows
  std::array<Estimate, kMeasureCount> values{};

  const Estimate& of(Measure measure) const { return values[static_cast<size_t>(measure)]; }
};

// The same rows, or those at waiting points, where a prediction is still worth something.
struct BaselineReport {
  std::string name;
  std::string meaning;
  Measures all;
  Measures waiting;
  Estimate auc_gain;  // the model's less this one's, on the same resamples
  Estimate auc_gain_waiting;
};

struct EvaluationReport {
  Measures all;
  Measures waiting;
  std::array<Measures, kPointCount> by_point{};           // by enum Point
  std::array<Measures, bpf::FAILURE_KINDS> by_failure{};  // by enum failure_kind; of outcomes only
  std::vector<CalibrationBin> calibration;                // of all rows, ascending
  double largest_float_difference = 0;                    // |fixed - float| probability of any row
  LeadTime lead_time;
  std::vector<BaselineReport> baselines;
};

// The model as it is shipped: fixed-point probabilities. Runs are resampled whole. Costs one pass
// over the rows for each resample and each table's line: 500,000 rows and 200 resamples some
// seconds.
EvaluationReport evaluate_runs(const Model& model, std::span<const Run* const> runs,
                               const EvaluationOptions& options);

// The most of it, for one of many groups of runs.
struct BriefReport {
  Measures all;
  Measures waiting;
  Estimate median_lead_ms;  // of retried requests that were predicted while they waited
};
BriefReport measure_brief(const Model& model, std::span<const Run* const> runs,
                          const EvaluationOptions& options);

}  // namespace petrel
