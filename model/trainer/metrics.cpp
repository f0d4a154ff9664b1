// SPDX-License-Identifier: MIT
#include "trainer/metrics.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "score/score.hpp"

namespace petrel {
namespace {

constexpr double kLeastProbability = 1.0 / (1 << 17);
constexpr size_t kCalibrationBins = 10;

double share(std::span<const uint8_t> labels) {
  if (labels.empty()) return 0;
  const double ones = std::accumulate(labels.begin(), labels.end(), 0.0);
  return ones / static_cast<double>(labels.size());
}

std::vector<size_t> order_by(std::span<const double> scores) {
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [scores](size_t left, size_t right) { return scores[left] < scores[right]; });
  return order;
}

std::vector<CalibrationBin> calibrate(std::span<const double> probabilities,
                                      std::span<const uint8_t> labels) {
  const std::vector<size_t> order = order_by(probabilities);
  std::vector<CalibrationBin> bins;
  for (size_t bin = 0; bin < kCalibrationBins; bin++) {
    const size_t begin = order.size() * bin / kCalibrationBins;
    const size_t end = order.size() * (bin + 1) / kCalibrationBins;
    if (begin == end) continue;
    CalibrationBin result{.rows = end - begin};
    for (size_t i = begin; i < end; i++) {
      result.mean_predicted += probabilities[order[i]];
      result.share_retried += labels[order[i]];
    }
    result.mean_predicted /= static_cast<double>(result.rows);
    result.share_retried /= static_cast<double>(result.rows);
    bins.push_back(result);
  }
  return bins;
}

}  // namespace

double roc_auc(std::span<const double> scores, std::span<const uint8_t> labels) {
  const std::vector<size_t> order = order_by(scores);
  // The rank sum of the positives (Mann-Whitney); rows of equal score share their mean rank.
  double positives = 0;
  double rank_sum = 0;
  for (size_t begin = 0; begin < order.size();) {
    size_t end = begin;
    double ones = 0;
    while (end < order.size() && scores[order[end]] == scores[order[begin]]) {
      ones += labels[order[end++]];
    }
    const double mean_rank = static_cast<double>(begin + end + 1) / 2;
    rank_sum += ones * mean_rank;
    positives += ones;
    begin = end;
  }
  const double negatives = static_cast<double>(order.size()) - positives;
  if (positives == 0 || negatives == 0) return 0.5;
  return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives);
}

double log_loss(std::span<const double> probabilities, std::span<const uint8_t> labels) {
  if (labels.empty()) return 0;
  double sum = 0;
  for (size_t i = 0; i < labels.size(); i++) {
    const double happened = labels[i] != 0 ? probabilities[i] : 1 - probabilities[i];
    sum -= std::log(std::clamp(happened, kLeastProbability, 1 - kLeastProbability));
  }
  return sum / static_cast<double>(labels.size());
}

Evaluation evaluate(const Model& model, std::span<const Run* const> runs) {
  std::vector<double> probabilities;
  std::vector<uint8_t> labels;
  std::array<std::vector<double>, kPointCount> point_probabilities;
  std::array<std::vector<uint8_t>, kPointCount> point_labels;
  for (const Run* run : runs) {
    for (const LabelledRow& row : run->rows) {
      const double probability = probability_q16(model, row.features) / double{Q16_ONE};
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
  result.log_loss = log_loss(probabilities, labels);
  const std::vector<double> constant(labels.size(), result.positive_share);
  result.base_rate_log_loss = log_loss(constant, labels);
  for (size_t point = 0; point < kPointCount; point++) {
    result.by_point[point] = {.rows = point_labels[point].size(),
                              .positive_share = share(point_labels[point]),
                              .auc = roc_auc(point_probabilities[point], point_labels[point])};
  }
  result.calibration = calibrate(probabilities, labels);
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
