// SPDX-License-Identifier: MIT
// Selection: what a model is fitted by, chosen on runs that a fit did not see.
//
// Runs are dealt to folds whole, in an order drawn by the seed. Each fold's rows are scored by a
// model of the other folds; calibrations are judged the same way, each fold by what was learned on
// the scores of the others.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "telemetry/row.hpp"
#include "trainer/calibration.hpp"
#include "trainer/logistic.hpp"
#include "trainer/split.hpp"

namespace petrel {

using Progress = std::function<void(const std::string&)>;

// Of retried rows, from the shares of both labels; others weigh 1.
enum class ClassWeight { kOne, kRoot, kBalanced };
std::string_view class_weight_name(ClassWeight weight);  // "1", "sqrt", "balanced"
double class_weight_of(ClassWeight weight, const RunPointers& runs);

// What a run's validation rows cost; empty where the run was in no fold.
struct RunLoss {
  double log_loss = 0;  // their sum, after calibration
  double rows = 0;
};

struct CandidateResult {
  Penalty penalty = Penalty::kL2;
  ClassWeight class_weight = ClassWeight::kOne;
  double c = 0;
  double log_loss = 0;  // over all folds' validation rows, after calibration
  double uncalibrated_log_loss = 0;
  double auc = 0;
  std::vector<RunLoss> of_runs = {};  // the same by run, in the runs' order
};

struct Grid {
  std::vector<Penalty> penalties = {Penalty::kL2, Penalty::kL1};
  std::vector<ClassWeight> class_weights = {ClassWeight::kOne, ClassWeight::kRoot,
                                            ClassWeight::kBalanced};
  // Of all training rows. Where fewer are fitted, C is larger by as much, so that the penalty's
  // part stays the same: what rows of a run have in common does not shrink with their number.
  std::vector<double> cs = {3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 1e-2, 1e-1};
};

// How one calibration did on folds that it did not see.
struct CalibrationResult {
  CalibrationMethod method = CalibrationMethod::kNone;
  bool even_runs = false;  // learned with runs weighed by the root of their rows, not by their rows
  double log_loss = 0;
  double auc = 0;
  double ece = 0;
};

struct FoldOptions {
  size_t folds = 5;  // at most; no more than there are runs
  uint64_t seed = 1;
  FeatureSet without = {};
};

// Scores of rows by models that did not see their runs.
struct UnseenRows {
  std::vector<UnseenRow> rows;
  std::vector<size_t> run;
  std::vector<size_t> fold;
  size_t folds = 0;
};

// Rows of whole connections, about `most` of them; all where there are no more.
std::vector<Run> thin_connections(const RunPointers& runs, size_t most, uint64_t seed);

// Empty where no fold leaves both labels to fit on. `rows` is how many the settings' C is for.
Result<UnseenRows> score_unseen(const RunPointers& runs, const FitSettings& settings, size_t rows,
                                const FoldOptions& options);

Result<std::vector<CandidateResult>> try_candidates(const RunPointers& runs, const Grid& grid,
                                                    size_t rows, bool is_calibrated,
                                                    const FoldOptions& options,
                                                    const Progress& progress);

// The simplest of those that are not proven worse than the one of least log loss: L2, then weight 1,
// then the least C. Not proven: within one standard error of the difference over runs, or a
// thousandth (the rule of one standard error: Breiman et al., Classification and Regression Trees,
// 1984; here of paired differences, for runs differ by far more than candidates do). What a C
// larger than that adds is of these runs and not of others. Nothing of nothing.
std::optional<CandidateResult> best_candidate(const std::vector<CandidateResult>& candidates);

std::vector<CalibrationResult> try_calibrations(const std::vector<CalibrationMethod>& methods,
                                                const UnseenRows& unseen);
// The same rule: none before Platt before isotonic.
CalibrationResult best_calibration(const std::vector<CalibrationResult>& results);
Calibration learn_calibration(const CalibrationResult& choice, const UnseenRows& unseen);

}  // namespace petrel
