// SPDX-License-Identifier: MIT
// What the agent does of its own accord for those who wait: a SYN is sent to another backend, too; a
// backend is asked by HTTP whether it is there; one need not work for who has left.
//
//   client ── lb ─┬─ b1   does not hear SYNs, or hangs
//          agent ─┼─ b2
//                 └─ b3
#include <algorithm>
#include <csignal>

#include "tests/lab/lab_fixture.hpp"

namespace petrel::test {
namespace {

using HedgeTest = LabTest;

const LabOptions kQuick = {.service_time_ms = 1, .distribution = "constant"};

// Connections that took longer than any in this lab does by itself, and less than the second after
// which a client sends its SYN again.
std::ptrdiff_t hedged_connects(const std::vector<LoggedAttempt>& attempts) {
  return std::ranges::count_if(attempts, [](const LoggedAttempt& attempt) {
    return attempt.connect_us && *attempt.connect_us > 20'000 && *attempt.connect_us < 900'000;
  });
}

TEST_F(HedgeTest, ASynThatIsNotAnsweredReachesAnotherBackendWithinTheSecond) {
  for (const Family family : {Family::kV4, Family::kV6}) {
    SCOPED_TRACE(family == Family::kV4 ? "IPv4" : "IPv6");
    LabOptions options = kQuick;
    options.families = {family};
    Lab lab(options);
    lab.start_agent();
    const std::string log = lab.path("hedge.log");
    Process& client = lab.start_client({"--rate", "150", "--duration", "60", "--log", log}, family);
    lab.eventually("SYNs are counted",
                   [](const Status& s) { return s.sum("wire/answers") > 600; }, 20s);
    EXPECT_GT(lab.status().backend(1, "asked_per_s"), 0);
    lab.fault(1, "blackhole");
    lab.eventually("a SYN was hedged",
                   [](const Status& s) { return s.number("/verdicts/hedged") > 0; });
    lab.eventually("none waits", [](const Status& s) { return s.sum("waiting_syn") == 0; });
    EXPECT_EQ(lab.end_client(client).failed(), 0);
    EXPECT_GT(hedged_connects(read_attempts(log)), 0);
  }
}

TEST_F(HedgeTest, NoneIsHedgedWhereThatIsOff) {
  Lab lab(kQuick);
  lab.start_agent({.service_lines = "hedge = false\n"});
  Process& client = lab.start_client(
      {"--rate", "150", "--duration", "60", "--timeout-ms", "6000", "--connect-timeout-ms", "5000"});
  lab.eventually("SYNs are counted", [](const Status& s) { return s.sum("wire/answers") > 600; }, 20s);
  lab.fault(1, "blackhole");
  lab.eventually("the client sends its SYNs again",
                 [](const Status& s) { return s.number("/verdicts/failed_over") > 0; });
  EXPECT_EQ(lab.status().number("/verdicts/hedged"), 0);
  lab.end_client(client);
}

// The kernel of a server that hangs still accepts: connecting finds nothing.
TEST_F(HedgeTest, ABackendThatHangsIsFoundByAskingIt) {
  Lab lab(kQuick);
  lab.start_agent({.service_lines = "probe_path = \"/\"\n"});
  Process& client = lab.start_client({"--rate", "150", "--duration", "120", "--timeout-ms", "1000"});
  lab.eventually("traffic flows", [](const Status& s) { return s.sum("wire/answers") > 100; });
  lab.fault(1, "hang");
  lab.eventually("it is out", [](const Status& s) {
    return s.backend_text(1, "reason") == "quarantine";
  }, 20s);
  lab.fault(1, "none");
  lab.eventually("it returns", [](const Status& s) { return s.backend_text(1, "reason") != "quarantine"; }, 20s);
  lab.end_client(client);
}

}  // namespace
}  // namespace petrel::test
