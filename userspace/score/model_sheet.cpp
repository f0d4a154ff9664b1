// SPDX-License-Identifier: MIT
#include "score/model_sheet.hpp"

#include <algorithm>
#include <boost/crc.hpp>
#include <boost/json.hpp>
#include <cstdio>

#include "score/json_fields.hpp"

namespace petrel {
namespace {

namespace json = boost::json;

constexpr size_t kLongestText = 120;
constexpr double kLargestNumber = 1e300;
// Of a feature, each must be a number.
constexpr const char* kNumbers[] = {"mean",  "scale",   "coefficient", "mantissa",
                                    "shift", "min_q16", "max_q16"};

// A parser's error in the last place is far below the digits that files have.
void round_numbers(json::value& value) {
  if (double* const number = value.if_double()) *number = round_to_file_digits(*number);
  if (json::array* const array = value.if_array()) {
    for (json::value& each : *array) round_numbers(each);
  }
  if (json::object* const object = value.if_object()) {
    for (auto& member : *object) round_numbers(member.value());
  }
}

std::string checksum_of(const json::object& document) {
  json::object rest;
  for (const auto& member : document) {
    if (member.key() == "calibration" && member.value().is_null()) continue;  // as if it were not there
    if (member.key() != "checksum") rest[member.key()] = member.value();
  }
  const std::string text = json::serialize(rest);
  boost::crc_32_type crc;
  crc.process_bytes(text.data(), text.size());
  std::array<char, 9> digits{};
  std::snprintf(digits.data(), digits.size(), "%08x", crc.checksum());
  return digits.data();
}

void read_sheet(const json::value& value, ModelSheet& sheet, std::optional<InputProblem>& error) {
  Fields fields(value, "", error);
  fields.text("schema", kLongestText);
  fields.text("name", kLongestText);
  fields.integer("version", 1, UINT32_MAX);
  fields.number("bias", -kLargestNumber, kLargestNumber);
  fields.integer("bias_q16", INT32_MIN, INT32_MAX);
  sheet.checksum = fields.text("checksum", kLongestText);
  if (fields.any("training").if_object() == nullptr) {
    fields.fail("training", "an object", fields.any("training"));
  }
  const json::array* const features = fields.any("features").if_array();
  if (features == nullptr) return fields.fail("features", "a list", fields.any("features"));
  for (size_t i = 0; i < features->size() && !error; i++) {
    Fields feature((*features)[i], "features[" + std::to_string(i) + "]", error);
    sheet.names.push_back(feature.text("name", kLongestText));
    for (const char* name : kNumbers) feature.number(name, -kLargestNumber, kLargestNumber);
    const auto same = std::count(sheet.names.begin(), sheet.names.end(), sheet.names.back());
    if (same > 1) feature.fail("name", "each feature once", sheet.names.back() + " again");
  }
}

const json::object& feature_of(const ModelSheet& sheet, const std::string& name) {
  const auto found = std::find(sheet.names.begin(), sheet.names.end(), name);
  return sheet.document.at("features")
      .as_array()[static_cast<size_t>(found - sheet.names.begin())]
      .as_object();
}

// Members that are not the same, those that only one has included (null in the other).
void compare_members(const json::object& before, const json::object& after,
                     const std::string& feature, const std::string& prefix,
                     std::vector<FieldChange>& changes) {
  const auto member = [](const json::object& from, json::string_view key) {
    const json::value* const found = from.if_contains(key);
    return found != nullptr ? *found : json::value(nullptr);
  };
  const auto note = [&](json::string_view key) {
    if (key == "features" || key == "training" || key == "checksum") return;
    const json::value left = member(before, key);
    const json::value right = member(after, key);
    if (left == right) return;
    changes.push_back({feature, prefix + std::string(key.data(), key.size()), left, right});
  };
  for (const auto& each : before) note(each.key());
  for (const auto& each : after) {
    if (!before.contains(each.key())) note(each.key());
  }
}

bool has(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

std::vector<std::string> those_in(const std::vector<std::string>& names,
                                  const std::vector<std::string>& others, bool in) {
  std::vector<std::string> result;
  for (const std::string& name : names) {
    if (has(others, name) == in) result.push_back(name);
  }
  return result;
}

}  // namespace

Result<ModelSheet> parse_model_sheet(std::string_view text, const std::string& source,
                                     InputProblem* problem) {
  ModelSheet sheet;
  sheet.source = source;
  std::optional<InputProblem> error;
  json::error_code code;
  json::value document = json::parse({text.data(), text.size()}, code);
  if (code) {
    error = InputProblem{"", "JSON", code.message()};
  } else {
    read_sheet(document, sheet, error);
  }
  if (error) {
    if (problem != nullptr) *problem = *error;
    return Error(ExitCode::kInput, "model " + source + ": " + error->text());
  }
  round_numbers(document);
  sheet.document = std::move(document.as_object());
  sheet.found_checksum = checksum_of(sheet.document);
  InputProblem why;
  if (!parse_model(text, source, &why)) sheet.unusable = why;
  return sheet;
}

Result<ModelSheet> read_model_sheet(const std::string& path, InputProblem* problem) {
  const auto text = read_model_text(path, problem);
  if (!text) return text.error();
  return parse_model_sheet(*text, path, problem);
}

ModelDiff compare(const ModelSheet& before, const ModelSheet& after) {
  ModelDiff diff;
  diff.added = those_in(after.names, before.names, false);
  diff.removed = those_in(before.names, after.names, false);
  const auto common = those_in(before.names, after.names, true);
  diff.reordered = common != those_in(after.names, before.names, true);
  compare_members(before.document, after.document, "", "", diff.facts);
  compare_members(before.document.at("training").as_object(),
                  after.document.at("training").as_object(), "", "training.", diff.facts);
  for (const std::string& name : common) {
    compare_members(feature_of(before, name), feature_of(after, name), name, "", diff.changed);
  }
  return diff;
}

}  // namespace petrel
