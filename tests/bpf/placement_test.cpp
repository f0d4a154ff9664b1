// SPDX-License-Identifier: MIT
// Where a new connection goes, by the rings, the backends' states and the agent's heartbeat; and
// that it stays there.
#include <gtest/gtest.h>

#include "tests/bpf/conversation.hpp"

namespace petrel::test {
namespace {

constexpr std::uint64_t kSecondNs = 1'000'000'000;

struct Placement : BalancerTest {
  const Hosts& h = v4();

  std::uint32_t place(std::uint16_t port) { return Conversation(lb, h, port).syn().backend_id(); }
};

TEST_F(Placement, FollowsTheRingInForce) {
  lb.fill_ring(h.service, {h.b2});
  EXPECT_EQ(place(40001), h.b2);
  EXPECT_EQ(lb.backend_stats(h.b2).connections, 1U);
  EXPECT_EQ(lb.service_stats(h.service).neutral, 0U);
}

TEST_F(Placement, SpreadsConnectionsAsTheSlotsAre) {
  lb.fill_ring(h.service, {h.b1, h.b2, h.b2});
  int on_b2 = 0;
  for (std::uint16_t port = 10000; port < 13000; ++port) on_b2 += place(port) == h.b2;
  EXPECT_NEAR(on_b2, 2000, 130);  // five standard deviations
}

TEST_F(Placement, SpreadsTheClientsOfOnePortToo) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    lb.fill_ring(hosts->service, {hosts->b1, hosts->b2});
    int on_b2 = 0;
    for (int i = 0; i < 1000; ++i) {
      Endpoint client = hosts->client;
      client.address.bytes[14] = static_cast<std::uint8_t>(i >> 8);
      client.address.bytes[15] = static_cast<std::uint8_t>(i);
      Conversation conversation(lb, *hosts, client, hosts->vip, hosts->service);
      on_b2 += conversation.syn().backend_id() == hosts->b2;
    }
    EXPECT_NEAR(on_b2, 500, 80);
  }
}

TEST_F(Placement, IsTheSameForTheSameFlow) {
  lb.fill_ring(h.service, {h.b1, h.b2, h.b3});
  const std::uint32_t first = place(40001);
  for (int i = 0; i < 8; ++i) EXPECT_EQ(place(40001), first);
}

TEST_F(Placement, UsesTheNeutralRingWhenTheServiceDoesNotAct) {
  lb.set_service(h, bpf::SERVICE_READY);
  lb.fill_ring(h.service, {h.b2});
  lb.fill_neutral(h.service, {h.b3});
  EXPECT_EQ(place(40001), h.b3);
  // Only silence counts as such.
  EXPECT_EQ(lb.service_stats(h.service).neutral, 0U);
  EXPECT_EQ(lb.verdicts()[bpf::VERDICT_NEUTRAL_RING], 0U);
}

TEST_F(Placement, AHeartbeatDecidesWhichRingServes) {
  struct Case {
    std::string description;
    bpf::control control;
    bool silent;
  };
  const std::uint64_t now = monotonic_now_ns();
  const std::vector<Case> cases{
      {"never", {0, 3600 * kSecondNs, 0, 0, 0, 0}, true},
      {"old", {now - 11 * kSecondNs, 10 * kSecondNs, 0, 0, 0, 0}, true},
      {"within its limit", {now, 3600 * kSecondNs, 0, 0, 0, 0}, false},
      {"read by a later clock than ours", {now + 3600 * kSecondNs, kSecondNs, 0, 0, 0, 0}, false},
  };
  lb.fill_ring(h.service, {h.b2});
  lb.fill_neutral(h.service, {h.b3});
  std::uint16_t port = 40000;
  std::uint64_t neutral = 0;
  for (const Case& test : cases) {
    SCOPED_TRACE(test.description);
    lb.set_control(test.control);
    Conversation conversation(lb, h, ++port);
    conversation.syn();
    if (test.silent) ++neutral;
    EXPECT_EQ(conversation.backend_id(), test.silent ? h.b3 : h.b2);
    EXPECT_EQ((conversation.entry().flags & bpf::CONNECTION_NEUTRAL) != 0, test.silent);
    EXPECT_EQ(lb.service_stats(h.service).neutral, neutral);
    EXPECT_EQ(lb.verdicts()[bpf::VERDICT_NEUTRAL_RING], neutral);
  }
}

TEST_F(Placement, AvoidsAQuarantinedBackend) {
  lb.fill_ring(h.service, {h.b1});
  lb.fill_neutral(h.service, {h.b2});
  lb.set_state(h.b1, bpf::BACKEND_QUARANTINED);
  EXPECT_EQ(place(40001), h.b2);
  EXPECT_EQ(lb.verdicts()[bpf::VERDICT_BAD_SLOT], 1U);
}

TEST_F(Placement, DoesNotHeedTheQuarantineOfASilentAgent) {
  lb.fill_neutral(h.service, {h.b1});
  lb.set_state(h.b1, bpf::BACKEND_QUARANTINED);
  lb.set_control({0, kSecondNs, 0, 0, 0, 0});
  EXPECT_EQ(place(40001), h.b1);
  EXPECT_EQ(lb.verdicts()[bpf::VERDICT_BAD_SLOT], 0U);
}

TEST_F(Placement, AsksTheNeutralRingWhenASlotNamesNoUsableBackend) {
  const std::vector<std::pair<std::string, std::uint32_t>> cases{
      {"an empty slot", 0}, {"an id past the table", 1000}, {"another service's backend", h.b4},
      {"an entry out of use", h.b3}};
  lb.retire(h.b3);
  lb.fill_neutral(h.service, {h.b2});
  std::uint16_t port = 40000;
  for (const auto& [description, named] : cases) {
    SCOPED_TRACE(description);
    lb.fill_ring(h.service, {named});
    const auto before = lb.verdicts();
    EXPECT_EQ(place(++port), h.b2);
    EXPECT_EQ(growth(before, lb.verdicts()),
              (VerdictGrowth{{bpf::VERDICT_FORWARDED, 1},
                             {bpf::VERDICT_MISS_SYN, 1},
                             {bpf::VERDICT_BAD_SLOT, 1}}));
  }
}

// Half of the neutral ring is unusable: a few tries find the other half all the same.
TEST_F(Placement, FindsTheUsableHalfOfTheNeutralRing) {
  lb.set_service(h, bpf::SERVICE_READY);
  lb.fill_neutral(h.service, {h.b1, h.b2});
  lb.set_state(h.b1, bpf::BACKEND_QUARANTINED);
  for (std::uint16_t port = 10000; port < 12000; ++port) {
    Conversation(lb, h, port).syn();
  }
  EXPECT_EQ(lb.backend_stats(h.b2).connections, 2000U);
  EXPECT_EQ(lb.verdicts()[bpf::VERDICT_NO_BACKEND], 0U);
}

TEST_F(Placement, PassesTheSynUntouchedWhenNoBackendIsUsable) {
  for (const std::uint32_t id : {h.b1, h.b2, h.b3}) lb.set_state(id, bpf::BACKEND_QUARANTINED);
  const Packet syn = build({.from = h.client, .to = h.vip, .flags = kSyn});
  const Outcome out = lb.run(syn);
  EXPECT_EQ(out.action, XDP_PASS);
  EXPECT_EQ(out.packet, syn);
  EXPECT_EQ(lb.verdicts()[bpf::VERDICT_NO_BACKEND], 1U);
  EXPECT_EQ(lb.connections(), 0U);
}

TEST_F(Placement, PinsAConnectionThoughTheRingAndTheStateChange) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    Conversation conversation(lb, *hosts, 40001);
    conversation.open();
    lb.fill_ring(hosts->service, {hosts->b2});
    lb.fill_neutral(hosts->service, {hosts->b2});
    lb.set_state(hosts->b1, bpf::BACKEND_QUARANTINED);
    const Packet out = conversation.from_client(kAck | kPsh, kRequest).packet;
    EXPECT_EQ(out[5], hosts->b1);  // the last byte of its next hop's MAC
    EXPECT_EQ(conversation.backend_id(), hosts->b1);
    EXPECT_EQ(lb.backend_stats(hosts->b1).requests, 1U);
  }
}

TEST_F(Placement, PassesAFlowUntouchedWhoseBackendIsGone) {
  Conversation conversation(lb, h, 40001);
  conversation.open();
  lb.retire(h.b1);
  EXPECT_EQ(conversation.from_client(kAck).action, XDP_PASS);
  EXPECT_EQ(lb.verdicts()[bpf::VERDICT_NO_BACKEND], 1U);
}

TEST_F(Placement, AdoptsTheMiddleOfAnUnknownFlowByTheRing) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    lb.fill_ring(hosts->service, {hosts->b2});
    Conversation conversation(lb, *hosts, 40001);
    const auto before = lb.verdicts();
    EXPECT_EQ(conversation.from_client(kAck, "more").action, XDP_REDIRECT);
    EXPECT_EQ(growth(before, lb.verdicts()),
              (VerdictGrowth{{bpf::VERDICT_FORWARDED, 1}, {bpf::VERDICT_ADOPTED, 1}}));
    EXPECT_EQ(conversation.backend_id(), hosts->b2);
    EXPECT_TRUE(conversation.is_half_open());  // anybody can send an ACK: its backend must know it
    conversation.from_backend(kAck, "known");
    EXPECT_TRUE(conversation.is_established());
    EXPECT_EQ(conversation.entry().state, bpf::CONNECTION_ESTABLISHED);
    EXPECT_TRUE(conversation.entry().flags & bpf::CONNECTION_ADOPTED);
    // It began long ago: neither a new connection nor an attempt.
    EXPECT_EQ(lb.backend_stats(hosts->b2).connections, 0U);
    EXPECT_EQ(lb.service_stats(hosts->service).first_attempts, 0U);
    EXPECT_EQ(lb.inflight(hosts->b2), 0);
  }
}

// The harness' backend speaks from the upper half of the sequence space.
TEST_F(Placement, SensesTheRequestsOfAnAdoptedFlow) {
  Conversation conversation(lb, h, 40001);
  conversation.from_client(kAck);
  conversation.from_backend(kAck);
  conversation.request().answer().request().answer(404);
  const auto stats = lb.backend_stats(h.b1);
  EXPECT_EQ(stats.requests, 2U);
  EXPECT_EQ(stats.answers, 2U);
  EXPECT_EQ(stats.backend_repeats, 0U);
  EXPECT_EQ(lb.waiting(h.b1), 0);
  EXPECT_EQ(lb.inflight(h.b1), 0);
}

TEST_F(Placement, DoesNotSenseTheRequestByWhichAFlowIsAdopted) {
  Conversation conversation(lb, h, 40001);
  conversation.request().answer();
  EXPECT_EQ(lb.backend_stats(h.b1).requests, 0U);
  EXPECT_EQ(lb.backend_stats(h.b1).answers, 0U);
  conversation.request().answer();
  EXPECT_EQ(lb.backend_stats(h.b1).requests, 1U);
  EXPECT_EQ(lb.backend_stats(h.b1).answers, 1U);
  EXPECT_EQ(lb.inflight(h.b1), 0);
}

TEST_F(Placement, DoesNotAdoptForAReset) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    Conversation conversation(lb, *hosts, 40001);
    EXPECT_EQ(conversation.from_client(kRst).action, XDP_REDIRECT);  // forwarded all the same
    EXPECT_FALSE(conversation.is_tracked());
  }
}

// What a scan's ACKs earn is no failure of a connection, and no client's retry follows.
TEST_F(Placement, AnAdoptionThatItsBackendResetsIsNobodysFailure) {
  Conversation conversation(lb, h, 40001);
  conversation.from_client(kAck);
  conversation.backend_rst();
  EXPECT_FALSE(conversation.is_tracked());
  EXPECT_EQ(lb.backend_stats(h.b1).resets, 0U);
  EXPECT_EQ(lb.backend_stats(h.b1).refused, 0U);
  EXPECT_EQ(lb.clients(), 0U);
}

}  // namespace
}  // namespace petrel::test
