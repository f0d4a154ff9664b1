// SPDX-License-Identifier: MIT
// Training: labelled rows in, a quantized model and an honest account of it out.
//
// Logistic regression (liblinear) on standardized features. Runs are never split: some are held out
// whole; penalty, C and class weight are chosen by cross-validation grouped by run on the others
// (selection.hpp), so is the calibration (calibration.hpp), and the shipped coefficients are fitted
// on those others only, so that the held-out figures are about the very model that is saved.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "score/model.hpp"
#include "telemetry/row.hpp"
#include "trainer/metrics.hpp"
#include "trainer/selection.hpp"
#include "trainer/split.hpp"

namespace petrel {

struct TrainingOptions {
  std::string name = "petrel";
  uint32_t version = 1;
  std::string date = {};                        // UTC, "2026-01-31"; the caller's clock, not ours
  uint64_t seed = 1;                            // decides which runs are held out
  double held_out_share = 0.3;                  // of the runs; at least one, and two are left
  std::vector<std::string> held_out_runs = {};  // instead of drawing them
  Grid grid = {};
  std::optional<CalibrationMethod> calibration = {};  // none: by validation
  std::vector<std::string> without = {};              // features that get no weight
  size_t folds = 5;  // at most; no more than there are training runs
  // Rows count by the confidence in their labels: liblinear has no weights of rows, so each training
  // row stays with that probability, drawn by seed, run and row. Held-out rows all stay.
  bool weigh_by_confidence = false;
  Progress progress = {};
};

// What one model is fitted by.
struct FitChoice {
  Penalty penalty = Penalty::kL2;
  double c = 1;
  double class_weight = 1;
  std::optional<CalibrationMethod> calibration = {};  // none: by validation
};

struct FitReport {
  std::vector<CalibrationResult> calibrations;  // those that were tried
  CalibrationResult chosen;
  CalibrationResult uncalibrated;
};

// Fails with ExitCode::kInput on a name that is no feature's.
Result<FeatureSet> features_named(const std::vector<std::string>& names);

// Fits, and calibrates on scores of runs that each fold's fit did not see. Sets the fit's facts.
Result<Model> fit_as_chosen(const RunPointers& training, const FitChoice& choice,
                            const FoldOptions& folds, FitReport* report = nullptr);

struct TrainingReport {
  Model model;
  std::vector<CandidateResult> candidates;  // empty if no fold had both classes
  CandidateResult chosen;
  size_t selection_rows = 0;  // that candidates were tried on
  FitReport fit;
  Evaluation training;                      // of the shipped, quantized model
  Evaluation held_out;
  std::vector<Baseline> baselines;             // on the held-out rows
  double largest_quantization_difference = 0;  // |fixed - float| probability over all rows
};

// Fails with ExitCode::kInput on fewer than 3 runs, an unknown held-out run, or where either side
// has rows of only one class.
Result<TrainingReport> train(std::span<const Run> runs, const TrainingOptions& options);

}  // namespace petrel
