// SPDX-License-Identifier: MIT
// petrel check --diff: what would a reload with this configuration change?
#pragma once

#include <string>

namespace petrel::cli {

// Reads the pinned maps and changes nothing. Returns the exit code: 0 no difference, 4 differences,
// 3 a wrong configuration, 6 nothing is pinned.
int run_check_diff(const std::string& config_path, bool as_json);

}  // namespace petrel::cli
