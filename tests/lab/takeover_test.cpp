// SPDX-License-Identifier: MIT
// The data path outlives its agent when that is killed, or stopped with --keep, and the next one
// takes it over.
//
//   client ── lb ─┬─ b1
//          agent ─┘─ b2   (killed or stopped, and started again)
#include <csignal>
#include <map>
#include <set>

#include "base/clock.hpp"
#include "tests/lab/lab_fixture.hpp"

namespace petrel::test {
namespace {

using TakeoverTest = LabTest;

TEST_F(TakeoverTest, AKilledAgentsTrafficFlowsOnByTheNeutralRing) {
  Lab lab({.backends = 2});
  const AgentSetup setup = {.agent_lines = "heartbeat_limit_ms = 1000"};
  Process& first = lab.start_agent(setup);
  Process& client = lab.start_client({"--rate", "100", "--duration", "60"});
  const Status before = lab.eventually(
      "traffic flows", [](const Status& s) { return s.sum("wire/answers") > 50; });
  EXPECT_FALSE(before.flag("/loop/took_over"));
  EXPECT_EQ(before.number("/verdicts/neutral_ring"), 0) << "not while the agent lives";

  EXPECT_EQ(first.stop(SIGKILL), 128 + SIGKILL);
  EXPECT_EQ(lab.xdp_programs(), 3);
  EXPECT_TRUE(lab.has_pins());
  const double at_kill = lab.answered();
  await("two more seconds of requests are served without an agent",
        [&] { return lab.answered() > at_kill + 200; });
  EXPECT_EQ(lab.petrel({"status", "-s", lab.socket()}).exit_code, 6);

  Process& second = lab.start_agent(setup);
  const Status after = lab.status();
  EXPECT_TRUE(after.flag("/loop/took_over"));
  EXPECT_GT(after.number("/verdicts/neutral_ring"), 50);
  EXPECT_GT(after.service("neutral_placements"), 50);
  // The maps were kept: the counters go on from where they were.
  EXPECT_GT(after.sum("wire/answers"), before.sum("wire/answers") + 190);
  const Status later = lab.eventually("the second agent's traffic flows", [&](const Status& s) {
    return s.sum("wire/answers") > after.sum("wire/answers") + 50;
  });
  EXPECT_LE(later.number("/verdicts/neutral_ring"), after.number("/verdicts/neutral_ring") + 5);

  const Summary summary = lab.end_client(client);
  EXPECT_EQ(summary.failed(), 0) << summary.outcomes();
  EXPECT_EQ(summary.number("/never_served"), 0);
  EXPECT_EQ(second.stop(SIGTERM), 0);
  EXPECT_EQ(lab.leftovers(), "");
}

TEST_F(TakeoverTest, AStopWithKeepBreaksNoConnection) {
  Lab lab({.backends = 2, .service_time_ms = 1, .distribution = "constant"});
  const AgentSetup setup = {.arguments = {"--keep"}};
  Process& first = lab.start_agent(setup);
  const std::string log = lab.path("attempts.log");
  Process& client = lab.start_client({"--rate", "40", "--duration", "60", "--clients", "1",
                                      "--keep-alive", "--log", log});
  lab.eventually("requests flow", [](const Status& s) { return s.sum("wire/answers") > 20; });
  EXPECT_EQ(first.stop(SIGTERM), 0);
  const auto stopped_ns = static_cast<std::int64_t>(monotonic_ns());
  EXPECT_EQ(lab.xdp_programs(), 3);
  const double at_stop = lab.answered();
  await("requests are served without an agent", [&] { return lab.answered() > at_stop + 20; });
  const auto restarted_ns = static_cast<std::int64_t>(monotonic_ns());
  Process& second = lab.start_agent(setup);
  EXPECT_TRUE(lab.status().flag("/loop/took_over"));
  const double at_start = lab.answered();
  await("requests are served after it", [&] { return lab.answered() > at_start + 20; });
  EXPECT_EQ(lab.end_client(client).failed(), 0);

  // Each connection stayed on its backend, and one lasted all the time.
  std::map<std::string, std::set<std::string>> backends_of_connection;
  std::set<std::string> before, between, after;
  for (const LoggedAttempt& attempt : read_attempts(log)) {
    backends_of_connection[attempt.connection].insert(attempt.backend);
    if (attempt.end_ns < stopped_ns) before.insert(attempt.connection);
    if (attempt.start_ns > stopped_ns && attempt.end_ns < restarted_ns) {
      between.insert(attempt.connection);
    }
    if (attempt.start_ns > restarted_ns) after.insert(attempt.connection);
  }
  int lasting = 0;
  for (const auto& [connection, backends] : backends_of_connection) {
    EXPECT_EQ(backends.size(), 1u) << connection;
    lasting += before.contains(connection) && between.contains(connection) && after.contains(connection);
  }
  EXPECT_GE(lasting, 1);

  EXPECT_EQ(second.stop(SIGTERM), 0);
  EXPECT_EQ(lab.xdp_programs(), 3);
  EXPECT_EQ(lab.petrel({"detach", "-c", lab.config_path()}).exit_code, 0);
  EXPECT_EQ(lab.leftovers(), "");
}

}  // namespace
}  // namespace petrel::test
