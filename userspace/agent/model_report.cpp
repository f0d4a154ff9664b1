// SPDX-License-Identifier: MIT
#include "agent/model_report.hpp"

#include <algorithm>
#include <boost/json.hpp>
#include <cmath>

namespace petrel {
namespace json = boost::json;
namespace {

constexpr std::size_t kWorstShown = 5;

json::value known(double value) {
  return std::isfinite(value) ? json::value(value) : json::value(nullptr);
}

}  // namespace

json::object measures_json(const WatchMeasures& measures) {
  return {{"rows", measures.rows},
          {"retried", measures.retried},
          {"predicted", measures.predicted},
          {"auc", known(measures.auc)},
          {"log_loss", known(measures.log_loss)},
          {"brier", known(measures.brier)},
          {"ece", known(measures.ece)},
          {"ece_chance", known(measures.ece_chance)},
          {"alarms", measures.alarms},
          {"precision", known(measures.precision)},
          {"recall", known(measures.recall)}};
}

namespace {

json::array worst_json(const PsiMeasures& psi) {
  json::array worst;
  for (const FeatureDrift& drift : psi.drifts) {
    if (worst.size() == kWorstShown) break;
    worst.push_back({{"feature", kFeatures[drift.feature].name},
                     {"point", point_name(drift.point)},
                     {"psi", drift.psi},
                     {"weight", drift.weight}});
  }
  return worst;
}

json::object psi_json(const ModelLife& life) {
  const PsiMeasures& psi = life.psi();
  const bool references = life.watch().live() && !life.watch().live()->references.empty();
  const auto largest = std::ranges::max_element(psi.drifts, {}, &FeatureDrift::psi);
  return {{"known", psi.known},
          {"references", references},  // false: the file holds nothing to measure drift against
          {"mean", known(psi.mean)},
          {"max", psi.drifts.empty() ? json::value(nullptr) : json::value(largest->psi)},
          {"limit", life.config().psi_limit},
          {"worst", worst_json(psi)}};
}

json::object estimate_json(const Estimate& estimate) {
  return {{"value", known(estimate.value)},
          {"low", known(estimate.low)},
          {"high", known(estimate.high)}};
}

json::object compared_json(const WatchCompared& compared) {
  return {{"rows", compared.live.rows},
          {"retried", compared.live.retried},
          {"live", measures_json(compared.live)},
          {"shadow", measures_json(compared.shadow)},
          {"difference",
           {{"auc", estimate_json(compared.differences.auc)},
            {"log_loss", estimate_json(compared.differences.log_loss)},
            {"brier", estimate_json(compared.differences.brier)},
            {"ece", estimate_json(compared.differences.ece)}}}};
}

}  // namespace

json::value model_name_json(const Model* model) {
  if (model == nullptr) return nullptr;
  return json::object{
      {"name", model->name}, {"version", model->version}, {"checksum", model_checksum(*model)}};
}

json::object model_status_json(const Model& live, const ModelLife& life, bool held) {
  const DriftJudge& judge = life.judge();
  const bool drifted = judge.state() == ModelState::kDrifted;
  json::value shadow = nullptr;
  if (life.shadow()) {
    shadow = model_name_json(&*life.shadow());
    shadow.as_object()["watch"] = measures_json(life.shadow_measures());
  }
  json::object watch = measures_json(life.live_measures());
  watch["window_s"] = life.config().window.count();
  watch["sampled_share"] = life.sampled_share();
  watch["ece_limit"] = life.config().ece_limit;
  watch["psi"] = psi_json(life);
  return {{"name", live.name},
          {"version", live.version},
          {"checksum", model_checksum(live)},
          {"held_out_auc", live.training.held_out_auc},
          {"source", life.source()},
          {"state", life.trained() ? to_string(judge.state()) : "untrained"},
          {"reason", drifted ? json::value(json::string(judge.reason())) : json::value(nullptr)},
          {"drifted", drifted ? 1 : 0},
          {"drifted_total", life.drifts()},
          {"weights_held", held},
          {"watch", std::move(watch)},
          {"shadow", std::move(shadow)},
          {"previous", model_name_json(life.previous() ? &*life.previous() : nullptr)}};
}

json::object comparison_json(const ModelLife& life, const Comparison& comparison,
                             const std::string& objection) {
  json::object points;
  for (std::size_t i = 0; i < kPointCount; ++i) {
    points[point_name(static_cast<Point>(i))] = compared_json(comparison.points[i]);
  }
  const auto& live = life.watch().live();
  return {{"schema", "petrel/model-compare/v1"},
          {"window_s", life.config().window.count()},
          {"parts", comparison.parts},
          {"live", model_name_json(live ? &*live : nullptr)},
          {"shadow", model_name_json(life.shadow() ? &*life.shadow() : nullptr)},
          {"all", compared_json(comparison.all)},
          {"points", std::move(points)},
          {"objection",
           objection.empty() ? json::value(nullptr) : json::value(json::string(objection))}};
}

}  // namespace petrel
