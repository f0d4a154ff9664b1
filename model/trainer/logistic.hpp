// SPDX-License-Identifier: MIT
// Logistic regressions on given rows: standardizes, calls liblinear, puts the numbers in a Model.
#pragma once

#include <bitset>
#include <memory>
#include <span>
#include <string_view>

#include "base/error.hpp"
#include "score/model.hpp"
#include "telemetry/row.hpp"

namespace petrel {

enum class Penalty { kL2, kL1 };
std::string_view penalty_name(Penalty penalty);  // "l2", "l1"

using FeatureSet = std::bitset<kFeatureCount>;

struct FitSettings {
  Penalty penalty = Penalty::kL2;
  double c = 1;             // liblinear's: the weight of the rows' losses against the penalty
  double class_weight = 1;  // of retried rows; others weigh 1
  double tolerance = 1e-5;  // of the solver: the default is well below what quantization resolves
};

// The rows as liblinear wants them, to be fitted more than once.
class LogisticProblem {
 public:
  // The runs must hold both labels. Features of `without` get coefficient 0, as constant ones do.
  explicit LogisticProblem(std::span<const Run* const> runs, const FeatureSet& without = {});
  ~LogisticProblem();
  LogisticProblem(const LogisticProblem&) = delete;
  LogisticProblem& operator=(const LogisticProblem&) = delete;

  size_t rows() const;

  // The floating-point fields of the result are rounded and quantized; its name and training facts
  // are left to the caller. Deterministic: liblinear's L1 solver draws from rand(), which is seeded
  // anew here, and its L2 solver draws nothing. Not to be called from two threads: both rand() and
  // liblinear's print hook are global.
  Result<Model> fit(const FitSettings& settings) const;

 private:
  class Rows;
  Model standardized_;  // means, scales and ranges
  FeatureSet left_out_;
  std::unique_ptr<Rows> rows_;
};

}  // namespace petrel
