// SPDX-License-Identifier: MIT
// What differs between two configurations, for people.
#pragma once

#include <string>
#include <vector>

#include "config/config.hpp"

namespace petrel {

// One line a change: "service web: backend b4 (10.2.4.2:8080) added". Both have their ids: what moved
// in the file has not changed.
std::vector<std::string> describe_changes(const Config& before, const Config& after);

}  // namespace petrel
