// SPDX-License-Identifier: MIT
// --config and --pin-path, for verbs that read the pinned maps and need no agent.
#pragma once

#include <string>

#include "base/error.hpp"
#include "cli/verbs.hpp"
#include "maps/pinned_state.hpp"

namespace petrel::cli {

struct PinnedMaps {
  std::string config_path;
  std::string pin_path;

  struct Resolved {
    std::string pin_path;
    std::vector<ServiceConfig> services;  // of the configuration; none without one

    // The maps know services by their addresses only; "" if the configuration does not either.
    std::string service_name(const PinnedService& service) const;
  };

  void add_options(CLI::App& command);
  // The path given, else the configuration's, else the default. A configuration that is not there
  // is an error only if it was named.
  Result<Resolved> resolve() const;
};

}  // namespace petrel::cli
