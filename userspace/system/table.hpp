// SPDX-License-Identifier: MIT
// Checks for people and for programs.
#pragma once

#include <string>
#include <vector>

#include "system/checks.hpp"

namespace petrel {

// Grouped by state, the worst first; each with what follows and the command that mends it.
std::string check_table(const std::vector<Check>& checks, bool colour);

// petrel/check-system/v1
std::string check_json(const std::vector<Check>& checks);

}  // namespace petrel
