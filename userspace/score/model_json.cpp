// SPDX-License-Identifier: MIT
// A model as JSON text and back; the file around it is in model_file.cpp.
#include <algorithm>
#include <boost/crc.hpp>
#include <boost/json.hpp>
#include <cmath>
#include <cstdio>
#include <limits>
#include <optional>

#include "score/json_fields.hpp"
#include "score/model.hpp"

namespace petrel {
namespace {

namespace json = boost::json;

constexpr int64_t kS32Min = std::numeric_limits<int32_t>::min();
constexpr int64_t kS32Max = std::numeric_limits<int32_t>::max();
constexpr int64_t kU32Max = std::numeric_limits<uint32_t>::max();
constexpr int64_t kS64Max = std::numeric_limits<int64_t>::max();
constexpr size_t kLongestName = 120;
constexpr size_t kMostRuns = 100'000;
// What Q16 features can be, and far more than a trained coefficient ever is.
constexpr double kLargestMean = 32767;
constexpr double kLeastScale = 1e-6;
constexpr double kLargestCoefficient = 1e6;
// Far past where the sigmoid is 0 or 1.
constexpr int64_t kLargestKnotQ16 = int64_t{64} * Q16_ONE;
// Shares have 9 digits each.
constexpr double kShareSumError = 1e-6;

json::array strings(const std::vector<std::string>& from) {
  return json::array(from.begin(), from.end());
}

json::array references_to_json(const Model& model, size_t feature) {
  json::array references;
  for (const FeatureReference& each : model.references) {
    if (each.feature != feature) continue;
    references.push_back({{"point", point_name(each.point)},
                          {"edges_q16", json::value_from(each.edges_q16)},
                          {"shares", json::value_from(each.shares)}});
  }
  return references;
}

json::object feature_to_json(const Model& model, size_t i) {
  const ModelFeature& feature = model.features[i];
  json::object object = {{"name", kFeatures[i].name},
                         {"mean", feature.mean},
                         {"scale", feature.scale},
                         {"coefficient", feature.coefficient},
                         {"mantissa", model.coefficients[i].mantissa},
                         {"shift", model.coefficients[i].shift},
                         {"min_q16", feature.min_q16},
                         {"max_q16", feature.max_q16}};
  if (feature.median_q16) object["median_q16"] = *feature.median_q16;
  json::array references = references_to_json(model, i);
  if (!references.empty()) object["reference"] = std::move(references);
  return object;
}

json::object fit_to_json(const FitFacts& fit) {
  return {{"penalty", fit.penalty},
          {"class_weight", fit.class_weight},
          {"weigh_by_confidence", fit.weigh_by_confidence},
          {"without", strings(fit.without)},
          {"calibration", fit.calibration},
          {"log_loss", fit.log_loss},
          {"auc", fit.auc},
          {"ece", fit.ece},
          {"uncalibrated_log_loss", fit.uncalibrated_log_loss},
          {"uncalibrated_ece", fit.uncalibrated_ece}};
}

json::object training_to_json(const TrainingFacts& facts) {
  json::object object = {
          {"date", facts.date},
          {"seed", static_cast<int64_t>(facts.seed)},
          {"c", facts.c},
          {"runs", strings(facts.runs)},
          {"rows", static_cast<int64_t>(facts.rows)},
          {"positive_share", facts.positive_share},
          {"held_out_runs", strings(facts.held_out_runs)},
          {"held_out_rows", static_cast<int64_t>(facts.held_out_rows)},
          {"held_out_positive_share", facts.held_out_positive_share},
          {"held_out_auc", facts.held_out_auc},
          {"held_out_log_loss", facts.held_out_log_loss}};
  if (facts.fit) object["fit"] = fit_to_json(*facts.fit);
  return object;
}

// In a fixed order of members: the canonical serialisation is this, without white space.
json::object model_to_json(const Model& model) {
  json::array features;
  for (size_t i = 0; i < kFeatureCount; i++) features.push_back(feature_to_json(model, i));
  json::object object = {{"schema", kModelSchema},
                         {"name", model.name},
                         {"version", model.version},
                         {"bias", model.bias},
                         {"bias_q16", model.bias_q16}};
  if (model.calibration_q16) {
    object["calibration"] = {{"knots_q16", json::value_from(*model.calibration_q16)}};
  }
  object["features"] = std::move(features);
  object["training"] = training_to_json(model.training);
  return object;
}

// Rounding again undoes a parser's error in the last place, which is far below 9 digits.
double rounded(Fields& fields, std::string_view name, double least, double most) {
  return round_to_file_digits(fields.number(name, least, most));
}

// The integers of a list, each within a range and above the one before by `least_step`.
std::vector<int32_t> read_ascending(Fields& fields, std::string_view name, int64_t most_magnitude,
                                    int64_t least_step) {
  std::vector<int32_t> result;
  const json::array* const list = fields.any(name).if_array();
  for (size_t i = 0; list != nullptr && i < list->size(); i++) {
    const int64_t* const value = (*list)[i].if_int64();
    int64_t least = -most_magnitude;
    if (i > 0) least = std::max(least, result.back() + least_step);
    if (value == nullptr || *value < least || *value > most_magnitude) {
      fields.fail(std::string(name) + "[" + std::to_string(i) + "]",
                  "an integer from " + std::to_string(least) + " to " +
                      std::to_string(most_magnitude) + (i > 0 ? " (they ascend)" : ""),
                  (*list)[i]);
      return {};
    }
    result.push_back(static_cast<int32_t>(*value));
  }
  return result;
}

void read_calibration(const json::value& value, Model& model, std::optional<InputProblem>& error) {
  if (value.is_null()) return;
  Fields fields(value, "calibration", error);
  fields.array("knots_q16", CALIBRATION_KNOTS);
  const auto knots = read_ascending(fields, "knots_q16", kLargestKnotQ16, 0);
  fields.refuse_others();
  if (error) return;
  model.calibration_q16.emplace();
  std::copy(knots.begin(), knots.end(), model.calibration_q16->begin());
}

std::vector<double> read_shares(Fields& fields, size_t count) {
  std::vector<double> shares;
  double sum = 0;
  for (const json::value& each : fields.array("shares", count)) {
    boost::system::error_code code;
    const double share = each.is_number() ? each.to_number<double>(code) : -1;
    if (code || !(share >= 0 && share <= 1)) {
      fields.fail("shares[" + std::to_string(shares.size()) + "]", "a number from 0 to 1", each);
      return {};
    }
    shares.push_back(round_to_file_digits(share));
    sum += share;
  }
  if (!(std::abs(sum - 1) <= kShareSumError)) {
    fields.fail("shares", "numbers that add up to 1", json::value(sum));
  }
  return shares;
}

void read_references(const json::value& value, size_t feature, const std::string& path,
                     Model& model, std::optional<InputProblem>& error) {
  const json::array* const list = value.if_array();
  if (list == nullptr || list->empty() || list->size() > kPointCount) {
    error = error ? error : InputProblem{path, "a list of 1 to 4", json::serialize(value)};
    return;
  }
  for (size_t i = 0; i < list->size() && !error; i++) {
    Fields fields((*list)[i], path + "[" + std::to_string(i) + "]", error);
    FeatureReference& reference = model.references.emplace_back();
    reference.feature = feature;
    const std::string point = fields.text("point", kLongestName);
    const size_t least =
        i == 0 ? 0 : static_cast<size_t>(model.references[model.references.size() - 2].point) + 1;
    size_t found = least;
    while (found < kPointCount && point_name(static_cast<Point>(found)) != point) found++;
    if (found == kPointCount) {
      fields.fail("point", "a decision point's name, each once and in their order",
                  json::value(point));
    }
    reference.point = static_cast<Point>(found);
    reference.edges_q16 = read_ascending(fields, "edges_q16", kS32Max, 1);
    if (reference.edges_q16.empty() || reference.edges_q16.size() > kMostReferenceEdges) {
      fields.fail("edges_q16", "a list of 1 to " + std::to_string(kMostReferenceEdges),
                  fields.any("edges_q16"));
    }
    reference.shares = read_shares(fields, reference.edges_q16.size() + 1);
    fields.refuse_others();
  }
}

void read_feature(const json::value& value, size_t i, Model& model,
                  std::optional<InputProblem>& error) {
  Fields fields(value, "features[" + std::to_string(i) + "]", error);
  ModelFeature& feature = model.features[i];
  const std::string name = fields.text("name", kLongestName);
  if (name != kFeatures[i].name) {
    fields.fail("name", "\"" + std::string(kFeatures[i].name) + "\" (this program's feature list)",
                json::value(name));
  }
  feature.mean = rounded(fields, "mean", -kLargestMean, kLargestMean);
  feature.scale = rounded(fields, "scale", kLeastScale, kLargestMean);
  feature.coefficient = rounded(fields, "coefficient", -kLargestCoefficient, kLargestCoefficient);
  model.coefficients[i].mantissa =
      static_cast<int32_t>(fields.integer("mantissa", kS32Min, kS32Max));
  model.coefficients[i].shift = static_cast<uint32_t>(fields.integer("shift", 0, MODEL_MAX_SHIFT));
  feature.min_q16 = static_cast<int32_t>(fields.integer("min_q16", kS32Min, kS32Max));
  feature.max_q16 = static_cast<int32_t>(fields.integer("max_q16", feature.min_q16, kS32Max));
  if (fields.has("median_q16")) {
    feature.median_q16 =
        static_cast<int32_t>(fields.integer("median_q16", feature.min_q16, feature.max_q16));
  }
  if (fields.has("reference")) {
    read_references(fields.any("reference"), i, "features[" + std::to_string(i) + "].reference",
                    model, error);
  }
  fields.refuse_others();
}

FitFacts read_fit(const json::value& value, std::optional<InputProblem>& error) {
  Fields fields(value, "training.fit", error);
  FitFacts fit;
  const auto one_of = [&](const char* name, std::initializer_list<std::string_view> words) {
    const std::string found = fields.text(name, kLongestName);
    if (std::find(words.begin(), words.end(), found) != words.end()) return found;
    std::string expected;
    for (const std::string_view word : words) {
      expected += (expected.empty() ? "" : " or ") + std::string(word);
    }
    fields.fail(name, expected, json::value(found));
    return found;
  };
  fit.penalty = one_of("penalty", {"l1", "l2"});
  fit.class_weight = rounded(fields, "class_weight", 1e-6, 1e6);
  fit.weigh_by_confidence = fields.flag("weigh_by_confidence");
  fit.without = fields.texts("without", kFeatureCount, kLongestName);
  fit.calibration = one_of("calibration", {"none", "platt", "isotonic"});
  fit.log_loss = rounded(fields, "log_loss", 0, 1000);
  fit.auc = rounded(fields, "auc", 0, 1);
  fit.ece = rounded(fields, "ece", 0, 1);
  fit.uncalibrated_log_loss = rounded(fields, "uncalibrated_log_loss", 0, 1000);
  fit.uncalibrated_ece = rounded(fields, "uncalibrated_ece", 0, 1);
  fields.refuse_others();
  return fit;
}

void read_training(const json::value& value, TrainingFacts& facts,
                   std::optional<InputProblem>& error) {
  Fields fields(value, "training", error);
  facts.date = fields.text("date", kLongestName);
  facts.seed = static_cast<uint64_t>(fields.integer("seed", 0, kS64Max));
  facts.c = rounded(fields, "c", 1e-9, 1e9);
  facts.runs = fields.texts("runs", kMostRuns, kLongestName);
  facts.rows = static_cast<uint64_t>(fields.integer("rows", 0, kS64Max));
  facts.positive_share = rounded(fields, "positive_share", 0, 1);
  facts.held_out_runs = fields.texts("held_out_runs", kMostRuns, kLongestName);
  facts.held_out_rows = static_cast<uint64_t>(fields.integer("held_out_rows", 0, kS64Max));
  facts.held_out_positive_share = rounded(fields, "held_out_positive_share", 0, 1);
  facts.held_out_auc = rounded(fields, "held_out_auc", 0, 1);
  facts.held_out_log_loss = rounded(fields, "held_out_log_loss", 0, 1000);
  if (fields.has("fit")) facts.fit = read_fit(fields.any("fit"), error);
  fields.refuse_others();
}

// The fixed-point part is redundant on purpose: it is what the kernel would run, so it is checked.
void check_quantized(const Model& model, Fields& fields) {
  Model again = model;
  if (const Result<void> quantized = quantize(again); !quantized) {
    return fields.fail("features", "coefficients that fit fixed point",
                       quantized.error().message());
  }
  for (size_t i = 0; i < kFeatureCount; i++) {
    const bpf::model_coefficient& expected = again.coefficients[i];
    const bpf::model_coefficient& found = model.coefficients[i];
    if (expected.mantissa == found.mantissa && expected.shift == found.shift) continue;
    return fields.fail(
        "features[" + std::to_string(i) + "].mantissa",
        std::to_string(expected.mantissa) + " with shift " + std::to_string(expected.shift) +
            " (what coefficient / scale quantizes to)",
        std::to_string(found.mantissa) + " with shift " + std::to_string(found.shift));
  }
  if (again.bias_q16 != model.bias_q16) {
    fields.fail("bias_q16", std::to_string(again.bias_q16) + " (what bias and means quantize to)",
                std::to_string(model.bias_q16));
  }
}

void read_model(const json::value& document, Model& model, std::optional<InputProblem>& error) {
  Fields fields(document, "", error);
  if (const std::string schema = fields.text("schema", kLongestName); schema != kModelSchema) {
    fields.fail("schema", "\"" + std::string(kModelSchema) + "\"", json::value(schema));
  }
  model.name = fields.text("name", kLongestName);
  model.version = static_cast<uint32_t>(fields.integer("version", 1, kU32Max));
  model.bias = rounded(fields, "bias", -kLargestCoefficient, kLargestCoefficient);
  model.bias_q16 = static_cast<int32_t>(fields.integer("bias_q16", kS32Min, kS32Max));
  if (fields.has("calibration")) read_calibration(fields.any("calibration"), model, error);
  const json::array& features = fields.array("features", kFeatureCount);
  for (size_t i = 0; i < features.size(); i++) read_feature(features[i], i, model, error);
  read_training(fields.any("training"), model.training, error);
  const std::string checksum = fields.text("checksum", kLongestName);
  fields.refuse_others();
  if (error) return;
  check_quantized(model, fields);
  if (const std::string expected = model_checksum(model); checksum != expected) {
    fields.fail("checksum", "\"" + expected + "\" (the file was changed after it was written)",
                json::value(checksum));
  }
}

}  // namespace

std::string model_checksum(const Model& model) {
  const std::string canonical = json::serialize(model_to_json(model));
  boost::crc_32_type crc;
  crc.process_bytes(canonical.data(), canonical.size());
  std::array<char, 9> text{};
  std::snprintf(text.data(), text.size(), "%08x", crc.checksum());
  return text.data();
}

// One member a line and one feature a line, for people who read and compare models.
std::string serialize_model(const Model& model) {
  json::object object = model_to_json(model);
  object["checksum"] = model_checksum(model);
  std::string text = "{";
  const char* separator = "\n";
  for (const auto& member : object) {
    text += separator + ("  " + json::serialize(member.key()) + ": ");
    separator = ",\n";
    if (member.key() != "features") {
      text += json::serialize(member.value());
      continue;
    }
    const char* feature_separator = "[\n";
    for (const json::value& feature : member.value().as_array()) {
      text += feature_separator + ("    " + json::serialize(feature));
      feature_separator = ",\n";
    }
    text += "\n  ]";
  }
  return text + "\n}\n";
}

Result<Model> parse_model(std::string_view text, const std::string& source_name,
                          InputProblem* problem) {
  boost::system::error_code code;
  const json::value document = json::parse(json::string_view(text.data(), text.size()), code);
  Model model;
  std::optional<InputProblem> error;
  if (code) {
    error = InputProblem{"", "JSON", code.message()};
  } else {
    read_model(document, model, error);
  }
  if (!error) return model;
  if (problem != nullptr) *problem = *error;
  return Error(ExitCode::kInput, "model " + source_name + ": " + error->text());
}

}  // namespace petrel
