// SPDX-License-Identifier: MIT
// RankedRows: scored rows in order, sorted once, measured as often as runs are drawn again.
//
// A weighting says how often each run counts; its rows all count that often. One pass over the rows
// gives every measure that depends on their order; sums for each run give the others.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "trainer/metrics.hpp"

namespace petrel {

struct ScoredRow {
  double score = 0;
  uint32_t run = 0;
  bool retried = false;
};

enum class Measure : size_t {
  kAuc,
  kAucWithinRuns,     // pairs of one run only: what runs differ in counts for nothing
  kAveragePrecision,  // area under precision over recall, stepwise; ties are one step
  kLogLoss,
  kBrier,
  kEce,  // expected calibration error over 10 bins of equal mass
  kPrecision,
  kRecall,
  kCount,
};
inline constexpr size_t kMeasureCount = static_cast<size_t>(Measure::kCount);
std::string_view measure_name(Measure measure);  // "auc", "auc_within_runs", ...

// By enum Measure; NaN where it is not defined: one class only, nothing predicted, no probability.
using MeasureValues = std::array<double, kMeasureCount>;

// What a score is, beyond an order.
struct ScoreKind {
  bool is_probability = false;           // else no log loss, Brier score or calibration error
  std::optional<double> threshold = {};  // a retry is predicted from here on; else no precision
};

class RankedRows {
 public:
  // Each row's run is below `runs`.
  RankedRows(std::vector<ScoredRow> rows, size_t runs, ScoreKind kind);

  MeasureValues measure() const;  // each run once
  MeasureValues measure(std::span<const uint32_t> weights) const;

  // Ascending; each run counts once. Rows of equal score are never parted, so bins may differ in
  // size, or be fewer.
  std::vector<CalibrationBin> calibration() const;

  uint64_t rows() const { return rows_; }
  uint64_t retried() const { return retried_; }
  size_t runs_with_rows() const;

 private:
  // Rows of one score and one run.
  struct Entry {
    uint32_t run = 0;
    uint32_t others = 0;
    uint32_t retried = 0;
  };
  // Entries of one score: up to `end`, from where the group before ends.
  struct Group {
    double score = 0;
    size_t end = 0;
  };
  struct RunSums {
    double others = 0;
    double retried = 0;
    double log_loss = 0;
    double squares = 0;
    double true_alarms = 0;
    double false_alarms = 0;
    double pairs_in_order = 0;  // of one retried and one other row; ties half
  };

  void merge(const std::vector<ScoredRow>& sorted);
  void sum_runs(const std::vector<ScoredRow>& rows);
  void rank_within_runs();
  void measure_order(std::span<const uint32_t> weights, const RunSums& total,
                     MeasureValues& values) const;

  ScoreKind kind_;
  uint64_t rows_ = 0;
  uint64_t retried_ = 0;
  std::vector<Entry> entries_;
  std::vector<Group> groups_;  // ascending
  std::vector<RunSums> runs_;
};

}  // namespace petrel
