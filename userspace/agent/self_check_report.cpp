// SPDX-License-Identifier: MIT
#include "agent/self_check_report.hpp"

#include <algorithm>
#include <boost/json.hpp>
#include <string_view>

#include "agent/model_report.hpp"
#include "base/clock.hpp"

namespace petrel {
namespace json = boost::json;
namespace {

json::object group_json(std::uint64_t requests, std::uint64_t retried) {
  return {{"requests", requests}, {"retried", retried}};
}

// Figures that too few requests were seen for are null.
json::object trial_json(const HoldoutMeasures& it) {
  const auto known = [&](double value) {
    return it.known ? json::value(value) : json::value(nullptr);
  };
  return {{"learned", group_json(it.rest, it.rest_retried)},
          {"holdout", group_json(it.holdout, it.holdout_retried)},
          {"difference", known(it.difference)},
          {"difference_low", known(it.low)},
          {"difference_high", known(it.high)},
          {"avoided", known(it.avoided())},
          {"avoided_low", known(it.avoided_low())},
          {"avoided_high", known(it.avoided_high())}};
}

std::string_view state_of(const SelfCheck* check, const ServiceLoop& service) {
  if (check == nullptr) return "off";
  if (check->is_harmed()) return "harm";
  return service.weights_differ() ? "judging" : "idle";
}

json::value known(const std::optional<double>& value) {
  return value ? json::value(*value) : json::value(nullptr);
}

}  // namespace

json::object edge_json(const EdgeReading& edge) {
  return {{"first_attempts_per_s", edge.first_attempts_per_s},
          {"amplification", edge.amplification},
          {"storm_amplification", known(edge.storm_amplification)},
          {"capacity_per_s", known(edge.capacity_per_s)},
          {"capacity_age_s", known(edge.capacity_age_s)},
          {"capacity_at_least_per_s", edge.capacity_at_least_per_s},
          {"headroom", known(edge.headroom)},
          {"backlog", edge.backlog},
          {"patience_s", known(edge.patience_s)},
          {"answer_delay_s", known(edge.answer_delay_s)},
          {"storm_can_last", edge.can_last},
          {"stop_survived_s", known(edge.stop_survived_s)},
          {"in_storm", edge.in_storm},
          {"recovery_s", known(edge.recovery_s)}};
}

json::object self_check_json(const Agent& agent, const ServiceLoop& service) {
  const SelfCheck* check = agent.self_check(service.config().id);
  const bool harmed = check != nullptr && check->is_harmed();
  const std::uint64_t now_ns = monotonic_ns();
  json::value left_s = nullptr;
  if (harmed) {
    const std::uint64_t until_ns = check->minute().harmed_until_ns();
    left_s = static_cast<double>(until_ns - std::min(now_ns, until_ns)) / 1e9;
  }
  return {{"state", state_of(check, service)},
          {"share", check == nullptr ? 0 : service.config().holdout},
          {"harm", harmed},
          {"harms_total", check == nullptr ? 0 : check->minute().harms()},
          {"neutral_left_s", std::move(left_s)},
          {"evidence", harmed ? json::value(trial_json(check->minute().evidence())) : nullptr},
          {"last_minute", trial_json(check == nullptr ? HoldoutMeasures{} : check->last_minute())},
          {"last_hour", trial_json(check == nullptr ? HoldoutMeasures{} : check->last_hour())},
          {"predictions", measures_json(agent.life().measures_of(service.config().id))}};
}

}  // namespace petrel
