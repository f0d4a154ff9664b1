// SPDX-License-Identifier: MIT
// petrel check --system: is this host fit to run petrel?
#pragma once

#include <string>

namespace petrel::cli {

// Without a configuration at the default place only the host itself is looked at. Returns the exit
// code: 0 all good, 4 something degraded, 5 something fatal, 7 another's XDP program.
int run_check_system(const std::string& config_path, bool as_json);

}  // namespace petrel::cli
