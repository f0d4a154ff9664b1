// SPDX-License-Identifier: MIT
#include "trainer/ranking.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>

namespace petrel {
namespace {

constexpr size_t kBins = 10;
constexpr double kUndefined = std::numeric_limits<double>::quiet_NaN();

// In which of the bins of equal mass rows lie that have `below` under them: by their middle.
size_t bin_of(double below, double rows, double total) {
  const double place = (below + rows / 2) / total * static_cast<double>(kBins);
  return std::min(static_cast<size_t>(place), kBins - 1);
}

double ratio(double part, double whole) {
  return whole > 0 ? part / whole : kUndefined;
}

}  // namespace

std::string_view measure_name(Measure measure) {
  constexpr std::array<std::string_view, kMeasureCount> kNames = {
      "auc",       "auc_within_runs", "average_precision", "log_loss", "brier", "ece",
      "precision", "recall"};
  return kNames[static_cast<size_t>(measure)];
}

RankedRows::RankedRows(std::vector<ScoredRow> rows, size_t runs, ScoreKind kind)
    : kind_(kind), rows_(rows.size()), runs_(runs) {
  std::sort(rows.begin(), rows.end(), [](const ScoredRow& left, const ScoredRow& right) {
    // To the last bit: sums must not depend on the order in which rows came.
    return std::tie(left.score, left.run, left.retried) <
           std::tie(right.score, right.run, right.retried);
  });
  merge(rows);
  sum_runs(rows);
  rank_within_runs();
}

void RankedRows::merge(const std::vector<ScoredRow>& sorted) {
  for (const ScoredRow& row : sorted) {
    const bool is_tied = !groups_.empty() && groups_.back().score == row.score;
    if (!is_tied) groups_.push_back({row.score, entries_.size()});
    if (!is_tied || entries_.back().run != row.run) entries_.push_back({.run = row.run});
    (row.retried ? entries_.back().retried : entries_.back().others)++;
    groups_.back().end = entries_.size();
    retried_ += row.retried ? 1 : 0;
  }
}

void RankedRows::sum_runs(const std::vector<ScoredRow>& rows) {
  for (const ScoredRow& row : rows) {
    RunSums& run = runs_[row.run];
    (row.retried ? run.retried : run.others)++;
    if (kind_.threshold && row.score >= *kind_.threshold) {
      (row.retried ? run.true_alarms : run.false_alarms)++;
    }
    if (!kind_.is_probability) continue;
    run.log_loss += log_loss_of(row.score, row.retried);
    const double off = row.score - (row.retried ? 1 : 0);
    run.squares += off * off;
  }
}

void RankedRows::rank_within_runs() {
  std::vector<double> others_below(runs_.size());
  for (const Entry& entry : entries_) {
    runs_[entry.run].pairs_in_order +=
        entry.retried * (others_below[entry.run] + entry.others / 2.0);
    others_below[entry.run] += entry.others;
  }
}

size_t RankedRows::runs_with_rows() const {
  return static_cast<size_t>(std::count_if(
      runs_.begin(), runs_.end(), [](const RunSums& run) { return run.others + run.retried > 0; }));
}

MeasureValues RankedRows::measure() const {
  const std::vector<uint32_t> once(runs_.size(), 1);
  return measure(once);
}

MeasureValues RankedRows::measure(std::span<const uint32_t> weights) const {
  RunSums total;
  double pairs_within = 0;
  for (size_t i = 0; i < runs_.size(); i++) {
    const RunSums& run = runs_[i];
    total.others += weights[i] * run.others;
    total.retried += weights[i] * run.retried;
    total.log_loss += weights[i] * run.log_loss;
    total.squares += weights[i] * run.squares;
    total.true_alarms += weights[i] * run.true_alarms;
    total.false_alarms += weights[i] * run.false_alarms;
    total.pairs_in_order += weights[i] * run.pairs_in_order;
    pairs_within += weights[i] * run.others * run.retried;
  }
  MeasureValues values;
  values.fill(kUndefined);
  const auto set = [&values](Measure measure, double value) {
    values[static_cast<size_t>(measure)] = value;
  };
  const double rows = total.others + total.retried;
  if (rows == 0) return values;
  set(Measure::kAucWithinRuns, ratio(total.pairs_in_order, pairs_within));
  if (kind_.is_probability) {
    set(Measure::kLogLoss, total.log_loss / rows);
    set(Measure::kBrier, total.squares / rows);
  }
  if (kind_.threshold) {
    set(Measure::kPrecision, ratio(total.true_alarms, total.true_alarms + total.false_alarms));
    set(Measure::kRecall, ratio(total.true_alarms, total.retried));
  }
  measure_order(weights, total, values);
  return values;
}

void RankedRows::measure_order(std::span<const uint32_t> weights, const RunSums& total,
                               MeasureValues& values) const {
  const double rows = total.others + total.retried;
  double below = 0;
  double retried_below = 0;
  double pairs_in_order = 0;
  double precision_steps = 0;
  std::array<double, kBins> gaps{};  // of each bin: probabilities predicted less what was retried
  size_t begin = 0;
  for (const Group& group : groups_) {
    double others = 0;
    double retried = 0;
    for (size_t i = begin; i < group.end; i++) {
      const Entry& entry = entries_[i];
      const double weight = weights[entry.run];
      others += weight * entry.others;
      retried += weight * entry.retried;
    }
    begin = group.end;
    const double size = others + retried;
    if (size == 0) continue;
    pairs_in_order += retried * (below - retried_below + others / 2);
    // With this score as the threshold: of the rows from here on, those that were retried.
    precision_steps += retried * (total.retried - retried_below) / (rows - below);
    if (kind_.is_probability) gaps[bin_of(below, size, rows)] += size * group.score - retried;
    below += size;
    retried_below += retried;
  }
  values[static_cast<size_t>(Measure::kAuc)] = ratio(pairs_in_order, total.retried * total.others);
  values[static_cast<size_t>(Measure::kAveragePrecision)] = ratio(precision_steps, total.retried);
  if (!kind_.is_probability) return;
  double gap = 0;
  for (const double each : gaps) gap += std::abs(each);
  values[static_cast<size_t>(Measure::kEce)] = gap / rows;
}

std::vector<CalibrationBin> RankedRows::calibration() const {
  std::array<CalibrationBin, kBins> bins{};
  size_t begin = 0;
  uint64_t below = 0;
  for (const Group& group : groups_) {
    uint64_t size = 0;
    uint64_t retried = 0;
    for (; begin < group.end; begin++) {
      size += entries_[begin].others + entries_[begin].retried;
      retried += entries_[begin].retried;
    }
    const auto rows = static_cast<double>(size);
    CalibrationBin& bin =
        bins[bin_of(static_cast<double>(below), rows, static_cast<double>(rows_))];
    if (bin.rows == 0) bin.least_predicted = group.score;
    bin.most_predicted = group.score;
    bin.rows += size;
    bin.mean_predicted += rows * group.score;
    bin.share_retried += static_cast<double>(retried);
    below += size;
  }
  std::vector<CalibrationBin> filled;
  for (CalibrationBin& bin : bins) {
    if (bin.rows == 0) continue;
    bin.mean_predicted /= static_cast<double>(bin.rows);
    bin.share_retried /= static_cast<double>(bin.rows);
    filled.push_back(bin);
  }
  return filled;
}

}  // namespace petrel
