// SPDX-License-Identifier: MIT
// A service asked for more than it can answer before its clients leave.
//
//   client ── lb ─┬─ b1
//                 ├─ b2   each 25 times as slow as usual, four at a time: 40 requests a second
//                 └─ b3
#include "tests/lab/lab_fixture.hpp"

namespace petrel::test {
namespace {

const std::vector<std::string> kImpatient = {
    "--rate", "250", "--duration", "120", "--clients", "4000", "--timeout-ms", "400",
    "--connect-timeout-ms", "400", "--retry", "fixed", "--retry-delay-ms", "100"};

struct AdmissionLabTest : LabTest {
  static void slow_all(Lab& lab) {
    for (int number = 1; number <= 3; ++number) lab.fault(number, "slow", {"--factor", "25"});
  }
  static bool is_limited(const Status& status) { return status.service("admission/limit") > 0; }
};

TEST_F(AdmissionLabTest, LimitsWhatCannotBeAnsweredInTimeAndLetsGo) {
  Lab lab({.concurrency = 4});
  lab.start_agent();
  Process& client = lab.start_client(kImpatient);
  const Status well = lab.eventually(
      "traffic flows", [](const Status& s) { return s.sum("wire/answers") > 300; });
  EXPECT_FALSE(is_limited(well));
  EXPECT_EQ(well.number("/verdicts/over_limit"), 0);

  slow_all(lab);
  const Status limited = lab.eventually("it is limited", is_limited, 20s);
  EXPECT_GT(limited.service("admission/capacity_per_s"), 0);
  lab.eventually("new connections are refused", [](const Status& s) {
    return s.number("/verdicts/over_limit") + s.number("/verdicts/retry_over_limit") > 20;
  }, 20s);
  lab.eventually("backends are told of those who left",
                 [](const Status& s) { return s.number("/verdicts/ended_abandoned") > 20; }, 20s);
  await("they work for some of these no more", [&] { return lab.counted_by_backends("given_up") > 0; });

  for (int number = 1; number <= 3; ++number) lab.fault(number, "none");
  const Status free = lab.eventually(
      "the limit is gone", [](const Status& s) { return !is_limited(s); }, 20s);
  lab.eventually("it serves as before", [&](const Status& s) {
    return s.sum("wire/answers") > free.sum("wire/answers") + 300;
  });
  client.stop(SIGTERM);
}

// What one address asks for beyond its share is not the others' to pay.
TEST_F(AdmissionLabTest, OneWhoHammersIsHeldToItsShare) {
  Lab lab({.concurrency = 4});
  lab.start_agent();
  const auto clients = [](const char* rate, const char* addresses) {
    return std::vector<std::string>{"--rate", rate, "--duration", "120", "--clients", addresses,
                                    "--timeout-ms", "400", "--connect-timeout-ms", "400",
                                    "--retry", "none"};
  };
  Process& others = lab.start_client(clients("60", "4000"));
  Process& hammer = lab.start_client(clients("250", "1"));
  lab.eventually("traffic flows", [](const Status& s) { return s.sum("wire/answers") > 300; });
  slow_all(lab);
  lab.eventually("who hammers is refused", [](const Status& s) {
    return s.service("admission/refused_unfair") > 2500;
  }, 60s);
  const Summary theirs = lab.end_client(others), its = lab.end_client(hammer);
  const double served = theirs.ended("ok") / theirs.attempts();
  const double served_hammer = its.ended("ok") / its.attempts();
  EXPECT_GT(served, 2 * served_hammer) << theirs.outcomes() << "; the hammer: " << its.outcomes();
}

TEST_F(AdmissionLabTest, InShadowTheLimitIsSaidAndNotWritten) {
  Lab lab({.concurrency = 4});
  lab.start_agent({.mode = "shadow"});
  Process& client = lab.start_client(kImpatient);
  lab.eventually("traffic flows", [](const Status& s) { return s.sum("wire/answers") > 300; });
  slow_all(lab);
  lab.eventually("it would be limited", is_limited, 20s);
  const Status later = lab.eventually("clients go on failing", [](const Status& s) {
    return s.sum("wire/abandoned") > 300;
  }, 20s);
  EXPECT_EQ(later.number("/verdicts/over_limit") + later.number("/verdicts/retry_over_limit"), 0);
  client.stop(SIGTERM);
}

}  // namespace
}  // namespace petrel::test
