// SPDX-License-Identifier: MIT
// Field by field: what the maps hold against what a configuration says. Internal to inspect/.
#pragma once

#include <string>
#include <vector>

#include "inspect/diff.hpp"

namespace petrel::inspect {

std::vector<FieldChange> agent_fields(const Snapshot& snapshot, const AgentConfig& agent);
std::vector<FieldChange> service_fields(const Snapshot& snapshot, const PinnedService& had,
                                        const ServiceConfig& wanted);
std::vector<FieldChange> backend_fields(const Snapshot& snapshot, const PinnedBackend& had,
                                        const BackendConfig& wanted);

}  // namespace petrel::inspect
