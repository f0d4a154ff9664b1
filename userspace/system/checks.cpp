// SPDX-License-Identifier: MIT
#include "system/checks.hpp"

#include <algorithm>

#include "system/judges.hpp"

namespace petrel {

std::string_view to_string(CheckState state) {
  switch (state) {
    case CheckState::kGood:
      return "good";
    case CheckState::kDegraded:
      return "degraded";
    case CheckState::kFatal:
      return "fatal";
  }
  return "?";
}

std::vector<Check> judge(const Config& config, const std::string& config_path,
                         const SystemFacts& facts) {
  Checks checks;
  judge_host(config.agent, facts.host, checks);
  for (const InterfaceFacts& interface : facts.interfaces) {
    judge_interface(config.agent, config_path, interface, checks);
    if (interface.ifindex != 0) judge_offloads(config.agent, interface, checks);
  }
  judge_mtu(config, facts, checks);
  judge_forwarding(config, facts, checks);
  const std::size_t count = std::min(config.services.size(), facts.services.size());
  for (std::size_t i = 0; i < count; ++i) {
    judge_service(config, config.services[i], facts.services[i], checks);
  }
  return checks;
}

ExitCode exit_code(const std::vector<Check>& checks) {
  ExitCode code = ExitCode::kGood;
  for (const Check& check : checks) {
    // What is missing comes first: with the other program gone, petrel would still not start.
    if (check.state == CheckState::kFatal && !check.conflict) return ExitCode::kMissing;
    if (check.state == CheckState::kFatal) code = ExitCode::kConflict;
    if (check.state == CheckState::kDegraded && code == ExitCode::kGood) code = ExitCode::kWarnings;
  }
  return code;
}

std::string sysctl_command(const std::string& family, const std::string& interface,
                           const std::string& key, int value) {
  const char separator = interface.find('.') == std::string::npos ? '.' : '/';
  std::string name = "net";
  for (const std::string& part : {family, std::string("conf"), interface, key}) {
    name += separator + part;
  }
  return "sysctl -w " + name + "=" + std::to_string(value);
}

}  // namespace petrel
