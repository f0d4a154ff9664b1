// SPDX-License-Identifier: MIT
// The wire's, the sockets' and the client's own account of the same connections.
//
//   client ── lb ─┬─ b1     wire sensor: XDP at lb's ends of the links
//                 └─ b2     socket sensor: the kernel's events of the sockets in client, b1, b2
#include <numeric>

#include "tests/lab/lab_fixture.hpp"

namespace petrel::test {
namespace {

using SensorsTest = LabTest;

// The wire's median is read from a histogram of four buckets an octave.
constexpr double kBucketWidth = 1.25;

// Maps are read one CPU after the other while packets flow: only what was read after the last one
// is sure to add up.
Status after_next_tick(Lab& lab, const Status& seen) {
  return lab.eventually("the next tick", [&](const Status& s) {
    return s.number("/loop/ticks") > seen.number("/loop/ticks") + 1;
  });
}

TEST_F(SensorsTest, WireSocketsAndClientAgree) {
  Lab lab({.backends = 2});
  lab.start_agent({.mode = "neutral"});
  const std::string log = lab.path("attempts.log");
  Process& client = lab.start_client({"--rate", "150", "--duration", "3", "--log", log});
  const Summary summary = lab.await_client(client);
  ASSERT_EQ(summary.failed(), 0) << summary.outcomes();
  const Status ended = lab.eventually("all connections have ended", [&](const Status& s) {
    return s.sum("wire/closes") == summary.attempts() &&
           s.sum("socket/closes") == summary.attempts();
  });
  const Status status = after_next_tick(lab, ended);

  double client_connect_us = 0, connects = 0;
  for (const LoggedAttempt& attempt : read_attempts(log)) {
    if (!attempt.connect_us) continue;
    client_connect_us += *attempt.connect_us;
    ++connects;
  }
  EXPECT_EQ(connects, summary.attempts());
  EXPECT_EQ(status.sum("wire/established"), connects);
  EXPECT_EQ(status.sum("socket/connects"), connects);

  double socket_connect_us = 0;
  for (int i = 1; i <= 2; ++i) {
    const double mean_us = status.backend(i, "socket/connect_mean_us");
    EXPECT_GE(mean_us * kBucketWidth, status.backend(i, "wire/connect_p50_us")) << "b" << i;
    socket_connect_us += mean_us * status.backend(i, "socket/connects");
  }
  // The client's clock runs until its program was woken: later than its socket.
  EXPECT_GT(client_connect_us, socket_connect_us);

  ASSERT_EQ(status.sum("socket/retransmits"), 0);
  for (int i = 1; i <= 2; ++i) {
    EXPECT_EQ(status.backend(i, "socket/bytes_sent"), status.backend(i, "wire/bytes_out"));
    EXPECT_EQ(status.backend(i, "socket/bytes_received"), status.backend(i, "wire/bytes_in"));
    EXPECT_GT(status.backend(i, "socket/srtt_us"), 0);
  }
  EXPECT_EQ(status.at("/degraded").as_array().size(), 0u);
}

TEST_F(SensorsTest, WithoutTheSocketSensorTheWireCountsAlone) {
  Lab lab({.backends = 2});
  lab.start_agent({.agent_lines = "socket_sensor = false"});
  const Summary summary = lab.await_client(lab.start_client({"--rate", "100", "--duration", "1"}));
  const Status ended = lab.eventually("all connections have ended", [&](const Status& s) {
    return s.sum("wire/closes") == summary.attempts();
  });
  const Status status = after_next_tick(lab, ended);
  EXPECT_EQ(status.sum("wire/established"), summary.attempts());
  EXPECT_EQ(status.sum("socket/connects"), 0);
  EXPECT_EQ(status.sum("socket/bytes_sent"), 0);
}

}  // namespace
}  // namespace petrel::test
