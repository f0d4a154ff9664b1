// SPDX-License-Identifier: MIT
#include "agent/metrics.hpp"

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <array>
#include <boost/json.hpp>
#include <utility>
#include <vector>

namespace petrel {
namespace json = boost::json;
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

struct Figure {
  const char* name;
  const char* path;  // JSON pointer into status, or into one of its services
  const char* help;
  MetricType type = MetricType::Gauge;
};

constexpr std::array kOfAgent = {
    Figure{"petrel_model_drifted", "/model/drifted", "1: the live model is not believed"},
    Figure{"petrel_model_drifted_total", "/model/drifted_total",
           "Times that the live model was found to have drifted", MetricType::Counter},
    Figure{"petrel_lost_events_ratio", "/losses/lost_events_share",
           "Late events that found no room, of all"},
};

constexpr std::array kOfService = {
    Figure{"petrel_first_attempts_total", "/first_attempts", "Requests that repeat no failed one",
           MetricType::Counter},
    Figure{"petrel_retries_total", "/retries", "Requests that repeat a failed one",
           MetricType::Counter},
    Figure{"petrel_shed_total", "/shed", "New connections refused beyond a limit in flight",
           MetricType::Counter},
    Figure{"petrel_shed_retries_total", "/shed_retries",
           "Retries refused beyond the budget or a limit", MetricType::Counter},
    Figure{"petrel_moved_slots_total", "/moved_slots", "Slots of the ring moved",
           MetricType::Counter},
    Figure{"petrel_panic", "/panic", "1: traffic is spread evenly, for most looks bad"},
    Figure{"petrel_self_check_harm", "/self_check/harm",
           "1: learned weights did harm, configured ones are in force"},
    Figure{"petrel_self_check_harms_total", "/self_check/harms_total",
           "Times that learned weights were found to do harm", MetricType::Counter},
    Figure{"petrel_self_check_holdout_ratio", "/self_check/share",
           "New flows that ignore learned weights, of all; 0: no self-check"},
    Figure{"petrel_retries_avoided", "/self_check/last_hour/avoided",
           "Retries that learned weights avoided in the last hour, as the holdout shows it"},
    Figure{"petrel_retries_avoided_low", "/self_check/last_hour/avoided_low",
           "Its lower bound (95 %)"},
    Figure{"petrel_retries_avoided_high", "/self_check/last_hour/avoided_high",
           "Its upper bound (95 %)"},
    Figure{"petrel_predicted_retries", "/self_check/predictions/predicted",
           "Retried rows expected in the window of [model_watch]"},
    Figure{"petrel_happened_retries", "/self_check/predictions/retried",
           "Retried rows seen in the same window"},
    Figure{"petrel_calibration_error_ratio", "/self_check/predictions/ece",
           "Calibration error (ECE) of predictions in the same window"},
    Figure{"petrel_prediction_precision_ratio", "/self_check/predictions/precision",
           "Of rows predicted at 0.5 or more, the part that was retried"},
    Figure{"petrel_amplification", "/edge/amplification", "Attempts for each first one, over 10 s"},
    Figure{"petrel_capacity_per_second", "/edge/capacity_per_s",
           "Requests that the service completes a second, as seen while it was saturated"},
    Figure{"petrel_headroom_ratio", "/edge/headroom", "Of the capacity, what attempts leave"},
    Figure{"petrel_backlog_requests", "/edge/backlog", "Requests that backends are still to do"},
    Figure{"petrel_stop_survived_seconds", "/edge/stop_survived_s",
           "Longest stop of all backends that would start no storm that sustains itself"},
    Figure{"petrel_storm", "/edge/in_storm", "1: in a storm that sustains itself"},
    Figure{"petrel_recovery_seconds", "/edge/recovery_s",
           "Predicted time until the backlog is what it usually is"},
};

// A number, or a flag as 0 or 1; none: not known.
bool sample(const json::value& of, const Figure& figure, ClientMetric& metric) {
  boost::system::error_code code;
  const json::value* value = of.find_pointer(figure.path, code);
  if (value == nullptr || (!value->is_number() && !value->is_bool())) return false;
  const double number = value->is_bool() ? (value->as_bool() ? 1 : 0) : value->to_number<double>();
  if (figure.type == MetricType::Counter) {
    metric.counter.value = number;
  } else {
    metric.gauge.value = number;
  }
  return true;
}

MetricFamily family_of(const Figure& figure) {
  return {figure.name, figure.help, figure.type, {}};
}

}  // namespace

std::string metrics_text(const json::value& status) {
  std::vector<MetricFamily> families;
  for (const Figure& figure : kOfAgent) {
    MetricFamily family = family_of(figure);
    ClientMetric metric;
    if (sample(status, figure, metric)) family.metric.push_back(std::move(metric));
    if (!family.metric.empty()) families.push_back(std::move(family));
  }
  const json::array& services = status.at("services").as_array();
  for (const Figure& figure : kOfService) {
    MetricFamily family = family_of(figure);
    for (const json::value& service : services) {
      ClientMetric metric;
      metric.label.push_back({"service", std::string(service.at("name").as_string())});
      if (sample(service, figure, metric)) family.metric.push_back(std::move(metric));
    }
    if (!family.metric.empty()) families.push_back(std::move(family));
  }
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace petrel
