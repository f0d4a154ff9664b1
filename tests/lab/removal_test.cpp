// SPDX-License-Identifier: MIT
// What a stop takes with it.
//
//   client ── lb ─┬─ b1
//                 └─ b2
#include <csignal>

#include "tests/lab/lab_fixture.hpp"

namespace petrel::test {
namespace {

using RemovalTest = LabTest;

class StopTest : public LabTest, public testing::WithParamInterface<int> {};

TEST_P(StopTest, DuringLoadLeavesNothingBehind) {
  Lab lab({.backends = 2});
  Process& agent = lab.start_agent();
  lab.start_client({"--rate", "200", "--duration", "60", "--clients", "4000", "--timeout-ms", "200",
                    "--retry", "immediate"});
  lab.eventually("traffic flows", [](const Status& s) { return s.sum("wire/answers") > 100; });
  EXPECT_EQ(lab.xdp_programs(), 3);
  EXPECT_TRUE(lab.has_pins());
  EXPECT_EQ(agent.stop(GetParam()), 0);
  EXPECT_EQ(lab.leftovers(), "");
}

INSTANTIATE_TEST_SUITE_P(Signals, StopTest, testing::Values(SIGTERM, SIGINT),
                         [](const auto& it) { return it.param == SIGTERM ? "Term" : "Int"; });

TEST_F(RemovalTest, DetachRemovesWhatAKilledAgentLeft) {
  Lab lab({.backends = 2});
  Process& agent = lab.start_agent();
  agent.stop(SIGKILL);
  EXPECT_EQ(lab.xdp_programs(), 3);
  EXPECT_EQ(lab.petrel({"detach", "-c", lab.config_path()}).exit_code, 0);
  EXPECT_EQ(lab.xdp_programs(), 0);
  EXPECT_FALSE(lab.has_pins());
  // Again: nothing is there, and that is no error.
  EXPECT_EQ(lab.petrel({"detach", "-c", lab.config_path()}).exit_code, 0);
}

TEST_F(RemovalTest, ARestartAfterDetachTakesOverNothing) {
  Lab lab({.backends = 2});
  lab.start_agent({.arguments = {"--keep"}}).stop(SIGTERM);
  lab.petrel({"detach", "-c", lab.config_path()});
  lab.start_agent();
  EXPECT_FALSE(lab.status().flag("/loop/took_over"));
}

}  // namespace
}  // namespace petrel::test
