// SPDX-License-Identifier: MIT
// An agent that must not start: it says why, by its exit code too, and touches nothing.
//
//   client ── lb ── b1
#include <csignal>
#include <filesystem>
#include <fstream>

#include "tests/lab/lab_fixture.hpp"

namespace petrel::test {
namespace {

using RefusalTest = LabTest;

// The agent ends with the code, names the reason, and nothing of it is left.
void expect_refused(Lab& lab, const AgentSetup& setup, int code, const std::string& reason) {
  Process& agent = lab.launch_agent(setup);
  EXPECT_EQ(agent.wait(), code);
  EXPECT_NE(agent.err().find(reason), std::string::npos) << reason << " in:\n" << agent.err();
  EXPECT_EQ(lab.leftovers(), "");
}

TEST_F(RefusalTest, ABadConfigurationIsRefused) {
  Lab lab({.backends = 1});
  expect_refused(lab, {.agent_lines = "tick_ms = 5\nwieght = 3"}, 3, "tick_ms");
}

TEST_F(RefusalTest, ACorruptedModelIsRefused) {
  Lab lab({.backends = 1});
  const std::string model = lab.path("model.json");
  std::filesystem::copy_file(Lab::model(), model);
  std::filesystem::resize_file(model, std::filesystem::file_size(model) / 2);
  expect_refused(lab, {.model = model}, 3, "model");
}

TEST_F(RefusalTest, AModelThatIsNotThereIsRefused) {
  Lab lab({.backends = 1});
  expect_refused(lab, {.model = lab.path("none.json")}, 3, "none.json");
}

TEST_F(RefusalTest, AnInterfaceThatIsNotThereLeavesNothingOnTheOthers) {
  Lab lab({.backends = 1});
  expect_refused(lab, {.interfaces = {"nowhere0"}}, 1, "nowhere0");
}

TEST_F(RefusalTest, ASecondAgentIsRefusedAndTheFirstGoesOn) {
  Lab lab({.backends = 1});
  Process& first = lab.start_agent();
  Process& client = lab.start_client({"--rate", "100", "--duration", "60"});
  lab.eventually("traffic flows", [](const Status& s) { return s.sum("wire/answers") > 30; });

  Process& second = lab.launch_agent({});
  EXPECT_EQ(second.wait(), 7);
  EXPECT_NE(second.err().find("another agent"), std::string::npos) << second.err();

  EXPECT_TRUE(first.running());
  EXPECT_EQ(lab.xdp_programs(), 2);
  const Status status = lab.status();
  lab.eventually("the first goes on", [&](const Status& s) {
    return s.number("/loop/ticks") > status.number("/loop/ticks") + 3 &&
           s.sum("wire/answers") > status.sum("wire/answers") + 30;
  });
  EXPECT_EQ(lab.end_client(client).failed(), 0);
  EXPECT_EQ(first.stop(SIGTERM), 0);
  EXPECT_EQ(lab.leftovers(), "");
}

}  // namespace
}  // namespace petrel::test
