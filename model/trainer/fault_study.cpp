// SPDX-License-Identifier: MIT
#include "trainer/fault_study.hpp"

#include <algorithm>
#include <map>
#include <set>

namespace petrel {
namespace {

RunPointers by_name(std::span<const Run> runs) {
  RunPointers pointers;
  for (const Run& run : runs) {
    if (!run.rows.empty()) pointers.push_back(&run);
  }
  std::sort(pointers.begin(), pointers.end(),
            [](const Run* left, const Run* right) { return left->name < right->name; });
  return pointers;
}

bool holds(const std::vector<std::string>& kinds, const std::string& kind) {
  return std::find(kinds.begin(), kinds.end(), kind) != kinds.end();
}

std::vector<std::string> names_of(const RunPointers& runs) {
  std::vector<std::string> names;
  for (const Run* run : runs) names.push_back(run->name);
  return names;
}

}  // namespace

std::vector<FaultFigures> figures_by_fault(const Model& model, std::span<const Run* const> runs,
                                           const Manifest& manifest,
                                           const EvaluationOptions& options) {
  std::map<std::string, RunPointers> by_fault;
  for (const Run* run : runs) {
    const std::vector<std::string>* const faults = manifest.of(run->name);
    if (faults == nullptr) continue;
    by_fault[faults->empty() ? "none" : faults->front()].push_back(run);
  }
  std::vector<FaultFigures> result;
  for (const auto& [fault, of_fault] : by_fault) {
    result.push_back({.fault = fault,
                      .tested = names_of(of_fault),
                      .report = measure_brief(model, of_fault, options)});
  }
  return result;
}

Result<std::vector<FaultFigures>> leave_one_fault_out(std::span<const Run> runs,
                                                      const Manifest& manifest,
                                                      const FitChoice& choice, size_t c_rows,
                                                      const FoldOptions& folds,
                                                      const EvaluationOptions& options,
                                                      const Progress& progress) {
  const RunPointers sorted = by_name(runs);
  std::set<std::string> kinds;
  for (const Run* run : sorted) {
    const std::vector<std::string>* const faults = manifest.of(run->name);
    if (faults != nullptr) kinds.insert(faults->begin(), faults->end());
  }
  std::vector<FaultFigures> result;
  for (const std::string& kind : kinds) {
    if (progress) progress("leaving out " + kind);
    RunPointers training, tested;
    for (const Run* run : sorted) {
      const std::vector<std::string>* const faults = manifest.of(run->name);
      if (faults == nullptr) continue;
      if (!holds(*faults, kind)) training.push_back(run);
      if (faults->size() == 1 && faults->front() == kind) tested.push_back(run);
    }
    FaultFigures& it = result.emplace_back();
    it.fault = kind;
    it.tested = names_of(tested);
    it.training_runs = training.size();
    if (training.size() < 2 || !has_both_classes(training)) {
      it.why_not = "too few runs without it to train on";
    } else if (tested.empty()) {
      it.why_not = "no run has it alone";
    } else if (!has_both_classes(tested)) {
      it.why_not = "the runs that have it alone have rows of one label only";
    }
    if (!it.why_not.empty()) continue;
    FitChoice scaled = choice;
    scaled.c *= static_cast<double>(c_rows) / static_cast<double>(count_rows(training));
    const Result<Model> model = fit_as_chosen(training, scaled, folds);
    if (!model) return model.error();
    it.report = measure_brief(*model, tested, options);
  }
  return result;
}

FitChoice choice_of(const Model& model) {
  FitChoice choice{.c = model.training.c};
  if (!model.training.fit) return choice;
  const FitFacts& fit = *model.training.fit;
  if (fit.penalty == penalty_name(Penalty::kL1)) choice.penalty = Penalty::kL1;
  choice.class_weight = fit.class_weight;
  for (const CalibrationMethod method :
       {CalibrationMethod::kNone, CalibrationMethod::kPlatt, CalibrationMethod::kIsotonic}) {
    if (calibration_name(method) == fit.calibration) choice.calibration = method;
  }
  return choice;
}

Result<FeatureSet> without_of(const Model& model) {
  if (!model.training.fit) return FeatureSet();
  return features_named(model.training.fit->without);
}

}  // namespace petrel
