// SPDX-License-Identifier: MIT
#include "decisions/decision.hpp"

#include <boost/json.hpp>
#include <cstdio>
#include <ctime>

namespace petrel {
namespace {

namespace json = boost::json;

json::value value_json(const DecisionValue& value) {
  if (const double* number = std::get_if<double>(&value)) return *number;
  if (const std::string* text = std::get_if<std::string>(&value)) return json::string(*text);
  return nullptr;
}

std::string value_text(const DecisionValue& value, bool as_share) {
  if (const std::string* text = std::get_if<std::string>(&value)) return *text;
  const double* number = std::get_if<double>(&value);
  if (number == nullptr) return "-";
  char text[32] = {};
  std::snprintf(text, sizeof(text), as_share ? "%.1f %%" : "%.1f/s",
                as_share ? 100 * *number : *number);
  return text;
}

}  // namespace

std::string_view to_string(DecisionKind kind) {
  return kDecisionKinds[static_cast<std::size_t>(kind)];
}

std::string utc_text(std::int64_t realtime_ns) {
  const std::time_t seconds = static_cast<std::time_t>(realtime_ns / 1'000'000'000);
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  char text[40] = {};
  const std::size_t length = std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &utc);
  std::snprintf(text + length, sizeof(text) - length, ".%03dZ",
                static_cast<int>(realtime_ns / 1'000'000 % 1000));
  return text;
}

json::object decision_json(const Decision& it) {
  json::array features;
  for (const DecisionFeature& feature : it.features) {
    features.push_back({{"feature", feature.name}, {"log_odds", feature.log_odds}});
  }
  return {{"schema", "petrel/decision/v1"},
          {"time", utc_text(it.time_ns)},
          {"time_ns", it.time_ns},
          {"tick", it.tick},
          {"kind", to_string(it.kind)},
          {"service", it.service.empty() ? json::value(nullptr) : json::value(it.service)},
          {"backend", it.backend.empty() ? json::value(nullptr) : json::value(it.backend)},
          {"before", value_json(it.before)},
          {"after", value_json(it.after)},
          {"reason", it.reason},
          {"rails", it.rails},
          {"features", std::move(features)},
          {"model", it.model},
          {"in_force", it.in_force},
          {"note", it.note}};
}

std::string decision_text(const Decision& it) {
  std::string line = utc_text(it.time_ns) + "  ";
  line += it.service.empty() ? "agent" : it.service;
  if (!it.backend.empty()) line += "/" + it.backend;
  const bool is_weight = it.kind == DecisionKind::kWeight;
  line += "  " + std::string(to_string(it.kind)) + "  " + value_text(it.before, is_weight) + " -> " +
          value_text(it.after, is_weight);
  if (!it.in_force) line += " (not in force)";
  if (!it.reason.empty()) line += "  " + it.reason;
  if (!it.rails.empty()) line += " [" + it.rails + "]";
  for (const DecisionFeature& feature : it.features) {
    char push[24] = {};
    std::snprintf(push, sizeof(push), " %+.2f", feature.log_odds);
    line += (&feature == &it.features.front() ? "  " : ", ") + feature.name + push;
  }
  if (!it.note.empty()) line += "  " + it.note;
  return line;
}

}  // namespace petrel
