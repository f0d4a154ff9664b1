// SPDX-License-Identifier: MIT
#include "watch/score_table.hpp"

#include <algorithm>
#include <cmath>

namespace petrel {
namespace {

constexpr double kOne = 65536;  // Q16
constexpr double kLeastLogOdds = -8;
constexpr double kBinsPerLogOdds = 4;
constexpr std::uint64_t kCalibrationBins = 10;
// Fixed point can say 0 and 1; neither is meant to cost infinitely much.
constexpr double kLeastProbability = 0.5 / kOne;
constexpr double kChance = 2;  // standard errors: a calibrated bin is beyond them in 1 of 20

std::size_t bin_of(double probability) {
  const double within = std::clamp(probability, kLeastProbability, 1 - kLeastProbability);
  const double bin = (std::log(within / (1 - within)) - kLeastLogOdds) * kBinsPerLogOdds;
  return static_cast<std::size_t>(std::clamp(bin, 0.0, double{ScoreTable::kBins - 1}));
}

}  // namespace

void ScoreTable::add(std::uint32_t probability_q16, bool retried) {
  const double probability = probability_q16 / kOne;
  const double right = retried ? probability : 1 - probability;
  Bin& bin = bins_[bin_of(probability)];
  ++bin.rows;
  bin.retried += retried;
  bin.predicted_q16 += probability_q16;
  ++rows_;
  retried_ += retried;
  log_loss_ -= std::log(std::max(right, kLeastProbability));
  squares_ += (1 - right) * (1 - right);
}

void ScoreTable::add(const ScoreTable& other, std::uint32_t times) {
  for (std::size_t i = 0; i < kBins; ++i) {
    bins_[i].rows += times * other.bins_[i].rows;
    bins_[i].retried += times * other.bins_[i].retried;
    bins_[i].predicted_q16 += times * other.bins_[i].predicted_q16;
  }
  rows_ += times * other.rows_;
  retried_ += times * other.retried_;
  requests_ += times * other.requests_;
  log_loss_ += times * other.log_loss_;
  squares_ += times * other.squares_;
}

WatchMeasures ScoreTable::measure() const {
  WatchMeasures measures;
  measures.rows = rows_;
  measures.retried = retried_;
  if (rows_ == 0) return measures;
  const double rows = static_cast<double>(rows_);
  measures.log_loss = log_loss_ / rows;
  measures.brier = squares_ / rows;
  measures.auc = auc();
  measure_alarms(measures);
  measure_calibration(measures);
  return measures;
}

// How often a retried row lies above another; in the same bin: half.
double ScoreTable::auc() const {
  if (retried_ == 0 || retried_ == rows_) return WatchMeasures::kNone;
  double in_order = 0, others_below = 0;
  for (const Bin& bin : bins_) {
    const double others = static_cast<double>(bin.rows - bin.retried);
    in_order += bin.retried * (others_below + others / 2);
    others_below += others;
  }
  return in_order / (static_cast<double>(retried_) * static_cast<double>(rows_ - retried_));
}

// 0.5 is a bin's edge.
void ScoreTable::measure_alarms(WatchMeasures& measures) const {
  std::uint64_t hits = 0;
  for (std::size_t i = kBins / 2; i < kBins; ++i) {
    measures.alarms += bins_[i].rows;
    hits += bins_[i].retried;
  }
  const auto share = [&](std::uint64_t of) {
    return of == 0 ? WatchMeasures::kNone : static_cast<double>(hits) / static_cast<double>(of);
  };
  measures.precision = share(measures.alarms);
  measures.recall = share(retried_);
}

void ScoreTable::measure_calibration(WatchMeasures& measures) const {
  const double rows = static_cast<double>(rows_);
  // Rows of one request are not independent: as if there were only so many.
  const double repeats = requests_ == 0 ? 1 : std::max(1.0, rows / static_cast<double>(requests_));
  double error = 0, chance = 0;
  double count = 0, predicted = 0, retried = 0, variance = 0;
  for (std::size_t i = 0; i < kBins; ++i) {
    const Bin& bin = bins_[i];
    if (bin.rows > 0) {
      const double sum = static_cast<double>(bin.predicted_q16) / kOne;
      const double mean = sum / bin.rows;
      count += bin.rows;
      predicted += sum;
      retried += bin.retried;
      variance += bin.rows * mean * (1 - mean);
      measures.predicted += sum;
    }
    // A bin of the ten is full, or there are no more.
    if (count * kCalibrationBins < rows && i + 1 < kBins) continue;
    error += std::abs(predicted - retried) / rows;
    chance += kChance * std::sqrt(variance * repeats) / rows;
    count = predicted = retried = variance = 0;
  }
  measures.ece = error;
  measures.ece_chance = chance;
}

}  // namespace petrel
