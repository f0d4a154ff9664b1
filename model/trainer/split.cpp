// SPDX-License-Identifier: MIT
#include "trainer/split.hpp"

#include <algorithm>
#include <cmath>
#include <random>
#include <set>

namespace petrel {
namespace {

constexpr size_t kLeastRuns = 3;
// Draws that leave one side with only one class are drawn again, at most this often.
constexpr int kMostDraws = 100;

// Fisher-Yates by hand: std::shuffle's order is the library's own affair.
void shuffle(RunPointers& runs, std::mt19937_64& random) {
  for (size_t i = runs.size(); i > 1; i--) std::swap(runs[i - 1], runs[random() % i]);
}

bool by_name(const Run* left, const Run* right) {
  return left->name < right->name;
}

Error input_error(const std::string& message) {
  return Error(ExitCode::kInput, "train: " + message);
}

Result<Split> split_as_named(const RunPointers& runs, const std::vector<std::string>& names) {
  std::set<std::string> wanted(names.begin(), names.end());
  Split split;
  for (const Run* run : runs) {
    (wanted.erase(run->name) > 0 ? split.held_out : split.training).push_back(run);
  }
  if (!wanted.empty()) {
    return input_error("expected a run named " + *wanted.begin() + " to hold out, found none");
  }
  if (split.training.size() < 2) {
    return input_error("expected 2 runs or more to train on, found " +
                       std::to_string(split.training.size()));
  }
  if (!has_both_classes(split.training) || !has_both_classes(split.held_out)) {
    return input_error(
        "expected retried and other rows on both sides of the split, found a side "
        "with only one of them");
  }
  return split;
}

Result<Split> draw_split(RunPointers runs, const SplitOptions& options) {
  const double wanted = std::round(options.held_out_share * static_cast<double>(runs.size()));
  const auto held_out =
      static_cast<std::ptrdiff_t>(std::clamp(wanted, 1.0, static_cast<double>(runs.size() - 2)));
  std::mt19937_64 random(options.seed);
  for (int draw = 0; draw < kMostDraws; draw++) {
    shuffle(runs, random);
    Split split{{runs.begin() + held_out, runs.end()}, {runs.begin(), runs.begin() + held_out}};
    if (!has_both_classes(split.training) || !has_both_classes(split.held_out)) continue;
    // Sorted, so that the order in which files were named changes nothing.
    std::sort(split.training.begin(), split.training.end(), by_name);
    std::sort(split.held_out.begin(), split.held_out.end(), by_name);
    return split;
  }
  return input_error(
      "expected retried and other rows in both the training and the held-out runs, "
      "found no such split: capture more runs with and without faults");
}

}  // namespace

uint64_t count_rows(const RunPointers& runs) {
  uint64_t rows = 0;
  for (const Run* run : runs) rows += run->rows.size();
  return rows;
}

bool has_both_classes(const RunPointers& runs) {
  bool seen[2] = {false, false};
  for (const Run* run : runs) {
    for (const LabelledRow& row : run->rows) seen[row.retried ? 1 : 0] = true;
  }
  return seen[0] && seen[1];
}

Result<Split> split_runs(std::span<const Run> runs, const SplitOptions& options) {
  RunPointers all;
  for (const Run& run : runs) {
    if (!run.rows.empty()) all.push_back(&run);
  }
  if (all.size() < kLeastRuns) {
    return input_error("expected " + std::to_string(kLeastRuns) +
                       " runs or more with rows, found " + std::to_string(all.size()));
  }
  if (!has_both_classes(all)) {
    return input_error("expected retried and other rows, found only one of them");
  }
  std::sort(all.begin(), all.end(), by_name);
  if (!options.held_out_runs.empty()) return split_as_named(all, options.held_out_runs);
  return draw_split(std::move(all), options);
}

}  // namespace petrel
