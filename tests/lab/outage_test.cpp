// SPDX-License-Identifier: MIT
// Backends that cannot be connected to: out at once, asked by probes, and back by a slow start.
//
//   client ── lb ─┬─ b1
//                 ├─ b2   refuses (RST), or hears nothing (drops what arrives)
//                 └─ b3
#include "tests/lab/lab_fixture.hpp"

namespace petrel::test {
namespace {

// Ten seconds of slow start are made one: its pace is the unit tests'.
const AgentSetup kQuickReturn = {.control_lines = "slow_start_per_s = 1.0"};
const std::vector<std::string> kRetrying = {
    "--rate", "120", "--duration", "60", "--clients", "4000", "--timeout-ms", "500",
    "--connect-timeout-ms", "300", "--retry", "exponential", "--retry-delay-ms", "50"};

struct OutageTest : LabTest {
  // b2 fails until its weight is 0, and comes back; what the probes said meanwhile.
  void run_outage(const std::string& fault, const std::string& probe) {
    Lab lab;
    lab.start_agent(kQuickReturn);
    Process& client = lab.start_client(kRetrying);
    lab.eventually("traffic flows", [](const Status& s) { return s.sum("wire/answers") > 100; });

    lab.fault(2, fault);
    const Status out = lab.eventually("b2 is out", [](const Status& s) {
      return s.factor(2) == 0;
    });
    EXPECT_EQ(out.backend_text(2, "reason"), "quarantine");
    EXPECT_EQ(out.backend_text(2, "probe"), probe);
    EXPECT_EQ(out.factor(1), 1) << out.weights();
    EXPECT_EQ(out.factor(3), 1) << out.weights();

    const double before = out.sum("wire/connections");
    const Status later = lab.eventually("the others serve on", [&](const Status& s) {
      return s.sum("wire/connections") > before + 150;
    });
    EXPECT_EQ(later.factor(2), 0) << "it does not return while it fails";
    EXPECT_EQ(later.backend(2, "wire/connections"), out.backend(2, "wire/connections"))
        << "nothing new goes to weight 0";

    lab.fault(2, "none");
    const Status back = lab.eventually("b2 is back", [](const Status& s) {
      return s.factor(2) == 1;
    }, 20s);
    lab.eventually("b2 serves again", [&](const Status& s) {
      return s.backend(2, "wire/answers") > back.backend(2, "wire/answers") + 15;
    });
    EXPECT_EQ(lab.end_client(client).number("/never_served"), 0);
  }
};

TEST_F(OutageTest, ABackendThatRefusesIsQuarantinedAndReturns) {
  run_outage("refuse", "refuses");
}

TEST_F(OutageTest, ABackendThatNeverAnswersIsQuarantinedAndReturns) {
  run_outage("blackhole", "silent");
}

}  // namespace
}  // namespace petrel::test
