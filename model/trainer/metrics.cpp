// SPDX-License-Identifier: MIT
#include "trainer/metrics.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "score/score.hpp"
#include "trainer/ranking.hpp"

namespace petrel {
namespace {

constexpr double kLeastProbability = 1.0 / (1 << 17);

double share(std::span<const uint8_t> labels) {
  if (labels.empty()) return 0;
  const double ones = std::accumulate(labels.begin(), labels.end(), 0.0);
  return ones / static_cast<double>(labels.size());
}

// All of one run: the order alone counts.
RankedRows rank(std::span<const double> scores, std::span<const uint8_t> labels,
                ScoreKind kind = {}) {
  std::vector<ScoredRow> rows(scores.size());
  for (size_t i = 0; i < rows.size(); i++) rows[i] = {scores[i], 0, labels[i] != 0};
  return RankedRows(std::move(rows), 1, kind);
}

}  // namespace

double roc_auc(std::span<const double> scores, std::span<const uint8_t> labels) {
  const double auc = rank(scores, labels).measure()[static_cast<size_t>(Measure::kAuc)];
  return std::isnan(auc) ? 0.5 : auc;
}

double calibration_error(std::span<const double> probabilities, std::span<const uint8_t> labels) {
  const double ece = rank(probabilities, labels, {.is_probability = true})
                         .measure()[static_cast<size_t>(Measure::kEce)];
  return std::isnan(ece) ? 0 : ece;
}

double log_loss_of(double probability, bool retried) {
  const double happened = retried ? probability : 1 - probability;
  return -std::log(std::clamp(happened, kLeastProbability, 1 - kLeastProbability));
}

double log_loss(std::span<const double> probabilities, std::span<const uint8_t> labels) {
  if (labels.empty()) return 0;
  double sum = 0;
  for (size_t i = 0; i < labels.size(); i++) {
    sum += log_loss_of(probabilities[i], labels[i] != 0);
  }
  return sum / static_cast<double>(labels.size());
}

Evaluation evaluate(const Model& model, std::span<const Run* const> runs) {
  const bpf::scoring_model scoring = make_scoring_model(model);
  std::vector<double> probabilities;
  std::vector<uint8_t> labels;
  std::array<std::vector<double>, kPointCount> point_probabilities;
  std::array<std::vector<uint8_t>, kPointCount> point_labels;
  for (const Run* run : runs) {
    for (const LabelledRow& row : run->rows) {
      const double probability = probability_q16(scoring, row.features) / double{Q16_ONE};
      const auto point = static_cast<size_t>(row.point);
      probabilities.push_back(probability);
      labels.push_back(row.retried);
      point_probabilities[point].push_back(probability);
      point_labels[point].push_back(row.retried);
    }
  }
  Evaluation result;
  result.rows = labels.size();
  result.positive_share = share(labels);
  result.auc = roc_auc(probabilities, labels);
  result.ece = calibration_error(probabilities, labels);
  result.log_loss = log_loss(probabilities, labels);
  const std::vector<double> constant(labels.size(), result.positive_share);
  result.base_rate_log_loss = log_loss(constant, labels);
  for (size_t point = 0; point < kPointCount; point++) {
    result.by_point[point] = {.rows = point_labels[point].size(),
                              .positive_share = share(point_labels[point]),
                              .auc = roc_auc(point_probabilities[point], point_labels[point]),
                              .ece = calibration_error(point_probabilities[point], point_labels[point])};
  }
  result.calibration = rank(probabilities, labels, {.is_probability = true}).calibration();
  return result;
}

Evaluation evaluate(const Model& model, std::span<const Run> runs) {
  std::vector<const Run*> pointers;
  for (const Run& run : runs) pointers.push_back(&run);
  return evaluate(model, std::span<const Run* const>(pointers));
}

std::vector<Baseline> baselines(std::span<const Run* const> runs) {
  using Rule = std::function<double(const LabelledRow&)>;
  const auto waiting = [](const LabelledRow& row) {
    return row.point == Point::kWaitingSyn || row.point == Point::kWaitingResponse;
  };
  const std::vector<std::pair<std::string, Rule>> rules = {
      {"elapsed alone", [](const LabelledRow& row) { return static_cast<double>(row.elapsed_ns); }},
      {"waiting age alone",
       [waiting](const LabelledRow& row) {
         return waiting(row) ? static_cast<double>(row.elapsed_ns) : 0.0;
       }},
      {"failure alone",
       [](const LabelledRow& row) { return row.failure != bpf::FAILURE_NONE ? 1.0 : 0.0; }},
  };
  std::vector<Baseline> results;
  for (const auto& [name, rule] : rules) {
    std::vector<double> scores;
    std::vector<uint8_t> labels;
    for (const Run* run : runs) {
      for (const LabelledRow& row : run->rows) {
        scores.push_back(rule(row));
        labels.push_back(row.retried);
      }
    }
    results.push_back({name, roc_auc(scores, labels)});
  }
  return results;
}

}  // namespace petrel
