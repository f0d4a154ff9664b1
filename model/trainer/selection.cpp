// SPDX-License-Identifier: MIT
#include "trainer/selection.hpp"

#include <algorithm>
#include <cmath>
#include <memory>
#include <random>
#include <tuple>

#include "score/score.hpp"
#include "trainer/ranking.hpp"
#include "trainer/split.hpp"

namespace petrel {
namespace {

// What a simpler choice may be worse by.
constexpr double kAlike = 1e-3;
// Candidates differ by far more than this moves them.
constexpr double kRoughTolerance = 1e-3;

struct Fold {
  size_t number = 0;
  std::unique_ptr<LogisticProblem> fitted;
  std::vector<size_t> validated;  // indices of runs
};

std::vector<Fold> deal(const RunPointers& runs, const FoldOptions& options, size_t folds) {
  std::vector<size_t> order(runs.size());
  for (size_t i = 0; i < order.size(); i++) order[i] = i;
  std::mt19937_64 random(options.seed);
  // Fisher-Yates by hand: std::shuffle's order is the library's own affair.
  for (size_t i = order.size(); i > 1; i--) std::swap(order[i - 1], order[random() % i]);
  std::vector<Fold> result;
  for (size_t number = 0; number < folds; number++) {
    Fold fold{number, nullptr, {}};
    RunPointers fitted;
    for (size_t place = 0; place < order.size(); place++) {
      if (place % folds == number) {
        fold.validated.push_back(order[place]);
      } else {
        fitted.push_back(runs[order[place]]);
      }
    }
    if (!has_both_classes(fitted)) continue;
    fold.fitted = std::make_unique<LogisticProblem>(fitted, options.without);
    result.push_back(std::move(fold));
  }
  return result;
}

size_t fold_count(const RunPointers& runs, const FoldOptions& options) {
  return std::clamp<size_t>(options.folds, 2, std::max<size_t>(runs.size(), 2));
}

Result<void> score_fold(const RunPointers& runs, const Fold& fold, FitSettings settings,
                        size_t rows, UnseenRows& unseen) {
  settings.c *= static_cast<double>(rows) / static_cast<double>(fold.fitted->rows());
  const Result<Model> model = fold.fitted->fit(settings);
  if (!model) return model.error();
  for (const size_t run : fold.validated) {
    for (const LabelledRow& row : runs[run]->rows) {
      const double log_odds = float_log_odds(*model, clamp_to_trained(*model, row.features));
      unseen.rows.push_back({log_odds, 1, row.retried});
      unseen.run.push_back(run);
      unseen.fold.push_back(fold.number);
    }
  }
  return {};
}

struct Figures {
  double log_loss = 0;
  double auc = 0;
  double ece = 0;
};

Figures figures_of(const std::vector<double>& log_odds, const std::vector<UnseenRow>& rows) {
  std::vector<ScoredRow> scored(rows.size());
  for (size_t i = 0; i < rows.size(); i++) {
    scored[i] = {1 / (1 + std::exp(-log_odds[i])), 0, rows[i].retried};
  }
  const MeasureValues values =
      RankedRows(std::move(scored), 1, {.is_probability = true}).measure();
  const auto of = [&values](Measure measure) { return values[static_cast<size_t>(measure)]; };
  return {of(Measure::kLogLoss), of(Measure::kAuc), of(Measure::kEce)};
}

// With each run's rows at the root of how many there are, if so asked; all at 1 in the mean.
std::vector<UnseenRow> weighed(const UnseenRows& unseen, bool even_runs,
                               std::optional<size_t> without_fold) {
  std::vector<double> rows_of_run;
  for (const size_t run : unseen.run) {
    if (run >= rows_of_run.size()) rows_of_run.resize(run + 1);
    rows_of_run[run]++;
  }
  std::vector<UnseenRow> result;
  double sum = 0;
  for (size_t i = 0; i < unseen.rows.size(); i++) {
    if (unseen.fold[i] == without_fold) continue;
    UnseenRow row = unseen.rows[i];
    if (even_runs) row.weight = 1 / std::sqrt(rows_of_run[unseen.run[i]]);
    sum += row.weight;
    result.push_back(row);
  }
  for (UnseenRow& row : result) row.weight *= static_cast<double>(result.size()) / sum;
  return result;
}

// Each fold's log odds by the calibration that was learned on the others.
std::vector<double> calibrated(CalibrationMethod method, bool even_runs,
                               const UnseenRows& unseen) {
  std::vector<double> log_odds(unseen.rows.size());
  for (size_t fold = 0; fold < unseen.folds; fold++) {
    const Calibration learned =
        method == CalibrationMethod::kNone
            ? Calibration()
            : fit_calibration(method, weighed(unseen, even_runs, fold));
    for (size_t i = 0; i < log_odds.size(); i++) {
      if (unseen.fold[i] == fold) log_odds[i] = learned.apply(unseen.rows[i].log_odds);
    }
  }
  return log_odds;
}

std::vector<RunLoss> losses_of(const std::vector<double>& log_odds, const UnseenRows& unseen) {
  std::vector<RunLoss> of_runs;
  for (size_t i = 0; i < log_odds.size(); i++) {
    const size_t run = unseen.run[i];
    if (run >= of_runs.size()) of_runs.resize(run + 1);
    const double against = unseen.rows[i].retried ? -log_odds[i] : log_odds[i];
    // log(1 + e^x) where e^x would overflow is x.
    of_runs[run].log_loss += against > 30 ? against : std::log1p(std::exp(against));
    of_runs[run].rows++;
  }
  return of_runs;
}

CalibrationResult judge(CalibrationMethod method, bool even_runs, const UnseenRows& unseen) {
  const Figures figures = figures_of(calibrated(method, even_runs, unseen), unseen.rows);
  return {method, even_runs, figures.log_loss, figures.auc, figures.ece};
}

// By how much a row costs more, and that difference's standard error over runs (of a ratio).
bool is_proven_worse(const CandidateResult& it, const CandidateResult& best) {
  if (it.log_loss <= best.log_loss * (1 + kAlike)) return false;
  const size_t runs = std::min(it.of_runs.size(), best.of_runs.size());
  if (runs < 2) return true;
  double more = 0, rows = 0;
  for (size_t i = 0; i < runs; i++) {
    more += it.of_runs[i].log_loss - best.of_runs[i].log_loss;
    rows += it.of_runs[i].rows;
  }
  const double mean = more / rows;
  double squares = 0;
  for (size_t i = 0; i < runs; i++) {
    const double of_run = it.of_runs[i].log_loss - best.of_runs[i].log_loss;
    const double off = of_run - mean * it.of_runs[i].rows;
    squares += off * off;
  }
  const auto count = static_cast<double>(runs);
  return mean > std::sqrt(squares * count / (count - 1)) / rows;
}

// splitmix64's last step: ids that differ in few bits part.
uint64_t mixed(uint64_t value) {
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9ULL;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebULL;
  return value ^ (value >> 31);
}

}  // namespace

std::string_view class_weight_name(ClassWeight weight) {
  switch (weight) {
    case ClassWeight::kOne:
      return "1";
    case ClassWeight::kRoot:
      return "sqrt";
    case ClassWeight::kBalanced:
      return "balanced";
  }
  return "1";
}

double class_weight_of(ClassWeight weight, const RunPointers& runs) {
  double retried = 0, others = 0;
  for (const Run* run : runs) {
    for (const LabelledRow& row : run->rows) (row.retried ? retried : others)++;
  }
  if (weight == ClassWeight::kOne || retried == 0 || others == 0) return 1;
  const double balanced = others / retried;
  return round_to_file_digits(weight == ClassWeight::kRoot ? std::sqrt(balanced) : balanced);
}

std::vector<Run> thin_connections(const RunPointers& runs, size_t most, uint64_t seed) {
  const size_t rows = count_rows(runs);
  const double share = static_cast<double>(most) / static_cast<double>(std::max<size_t>(rows, 1));
  std::vector<Run> thinned;
  for (const Run* run : runs) {
    Run kept{run->name, {}};
    if (share >= 1) {
      kept.rows = run->rows;
    } else {
      const auto limit = static_cast<uint64_t>(share * 0x1p64);
      for (const LabelledRow& row : run->rows) {
        if (mixed(row.connection_id + mixed(seed)) < limit) kept.rows.push_back(row);
      }
    }
    if (!kept.rows.empty()) thinned.push_back(std::move(kept));
  }
  return thinned;
}

Result<UnseenRows> score_unseen(const RunPointers& runs, const FitSettings& settings, size_t rows,
                                const FoldOptions& options) {
  UnseenRows unseen;
  unseen.folds = fold_count(runs, options);
  for (const Fold& fold : deal(runs, options, unseen.folds)) {
    if (const auto scored = score_fold(runs, fold, settings, rows, unseen); !scored) {
      return scored.error();
    }
  }
  return unseen;
}

Result<std::vector<CandidateResult>> try_candidates(const RunPointers& runs, const Grid& grid,
                                                    size_t rows, bool is_calibrated,
                                                    const FoldOptions& options,
                                                    const Progress& progress) {
  const size_t count = fold_count(runs, options);
  const std::vector<Fold> folds = deal(runs, options, count);
  std::vector<CandidateResult> results;
  if (folds.empty()) return results;
  std::vector<double> cs = grid.cs;
  std::sort(cs.begin(), cs.end());
  const size_t candidates = grid.penalties.size() * grid.class_weights.size() * cs.size();
  for (const Penalty penalty : grid.penalties) {
    for (const ClassWeight weight : grid.class_weights) {
      for (const double c : cs) {
        const FitSettings settings{.penalty = penalty,
                                   .c = c,
                                   .class_weight = class_weight_of(weight, runs),
                                   .tolerance = kRoughTolerance};
        UnseenRows unseen{.rows = {}, .run = {}, .fold = {}, .folds = count};
        for (const Fold& fold : folds) {
          if (const auto scored = score_fold(runs, fold, settings, rows, unseen); !scored) {
            return scored.error();
          }
        }
        const CalibrationResult raw = judge(CalibrationMethod::kNone, false, unseen);
        const auto method = is_calibrated ? CalibrationMethod::kPlatt : CalibrationMethod::kNone;
        const std::vector<double> log_odds = calibrated(method, false, unseen);
        const double log_loss = figures_of(log_odds, unseen.rows).log_loss;
        results.push_back({penalty, weight, c, log_loss, raw.log_loss, raw.auc,
                           losses_of(log_odds, unseen)});
        if (progress) {
          progress("candidate " + std::to_string(results.size()) + " of " +
                   std::to_string(candidates));
        }
      }
    }
  }
  return results;
}

std::optional<CandidateResult> best_candidate(const std::vector<CandidateResult>& candidates) {
  if (candidates.empty()) return std::nullopt;
  const CandidateResult& least = *std::min_element(
      candidates.begin(), candidates.end(), [](const auto& left, const auto& right) {
        return left.log_loss < right.log_loss;
      });
  const auto simpler = [](const CandidateResult& left, const CandidateResult& right) {
    return std::tuple(left.penalty, left.class_weight != ClassWeight::kOne, left.c,
                      left.log_loss) < std::tuple(right.penalty,
                                                  right.class_weight != ClassWeight::kOne, right.c,
                                                  right.log_loss);
  };
  std::optional<CandidateResult> best;
  for (const CandidateResult& each : candidates) {
    if (!is_proven_worse(each, least) && (!best || simpler(each, *best))) best = each;
  }
  return best;
}

std::vector<CalibrationResult> try_calibrations(const std::vector<CalibrationMethod>& methods,
                                                const UnseenRows& unseen) {
  std::vector<CalibrationResult> results;
  for (const CalibrationMethod method : methods) {
    results.push_back(judge(method, false, unseen));
    if (method != CalibrationMethod::kNone) results.push_back(judge(method, true, unseen));
  }
  return results;
}

CalibrationResult best_calibration(const std::vector<CalibrationResult>& results) {
  if (results.empty()) return {};
  double least = INFINITY;
  for (const CalibrationResult& each : results) least = std::min(least, each.log_loss);
  for (const CalibrationResult& each : results) {
    if (each.log_loss <= least * (1 + kAlike)) return each;
  }
  return results.front();
}

Calibration learn_calibration(const CalibrationResult& choice, const UnseenRows& unseen) {
  if (choice.method == CalibrationMethod::kNone) return {};
  return fit_calibration(choice.method, weighed(unseen, choice.even_runs, std::nullopt));
}

}  // namespace petrel
