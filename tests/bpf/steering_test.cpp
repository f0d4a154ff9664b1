// SPDX-License-Identifier: MIT
// A retry avoids the backend that failed it: only with SERVICE_STEER, only retries, and only while
// there is another.
#include <gtest/gtest.h>

#include "tests/bpf/conversation.hpp"

namespace petrel::test {
namespace {

constexpr std::uint32_t kSteer = bpf::SERVICE_READY | bpf::SERVICE_ACT | bpf::SERVICE_STEER;

struct Steering : BalancerTest {
  const Hosts& h = v4();

  void SetUp() override {
    BalancerTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    lb.set_service(h, kSteer);
  }

  // The backends of a first attempt that is refused and of its retry.
  std::pair<std::uint32_t, std::uint32_t> fail_and_retry(std::uint16_t port) {
    return fail_and_retry(h.client, port);
  }

  std::pair<std::uint32_t, std::uint32_t> fail_and_retry(Endpoint client, std::uint16_t port) {
    client.port = port;
    Conversation first(lb, h, client, h.vip, h.service);
    first.syn().backend_rst();
    client.port++;
    Conversation second(lb, h, client, h.vip, h.service);
    second.open().request().answer();
    return {first.backend_id(), second.backend_id()};
  }
};

TEST_F(Steering, SendsARetryToTheOtherBackend) {
  lb.fill_ring(h.service, {h.b1, h.b2});
  for (std::uint16_t port = 10000; port < 11000; port = static_cast<std::uint16_t>(port + 2)) {
    Endpoint client = h.client;
    client.address.bytes[14] = static_cast<std::uint8_t>(port >> 8);  // nobody's second failure
    client.address.bytes[15] = static_cast<std::uint8_t>(port);
    const auto [failed, retried] = fail_and_retry(client, port);
    ASSERT_NE(failed, retried) << "from port " << port;
  }
  // Those whose slot named the other backend anyway were not steered.
  const std::uint64_t steered = lb.service_stats(h.service).steered;
  EXPECT_NEAR(static_cast<double>(steered), 250, 60);
}

TEST_F(Steering, FollowsTheRingWithoutTheFlag) {
  lb.set_service(h, bpf::SERVICE_READY | bpf::SERVICE_ACT);
  EXPECT_EQ(fail_and_retry(40001), std::pair(h.b1, h.b1));
  EXPECT_EQ(lb.service_stats(h.service).steered, 0U);
}

TEST_F(Steering, AsksTheNeutralRingWhenTheRingInForceNamesOnlyTheFailedBackend) {
  lb.fill_neutral(h.service, {h.b2});
  EXPECT_EQ(fail_and_retry(40001), std::pair(h.b1, h.b2));
  EXPECT_EQ(lb.service_stats(h.service).steered, 1U);
  EXPECT_TRUE(Conversation(lb, h, 40002).entry().flags & bpf::CONNECTION_STEERED);
}

TEST_F(Steering, GoesBackWhenThereIsNoOther) {
  EXPECT_EQ(fail_and_retry(40001), std::pair(h.b1, h.b1));
  EXPECT_EQ(lb.service_stats(h.service).steered, 0U);
  EXPECT_EQ(lb.service_stats(h.service).retries, 1U);
}

TEST_F(Steering, DoesNotGoToAQuarantinedBackend) {
  lb.fill_ring(h.service, {h.b1, h.b2});
  lb.fill_neutral(h.service, {h.b1, h.b2});
  lb.set_state(h.b2, bpf::BACKEND_QUARANTINED);
  EXPECT_EQ(fail_and_retry(40001), std::pair(h.b1, h.b1));
}

TEST_F(Steering, LeavesFirstAttemptsOnTheRing) {
  lb.fill_neutral(h.service, {h.b2});
  for (std::uint16_t port = 40001; port < 40011; ++port) {
    Conversation conversation(lb, h, port);
    conversation.open().request().answer();
    EXPECT_EQ(conversation.backend_id(), h.b1);
  }
  EXPECT_EQ(lb.service_stats(h.service).steered, 0U);
}

TEST_F(Steering, LeavesARetryOnTheRingThatNamesAnotherBackend) {
  Conversation(lb, h, 40001).syn().backend_rst();
  lb.fill_ring(h.service, {h.b2});
  Conversation second(lb, h, 40002);
  second.syn();
  EXPECT_EQ(second.backend_id(), h.b2);
  EXPECT_FALSE(second.entry().flags & bpf::CONNECTION_STEERED);
  EXPECT_EQ(lb.service_stats(h.service).steered, 0U);
}

TEST_F(Steering, DoesNotActForASilentAgent) {
  lb.fill_neutral(h.service, {h.b1});
  lb.fill_ring(h.service, {h.b2});
  lb.set_control({0, 1, 0, 0, 0, 0});
  EXPECT_EQ(fail_and_retry(40001), std::pair(h.b1, h.b1));
}

struct SteeringTimeouts : BalancerTest {
  SteeringTimeouts() : BalancerTest({.handshake_timeout = 0ns}) {}
};

TEST_F(SteeringTimeouts, SendsTheNextAttemptAwayFromASilentBackend) {
  const Hosts& h = v4();
  lb.set_service(h, kSteer);
  lb.fill_neutral(h.service, {h.b2});
  Conversation(lb, h, 40001).syn();
  Conversation second(lb, h, 40002);
  second.syn();
  EXPECT_EQ(second.backend_id(), h.b2);
}

}  // namespace
}  // namespace petrel::test
