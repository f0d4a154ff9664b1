// SPDX-License-Identifier: MIT
#include "config/config.hpp"

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <sstream>
#include <utility>

#include "config/reader.hpp"
#include "config/sections.hpp"

namespace petrel {
namespace {

// Some service has, or may be meant to have, the balancer's placement.
bool balances(const toml::table& root) {
  const toml::array* services = root["service"].as_array();
  return services == nullptr || std::ranges::any_of(*services, [](const toml::node& service) {
           const toml::table* table = service.as_table();
           const toml::node* placement = table == nullptr ? nullptr : table->get("placement");
           return placement == nullptr || placement->value<std::string_view>() == "balancer";
         });
}

void tell_zones_apart(Config& config) {
  for (ServiceConfig& service : config.services) {
    for (BackendConfig& backend : service.backends) {
      const bool known = !config.agent.zone.empty() && !backend.zone.empty();
      backend.other_zone = known && backend.zone != config.agent.zone;
    }
  }
}

Config read_root(const toml::table& table, ProblemList& problems) {
  Config config;
  TableReader root(table, "", problems);
  if (const toml::table* agent = root.table("agent", Presence::kRequired)) {
    config.agent = read_agent(TableReader(*agent, "agent", problems), balances(table));
  }
  if (const toml::table* control = root.table("control", Presence::kOptional)) {
    config.control = read_control(TableReader(*control, "control", problems));
  }
  if (const toml::table* watch = root.table("model_watch", Presence::kOptional)) {
    config.model_watch = read_model_watch(TableReader(*watch, "model_watch", problems));
  }
  if (const toml::table* log = root.table("log", Presence::kOptional)) {
    config.log = read_log(TableReader(*log, "log", problems));
  }
  config.services = read_services(root, config.agent.mode);
  tell_zones_apart(config);
  if (const auto sensor = table["agent"]["socket_sensor"];
      config.has_sockets() && sensor.node() != nullptr && !config.agent.socket_sensor) {
    problems.add_node(*sensor.node(), "agent.socket_sensor",
                      "true where a service's placement is not \"balancer\"");
  }
  root.report_unknown();
  return config;
}

ConfigProblems whole_file(const std::string& path, int errno_value) {
  return {{{path, 0, 0, "", "a readable file", errno_name(errno_value)}}};
}

}  // namespace

std::string_view to_string(XdpMode mode) {
  switch (mode) {
    case XdpMode::kAuto:
      return "auto";
    case XdpMode::kNative:
      return "native";
    case XdpMode::kGeneric:
      return "generic";
  }
  return "unknown";
}

std::string_view to_string(ClientPrivacy privacy) {
  switch (privacy) {
    case ClientPrivacy::kNone:
      return "none";
    case ClientPrivacy::kTruncate:
      return "truncate";
    case ClientPrivacy::kHash:
      return "hash";
  }
  return "unknown";
}

std::string_view to_string(DriftAction action) {
  switch (action) {
    case DriftAction::kNeutral:
      return "neutral";
    case DriftAction::kReport:
      return "report";
  }
  return "unknown";
}

std::string_view to_string(ServiceMode mode) {
  switch (mode) {
    case ServiceMode::kShadow:
      return "shadow";
    case ServiceMode::kAct:
      return "act";
    case ServiceMode::kNeutral:
      return "neutral";
  }
  return "unknown";
}

std::string_view to_string(Forward forward) {
  switch (forward) {
    case Forward::kNat:
      return "nat";
    case Forward::kDsr:
      return "dsr";
  }
  return "unknown";
}

std::string_view to_string(Placement placement) {
  switch (placement) {
    case Placement::kBalancer:
      return "balancer";
    case Placement::kClient:
      return "client";
    case Placement::kBackend:
      return "backend";
  }
  return "unknown";
}

std::string_view to_string(Affinity affinity) {
  switch (affinity) {
    case Affinity::kFlow:
      return "flow";
    case Affinity::kClient:
      return "client";
  }
  return "unknown";
}

std::string_view to_string(RemovalPolicy policy) {
  switch (policy) {
    case RemovalPolicy::kReset:
      return "reset";
    case RemovalPolicy::kMove:
      return "move";
  }
  return "unknown";
}

void Config::set_mode(ServiceMode mode) {
  for (ServiceConfig& service : services) {
    const bool cannot = mode == ServiceMode::kAct && !service.is_balanced();
    service.mode = cannot ? ServiceMode::kShadow : mode;
    service.modes = {};
  }
}

bool Config::has_sockets() const {
  return !std::ranges::all_of(services, &ServiceConfig::is_balanced);
}

ConfigResult load_config(const std::string& path) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  if (!file) return whole_file(path, errno != 0 ? errno : EIO);
  // A directory opens, and fails only when it is read.
  if (file.peek() == std::ifstream::traits_type::eof() && errno != 0) {
    return whole_file(path, errno);
  }
  file.clear();
  std::ostringstream text;
  text << file.rdbuf();
  return load_config_text(text.str(), path);
}

ConfigResult load_config_text(std::string_view text, std::string_view name) {
  ProblemList problems(name);
  try {
    const toml::table table = toml::parse(text, name);
    Config config = read_root(table, problems);
    if (problems.empty()) return config;
  } catch (const toml::parse_error& error) {
    problems.add(error.source(), "", "valid TOML", std::string(error.description()));
  }
  return problems.take();
}

}  // namespace petrel
