// SPDX-License-Identifier: MIT
#include "cli/train_output.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json.hpp>
#include <cmath>
#include <iterator>

namespace petrel::cli {
namespace {

namespace json = boost::json;

class Text {
 public:
  template <class... Arguments>
  void add(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
    fmt::format_to(std::back_inserter(text_), format, std::forward<Arguments>(arguments)...);
  }
  const std::string& str() const { return text_; }

 private:
  std::string text_;
};

bool is_same(const CandidateResult& left, const CandidateResult& right) {
  return left.penalty == right.penalty && left.class_weight == right.class_weight &&
         left.c == right.c;
}

bool is_same(const CalibrationResult& left, const CalibrationResult& right) {
  return left.method == right.method && left.even_runs == right.even_runs;
}

// The largest |coefficient| first.
std::vector<std::size_t> by_size(const Model& model) {
  std::vector<std::size_t> order(kFeatureCount);
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&model](std::size_t left, std::size_t right) {
    return std::abs(model.features[left].coefficient) > std::abs(model.features[right].coefficient);
  });
  return order;
}

double odds_ratio(const ModelFeature& feature) {
  return std::exp(feature.coefficient / feature.scale);
}

// --- text ---

void add_candidates(Text& text, const TrainingReport& report) {
  text.add("candidates, by cross-validation on {} rows of whole connections:\n",
           report.selection_rows);
  text.add("{:<8} {:>12} {:>8} {:>10} {:>13} {:>8}\n", "penalty", "class weight", "C", "log loss",
           "uncalibrated", "AUC");
  for (const CandidateResult& it : report.candidates) {
    text.add("{:<8} {:>12} {:>8} {:>10.5f} {:>13.5f} {:>8.4f}{}\n", penalty_name(it.penalty),
             class_weight_name(it.class_weight), it.c, it.log_loss, it.uncalibrated_log_loss,
             it.auc, is_same(it, report.chosen) ? "  <- chosen" : "");
  }
}

void add_calibrations(Text& text, const FitReport& fit) {
  text.add("\ncalibrations, each fold by what was learned on the others:\n{:<10} {:<10} {:>10} {:>8} {:>8}\n",
           "method", "runs by", "log loss", "AUC", "ECE");
  for (const CalibrationResult& it : fit.calibrations) {
    text.add("{:<10} {:<10} {:>10.5f} {:>8.4f} {:>8.4f}{}\n", calibration_name(it.method),
             it.method == CalibrationMethod::kNone ? "" : it.even_runs ? "sqrt(rows)" : "rows",
             it.log_loss, it.auc, it.ece, is_same(it, fit.chosen) ? "  <- chosen" : "");
  }
  text.add("without: log loss {:.5f}, ECE {:.4f}\n", fit.uncalibrated.log_loss,
           fit.uncalibrated.ece);
}

void add_evaluation(Text& text, const char* name, const Evaluation& it) {
  text.add("{:<10} {:>9} rows  {:>6.2f} % retried  AUC {:.4f}  ECE {:.4f}  log loss {:.4f} (base rate {:.4f})\n",
           name, it.rows, 100 * it.positive_share, it.auc, it.ece, it.log_loss,
           it.base_rate_log_loss);
}

void add_results(Text& text, const TrainingReport& report) {
  text.add("\n");
  add_evaluation(text, "training", report.training);
  add_evaluation(text, "held out", report.held_out);
  for (std::size_t i = 0; i < kPointCount; ++i) {
    const PointResult& point = report.held_out.by_point[i];
    text.add("  at {:<17} {:>9} rows  {:>6.2f} % retried  AUC {:.4f}  ECE {:.4f}\n",
             point_name(static_cast<Point>(i)), point.rows, 100 * point.positive_share, point.auc,
             point.ece);
  }
  for (const Baseline& baseline : report.baselines) {
    text.add("baseline {:<22} AUC {:.4f}\n", baseline.name, baseline.auc);
  }
  text.add("fixed point against float: probabilities differ by at most {:.5f}\n",
           report.largest_quantization_difference);
}

void add_coefficients(Text& text, const Model& model) {
  text.add("\n{:<26} {:>12} {:>12} {:>14}\n", "feature", "mean", "coefficient", "odds ratio/unit");
  for (const std::size_t i : by_size(model)) {
    const ModelFeature& feature = model.features[i];
    text.add("{:<26} {:>12.4f} {:>+12.4f} {:>14.4g}\n", kFeatures[i].name, feature.mean,
             feature.coefficient, odds_ratio(feature));
  }
}

// --- JSON ---

json::object evaluation_json(const Evaluation& evaluation) {
  json::object points;
  for (std::size_t i = 0; i < kPointCount; ++i) {
    const PointResult& point = evaluation.by_point[i];
    points[point_name(static_cast<Point>(i))] = {{"rows", point.rows},
                                                 {"positive_share", point.positive_share},
                                                 {"auc", point.auc},
                                                 {"ece", point.ece}};
  }
  return {{"rows", evaluation.rows},
          {"positive_share", evaluation.positive_share},
          {"auc", evaluation.auc},
          {"ece", evaluation.ece},
          {"log_loss", evaluation.log_loss},
          {"base_rate_log_loss", evaluation.base_rate_log_loss},
          {"by_point", std::move(points)}};
}

json::object candidate_json(const CandidateResult& it) {
  return {{"penalty", penalty_name(it.penalty)},
          {"class_weight", class_weight_name(it.class_weight)},
          {"c", it.c},
          {"log_loss", it.log_loss},
          {"uncalibrated_log_loss", it.uncalibrated_log_loss},
          {"auc", it.auc}};
}

json::object calibration_json(const CalibrationResult& it) {
  return {{"method", calibration_name(it.method)},
          {"even_runs", it.even_runs},
          {"log_loss", it.log_loss},
          {"auc", it.auc},
          {"ece", it.ece}};
}

template <class Values, class ToJson>
json::array list_json(const Values& values, ToJson to_json) {
  json::array list;
  for (const auto& each : values) list.push_back(to_json(each));
  return list;
}

json::object fault_json(const FaultRows& it) {
  return {{"fault", it.fault}, {"runs", it.runs}, {"rows", it.rows}, {"share", it.share}};
}

}  // namespace

std::string training_text(const TrainingReport& report, const std::vector<FaultRows>& faults) {
  Text text;
  add_candidates(text, report);
  add_calibrations(text, report.fit);
  add_results(text, report);
  for (const FaultRows& it : faults) {
    text.add("fault {:<16} {:>4} runs {:>9} rows  {:>6.2f} %\n", it.fault, it.runs, it.rows,
             100 * it.share);
  }
  add_coefficients(text, report.model);
  return text.str();
}

std::string training_json(const TrainingReport& report, const std::vector<FaultRows>& faults) {
  const Model& model = report.model;
  const TrainingFacts& facts = model.training;
  json::array coefficients;
  for (const std::size_t i : by_size(model)) {
    coefficients.push_back({{"feature", kFeatures[i].name},
                            {"coefficient", model.features[i].coefficient},
                            {"odds_ratio_per_unit", odds_ratio(model.features[i])}});
  }
  const json::object out = {
      {"schema", "petrel/train/v1"},
      {"model", model.name},
      {"checksum", model_checksum(model)},
      {"seed", facts.seed},
      {"c", facts.c},
      {"penalty", facts.fit->penalty},
      {"class_weight", facts.fit->class_weight},
      {"without", json::value_from(facts.fit->without)},
      {"runs", facts.runs.size()},
      {"held_out_runs", facts.held_out_runs.size()},
      {"selection_rows", report.selection_rows},
      {"candidates", list_json(report.candidates, candidate_json)},
      {"chosen", candidate_json(report.chosen)},
      {"calibrations", list_json(report.fit.calibrations, calibration_json)},
      {"calibration", calibration_json(report.fit.chosen)},
      {"uncalibrated", calibration_json(report.fit.uncalibrated)},
      {"training", evaluation_json(report.training)},
      {"held_out", evaluation_json(report.held_out)},
      {"baselines", list_json(report.baselines,
                              [](const Baseline& it) {
                                return json::object{{"name", it.name}, {"auc", it.auc}};
                              })},
      {"faults", list_json(faults, fault_json)},
      {"coefficients", std::move(coefficients)},
      {"fixed_vs_float", {{"max_probability_difference", report.largest_quantization_difference}}}};
  return json::serialize(out) + "\n";
}

}  // namespace petrel::cli
