// SPDX-License-Identifier: MIT
// Which models an agent scores by.
#pragma once

#include "agent/agent.hpp"
#include "agent/model_store.hpp"

namespace petrel {

// The configured one, or what was promoted over it; an untrained agent's knows nothing, and every
// service must leave it at that. `at_start`: a promoted one that cannot be read is left aside.
Result<ServingModel> model_for(const Config& config, const AgentOptions& options, bool at_start);

// The configuration's shadow; none where it names none, or the live one.
Result<std::optional<Model>> shadow_for(const Config& config, const Model& live);

}  // namespace petrel
