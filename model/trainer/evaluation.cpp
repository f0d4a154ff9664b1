// SPDX-License-Identifier: MIT
#include "trainer/evaluation.hpp"

#include <algorithm>
#include <cmath>
#include <functional>

#include "score/score.hpp"
#include "trainer/rules.hpp"

namespace petrel {
namespace {

using Probabilities = std::vector<std::vector<double>>;  // by run and row
using Filter = std::function<bool(const LabelledRow&)>;
using Score = std::function<double(size_t run, size_t row)>;

bool is_waiting(const LabelledRow& row) {
  return row.point == Point::kWaitingSyn || row.point == Point::kWaitingResponse;
}

bool is_any(const LabelledRow&) {
  return true;
}

// One line of a table, and what it was on each resample: differences are taken resample by
// resample.
struct Line {
  Measures measures;
  std::vector<MeasureValues> resampled;
};

class Evaluator {
 public:
  Evaluator(std::span<const Run* const> runs, const EvaluationOptions& options)
      : runs_(runs), resamples_(runs.size(), options.resamples, options.seed) {}

  const RunResamples& resamples() const { return resamples_; }

  RankedRows rank(const Score& score, ScoreKind kind, const Filter& filter) const {
    std::vector<ScoredRow> rows;
    for (size_t run = 0; run < runs_.size(); run++) {
      for (size_t i = 0; i < runs_[run]->rows.size(); i++) {
        const LabelledRow& row = runs_[run]->rows[i];
        if (!filter(row)) continue;
        rows.push_back({score(run, i), static_cast<uint32_t>(run), row.retried});
      }
    }
    return RankedRows(std::move(rows), runs_.size(), kind);
  }

  Line measure(const RankedRows& ranked) const {
    Line line;
    line.measures = {
        .rows = ranked.rows(), .retried = ranked.retried(), .runs = ranked.runs_with_rows()};
    if (ranked.rows() == 0) return line;
    const MeasureValues values = ranked.measure();
    for (size_t i = 0; i < resamples_.count(); i++) {
      line.resampled.push_back(ranked.measure(resamples_.weights(i)));
    }
    for (size_t which = 0; which < kMeasureCount; which++) {
      std::vector<double> resampled;
      for (const MeasureValues& each : line.resampled) resampled.push_back(each[which]);
      line.measures.values[which] =
          estimate(values[which], std::move(resampled), line.measures.runs);
    }
    return line;
  }

 private:
  std::span<const Run* const> runs_;
  RunResamples resamples_;
};

Estimate auc_gain(const Line& model, const Line& other) {
  constexpr auto kAuc = static_cast<size_t>(Measure::kAuc);
  std::vector<double> gains;
  for (size_t i = 0; i < model.resampled.size(); i++) {
    gains.push_back(model.resampled[i][kAuc] - other.resampled[i][kAuc]);
  }
  return estimate(model.measures.of(Measure::kAuc).value - other.measures.of(Measure::kAuc).value,
                  std::move(gains), model.measures.runs);
}

Probabilities predict(const Model& model, std::span<const Run* const> runs) {
  const bpf::scoring_model scoring = make_scoring_model(model);
  Probabilities result;
  for (const Run* run : runs) {
    std::vector<double>& probabilities = result.emplace_back();
    probabilities.reserve(run->rows.size());
    for (const LabelledRow& row : run->rows) {
      probabilities.push_back(probability_q16(scoring, row.features) / double{Q16_ONE});
    }
  }
  return result;
}

}  // namespace

EvaluationReport evaluate_runs(const Model& model, std::span<const Run* const> runs,
                               const EvaluationOptions& options) {
  const Evaluator evaluator(runs, options);
  const Probabilities probabilities = predict(model, runs);
  const Score predicted = [&](size_t run, size_t row) { return probabilities[run][row]; };
  const ScoreKind kind{.is_probability = true, .threshold = options.working_point};

  EvaluationReport report;
  const RankedRows ranked = evaluator.rank(predicted, kind, is_any);
  report.calibration = ranked.calibration();
  const Line all = evaluator.measure(ranked);
  const Line waiting = evaluator.measure(evaluator.rank(predicted, kind, is_waiting));
  report.all = all.measures;
  report.waiting = waiting.measures;
  for (size_t i = 0; i < kPointCount; i++) {
    const Filter here = [i](const LabelledRow& row) { return row.point == static_cast<Point>(i); };
    report.by_point[i] = evaluator.measure(evaluator.rank(predicted, kind, here)).measures;
  }
  for (size_t i = 0; i < bpf::FAILURE_KINDS; i++) {
    const Filter so = [i](const LabelledRow& row) { return !is_waiting(row) && row.failure == i; };
    report.by_failure[i] = evaluator.measure(evaluator.rank(predicted, kind, so)).measures;
  }
  report.lead_time =
      measure_lead_time(runs, probabilities, options.working_point, evaluator.resamples());

  for (size_t run = 0; run < runs.size(); run++) {
    for (size_t i = 0; i < runs[run]->rows.size(); i++) {
      const double exact = float_probability(model, runs[run]->rows[i].features);
      report.largest_float_difference =
          std::max(report.largest_float_difference, std::abs(probabilities[run][i] - exact));
    }
  }

  const auto rules_for = [&](const Measures& rows) {
    const double share =
        static_cast<double>(rows.retried) / static_cast<double>(std::max<uint64_t>(rows.rows, 1));
    return baseline_rules(model, share, options.working_point);
  };
  const auto measure = [&](const Rule& rule, const Filter& filter) {
    const Score score = [&](size_t run, size_t row) { return rule.score(runs[run]->rows[row]); };
    return evaluator.measure(evaluator.rank(score, rule.kind, filter));
  };
  const std::vector<Rule> rules = rules_for(report.all);
  const std::vector<Rule> waiting_rules = rules_for(report.waiting);
  for (size_t i = 0; i < rules.size(); i++) {
    const Line on_all = measure(rules[i], is_any);
    const Line on_waiting = measure(waiting_rules[i], is_waiting);
    report.baselines.push_back({.name = rules[i].name,
                                .meaning = rules[i].meaning,
                                .all = on_all.measures,
                                .waiting = on_waiting.measures,
                                .auc_gain = auc_gain(all, on_all),
                                .auc_gain_waiting = auc_gain(waiting, on_waiting)});
  }
  return report;
}

BriefReport measure_brief(const Model& model, std::span<const Run* const> runs,
                          const EvaluationOptions& options) {
  const Evaluator evaluator(runs, options);
  const Probabilities probabilities = predict(model, runs);
  const Score predicted = [&](size_t run, size_t row) { return probabilities[run][row]; };
  const ScoreKind kind{.is_probability = true, .threshold = options.working_point};
  return {.all = evaluator.measure(evaluator.rank(predicted, kind, is_any)).measures,
          .waiting = evaluator.measure(evaluator.rank(predicted, kind, is_waiting)).measures,
          .median_lead_ms = measure_lead_time(runs, probabilities, options.working_point,
                                              evaluator.resamples())
                                .median_ms};
}

}  // namespace petrel
