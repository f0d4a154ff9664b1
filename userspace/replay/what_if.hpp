// SPDX-License-Identifier: MIT
// What a replay is to do otherwise than the agent did.
#pragma once

#include <optional>

#include "config/config.hpp"
#include "loop/loop.hpp"

namespace petrel {

struct WhatIf {
  std::optional<Model> model = {};    // score by this one
  std::optional<Config> config = {};  // decide by its [control], modes and weights, found by name

  bool any() const { return model.has_value() || config.has_value(); }
};

// Changes the loop as a reload would: what is known of the backends stays.
void apply(const WhatIf& what_if, Loop& loop);

// The loop that a later checkpoint names, with all that the earlier one has learned since.
Loop carried_on(Loop checkpoint, Loop& earlier);

}  // namespace petrel
