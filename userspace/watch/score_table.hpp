// SPDX-License-Identifier: MIT
// ScoreTable: how a model's probabilities met what then happened, in constant space.
//
// Rows are counted in 64 bins a quarter of log-odds wide, from -8 to 8, those beyond at the ends:
// fine where probabilities are small, as most are. Sums of log loss and squares are exact; the AUC
// and the calibration error are the bins'.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace petrel {

// NaN where it is not defined: no rows, or rows of one class only.
struct WatchMeasures {
  static constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

  std::uint64_t rows = 0;
  std::uint64_t retried = 0;
  double predicted = 0;  // retries: the sum of probabilities
  double auc = kNone;
  double log_loss = kNone;
  double brier = kNone;
  double ece = kNone;  // over at most 10 bins of about equal mass, as `petrel evaluate` has it
  std::uint64_t alarms = 0;  // rows that a retry was predicted of: a probability of 0.5 or more
  double precision = kNone;  // of these, the part that was retried
  double recall = kNone;     // of what was retried, the part that was predicted
  double ece_chance = kNone;  // what a calibrated model would hardly exceed with so few requests
};

class ScoreTable {
 public:
  static constexpr std::size_t kBins = 64;

  void add(std::uint32_t probability_q16, bool retried);
  // A request's first row, of its rows: they share its fate, and say less than as many requests do.
  void add_request() { ++requests_; }

  // `times` that table: as often as a bootstrap has drawn it.
  void add(const ScoreTable& other, std::uint32_t times = 1);

  WatchMeasures measure() const;
  std::uint64_t rows() const { return rows_; }

 private:
  struct Bin {
    std::uint32_t rows = 0;
    std::uint32_t retried = 0;
    std::uint64_t predicted_q16 = 0;
  };

  double auc() const;
  void measure_alarms(WatchMeasures& measures) const;
  void measure_calibration(WatchMeasures& measures) const;

  std::array<Bin, kBins> bins_{};
  std::uint64_t rows_ = 0;
  std::uint64_t retried_ = 0;
  std::uint64_t requests_ = 0;
  double log_loss_ = 0;
  double squares_ = 0;
};

}  // namespace petrel
