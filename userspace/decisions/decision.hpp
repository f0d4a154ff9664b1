// SPDX-License-Identifier: MIT
// Decision: one change that petrel, or somebody by it, made or would have made, and why.
#pragma once

#include <array>
#include <boost/json/object.hpp>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace petrel {

enum class DecisionKind : std::uint8_t {
  kWeight,    // before and after: parts of the configured weight
  kBudget,    // retries a second, or "open" and "refusing"
  kState,     // of a backend: up, quarantined, draining, removed
  kPanic,     // of a service: "off", "on"
  kOverride,  // what a person ordered, and its end
  kMode,      // of a service or one of its actuators
  kModel,     // which one is live
  kHold,      // whether a model is believed: "follows the model", "configured weights"
  kSelfCheck, // whether weights do harm: "learned weights", "configured weights"
};
inline constexpr std::array<std::string_view, 9> kDecisionKinds = {
    "weight", "budget", "state", "panic", "override", "mode", "model", "hold", "self_check"};
std::string_view to_string(DecisionKind kind);

// What a feature has added to the log-odds of the backend's mean observation.
struct DecisionFeature {
  std::string name;
  double log_odds = 0;

  bool operator==(const DecisionFeature&) const = default;
};

using DecisionValue = std::variant<std::monostate, double, std::string>;

struct Decision {
  std::int64_t time_ns = 0;  // CLOCK_REALTIME
  std::uint64_t tick = 0;    // of the agent, since its start
  DecisionKind kind = DecisionKind::kWeight;
  std::string service = {};  // "": of the whole agent
  std::string backend = {};  // "": of the service
  DecisionValue before = {};
  DecisionValue after = {};
  std::string reason = {};   // as in weights.reason, or a word of the kind's own
  std::string rails = {};    // "panic,floor"
  std::vector<DecisionFeature> features = {};  // the largest first
  std::string model = {};    // "retry v3 (0123abcd)"
  bool in_force = true;      // false: computed only
  std::string note = {};     // who, and what they said

  bool operator==(const Decision&) const = default;
};

// RFC 3339, UTC, to the millisecond.
std::string utc_text(std::int64_t realtime_ns);

// petrel/decision/v1.
boost::json::object decision_json(const Decision& decision);

// One line for people.
std::string decision_text(const Decision& decision);

}  // namespace petrel
