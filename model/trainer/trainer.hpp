// SPDX-License-Identifier: MIT
// Training: labelled rows in, a quantized model and an honest account of it out.
//
// L2-regularized logistic regression (liblinear) on standardized features, unweighted, so that its
// probabilities stay calibrated. Runs are never split: some are held out whole, C is chosen by
// cross-validation grouped by run on the others, and the shipped coefficients are fitted on those
// others only, so that the held-out figures are about the very model that is saved.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "score/model.hpp"
#include "telemetry/row.hpp"
#include "trainer/metrics.hpp"

namespace petrel {

struct TrainingOptions {
  std::string name = "petrel";
  uint32_t version = 1;
  std::string date = {};                        // UTC, "2026-01-31"; the caller's clock, not ours
  uint64_t seed = 1;                            // decides which runs are held out
  double held_out_share = 0.3;                  // of the runs; at least one, and two are left
  std::vector<std::string> held_out_runs = {};  // instead of drawing them
  std::vector<double> c_candidates = {0.0001, 0.001, 0.01, 0.1, 1};
  size_t folds = 5;  // at most; no more than there are training runs
  // Rows count by the confidence in their labels: liblinear has no weights of rows, so each training
  // row stays with that probability, drawn by seed, run and row. Held-out rows all stay.
  bool weigh_by_confidence = false;
};

struct CandidateResult {
  double c = 0;
  double log_loss = 0;  // over all folds' validation rows
  double auc = 0;
};

struct TrainingReport {
  Model model;
  std::vector<CandidateResult> candidates;  // one for each C; empty if no fold had both classes
  Evaluation training;                      // of the shipped, quantized model
  Evaluation held_out;
  std::vector<Baseline> baselines;             // on the held-out rows
  double largest_quantization_difference = 0;  // |fixed - float| probability over all rows
};

// Fails with ExitCode::kInput on fewer than 3 runs, an unknown held-out run, or where either side
// has rows of only one class.
Result<TrainingReport> train(std::span<const Run> runs, const TrainingOptions& options);

}  // namespace petrel
