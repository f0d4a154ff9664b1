// SPDX-License-Identifier: MIT
// The whole loop: from packets to weights under a fault, and not without one.
//
//   client ── lb ─┬─ b1
//                 ├─ b2   hangs: accepts, reads, never answers
//                 └─ b3
#include "tests/lab/lab_fixture.hpp"

namespace petrel::test {
namespace {

using LoopTest = LabTest;

// Many clients, so that a first attempt seldom comes from an address that has just failed.
const std::vector<std::string> kRetrying = {
    "--rate", "150", "--duration", "60", "--clients", "8000", "--timeout-ms", "400",
    "--retry", "exponential", "--retry-delay-ms", "50", "--max-attempts", "4"};

bool peers_are_at_base(const Status& status) {
  return status.factor(1) == 1 && status.factor(3) == 1;
}

void expect_explained(Lab& lab) {
  const Finished json = lab.petrel({"explain", "b2", "-s", lab.socket(), "--json"});
  ASSERT_EQ(json.exit_code, 0) << json.err;
  const Facts explained(json.out);
  EXPECT_EQ(explained.text("/schema"), "petrel/explain/v1");
  EXPECT_TRUE(explained.text("/reason") == "risk" || explained.text("/reason") == "floor")
      << explained.text("/reason");
  const std::string feature = explained.text("/contributions/0/feature");
  EXPECT_GT(explained.number("/law/difference"), 0.05);
  // The same for people: it names the backend, why, and by which features.
  const Finished text = lab.petrel({"explain", "b2", "-s", lab.socket()});
  ASSERT_EQ(text.exit_code, 0) << text.err;
  for (const std::string& part : {std::string("b2"), feature}) {
    EXPECT_NE(text.out.find(part), std::string::npos) << part << " in:\n" << text.out;
  }
}

TEST_F(LoopTest, AHangingBackendLosesItsTrafficAndGetsItBack) {
  Lab lab;
  lab.start_agent();
  Process& client = lab.start_client(kRetrying);
  lab.eventually("traffic flows", [](const Status& s) { return s.sum("wire/answers") > 150; });

  lab.fault(2, "hang");
  bool peers_stayed = true;
  const auto watched = [&](const Status& s) {
    peers_stayed &= peers_are_at_base(s);
    return s.factor(2) < 0.1;
  };
  const Status low = lab.eventually("b2's factor is under 0.1", watched);
  expect_explained(lab);

  const double before = low.sum("wire/connections");
  const Status later = lab.eventually("the others serve on", [&](const Status& s) {
    peers_stayed &= peers_are_at_base(s);
    return s.sum("wire/connections") > before + 200;
  });
  // A third of 200 would be 67.
  EXPECT_LT(later.backend(2, "wire/connections") - low.backend(2, "wire/connections"), 20);
  EXPECT_GT(later.backend(1, "wire/answers") - low.backend(1, "wire/answers"), 60);
  EXPECT_GT(later.backend(3, "wire/answers") - low.backend(3, "wire/answers"), 60);

  lab.fault(2, "none");
  const Status well = lab.eventually("b2 is back at full weight", [&](const Status& s) {
    peers_stayed &= peers_are_at_base(s);
    return s.factor(2) == 1;
  }, 30s);
  EXPECT_TRUE(peers_stayed) << "a healthy backend's weight moved";
  lab.eventually("b2 serves again", [&](const Status& s) {
    return s.backend(2, "wire/answers") > well.backend(2, "wire/answers") + 20;
  });

  const Summary summary = lab.end_client(client);
  const Status end = lab.status();
  EXPECT_GT(summary.retries(), 2);
  // Few retries; when Linux moves its ports (each 10 s) some have nothing but their address.
  EXPECT_NEAR(end.service("retries"), summary.retries(), 0.5 * summary.retries() + 3);
  EXPECT_NEAR(end.number("/loop/retries_seen"), summary.retries(), 0.5 * summary.retries() + 3);
  EXPECT_EQ(summary.number("/never_served"), 0);
}

TEST_F(LoopTest, HealthyTrafficMovesNoWeight) {
  Lab lab;
  lab.start_agent();
  Process& client = lab.start_client({"--rate", "200", "--duration", "4", "--retry", "immediate"});
  const Summary summary = lab.await_client(client);
  EXPECT_GT(summary.attempts(), 600);
  EXPECT_EQ(summary.failed(), 0) << summary.outcomes();
  const Status status = lab.eventually("all answers are counted", [&](const Status& s) {
    return s.sum("wire/answers") == summary.attempts();
  });
  EXPECT_EQ(status.service("moved_slots"), 0);
  EXPECT_EQ(status.least_factor(), 1) << status.weights();
  EXPECT_EQ(status.service("retries"), 0);
}

// Shadow and neutral compute the same and put nothing in force.
class PassiveTest : public LabTest, public testing::WithParamInterface<const char*> {};

TEST_P(PassiveTest, ShowsARiskAndWritesNoWeight) {
  Lab lab;
  lab.start_agent({.mode = GetParam()});
  lab.start_client(kRetrying);
  lab.eventually("traffic flows", [](const Status& s) { return s.sum("wire/answers") > 100; });
  lab.fault(2, "hang");
  const Status status = lab.eventually("b2's risk is seen", [](const Status& s) {
    return s.backend(2, "risk") > 0.3 && s.backend(2, "wanted_factor") < 0.1;
  });
  EXPECT_EQ(status.least_factor(), 1) << status.weights();
  EXPECT_EQ(status.backend_text(2, "reason"), "neutral");
  EXPECT_EQ(status.service("moved_slots"), 0);
  EXPECT_LT(status.backend(1, "risk"), status.backend(2, "risk"));
  // It goes on being given its share.
  const double before = status.backend(2, "wire/connections");
  lab.eventually("b2 is given new connections", [&](const Status& s) {
    return s.backend(2, "wire/connections") > before + 30;
  });
}

INSTANTIATE_TEST_SUITE_P(Modes, PassiveTest, testing::Values("shadow", "neutral"),
                         [](const auto& mode) { return std::string(mode.param); });

}  // namespace
}  // namespace petrel::test
