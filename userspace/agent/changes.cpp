// SPDX-License-Identifier: MIT
#include "agent/changes.hpp"

#include <algorithm>
#include <sstream>

#include "config/address.hpp"

namespace petrel {
namespace {

template <class Items>
auto find_by_id(const Items& items, std::uint32_t id) -> decltype(items.data()) {
  const auto found =
      std::ranges::find_if(items, [&](const auto& item) { return item.id == id; });
  return found == items.end() ? nullptr : &*found;
}

std::string text(bool value) { return value ? "true" : "false"; }
std::string text(const std::string& value) { return value; }
std::string text(std::chrono::milliseconds value) { return std::to_string(value.count()) + " ms"; }
template <class Number>
  requires std::is_arithmetic_v<Number>
std::string text(Number value) {
  std::ostringstream out;
  out << value;
  return out.str();
}
template <class Choice>
  requires std::is_enum_v<Choice>
std::string text(Choice value) {
  return std::string(to_string(value));
}

// Lines about one thing, each field that differs one line.
class Lines {
 public:
  explicit Lines(std::vector<std::string>& lines) : lines_(lines) {}

  void say(const std::string& line) { lines_.push_back(line); }
  template <class Value>
  void compare(const std::string& what, const Value& before, const Value& after) {
    if (!(before == after)) say(what + " " + text(before) + " -> " + text(after));
  }

 private:
  std::vector<std::string>& lines_;
};

std::string named(const BackendConfig& backend) {
  return "backend " + backend.name + " (" + endpoint_text(backend.address, backend.port) + ")";
}

std::string seconds(std::chrono::milliseconds duration) {
  return std::to_string(duration.count() / 1000) + " s";
}

void compare_backends(const ServiceConfig& before, const ServiceConfig& after, Lines& lines) {
  const std::string service = "service " + after.name + ": ";
  for (const BackendConfig& backend : after.backends) {
    const BackendConfig* had = find_by_id(before.backends, backend.id);
    const std::string about = service + "backend " + backend.name + ": ";
    if (had == nullptr) {
      lines.say(service + named(backend) + " added");
      continue;
    }
    lines.compare(about + "name", had->name, backend.name);
    lines.compare(about + "weight", had->weight, backend.weight);
    lines.compare(about + "zone", had->zone, backend.zone);
    lines.compare(about + "max_inflight", had->max_inflight, backend.max_inflight);
    lines.compare(about + "capacity_per_s", had->capacity_per_s, backend.capacity_per_s);
    lines.compare(about + "drain", had->drain, backend.drain);
  }
  for (const BackendConfig& backend : before.backends) {
    if (find_by_id(after.backends, backend.id) != nullptr) continue;
    lines.say(service + named(backend) + " removed: it drains for " +
              seconds(after.drain_deadline) + ", then its flows are " +
              (after.on_removal == RemovalPolicy::kReset ? "reset" : "moved"));
  }
}

void compare_services(const ServiceConfig& before, const ServiceConfig& after, Lines& lines) {
  const std::string about = "service " + after.name + ": ";
  lines.compare(about + "name", before.name, after.name);
  lines.compare(about + "last port", before.last_port, after.last_port);
  lines.compare(about + "placement", before.placement, after.placement);
  lines.compare(about + "forward", before.forward, after.forward);
  lines.compare(about + "affinity", before.affinity, after.affinity);
  lines.compare(about + "mode", before.mode, after.mode);
  const auto compare_own = [&](const char* actuator, std::optional<ServiceMode> was,
                               std::optional<ServiceMode> is) {
    if (was == is) return;  // what follows the service's mode changes with it
    lines.compare(about + "modes." + actuator, was.value_or(before.mode), is.value_or(after.mode));
  };
  compare_own("two_choices", before.modes.two_choices, after.modes.two_choices);
  compare_own("steering", before.modes.steering, after.modes.steering);
  compare_own("budget", before.modes.budget, after.modes.budget);
  compare_own("admission", before.modes.admission, after.modes.admission);
  lines.compare(about + "two_choices", before.two_choices, after.two_choices);
  lines.compare(about + "steer_retries", before.steer_retries, after.steer_retries);
  lines.compare(about + "failover", before.failover, after.failover);
  lines.compare(about + "mask_refusals", before.mask_refusals, after.mask_refusals);
  lines.compare(about + "admission", before.admission, after.admission);
  lines.compare(about + "end_abandoned", before.end_abandoned, after.end_abandoned);
  lines.compare(about + "hedge", before.hedge, after.hedge);
  lines.compare(about + "probe_path", before.probe_path, after.probe_path);
  lines.compare(about + "capacity_guard", before.capacity_guard, after.capacity_guard);
  lines.compare(about + "holdout", before.holdout, after.holdout);
  lines.compare(about + "max_inflight", before.max_inflight, after.max_inflight);
  lines.compare(about + "on_removal", before.on_removal, after.on_removal);
  lines.compare(about + "drain_deadline", before.drain_deadline, after.drain_deadline);
  lines.compare(about + "budget.enabled", before.budget.enabled, after.budget.enabled);
  lines.compare(about + "budget.ratio", before.budget.ratio, after.budget.ratio);
  lines.compare(about + "budget.min_per_s", before.budget.min_per_s, after.budget.min_per_s);
  lines.compare(about + "budget.idle_ratio", before.budget.idle_ratio, after.budget.idle_ratio);
  lines.compare(about + "budget.burst_s", before.budget.burst_s, after.budget.burst_s);
  compare_backends(before, after, lines);
}

void compare_watch(const ModelWatchConfig& before, const ModelWatchConfig& after, Lines& lines) {
  lines.compare("model_watch.shadow_model", before.shadow_model, after.shadow_model);
  lines.compare("model_watch.psi_limit", before.psi_limit, after.psi_limit);
  lines.compare("model_watch.ece_limit", before.ece_limit, after.ece_limit);
  lines.compare("model_watch.drift_action", before.drift_action, after.drift_action);
  lines.compare("model_watch.window", before.window.count(), after.window.count());
}

std::string list(const std::vector<std::string>& names) {
  std::string out;
  for (const std::string& name : names) out += (out.empty() ? "" : ",") + name;
  return out;
}

}  // namespace

std::vector<std::string> describe_changes(const Config& before, const Config& after) {
  std::vector<std::string> out;
  Lines lines(out);
  const AgentConfig& was = before.agent;
  const AgentConfig& is = after.agent;
  lines.compare("agent.interfaces", list(was.interfaces), list(is.interfaces));
  lines.compare("agent.model", was.model, is.model);
  lines.compare("agent.tick", was.tick, is.tick);
  lines.compare("agent.heartbeat_limit", was.heartbeat_limit, is.heartbeat_limit);
  lines.compare("agent.retry_window", was.retry_window, is.retry_window);
  lines.compare("agent.handshake_timeout", was.handshake_timeout, is.handshake_timeout);
  lines.compare("agent.encap_source_v4", to_string(was.encap_source_v4),
                to_string(is.encap_source_v4));
  lines.compare("agent.encap_source_v6", to_string(was.encap_source_v6),
                to_string(is.encap_source_v6));
  lines.compare("agent.socket_sensor", was.socket_sensor, is.socket_sensor);
  lines.compare("agent.score_in_kernel", was.score_in_kernel, is.score_in_kernel);
  lines.compare("agent.cgroup", was.cgroup, is.cgroup);
  lines.compare("agent.log_level", was.log_level, is.log_level);
  lines.compare("agent.client_privacy", was.client_privacy, is.client_privacy);
  lines.compare("control.gain", before.control.gain, after.control.gain);
  lines.compare("control.floor", before.control.floor, after.control.floor);
  lines.compare("control.panic_share", before.control.panic_share, after.control.panic_share);
  lines.compare("control.growth_cap", before.control.growth_cap, after.control.growth_cap);
  lines.compare("control.slow_start_per_s", before.control.slow_start_per_s,
                after.control.slow_start_per_s);
  lines.compare("control.min_samples", before.control.min_samples, after.control.min_samples);
  lines.compare("log.sqlite", before.log.sqlite, after.log.sqlite);
  lines.compare("log.sqlite_rows", before.log.sqlite_rows, after.log.sqlite_rows);
  lines.compare("log.json", before.log.json, after.log.json);
  lines.compare("log.json_mb", before.log.json_mb, after.log.json_mb);
  lines.compare("log.json_files", before.log.json_files, after.log.json_files);
  compare_watch(before.model_watch, after.model_watch, lines);
  for (const ServiceConfig& service : after.services) {
    const ServiceConfig* had = find_by_id(before.services, service.id);
    if (had != nullptr) {
      compare_services(*had, service, lines);
    } else {
      lines.say("service " + service.name + " (" +
                endpoint_text(service.address, service.port, service.last_port) + ") added with " +
                std::to_string(service.backends.size()) + " backends");
    }
  }
  for (const ServiceConfig& service : before.services) {
    if (find_by_id(after.services, service.id) != nullptr) continue;
    lines.say("service " + service.name + " removed: its backends drain for " +
              seconds(service.drain_deadline));
  }
  return out;
}

}  // namespace petrel
