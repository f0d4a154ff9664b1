// SPDX-License-Identifier: MIT
#include "cli/pinned_maps.hpp"

#include <filesystem>

#include "config/address.hpp"

namespace petrel::cli {

void PinnedMaps::add_options(CLI::App& command) {
  command.add_option("-c,--config", config_path, "Configuration, for its agent.pin_path and names");
  command.add_option("--pin-path", pin_path, "Where the maps are pinned");
}

Result<PinnedMaps::Resolved> PinnedMaps::resolve() const {
  Resolved resolved{pin_path.empty() ? AgentConfig{}.pin_path : pin_path, {}};
  if (config_path.empty() && !std::filesystem::exists(kDefaultConfig)) return resolved;
  auto config = load_config(config_path.empty() ? kDefaultConfig : config_path);
  // For its names alone the default configuration need not be whole.
  if (!config && config_path.empty() && !pin_path.empty()) return resolved;
  if (!config) return config.error().error();
  if (pin_path.empty()) resolved.pin_path = config->agent.pin_path;
  resolved.services = std::move(config->services);
  return resolved;
}

std::string PinnedMaps::Resolved::service_name(const PinnedService& service) const {
  for (const ServiceConfig& named : services) {
    if (same_address(named.address, service.key.vip) && named.port == service.port() &&
        named.protocol == service.key.protocol) {
      return named.name;
    }
  }
  return "";
}

}  // namespace petrel::cli
