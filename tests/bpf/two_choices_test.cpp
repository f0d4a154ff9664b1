// SPDX-License-Identifier: MIT
// Two choices: the ring names b1, the neutral ring b2, and the number waiting at each decides.
#include <gtest/gtest.h>

#include "tests/bpf/conversation.hpp"

namespace petrel::test {
namespace {

constexpr std::uint32_t kTwoChoices =
    bpf::SERVICE_READY | bpf::SERVICE_ACT | bpf::SERVICE_TWO_CHOICES;
constexpr std::uint32_t kRisk10 = 6554;   // 0.1 in Q16
constexpr std::uint32_t kRisk50 = 32768;  // 0.5
constexpr std::uint32_t kWhole = 65536;    // the whole weight

struct TwoChoices : BalancerTest {
  const Hosts& h = v4();

  void SetUp() override {
    BalancerTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    lb.set_service(h, kTwoChoices);
    lb.fill_neutral(h.service, {h.b2});
  }

  bool leaves_the_ring(std::uint16_t port) {
    Conversation conversation(lb, h, port);
    conversation.syn();
    const bool flagged = conversation.entry().flags & bpf::CONNECTION_OFF_RING;
    EXPECT_EQ(conversation.backend_id(), flagged ? h.b2 : h.b1);
    return flagged;
  }
};

struct Load {
  std::int64_t waiting;
  std::uint32_t weight;
  std::uint32_t risk_q16;
  std::uint32_t factor_q16 = kWhole;
};

struct Case {
  std::string description;
  Load first, second;
  bool leaves;
};

TEST_F(TwoChoices, LeaveTheRingOnlyForAMarkedlyLessLoadedSecond) {
  const std::vector<Case> cases{
      {"both idle", {0, 100, 0}, {0, 100, 0}, false},
      {"equal load", {20, 100, 0}, {20, 100, 0}, false},
      {"one more", {1, 100, 0}, {0, 100, 0}, false},
      {"two more", {2, 100, 0}, {0, 100, 0}, true},
      {"one and a half times", {30, 100, 0}, {20, 100, 0}, false},
      {"more than that", {31, 100, 0}, {20, 100, 0}, true},
      {"the second is busier", {20, 100, 0}, {40, 100, 0}, false},
      {"far more", {1000, 100, 0}, {1, 100, 0}, true},
      {"as much for its weight", {40, 200, 0}, {20, 100, 0}, false},
      {"more for its weight", {62, 200, 0}, {20, 100, 0}, true},
      {"the second has weight 0", {40, 100, 0}, {20, 0, 0}, false},
      {"the second is riskier", {40, 100, 0}, {0, 100, kRisk50}, false},
      {"the second is a little riskier", {40, 100, 0}, {0, 100, kRisk10}, true},
      {"the first is as risky", {40, 100, kRisk50}, {0, 100, kRisk50}, true},
      {"the second is given half", {40, 100, 0}, {0, 100, 0, kWhole / 2}, true},
      {"the second is given less than half", {40, 100, 0}, {0, 100, 0, kWhole / 2 - 1}, false},
      {"the second is given a third of the first's", {40, 100, 0, 300}, {0, 100, 0, 100}, false},
      {"both are given little", {40, 100, 0, 131}, {0, 100, 0, 131}, true},
      {"the first is given nothing", {40, 100, 0, 0}, {0, 100, 0, 131}, true},
      {"less than none waits", {20, 100, 0}, {-5, 100, 0}, true},
      {"less than none waits at the first", {-5, 100, 0}, {0, 100, 0}, false},
      {"numbers as large as can be", {1LL << 40, 65535, 0}, {1, 1, 0}, true},
  };
  std::uint16_t port = 40000;
  std::uint64_t left = 0;
  for (const Case& test : cases) {
    SCOPED_TRACE(test.description);
    lb.set_weight(h.b1, test.first.weight, test.first.risk_q16, test.first.factor_q16);
    lb.set_weight(h.b2, test.second.weight, test.second.risk_q16, test.second.factor_q16);
    lb.set_inflight(h.b1, test.first.waiting);
    lb.set_inflight(h.b2, test.second.waiting);
    EXPECT_EQ(leaves_the_ring(++port), test.leaves);
    if (test.leaves) ++left;
    EXPECT_EQ(lb.service_stats(h.service).off_ring, left);
  }
}

TEST_F(TwoChoices, DoNotActWithoutTheFlag) {
  lb.set_service(h, bpf::SERVICE_READY | bpf::SERVICE_ACT);
  lb.set_inflight(h.b1, 100);
  EXPECT_FALSE(leaves_the_ring(40001));
}

// Drawn once, half of them would have no choice: the neutral ring names b1 in every other slot.
TEST_F(TwoChoices, DrawAgainWhereTheSecondIsTheFirst) {
  lb.fill_neutral(h.service, {h.b1, h.b2});
  lb.set_inflight(h.b1, 1000);
  int left = 0;
  for (std::uint16_t port = 40001; port <= 40100; ++port) left += leaves_the_ring(port) ? 1 : 0;
  EXPECT_GE(left, 85);  // of 100, each of four draws being b1 by one half
  lb.fill_neutral(h.service, {h.b1});
  EXPECT_FALSE(leaves_the_ring(40101));
}

TEST_F(TwoChoices, DoNotTakeAnUnusableSecond) {
  lb.set_inflight(h.b1, 100);
  lb.set_state(h.b2, bpf::BACKEND_QUARANTINED);
  EXPECT_FALSE(leaves_the_ring(40001));
  lb.retire(h.b2);
  EXPECT_FALSE(leaves_the_ring(40002));
}

TEST_F(TwoChoices, DoNotActForASilentAgent) {
  lb.set_inflight(h.b2, 100);
  lb.fill_neutral(h.service, {h.b2});
  lb.set_control({0, 1, 0, 0, 0, 0});
  Conversation conversation(lb, h, 40001);
  conversation.syn();
  EXPECT_EQ(conversation.backend_id(), h.b2);
  EXPECT_EQ(lb.service_stats(h.service).off_ring, 0U);
}

TEST_F(TwoChoices, DoNotSendARetryBackToWhatFailedIt) {
  lb.fill_ring(h.service, {h.b2});
  Conversation(lb, h, 40001).syn().backend_rst();  // b2 failed it
  lb.fill_ring(h.service, {h.b1});
  lb.set_inflight(h.b1, 100);
  EXPECT_FALSE(leaves_the_ring(40002));
}

TEST_F(TwoChoices, SpreadABurstThatTheRingWouldPileUp) {
  for (std::uint16_t port = 40001; port <= 40100; ++port) Conversation(lb, h, port).syn();
  EXPECT_EQ(lb.inflight(h.b1) + lb.inflight(h.b2), 100);
  EXPECT_NEAR(static_cast<double>(lb.inflight(h.b1)), 60, 2);  // one and a half times the other
}

}  // namespace
}  // namespace petrel::test
