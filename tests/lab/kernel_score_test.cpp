// SPDX-License-Identifier: MIT
// Outcomes scored by the balancer itself: what the agent decides by them, live and replayed.
//
//   client ── lb ─┬─ b1
//                 ├─ b2   with a fault for a while
//                 └─ b3
#include <algorithm>
#include <csignal>
#include <set>
#include <sstream>

#include "score/model.hpp"
#include "tests/lab/lab_fixture.hpp"

namespace petrel::test {
namespace {

using KernelScoreTest = LabTest;

// Weighs what fails and what is late: not the shipped one, whose figures may change.
void write_model(const std::string& path) {
  Model model;
  model.name = "test";
  model.bias = -4;
  model.training.date = "2026-01-31";
  for (ModelFeature& feature : model.features) {
    feature.min_q16 = -(1 << 22);
    feature.max_q16 = 1 << 22;
  }
  const auto weigh = [&](Feature feature, double coefficient) {
    model.features[static_cast<std::size_t>(feature)].coefficient = coefficient;
  };
  weigh(Feature::kServerError, 6);
  weigh(Feature::kReset, 6);
  weigh(Feature::kAnswerBeyondUsual, 1);
  weigh(Feature::kAnomalyScore, 0.25);
  weigh(Feature::kWaitingAge, 0.5);
  ASSERT_TRUE(quantize(model));
  const auto saved = save_model(model, path);
  ASSERT_TRUE(saved) << saved.error().message();
}

// One column of a capture's table.
std::vector<long> column(Lab& lab, const std::string& file, const std::string& table,
                         const std::string& name) {
  std::istringstream lines(lab.petrel({"export", file, "-o", "-", "--table", table}).out);
  std::vector<long> values;
  std::ptrdiff_t at = -1;
  for (std::string line; std::getline(lines, line);) {
    std::vector<std::string> fields;
    std::istringstream in(line);
    for (std::string field; std::getline(in, field, ',');) fields.push_back(field);
    if (at < 0) {
      at = std::find(fields.begin(), fields.end(), name) - fields.begin();
    } else {
      values.push_back(std::stol(fields.at(static_cast<std::size_t>(at))));
    }
  }
  return values;
}

TEST_F(KernelScoreTest, ReplayDecidesByTheKernelsScoresWhatWasDecidedLive) {
  Lab lab({.backends = 3});
  const std::string model = lab.path("model.json");
  write_model(model);
  lab.start_agent({.mode = "act", .model = model, .agent_lines = "score_in_kernel = true"});
  const std::string file = lab.path("run.db");
  Process& capture = lab.start_petrel({"capture", "-s", lab.socket(), "-o", file});
  await("the first ticks", [&] { return column(lab, file, "ticks", "tick").size() > 1; }, 30s);
  Process& client = lab.start_client({"--rate", "200", "--duration", "60", "--clients", "4000",
                                      "--retry", "exponential", "--max-attempts", "3"});
  lab.eventually("answers of all", [](const Status& status) {
    for (int i : {1, 2, 3}) {
      if (status.backend(i, "wire/answers") < 30) return false;
    }
    return true;
  });
  lab.fault(2, "errors", {"--rate", "1"});
  lab.eventually("b2's fall", [](const Status& status) { return status.factor(2) < 0.1; }, 30s);
  lab.fault(2, "none");
  lab.eventually("b2's return", [](const Status& status) { return status.factor(2) > 0.5; }, 30s);
  lab.end_client(client);
  EXPECT_EQ(capture.stop(SIGTERM), 0);
  EXPECT_NE(capture.err().find("lost 0"), std::string::npos) << capture.err();

  const std::vector<long> types = column(lab, file, "events", "type");
  const std::vector<long> models = column(lab, file, "events", "score_model");
  const std::vector<long> scores = column(lab, file, "events", "score_q16");
  const std::vector<long> failures = column(lab, file, "events", "failure");
  long answers = 0, scored = 0;
  std::set<long> different;
  for (std::size_t i = 0; i < types.size(); ++i) {
    if (types[i] != bpf::EVENT_ANSWER) continue;
    ++answers;
    if (models[i] == 0) continue;
    ++scored;
    different.insert(scores[i]);
    if (failures[i] == bpf::FAILURE_SERVER_ERROR) {
      EXPECT_GT(scores[i], 32768);
    }
  }
  EXPECT_GT(answers, 100);
  EXPECT_EQ(scored, answers);  // the wire tells of all of them
  EXPECT_GT(different.size(), 20U);

  const Finished replay = lab.petrel({"replay", file, "--compare", "--json"});
  EXPECT_EQ(replay.exit_code, 0) << replay.err;
  const Facts facts(replay.out.substr(replay.out.rfind('\n', replay.out.size() - 2) + 1));
  EXPECT_TRUE(facts.flag("/comparison/equal")) << replay.out;
  EXPECT_EQ(facts.number("/comparison/ticks"), facts.number("/ticks"));
  EXPECT_GT(facts.number("/moved_slots"), 0);
}

}  // namespace
}  // namespace petrel::test
