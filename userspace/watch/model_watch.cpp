// SPDX-License-Identifier: MIT
#include "watch/model_watch.hpp"

#include <algorithm>
#include <cmath>

#include "score/score.hpp"

namespace petrel {
namespace {

// A bin that is empty on one side only must not count infinitely.
constexpr double kLeastShare = 1e-4;

std::size_t index_of(Point point) {
  return static_cast<std::size_t>(point);
}

std::uint32_t score_into(ScoreTable& table, const bpf::scoring_model& model,
                         const LabelledRow& row, bool new_request) {
  const std::uint32_t probability = probability_q16(model, row.features);
  table.add(probability, row.retried);
  if (new_request) table.add_request();
  return probability;
}

WatchReport report_of(const std::array<ScoreTable, kPointCount>& points, std::size_t parts) {
  WatchReport report;
  report.parts = parts;
  ScoreTable all;
  for (std::size_t i = 0; i < kPointCount; ++i) {
    report.points[i] = points[i].measure();
    all.add(points[i]);
  }
  report.all = all.measure();
  return report;
}

}  // namespace

bool ModelWatch::Part::has_live() const {
  return std::ranges::any_of(live, &ScoreTable::rows);
}

bool ModelWatch::Part::has_shadow() const {
  return std::ranges::any_of(shadow, &ScoreTable::rows);
}

ModelWatch::ModelWatch(std::chrono::nanoseconds window) : part_(window / kParts), parts_(kParts) {}

void ModelWatch::watch_live(Model model) {
  live_ = std::move(model);
  live_scoring_ = make_scoring_model(*live_);
  first_bin_.assign(1, 0);
  for (auto& references : references_at_) references.clear();
  for (std::size_t i = 0; i < live_->references.size(); ++i) {
    const FeatureReference& reference = live_->references[i];
    references_at_[index_of(reference.point)].push_back(i);
    first_bin_.push_back(first_bin_.back() + reference.shares.size());
  }
  for (Part& part : parts_) clear(part, 0);
  shadow_from_ = now_ + 1;
}

void ModelWatch::watch_shadow(std::optional<Model> model) {
  shadow_ = std::move(model);
  if (shadow_) shadow_scoring_ = make_scoring_model(*shadow_);
  shadow_from_ = now_ + 1;
  for (Part& part : parts_) part.shadow = {};
}

void ModelWatch::clear(Part& part, std::uint64_t number) {
  part = Part{};
  part.number = number;
  part.features.assign(first_bin_.empty() ? 0 : first_bin_.back(), 0);
}

void ModelWatch::advance(std::uint64_t now_ns) {
  now_ = std::max(now_, 1 + now_ns / static_cast<std::uint64_t>(part_.count()));  // 0: none
}

std::optional<std::uint32_t> ModelWatch::add(const LabelledRow& row, std::uint64_t now_ns) {
  if (!live_) return std::nullopt;
  advance(now_ns);
  Part& part = part_at(now_);
  if (part.number != now_) clear(part, now_);
  const std::uint32_t request = std::max(row.request, 1U);  // a handshake is its first one's
  const bool new_request = row.connection_id != last_connection_ || request != last_request_;
  last_connection_ = row.connection_id;
  last_request_ = request;
  const std::size_t point = index_of(row.point);
  const std::uint32_t probability = score_into(part.live[point], live_scoring_, row, new_request);
  if (shadow_ && now_ >= shadow_from_) {
    score_into(part.shadow[point], shadow_scoring_, row, new_request);
  }
  count_features(part, row);
  return probability;
}

void ModelWatch::count_features(Part& part, const LabelledRow& row) {
  for (const std::size_t i : references_at_[index_of(row.point)]) {
    const FeatureReference& reference = live_->references[i];
    ++part.features[first_bin_[i] + reference_bin(reference, row.features[reference.feature])];
  }
}

bool ModelWatch::is_in_window(const Part& part) const {
  return part.number != 0 && part.number + kParts > now_;
}

WatchReport ModelWatch::live_report() const {
  std::array<ScoreTable, kPointCount> sums;
  std::size_t parts = 0;
  for (const Part& part : parts_) {
    if (!is_in_window(part) || !part.has_live()) continue;
    ++parts;
    for (std::size_t i = 0; i < kPointCount; ++i) sums[i].add(part.live[i]);
  }
  return report_of(sums, parts);
}

WatchReport ModelWatch::shadow_report() const {
  std::array<ScoreTable, kPointCount> sums;
  const auto parts = shadowed_parts();
  for (const Part* part : parts) {
    for (std::size_t i = 0; i < kPointCount; ++i) sums[i].add(part->shadow[i]);
  }
  return report_of(sums, parts.size());
}

std::vector<const ModelWatch::Part*> ModelWatch::shadowed_parts() const {
  std::vector<const Part*> found;
  for (const Part& part : parts_) {
    if (is_in_window(part) && part.has_shadow()) found.push_back(&part);
  }
  return found;
}

PsiMeasures ModelWatch::psi() const {
  PsiMeasures measures;
  if (!live_) return measures;
  std::vector<std::uint64_t> counts(first_bin_.back());
  for (const Part& part : parts_) {
    if (!is_in_window(part)) continue;
    for (std::size_t i = 0; i < counts.size(); ++i) counts[i] += part.features[i];
  }
  double sum = 0, weights = 0;
  for (std::size_t i = 0; i < live_->references.size(); ++i) {
    const FeatureReference& reference = live_->references[i];
    std::uint64_t rows = 0;
    for (std::size_t bin = first_bin_[i]; bin < first_bin_[i + 1]; ++bin) rows += counts[bin];
    if (rows < kLeastPsiRows) continue;
    FeatureDrift drift{reference.feature, reference.point, 0,
                       std::abs(live_->features[reference.feature].coefficient)};
    for (std::size_t bin = 0; bin < reference.shares.size(); ++bin) {
      const double count = static_cast<double>(counts[first_bin_[i] + bin]);
      const double now = std::max(count / static_cast<double>(rows), kLeastShare);
      const double then = std::max(reference.shares[bin], kLeastShare);
      drift.psi += (now - then) * std::log(now / then);
    }
    sum += drift.psi * drift.weight;
    weights += drift.weight;
    measures.drifts.push_back(drift);
  }
  if (weights == 0) return measures;
  measures.known = true;
  measures.mean = sum / weights;
  std::ranges::stable_sort(measures.drifts,
                           [](const FeatureDrift& left, const FeatureDrift& right) {
                             return left.psi * left.weight > right.psi * right.weight;
                           });
  return measures;
}

}  // namespace petrel
