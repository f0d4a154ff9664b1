// SPDX-License-Identifier: MIT
// IPv4 and IPv6 side by side, on the same backends.
//
//   client ── lb ─┬─ b1
//                 ├─ b2   hangs, in both families
//                 └─ b3
#include "tests/lab/lab_fixture.hpp"

namespace petrel::test {
namespace {

using FamiliesTest = LabTest;

TEST_F(FamiliesTest, BothAreServedAndCountedEachByItsOwn) {
  Lab lab({.families = {Family::kV4, Family::kV6}});
  lab.start_agent();
  Process& client_v4 = lab.start_client({"--rate", "80", "--duration", "3"}, Family::kV4);
  Process& client_v6 = lab.start_client({"--rate", "50", "--duration", "3"}, Family::kV6);
  const Summary v4 = lab.await_client(client_v4);
  const Summary v6 = lab.await_client(client_v6);
  EXPECT_EQ(v4.failed(), 0) << v4.outcomes();
  EXPECT_EQ(v6.failed(), 0) << v6.outcomes();

  const Status status = lab.eventually("each service counts its client's", [&](const Status& s) {
    return s.sum("wire/answers", 0) == v4.attempts() && s.sum("wire/answers", 1) == v6.attempts();
  });
  EXPECT_EQ(status.service("moved_slots", 0), 0);
  EXPECT_EQ(status.service("moved_slots", 1), 0);
  EXPECT_EQ(status.number("/verdicts/no_backend"), 0);
  for (int i = 1; i <= 3; ++i) {
    for (int family : {0, 1}) {
      EXPECT_GT(status.backend(i, "wire/connections", family), 5) << "b" << i;
      EXPECT_TRUE(status.at("/services/" + std::to_string(family) + "/backends/" +
                            std::to_string(i - 1) + "/next_hop_cached").as_bool());
    }
  }
}

TEST_F(FamiliesTest, TheLoopActsOnTheServiceWithTrafficAndNotOnTheOther) {
  Lab lab({.families = {Family::kV4, Family::kV6}});
  lab.start_agent();
  lab.start_client({"--rate", "150", "--duration", "60", "--clients", "8000", "--timeout-ms",
                    "400", "--retry", "exponential", "--retry-delay-ms", "50"},
                   Family::kV6);
  lab.eventually("IPv6 traffic flows",
                 [](const Status& s) { return s.sum("wire/answers", 1) > 150; });
  lab.fault(2, "hang");
  const Status low = lab.eventually("b2's factor is under 0.1 for IPv6", [](const Status& s) {
    return s.backend(2, "factor", 1) < 0.1;
  });
  EXPECT_EQ(low.backend(2, "factor", 0), 1) << low.weights();
  EXPECT_EQ(low.service("moved_slots", 0), 0);
  lab.fault(2, "none");
  lab.eventually("b2 is back", [](const Status& s) { return s.backend(2, "factor", 1) == 1; }, 30s);
}

}  // namespace
}  // namespace petrel::test
