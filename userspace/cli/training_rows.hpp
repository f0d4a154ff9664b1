// SPDX-License-Identifier: MIT
// Labelled rows of whatever a user names: for verbs that train or measure.
#pragma once

#include <string>
#include <vector>

#include "base/error.hpp"
#include "telemetry/row.hpp"

namespace petrel::cli {

// Appends those of a CSV of rows, or of a capture that has them among its tables, to their runs.
Result<void> read_training_rows(const std::string& input, std::vector<Run>& runs);

}  // namespace petrel::cli
