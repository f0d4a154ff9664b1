// SPDX-License-Identifier: MIT
// Manifests, and models that are kept from one kind of fault.
#include "trainer/fault_study.hpp"

#include <gtest/gtest.h>

#include "synthetic_runs.hpp"

namespace petrel {
namespace {

Manifest manifest_of(const std::vector<std::pair<std::string, std::vector<std::string>>>& runs) {
  Manifest manifest;
  for (const auto& [run, faults] : runs) manifest.faults[run] = faults;
  return manifest;
}

TEST(Manifest, IsReadWithWhatItHasBesides) {
  const auto manifest = parse_manifest(
      R"({"schema":"petrel/dataset/v1","seed":3,"runs":[
          {"run":"a","faults":["hang","slow","hang"],"rows":5},
          {"run":"b","faults":["none"]},{"run":"c","faults":[]}]})",
      "m.json");
  ASSERT_TRUE(manifest) << manifest.error().message();
  EXPECT_EQ(*manifest->of("a"), (std::vector<std::string>{"hang", "slow"}));
  EXPECT_TRUE(manifest->of("b")->empty());
  EXPECT_TRUE(manifest->of("c")->empty());
  EXPECT_EQ(manifest->of("d"), nullptr);
}

TEST(Manifest, SaysWhatIsWrongAndWhere) {
  const std::pair<const char*, const char*> cases[] = {
      {"{", "document: expected JSON"},
      {R"({"schema":"petrel/dataset/v2","runs":[]})", "schema: expected \"petrel/dataset/v1\""},
      {R"({"schema":"petrel/dataset/v1","runs":{}})", "runs: expected a list, found {}"},
      {R"({"schema":"petrel/dataset/v1","runs":[{"faults":[]}]})", "runs[0].run: expected"},
      {R"({"schema":"petrel/dataset/v1","runs":[{"run":"a","faults":"hang"}]})",
       "runs[0].faults: expected a list of strings"},
      {R"({"schema":"petrel/dataset/v1","runs":[{"run":"a","faults":[]},{"run":"a","faults":[]}]})",
       "runs[1].run: expected each run once"},
  };
  for (const auto& [text, expected] : cases) {
    const auto manifest = parse_manifest(text, "m.json");
    ASSERT_FALSE(manifest) << text;
    EXPECT_EQ(manifest.error().kind(), ExitCode::kInput);
    EXPECT_EQ(manifest.error().message().find("manifest m.json: " + std::string(expected)), 0U)
        << manifest.error().message();
  }
  EXPECT_FALSE(read_manifest("/nowhere/manifest.json"));
}

TEST(FaultStudy, RowsAreCountedByTheFaultThatLedTheirRun) {
  const Runs runs = synthetic_runs(4, 100, 1);
  const Manifest manifest =
      manifest_of({{"run-0", {"hang", "slow"}}, {"run-1", {"hang"}}, {"run-2", {}}});
  const auto rows = rows_by_fault(runs, manifest);
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_EQ(rows[0].fault, "hang");
  EXPECT_EQ(rows[0].runs, 2U);
  EXPECT_EQ(rows[0].rows, 200U);
  EXPECT_DOUBLE_EQ(rows[0].share, 2.0 / 3);
  EXPECT_EQ(rows[1].fault, "none");
}

// In runs with fault "odd" the first feature tells the opposite of what it tells elsewhere: a model
// that has seen them would know.
Runs runs_with_an_odd_fault() {
  Runs runs = synthetic_runs(12, 800, 2);
  for (const size_t odd : {9U, 10U, 11U}) {
    for (LabelledRow& row : runs[odd].rows) row.features[0] = 4 * Q16_ONE - row.features[0];
  }
  return runs;
}

TEST(FaultStudy, TheModelHasNotSeenTheFaultThatItIsTestedOn) {
  const Runs runs = runs_with_an_odd_fault();
  // run-8 has both: neither trained on without either of them, nor tested on.
  const Manifest manifest = manifest_of({{"run-0", {}},
                                         {"run-1", {"hang"}},
                                         {"run-2", {"hang"}},
                                         {"run-3", {"hang"}},
                                         {"run-4", {}},
                                         {"run-5", {}},
                                         {"run-6", {}},
                                         {"run-7", {}},
                                         {"run-8", {"hang", "odd"}},
                                         {"run-9", {"odd"}},
                                         {"run-10", {"odd"}},
                                         {"run-11", {"odd"}}});
  const FitChoice choice{.c = 0.1, .calibration = CalibrationMethod::kNone};
  const auto figures = leave_one_fault_out(runs, manifest, choice, 8000, {}, {.resamples = 50});
  ASSERT_TRUE(figures) << figures.error().message();
  ASSERT_EQ(figures->size(), 2U);
  const FaultFigures& hang = (*figures)[0];
  const FaultFigures& odd = (*figures)[1];
  EXPECT_EQ(hang.fault, "hang");
  EXPECT_EQ(hang.tested, (std::vector<std::string>{"run-1", "run-2", "run-3"}));
  EXPECT_EQ(hang.training_runs, 8U);
  EXPECT_EQ(odd.tested, (std::vector<std::string>{"run-10", "run-11", "run-9"}));
  EXPECT_EQ(odd.training_runs, 8U);  // without run-8
  EXPECT_TRUE(odd.why_not.empty());
  EXPECT_LT(odd.report.all.of(Measure::kAuc).value, 0.5);  // as it was taught by the others
  EXPECT_TRUE(odd.report.all.of(Measure::kAuc).has_interval());
  EXPECT_GT(odd.report.waiting.rows, 0U);

  // A model that is let see it is better.
  RunPointers all;
  for (const auto& run : runs) all.push_back(&run);
  const auto seeing = fit_as_chosen(all, choice, {});
  ASSERT_TRUE(seeing);
  const auto by_fault = figures_by_fault(*seeing, all, manifest, {.resamples = 0});
  ASSERT_EQ(by_fault.size(), 3U);
  EXPECT_EQ(by_fault[2].fault, "odd");
  EXPECT_EQ(by_fault[2].tested.size(), 3U);
  EXPECT_GT(by_fault[2].report.all.of(Measure::kAuc).value,
            odd.report.all.of(Measure::kAuc).value);
  EXPECT_EQ(by_fault[0].tested.size(), 4U);  // "hang" led run-8
}

TEST(FaultStudy, SaysWhyAFaultHasNoFigures) {
  Runs runs = synthetic_runs(5, 200, 3);
  for (LabelledRow& row : runs[4].rows) row.retried = false;
  const Manifest manifest = manifest_of({{"run-0", {}},
                                         {"run-1", {}},
                                         {"run-2", {"hang", "slow"}},
                                         {"run-3", {"hang"}},
                                         {"run-4", {"calm"}}});
  const auto figures = leave_one_fault_out(runs, manifest, {.c = 0.1}, 1000, {}, {.resamples = 10});
  ASSERT_TRUE(figures);
  ASSERT_EQ(figures->size(), 3U);
  EXPECT_EQ((*figures)[0].why_not, "the runs that have it alone have rows of one label only");
  EXPECT_EQ((*figures)[1].why_not, "");
  EXPECT_EQ((*figures)[2].why_not, "no run has it alone");
}

TEST(FaultStudy, FitsAsTheModelsFileSays) {
  Model model;
  model.training.c = 0.01;
  EXPECT_FALSE(choice_of(model).calibration);
  model.training.fit = FitFacts{.penalty = "l1", .class_weight = 3, .calibration = "platt"};
  const FitChoice choice = choice_of(model);
  EXPECT_EQ(choice.penalty, Penalty::kL1);
  EXPECT_EQ(choice.c, 0.01);
  EXPECT_EQ(choice.class_weight, 3);
  EXPECT_EQ(choice.calibration, CalibrationMethod::kPlatt);
}

}  // namespace
}  // namespace petrel
