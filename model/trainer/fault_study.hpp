// SPDX-License-Identifier: MIT
// How a model does by the faults of the runs, and at a fault that training has never seen.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "trainer/evaluation.hpp"
#include "trainer/manifest.hpp"
#include "trainer/trainer.hpp"

namespace petrel {

struct FaultFigures {
  std::string fault;
  std::vector<std::string> tested;  // runs
  size_t training_runs = 0;         // of the model that was left without the fault; 0: the model's own
  BriefReport report;
  std::string why_not = {};  // there are no figures; else empty
};

// The model's figures on the runs that each fault led ("none": that had none).
std::vector<FaultFigures> figures_by_fault(const Model& model, std::span<const Run* const> runs,
                                           const Manifest& manifest,
                                           const EvaluationOptions& options);

// For each kind of fault: a model fitted on the runs that did not have it, tested on those that had
// no other. `c_rows`: how many rows the choice's C is for.
Result<std::vector<FaultFigures>> leave_one_fault_out(std::span<const Run> runs,
                                                      const Manifest& manifest,
                                                      const FitChoice& choice, size_t c_rows,
                                                      const FoldOptions& folds,
                                                      const EvaluationOptions& options,
                                                      const Progress& progress = {});

// What the model's file says that it was fitted by; its C is for its training rows.
FitChoice choice_of(const Model& model);
Result<FeatureSet> without_of(const Model& model);  // features that it was told to leave out

}  // namespace petrel
