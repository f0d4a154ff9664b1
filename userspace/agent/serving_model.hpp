// SPDX-License-Identifier: MIT
// The model that an agent scores by.
#pragma once

#include "agent/agent.hpp"
#include "score/model.hpp"

namespace petrel {

// The configuration's, or with --untrained one that scores everything alike. kUsage where a service
// is to act on no model.
Result<Model> model_for(const Config& config, const AgentOptions& options);

}  // namespace petrel
