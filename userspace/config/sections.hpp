// SPDX-License-Identifier: MIT
// The sections of the configuration file. Internal to config/.
#pragma once

#include <vector>

#include "config/config.hpp"
#include "config/reader.hpp"

namespace petrel {

// [agent], [control], [model_watch] and [log]; each notes its problems in the reader's list.
// `balances`: interfaces are required.
AgentConfig read_agent(TableReader reader, bool balances);
WeightSettings read_control(TableReader reader);
ModelWatchConfig read_model_watch(TableReader reader);
DecisionLogSettings read_log(TableReader reader);

// All [[service]] of the root table, with what must hold between them.
std::vector<ServiceConfig> read_services(TableReader& root, ServiceMode default_mode);

// "mode", in [agent] and in [[service]].
void read_mode(TableReader& reader, ServiceMode& mode);
// [service.modes], after `mode`.
void read_modes(TableReader reader, ServiceConfig& service);

}  // namespace petrel
