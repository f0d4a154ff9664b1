// SPDX-License-Identifier: MIT
#include "trainer/trainer.hpp"

#include <algorithm>
#include <cmath>
#include <optional>
#include <random>
#include <set>

#include "score/score.hpp"
#include "trainer/logistic.hpp"

namespace petrel {
namespace {

using RunPointers = std::vector<const Run*>;

constexpr size_t kLeastRuns = 3;
// Draws that leave one side with only one class are drawn again, at most this often.
constexpr int kMostDraws = 100;
// Where cross-validation cannot tell: liblinear's own default.
constexpr double kUntriedC = 1;

struct Split {
  RunPointers training;
  RunPointers held_out;
};

uint64_t count_rows(const RunPointers& runs) {
  uint64_t rows = 0;
  for (const Run* run : runs) rows += run->rows.size();
  return rows;
}

bool has_both_classes(const RunPointers& runs) {
  bool seen[2] = {false, false};
  for (const Run* run : runs) {
    for (const LabelledRow& row : run->rows) seen[row.retried ? 1 : 0] = true;
  }
  return seen[0] && seen[1];
}

// Fisher-Yates by hand: std::shuffle's order is the library's own affair.
void shuffle(RunPointers& runs, std::mt19937_64& random) {
  for (size_t i = runs.size(); i > 1; i--) std::swap(runs[i - 1], runs[random() % i]);
}

bool by_name(const Run* left, const Run* right) {
  return left->name < right->name;
}

Error input_error(const std::string& message) {
  return Error(ExitCode::kInput, "train: " + message);
}

Result<Split> split_as_named(const RunPointers& runs, const std::vector<std::string>& names) {
  std::set<std::string> wanted(names.begin(), names.end());
  Split split;
  for (const Run* run : runs) {
    (wanted.erase(run->name) > 0 ? split.held_out : split.training).push_back(run);
  }
  if (!wanted.empty()) {
    return input_error("expected a run named " + *wanted.begin() + " to hold out, found none");
  }
  if (split.training.size() < 2) {
    return input_error("expected 2 runs or more to train on, found " +
                       std::to_string(split.training.size()));
  }
  if (!has_both_classes(split.training) || !has_both_classes(split.held_out)) {
    return input_error(
        "expected retried and other rows on both sides of the split, found a side "
        "with only one of them");
  }
  return split;
}

Result<Split> draw_split(RunPointers runs, const TrainingOptions& options) {
  const double wanted = std::round(options.held_out_share * static_cast<double>(runs.size()));
  const auto held_out =
      static_cast<std::ptrdiff_t>(std::clamp(wanted, 1.0, static_cast<double>(runs.size() - 2)));
  std::mt19937_64 random(options.seed);
  for (int draw = 0; draw < kMostDraws; draw++) {
    shuffle(runs, random);
    Split split{{runs.begin() + held_out, runs.end()}, {runs.begin(), runs.begin() + held_out}};
    if (!has_both_classes(split.training) || !has_both_classes(split.held_out)) continue;
    // Sorted, so that the order in which files were named changes nothing.
    std::sort(split.training.begin(), split.training.end(), by_name);
    std::sort(split.held_out.begin(), split.held_out.end(), by_name);
    return split;
  }
  return input_error(
      "expected retried and other rows in both the training and the held-out runs, "
      "found no such split: capture more runs with and without faults");
}

Result<Split> split_runs(std::span<const Run> runs, const TrainingOptions& options) {
  RunPointers all;
  for (const Run& run : runs) {
    if (!run.rows.empty()) all.push_back(&run);
  }
  if (all.size() < kLeastRuns) {
    return input_error("expected " + std::to_string(kLeastRuns) +
                       " runs or more with rows, found " + std::to_string(all.size()));
  }
  if (!has_both_classes(all)) {
    return input_error("expected retried and other rows, found only one of them");
  }
  std::sort(all.begin(), all.end(), by_name);
  if (!options.held_out_runs.empty()) return split_as_named(all, options.held_out_runs);
  return draw_split(std::move(all), options);
}

// Each run is validated once, by a model that saw none of its rows. Empty where no fold leaves
// both classes to fit on.
Result<std::optional<CandidateResult>> cross_validate(const RunPointers& training, double c,
                                                      size_t folds) {
  std::vector<double> probabilities;
  std::vector<uint8_t> labels;
  folds = std::clamp<size_t>(folds, 2, training.size());
  for (size_t fold = 0; fold < folds; fold++) {
    RunPointers fitted;
    RunPointers validated;
    for (size_t i = 0; i < training.size(); i++) {
      (i % folds == fold ? validated : fitted).push_back(training[i]);
    }
    if (!has_both_classes(fitted)) continue;
    const Result<Model> model = fit_logistic(fitted, c);
    if (!model) return model.error();
    for (const Run* run : validated) {
      for (const LabelledRow& row : run->rows) {
        probabilities.push_back(float_probability(*model, row.features));
        labels.push_back(row.retried);
      }
    }
  }
  if (labels.empty()) return std::optional<CandidateResult>();
  return std::optional<CandidateResult>(
      {.c = c, .log_loss = log_loss(probabilities, labels), .auc = roc_auc(probabilities, labels)});
}

// The least log loss, and of equals the strongest regularisation: the candidates ascend.
double best_c(const std::vector<CandidateResult>& candidates) {
  if (candidates.empty()) return kUntriedC;
  const auto less = [](const auto& left, const auto& right) {
    return left.log_loss < right.log_loss;
  };
  return std::min_element(candidates.begin(), candidates.end(), less)->c;
}

double largest_difference(const Model& model, std::span<const Run> runs) {
  double largest = 0;
  for (const Run& run : runs) {
    for (const LabelledRow& row : run.rows) {
      const double fixed = probability_q16(model, row.features) / double{Q16_ONE};
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

}  // namespace

Result<TrainingReport> train(std::span<const Run> runs, const TrainingOptions& options) {
  Result<Split> split = split_runs(runs, options);
  if (!split) return split.error();
  std::vector<Run> thinned;
  if (options.weigh_by_confidence) {
    thinned = thin_out(split->training, options.seed);
    split->training.clear();
    for (const Run& run : thinned) {
      if (!run.rows.empty()) split->training.push_back(&run);
    }
    if (split->training.size() < 2 || !has_both_classes(split->training)) {
      return input_error("expected rows of both labels to train on, found too few of any confidence");
    }
  }

  TrainingReport report;
  std::vector<double> to_try = options.c_candidates;
  std::sort(to_try.begin(), to_try.end());
  for (const double c : to_try) {
    const auto candidate = cross_validate(split->training, c, options.folds);
    if (!candidate) return candidate.error();
    if (*candidate) report.candidates.push_back(**candidate);
  }
  const double c = best_c(report.candidates);

  const Result<Model> fitted = fit_logistic(split->training, c);
  if (!fitted) return fitted.error();
  report.model = *fitted;
  note_medians(split->training, report.model);
  report.model.name = options.name;
  report.model.version = options.version;
  report.model.training.c = round_to_file_digits(c);
  report.training = evaluate(report.model, std::span<const Run* const>(split->training));
  report.held_out = evaluate(report.model, std::span<const Run* const>(split->held_out));
  report.baselines = baselines(split->held_out);
  report.largest_quantization_difference = largest_difference(report.model, runs);
  note_facts(*split, options, report);
  return report;
}

}  // namespace petrel
