// SPDX-License-Identifier: MIT
// Two labs, two agents on one kernel: the tracepoints of both see the sockets of both.
//
//   client ── lb ─┬─ b1          client ── lb ─┬─ b1
//                 └─ b2                        └─ b2
#include "tests/lab/lab_fixture.hpp"

namespace petrel::test {
namespace {

using SideBySideTest = LabTest;

void expect_counted(const Status& status, const Summary& summary) {
  EXPECT_EQ(status.sum("wire/connections"), summary.attempts());
  // What a client gave up on a busy machine may have been answered all the same.
  EXPECT_GE(status.sum("wire/answers"), summary.attempts() - summary.failed())
      << summary.outcomes();
  EXPECT_LE(status.sum("wire/answers"), summary.attempts()) << summary.outcomes();
  EXPECT_EQ(status.sum("socket/connects"), summary.attempts());
  EXPECT_EQ(status.sum("socket/closes"), summary.attempts());
}

Status settled(Lab& lab, const Summary& summary) {
  return lab.eventually("all connections have ended", [&](const Status& s) {
    return s.sum("socket/closes") >= summary.attempts();
  });
}

TEST_F(SideBySideTest, EachAgentSeesItsOwnTrafficOnly) {
  Lab left({.backends = 2});
  Lab right({.backends = 2});
  Lab idle({.backends = 2});
  for (Lab* lab : {&left, &right, &idle}) lab->start_agent();
  Process& left_client = left.start_client({"--rate", "120", "--duration", "2"});
  Process& right_client = right.start_client({"--rate", "60", "--duration", "2"});
  const Summary left_summary = left.await_client(left_client);
  const Summary right_summary = right.await_client(right_client);
  expect_counted(settled(left, left_summary), left_summary);
  expect_counted(settled(right, right_summary), right_summary);
  EXPECT_NE(left_summary.attempts(), right_summary.attempts());

  const Status nothing = idle.status();
  for (const char* field : {"wire/connections", "socket/connects", "socket/closes"}) {
    EXPECT_EQ(nothing.sum(field), 0) << field;
  }
  EXPECT_EQ(nothing.number("/loop/events"), 0);
}

TEST_F(SideBySideTest, AFaultInOneMovesNoWeightInTheOther) {
  Lab left;
  Lab right;
  const std::vector<std::string> load = {"--rate", "100", "--duration", "60", "--clients", "8000",
                                         "--timeout-ms", "400"};
  for (Lab* lab : {&left, &right}) {
    lab->start_agent();
    lab->start_client(load);
    lab->eventually("traffic flows", [](const Status& s) { return s.sum("wire/answers") > 80; });
  }
  left.fault(2, "hang");
  left.eventually("its own agent acts", [](const Status& s) { return s.factor(2) < 0.1; });
  const Status other = right.status();
  EXPECT_EQ(other.service("moved_slots"), 0) << other.weights();
}

}  // namespace
}  // namespace petrel::test
