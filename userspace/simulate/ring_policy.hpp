// SPDX-License-Identifier: MIT
// Policies that place by the ring: static weights and what the data path does without an agent, and
// petrel: the agent's loop above it.
#pragma once

#include <memory>

#include "config/config.hpp"
#include "simulate/data_path.hpp"

namespace petrel::simulate {

// A service of the scenario's backends, as a configuration would have it.
ServiceConfig simulated_service(const Scenario& scenario, ServiceMode mode);

// The neutral ring alone; `flags` of enum service_flag may add two choices.
PolicyMaker make_ring_policies(const Scenario& scenario, std::uint32_t flags);

// n failures within t take a backend out for a while: what a health check in XDP could do.
PolicyMaker make_threshold_policies(const Scenario& scenario);

struct PetrelSettings {
  ServiceMode mode = ServiceMode::kAct;
  std::uint32_t flags = 0;  // beside SERVICE_ACT, in mode act
  bool capacity_guard = true;
};
PolicyMaker make_petrel_policies(const Scenario& scenario, const PolicySettings& settings,
                                 PetrelSettings petrel);

}  // namespace petrel::simulate
