// SPDX-License-Identifier: MIT
// petrel model shadow, compare, promote, rollback, accept: the models of the running agent.
#pragma once

#include "cli/verbs.hpp"

namespace petrel::cli {

// Adds them to `petrel model`.
void add_model_life(CLI::App& model, Action& action);

}  // namespace petrel::cli
