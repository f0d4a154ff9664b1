// SPDX-License-Identifier: MIT
// Which runs a model may be judged by: not those that it was trained on.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "score/model.hpp"
#include "telemetry/row.hpp"

namespace petrel {

enum class RunRole {
  kHeldOut,  // the model's file says that it was kept for testing
  kUnknown,  // the model's file does not name it
  kTrained,
};
std::string_view run_role_name(RunRole role);  // "held_out", "unknown", "trained"
RunRole role_of(const TrainingFacts& facts, const std::string& run);

struct RunChoiceOptions {
  std::vector<std::string> names = {};  // these runs, and no others; empty: all that may be used
  bool include_trained = false;
};

struct RunChoice {
  std::vector<const Run*> used;       // in the input's order, none of them empty
  std::vector<std::string> left_out;  // trained on, beside runs that were held out
};

// Runs that were trained on are left out where there are held-out ones in the input, as in a whole
// training set; else, and where they are asked for by name, they are refused (kInput).
Result<RunChoice> choose_runs(std::span<const Run> runs, const TrainingFacts& facts,
                              const RunChoiceOptions& options);

// A check of the measuring itself: the labels of each run in random order, so that no probability
// can tell anything of them.
void shuffle_labels(std::vector<Run>& runs, uint64_t seed);

}  // namespace petrel
