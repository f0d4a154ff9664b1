// SPDX-License-Identifier: MIT
#include "predict/report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json.hpp>
#include <cmath>

#include "bpf/fixed_point.h"

namespace petrel {
namespace {

namespace json = boost::json;

constexpr double kSmallestShown = 0.0005;

double real(std::int32_t value_q16) {
  return value_q16 / double{Q16_ONE};
}

double probability_of(const Prediction& prediction) {
  return prediction.probability_q16 / double{Q16_ONE};
}

std::string_view point_word(const Moment& moment) {
  return moment.point ? point_name(*moment.point) : "unknown";
}

void add_outside(const Predictor& predictor, const Prediction& prediction, std::string& out) {
  if (!prediction.extrapolated) return;
  out += "outside what was trained on; the nearer end is taken:\n";
  for (const PredictedFeature& each : prediction.features) {
    if (!each.outside) continue;
    const ModelFeature& feature = predictor.model().features[each.feature];
    out +=
        fmt::format("  {} is {:.6g}, trained on {:.6g} to {:.6g}{}\n", kFeatures[each.feature].name,
                    real(each.value_q16), real(feature.min_q16), real(feature.max_q16),
                    feature.coefficient == 0 ? ": the model gives it no weight" : "");
  }
  const double probability = probability_of(prediction);
  const double low = std::min(probability, *prediction.extrapolated);
  const double high = std::max(probability, *prediction.extrapolated);
  if (high - low < kSmallestShown) {
    out += "  so the probability is a guess\n";
  } else {
    out += fmt::format("  so the probability is a guess, from {:.4f} to {:.4f} (extrapolated)\n",
                       low, high);
  }
}

json::object feature_json(const Predictor& predictor, const PredictedFeature& each) {
  const ModelFeature& feature = predictor.model().features[each.feature];
  return {{"feature", kFeatures[each.feature].name},
          {"value", real(each.value_q16)},
          {"unit", kFeatures[each.feature].unit},
          {"source", source_name(each.source)},
          {"log_odds", each.log_odds},
          {"outside", each.outside},
          {"trained_least", real(feature.min_q16)},
          {"trained_most", real(feature.max_q16)}};
}

json::array names_json(std::uint64_t quantity_bits) {
  json::array names;
  for (std::size_t i = 0; i < quantities().size(); i++) {
    if ((quantity_bits >> i & 1) != 0) names.emplace_back(quantities()[i].name);
  }
  return names;
}

}  // namespace

std::string model_title(const Model& model) {
  return fmt::format("{} v{}", model.name, model.version);
}

std::vector<std::string_view> feature_names(std::uint64_t bits) {
  std::vector<std::string_view> names;
  for (std::size_t i = 0; i < kFeatureCount; i++) {
    if ((bits >> i & 1) != 0) names.push_back(kFeatures[i].name);
  }
  return names;
}

std::vector<std::string> prediction_notes(const Predictor& predictor, const Request& request,
                                          const Prediction& prediction) {
  std::vector<std::string> notes;
  const Plan& plan = prediction.plan;
  if (!plan.moment.point && request.given_features == 0) {
    notes.emplace_back(
        "neither an answer (status, response_time_ms), a wait (waiting_ms) nor a failure is given: "
        "this is the middle of all that was trained on");
  }
  for (std::size_t i = 0; i < quantities().size(); i++) {
    const Quantity& quantity = quantities()[i];
    const std::string name(quantity.name);
    if ((prediction.unused >> i & 1) != 0) {
      notes.push_back(name + ": not used by model " + model_title(predictor.model()));
    } else if ((plan.idle_quantities >> i & 1) != 0) {
      notes.push_back(name + ": makes no difference to this request");
    } else if ((plan.assumed_quantities >> i & 1) != 0 && quantity.assumed) {
      notes.push_back(name + ": not given, taken as " + number_text(*quantity.assumed) + " " +
                      std::string(quantity.unit));
    }
  }
  if (plan.moment.assumed_good) notes.emplace_back("status: not given, taken as a good answer's");
  std::string medians;
  std::string means;
  for (const PredictedFeature& each : prediction.features) {
    if (each.source != Source::kMedian && each.source != Source::kMean) continue;
    std::string& list = each.source == Source::kMedian ? medians : means;
    if (!list.empty()) list += ", ";
    list += fmt::format("{} {:.4g}", kFeatures[each.feature].name, real(each.value_q16));
  }
  if (!medians.empty()) notes.push_back("not given, at the training median: " + medians);
  if (!means.empty()) {
    notes.push_back("not given, at the training mean (the model file has no medians): " + means);
  }
  return notes;
}

std::string prediction_text(const Predictor& predictor, const Request& request,
                            const Prediction& prediction) {
  const Model& model = predictor.model();
  const std::string calibrated =
      prediction.calibrated ? fmt::format(", calibrated {:+.3f}", *prediction.calibrated) : "";
  std::string out = fmt::format("retry probability {:.4f}  (log-odds {:+.3f}{}, model {}, {})\n",
                                probability_of(prediction), prediction.log_odds, calibrated,
                                model_title(model), model_checksum(model));
  add_outside(predictor, prediction, out);
  out += fmt::format("{:+8.3f}  {}\n", model.bias, "at the training means");
  for (const PredictedFeature& each : prediction.features) {
    if (std::abs(each.log_odds) < kSmallestShown) continue;
    const bool given = each.source == Source::kRequest || each.source == Source::kFeature;
    out += fmt::format("{:+8.3f}  {:<26} {:>9.4g} {:<6} {}\n", each.log_odds,
                       kFeatures[each.feature].name, real(each.value_q16),
                       kFeatures[each.feature].unit,
                       given ? kFeatures[each.feature].doc : source_name(each.source));
  }
  for (const std::string& note : prediction_notes(predictor, request, prediction)) {
    out += note + "\n";
  }
  return out;
}

namespace {

// From even odds on a retry is predicted; from a fifth on it is more than a service at rest has.
std::string_view band_of(double probability) {
  if (probability >= 0.5) return "high";
  return probability >= 0.2 ? "elevated" : "low";
}

// Features at the middle of training, and quantities that were taken to be usual, with their values.
json::object assumed_json(const Prediction& prediction) {
  json::object assumed;
  for (const PredictedFeature& each : prediction.features) {
    if (each.source != Source::kMedian && each.source != Source::kMean) continue;
    assumed[kFeatures[each.feature].name] = each.value_q16 / double{Q16_ONE};
  }
  for (std::size_t i = 0; i < quantities().size(); i++) {
    if ((prediction.plan.assumed_quantities >> i & 1) == 0 || !quantities()[i].assumed) continue;
    assumed[quantities()[i].name] = *quantities()[i].assumed;
  }
  return assumed;
}

}  // namespace

json::object prediction_json(const Predictor& predictor, const Request& request,
                             const Prediction& prediction) {
  const Model& model = predictor.model();
  json::array features;
  json::array contributions;
  json::array outside;
  for (const PredictedFeature& each : prediction.features) {
    const std::string_view name = kFeatures[each.feature].name;
    features.push_back(feature_json(predictor, each));
    if (each.outside) outside.emplace_back(name);
    if (each.log_odds == 0) continue;
    contributions.push_back({{"feature", name},
                             {"value", each.value_q16 / double{Q16_ONE}},
                             {"log_odds", each.log_odds}});
  }
  json::array notes;
  for (std::string& note : prediction_notes(predictor, request, prediction)) {
    notes.emplace_back(std::move(note));
  }
  return {{"schema", "petrel/predict/v1"},
          {"model",
           {{"name", model.name}, {"version", model.version}, {"checksum", model_checksum(model)}}},
          {"point", point_word(prediction.plan.moment)},
          {"probability", probability_of(prediction)},
          {"retry_probability", probability_of(prediction)},
          {"interval", nullptr},  // of one request there is none: the notes warn instead
          {"band", band_of(probability_of(prediction))},
          {"outside_training", std::move(outside)},
          {"contributions", std::move(contributions)},
          {"probability_q16", prediction.probability_q16},
          {"log_odds", prediction.log_odds},
          {"calibrated_log_odds",
           prediction.calibrated ? json::value(*prediction.calibrated) : json::value(nullptr)},
          {"bias", model.bias},
          {"extrapolated",
           prediction.extrapolated ? json::value(*prediction.extrapolated) : json::value(nullptr)},
          {"features", std::move(features)},
          {"unused", names_json(prediction.unused)},
          {"no_difference", names_json(prediction.plan.idle_quantities & ~prediction.unused)},
          {"assumed", assumed_json(prediction)},
          {"notes", std::move(notes)}};
}

}  // namespace petrel
