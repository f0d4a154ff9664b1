// SPDX-License-Identifier: MIT
#include "trainer/run_choice.hpp"

#include <algorithm>
#include <random>
#include <set>
#include <utility>

namespace petrel {
namespace {

bool holds(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

std::string list_of(const std::vector<std::string>& names) {
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "" : ", ") + name;
  return list;
}

Result<std::vector<const Run*>> candidates(std::span<const Run> runs,
                                           const std::vector<std::string>& names) {
  std::set<std::string> missing(names.begin(), names.end());
  std::vector<const Run*> found;
  for (const Run& run : runs) {
    if (!names.empty() && !holds(names, run.name)) continue;
    missing.erase(run.name);
    if (!run.rows.empty()) found.push_back(&run);
  }
  if (!missing.empty()) {
    return Error(ExitCode::kInput, "expected a run named " + *missing.begin() + ", found none");
  }
  if (found.empty()) return Error(ExitCode::kInput, "expected rows, found none");
  return found;
}

}  // namespace

std::string_view run_role_name(RunRole role) {
  switch (role) {
    case RunRole::kHeldOut:
      return "held_out";
    case RunRole::kUnknown:
      return "unknown";
    case RunRole::kTrained:
      return "trained";
  }
  return "unknown";
}

RunRole role_of(const TrainingFacts& facts, const std::string& run) {
  if (holds(facts.runs, run)) return RunRole::kTrained;
  return holds(facts.held_out_runs, run) ? RunRole::kHeldOut : RunRole::kUnknown;
}

Result<RunChoice> choose_runs(std::span<const Run> runs, const TrainingFacts& facts,
                              const RunChoiceOptions& options) {
  auto found = candidates(runs, options.names);
  if (!found) return found.error();
  if (options.include_trained) return RunChoice{std::move(*found), {}};

  RunChoice choice;
  bool has_held_out = false;
  for (const Run* run : *found) {
    const RunRole role = role_of(facts, run->name);
    has_held_out = has_held_out || role == RunRole::kHeldOut;
    if (role == RunRole::kTrained) {
      choice.left_out.push_back(run->name);
    } else {
      choice.used.push_back(run);
    }
  }
  const bool is_whole_set = has_held_out && options.names.empty();
  if (!choice.left_out.empty() && !is_whole_set) {
    return Error(ExitCode::kInput,
                 "the model was trained on " + list_of(choice.left_out) +
                     ": what it says of their rows is no prediction. Leave them out, or use "
                     "--include-trained");
  }
  return choice;
}

void shuffle_labels(std::vector<Run>& runs, uint64_t seed) {
  for (Run& run : runs) {
    // By name, so that the order of the runs and what else there is change nothing.
    std::seed_seq seeds(run.name.begin(), run.name.end());
    std::mt19937_64 random(seeds);
    random.seed(random() ^ seed);
    // Fisher-Yates by hand: std::shuffle's order is the library's own affair.
    for (size_t i = run.rows.size(); i > 1; i--) {
      std::swap(run.rows[i - 1].retried, run.rows[random() % i].retried);
    }
  }
}

}  // namespace petrel
