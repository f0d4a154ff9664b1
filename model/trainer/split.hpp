// SPDX-License-Identifier: MIT
// Which runs are trained on and which are kept for testing.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "telemetry/row.hpp"

namespace petrel {

using RunPointers = std::vector<const Run*>;

struct Split {
  RunPointers training;
  RunPointers held_out;
};

struct SplitOptions {
  uint64_t seed = 1;
  double held_out_share = 0.3;
  std::vector<std::string> held_out_runs = {};  // instead of drawing them
};

// By name, runs without rows left out: the order in which they came changes nothing.
Result<Split> split_runs(std::span<const Run> runs, const SplitOptions& options);

uint64_t count_rows(const RunPointers& runs);
bool has_both_classes(const RunPointers& runs);

}  // namespace petrel
