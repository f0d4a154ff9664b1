// SPDX-License-Identifier: MIT
#include "trainer/trainer.hpp"

#include <algorithm>
#include <cmath>
#include <random>

#include "score/score.hpp"

namespace petrel {
namespace {

// What liblinear is given to choose by, and to calibrate by: more rows of the same runs tell little
// more, and each fit costs as many passes over them as the whole set would.
constexpr size_t kSelectionRows = 60'000;
constexpr size_t kCalibrationRows = 120'000;
// Where cross-validation cannot tell: liblinear's own default.
constexpr double kUntriedC = 1;
// The same of both solvers would make L1's hundreds of times slower.
constexpr double kL2Tolerance = 1e-5;
constexpr double kL1Tolerance = 1e-4;
constexpr double kUnseenTolerance = 1e-4;

Error input_error(const std::string& message) {
  return Error(ExitCode::kInput, "train: " + message);
}

RunPointers pointers_to(const std::vector<Run>& runs) {
  RunPointers pointers;
  for (const Run& run : runs) pointers.push_back(&run);
  return pointers;
}

double largest_difference(const Model& model, std::span<const Run> runs) {
  double largest = 0;
  const bpf::scoring_model scoring = make_scoring_model(model);
  for (const Run& run : runs) {
    for (const LabelledRow& row : run.rows) {
      const double fixed = probability_q16(scoring, row.features) / double{Q16_ONE};
      largest = std::max(largest, std::abs(fixed - float_probability(model, row.features)));
    }
  }
  return largest;
}

// The lower of the two in the middle, so that it is a value that was seen.
void note_medians(const RunPointers& runs, Model& model) {
  std::vector<int32_t> values;
  values.reserve(count_rows(runs));
  for (size_t i = 0; i < kFeatureCount; i++) {
    values.clear();
    for (const Run* run : runs) {
      for (const LabelledRow& row : run->rows) values.push_back(row.features[i]);
    }
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>((values.size() - 1) / 2);
    std::nth_element(values.begin(), middle, values.end());
    model.features[i].median_q16 = *middle;
  }
}

// At each decision point where the feature varies.
void note_references(const RunPointers& runs, Model& model) {
  std::vector<int32_t> values;
  for (size_t i = 0; i < kFeatureCount; i++) {
    for (size_t point = 0; point < kPointCount; point++) {
      values.clear();
      for (const Run* run : runs) {
        for (const LabelledRow& row : run->rows) {
          if (row.point == static_cast<Point>(point)) values.push_back(row.features[i]);
        }
      }
      FeatureReference reference = make_reference(i, static_cast<Point>(point), values);
      if (!reference.edges_q16.empty()) model.references.push_back(std::move(reference));
    }
  }
}

void note_facts(const Split& split, const TrainingOptions& options, TrainingReport& report) {
  TrainingFacts& facts = report.model.training;
  facts.date = options.date;
  facts.seed = options.seed;
  for (const Run* run : split.training) facts.runs.push_back(run->name);
  for (const Run* run : split.held_out) facts.held_out_runs.push_back(run->name);
  facts.rows = count_rows(split.training);
  facts.positive_share = round_to_file_digits(report.training.positive_share);
  facts.held_out_rows = count_rows(split.held_out);
  facts.held_out_positive_share = round_to_file_digits(report.held_out.positive_share);
  facts.held_out_auc = round_to_file_digits(report.held_out.auc);
  facts.held_out_log_loss = round_to_file_digits(report.held_out.log_loss);
  facts.fit->weigh_by_confidence = options.weigh_by_confidence;
  facts.fit->without = options.without;
}

// The rows that stay, by their labels' confidence. By name, so that the order of the runs and what
// else there is change nothing.
std::vector<Run> thin_out(const RunPointers& runs, uint64_t seed) {
  std::vector<Run> thinned;
  for (const Run* run : runs) {
    std::seed_seq seeds(run->name.begin(), run->name.end());
    std::mt19937_64 random(seeds);
    Run kept{run->name, {}};
    for (const LabelledRow& row : run->rows) {
      if ((random() ^ seed * 0x9e3779b97f4a7c15ULL) % 255 < row.confidence) kept.rows.push_back(row);
    }
    thinned.push_back(std::move(kept));
  }
  return thinned;
}

std::vector<CalibrationMethod> methods_of(const std::optional<CalibrationMethod>& wanted) {
  if (wanted) return {*wanted};
  return {CalibrationMethod::kNone, CalibrationMethod::kPlatt, CalibrationMethod::kIsotonic};
}

}  // namespace

Result<FeatureSet> features_named(const std::vector<std::string>& names) {
  FeatureSet set;
  for (const std::string& name : names) {
    const auto found = std::find_if(kFeatures.begin(), kFeatures.end(),
                                    [&name](const FeatureInfo& info) { return info.name == name; });
    if (found == kFeatures.end()) {
      return input_error("expected features to leave out, found " + name);
    }
    set.set(static_cast<size_t>(found - kFeatures.begin()));
  }
  return set;
}

Result<Model> fit_as_chosen(const RunPointers& training, const FitChoice& choice,
                            const FoldOptions& folds, FitReport* report) {
  const size_t rows = count_rows(training);
  const std::vector<Run> thinned = thin_connections(training, kCalibrationRows, folds.seed);
  FitSettings settings{.penalty = choice.penalty,
                       .c = choice.c,
                       .class_weight = choice.class_weight,
                       .tolerance = kUnseenTolerance};
  const auto unseen = score_unseen(pointers_to(thinned), settings, rows, folds);
  if (!unseen) return unseen.error();
  // "None" is measured always, to say what calibrating gained.
  FitReport found;
  Calibration calibration;
  if (!unseen->rows.empty()) {
    found.calibrations = try_calibrations(methods_of(choice.calibration), *unseen);
    found.chosen = best_calibration(found.calibrations);
    found.uncalibrated = try_calibrations({CalibrationMethod::kNone}, *unseen).front();
    calibration = learn_calibration(found.chosen, *unseen);
    found.chosen.method = calibration.method;
  }
  settings.tolerance = choice.penalty == Penalty::kL1 ? kL1Tolerance : kL2Tolerance;
  Result<Model> model = LogisticProblem(training, folds.without).fit(settings);
  if (!model) return model.error();
  if (const auto done = calibrate(*model, calibration); !done) return done.error();
  model->training.c = round_to_file_digits(choice.c);
  model->training.fit = {
      .penalty = std::string(penalty_name(choice.penalty)),
      .class_weight = choice.class_weight,
      .without = {},
      .calibration = std::string(calibration_name(calibration.method)),
      .log_loss = round_to_file_digits(found.chosen.log_loss),
      .auc = round_to_file_digits(found.chosen.auc),
      .ece = round_to_file_digits(found.chosen.ece),
      .uncalibrated_log_loss = round_to_file_digits(found.uncalibrated.log_loss),
      .uncalibrated_ece = round_to_file_digits(found.uncalibrated.ece)};
  if (report != nullptr) *report = std::move(found);
  return model;
}

Result<TrainingReport> train(std::span<const Run> runs, const TrainingOptions& options) {
  const auto without = features_named(options.without);
  if (!without) return without.error();
  Result<Split> split = split_runs(runs, {.seed = options.seed,
                                          .held_out_share = options.held_out_share,
                                          .held_out_runs = options.held_out_runs});
  if (!split) return split.error();
  std::vector<Run> confident;
  if (options.weigh_by_confidence) {
    confident = thin_out(split->training, options.seed);
    split->training.clear();
    for (const Run& run : confident) {
      if (!run.rows.empty()) split->training.push_back(&run);
    }
    if (split->training.size() < 2 || !has_both_classes(split->training)) {
      return input_error("expected rows of both labels to train on, found too few of any confidence");
    }
  }

  const auto say = [&options](const std::string& what) {
    if (options.progress) options.progress(what);
  };
  TrainingReport report;
  const FoldOptions folds{.folds = options.folds, .seed = options.seed, .without = *without};
  const std::vector<Run> few = thin_connections(split->training, kSelectionRows, options.seed);
  report.selection_rows = count_rows(pointers_to(few));
  auto candidates = try_candidates(pointers_to(few), options.grid, count_rows(split->training),
                                   options.calibration != CalibrationMethod::kNone, folds, say);
  if (!candidates) return candidates.error();
  report.candidates = std::move(*candidates);
  report.chosen = best_candidate(report.candidates).value_or(CandidateResult{.c = kUntriedC});

  say("calibrating and fitting on " + std::to_string(count_rows(split->training)) + " rows");
  const FitChoice choice{
      .penalty = report.chosen.penalty,
      .c = report.chosen.c,
      .class_weight = class_weight_of(report.chosen.class_weight, split->training),
      .calibration = options.calibration};
  const auto fitted = fit_as_chosen(split->training, choice, folds, &report.fit);
  if (!fitted) return fitted.error();
  report.model = *fitted;
  note_medians(split->training, report.model);
  note_references(split->training, report.model);
  report.model.name = options.name;
  report.model.version = options.version;
  report.training = evaluate(report.model, std::span<const Run* const>(split->training));
  report.held_out = evaluate(report.model, std::span<const Run* const>(split->held_out));
  report.baselines = baselines(split->held_out);
  report.largest_quantization_difference = largest_difference(report.model, runs);
  note_facts(*split, options, report);
  return report;
}

}  // namespace petrel
