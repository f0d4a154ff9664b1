// SPDX-License-Identifier: MIT
// Which runs a model is judged by.
#include "trainer/run_choice.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace petrel {
namespace {

using Names = std::vector<std::string>;
using Runs = std::vector<Run>;  // in a test's body, Run is GoogleTest's own

const TrainingFacts& facts() {
  static const TrainingFacts kFacts = [] {
    TrainingFacts facts;
    facts.runs = {"t1", "t2"};
    facts.held_out_runs = {"h1", "h2"};
    return facts;
  }();
  return kFacts;
}

std::vector<Run> runs_named(const Names& names) {
  std::vector<Run> runs;
  for (const std::string& name : names) runs.push_back({name, {LabelledRow{}}});
  return runs;
}

struct Case {
  const char* what;
  Names input;
  RunChoiceOptions options;
  Names used;  // empty: refused
  Names left_out;
  std::string error;  // part of it
};

TEST(RunChoice, TakesWhatTheModelHasNotSeen) {
  const Case cases[] = {
      {"held out", {"h1", "h2"}, {}, {"h1", "h2"}, {}, ""},
      {"never heard of", {"n1", "n2"}, {}, {"n1", "n2"}, {}, ""},
      {"a whole training set", {"t1", "h1", "t2", "h2"}, {}, {"h1", "h2"}, {"t1", "t2"}, ""},
      {"beside them others", {"h1", "n1", "t1"}, {}, {"h1", "n1"}, {"t1"}, ""},
      {"trained on", {"t1", "t2"}, {}, {}, {}, "the model was trained on t1, t2: "},
      {"trained on, among others", {"n1", "t2"}, {}, {}, {}, "the model was trained on t2: "},
      {"asked for", {"t1", "h1", "h2"}, {.names = {"h2"}}, {"h2"}, {}, ""},
      {"asked for and trained on",
       {"t1", "h1"},
       {.names = {"h1", "t1"}},
       {},
       {},
       "trained on t1: "},
      {"asked for and not there", {"h1"}, {.names = {"h7"}}, {}, {}, "expected a run named h7"},
      {"all the same", {"t1", "n1"}, {.include_trained = true}, {"t1", "n1"}, {}, ""},
      {"nothing", {}, {}, {}, {}, "expected rows, found none"},
  };
  for (const Case& each : cases) {
    SCOPED_TRACE(each.what);
    const Runs runs = runs_named(each.input);
    const Result<RunChoice> choice = choose_runs(runs, facts(), each.options);
    ASSERT_EQ(choice.has_value(), each.error.empty());
    if (!choice) {
      EXPECT_EQ(choice.error().kind(), ExitCode::kInput);
      EXPECT_NE(choice.error().message().find(each.error), std::string::npos)
          << choice.error().message();
      continue;
    }
    Names used;
    for (const auto* run : choice->used) used.push_back(run->name);
    EXPECT_EQ(used, each.used);
    EXPECT_EQ(choice->left_out, each.left_out);
  }
}

TEST(RunChoice, RunsWithoutRowsAreNone) {
  Runs runs = runs_named({"n1", "n2"});
  runs[0].rows.clear();
  const Result<RunChoice> choice = choose_runs(runs, facts(), {});
  ASSERT_TRUE(choice);
  ASSERT_EQ(choice->used.size(), 1U);
  EXPECT_EQ(choice->used[0]->name, "n2");
}

std::vector<bool> labels(const Run& run) {
  std::vector<bool> all;
  for (const LabelledRow& row : run.rows) all.push_back(row.retried);
  return all;
}

TEST(ShuffleLabels, KeepsHowManyOfEachRunWereRetriedAndNothingElse) {
  Runs runs = runs_named({"n1", "n2"});
  for (size_t r = 0; r < runs.size(); r++) {
    for (size_t i = 0; i < 200; i++) {
      LabelledRow row;
      row.time_ns = i;
      row.retried = i < 50 * (r + 1);
      runs[r].rows.push_back(row);
    }
  }
  Runs shuffled = runs;
  shuffle_labels(shuffled, 1);
  for (size_t r = 0; r < runs.size(); r++) {
    std::vector<bool> before = labels(runs[r]);
    std::vector<bool> after = labels(shuffled[r]);
    EXPECT_NE(before, after);
    EXPECT_EQ(std::count(before.begin(), before.end(), true),
              std::count(after.begin(), after.end(), true));
    for (size_t i = 0; i < runs[r].rows.size(); i++) {
      EXPECT_EQ(shuffled[r].rows[i].time_ns, runs[r].rows[i].time_ns);
    }
  }
  Runs again = runs;
  shuffle_labels(again, 1);
  EXPECT_EQ(labels(again[0]), labels(shuffled[0]));
  shuffle_labels(again, 2);
  EXPECT_NE(labels(again[0]), labels(shuffled[0]));
}

}  // namespace
}  // namespace petrel
