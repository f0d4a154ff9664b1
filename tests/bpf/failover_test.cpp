// SPDX-License-Identifier: MIT
// SYN failover: a repeated SYN that its backend has not answered goes to another one; the late answer
// of the first never reaches the client.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/bpf/conversation.hpp"
#include "tests/bpf/path_fixture.hpp"

namespace petrel::test {
namespace {

constexpr std::uint32_t kFailover =
    bpf::SERVICE_READY | bpf::SERVICE_ACT | bpf::SERVICE_FAILOVER;

// The ring in force names b1 alone, so each SYN begins there; the neutral one b2, where it goes next.
struct Failover : PathTest {
  explicit Failover(const LoadOptions& options = {.failover_after = 0ns}) : PathTest(options) {}

  void SetUp() override {
    PathTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    for (const Hosts* hosts : {&v4(), &v6()}) {
      lb.set_service(*hosts, kFailover);
      lb.fill_neutral(hosts->service, {hosts->b2});
    }
  }

  void expect_not_moved(const Hosts& hosts, Conversation& conversation) {
    const Outcome again = conversation.repeat_client();
    EXPECT_EQ(again.packet[5], hosts.b1);  // the hop's last byte
    EXPECT_EQ(conversation.backend_id(), hosts.b1);
    EXPECT_EQ(lb.verdicts()[bpf::VERDICT_FAILED_OVER], 0U);
    EXPECT_EQ(lb.backend_stats(hosts.b1).failovers, 0U);
    EXPECT_EQ(lb.backend_stats(hosts.b1).syn_repeats, 1U);
  }

  // A flow whose SYN was sent again, and so has left b1.
  Conversation moved(const Hosts& hosts) {
    Conversation conversation(lb, hosts, hosts.client.port);
    conversation.syn();
    conversation.repeat_client();
    EXPECT_EQ(conversation.backend_id(), hosts.b2);
    return conversation;
  }
};

TEST_F(Failover, SendsARepeatedSynToAnotherBackend) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    const Segment syn{.from = hosts->client, .to = hosts->vip, .flags = kSyn,
                      .tcp_options = {2, 4, 5, 0xb4}};
    expect_sent(build(syn), sent_on(syn, syn.from, hosts->backend(hosts->b1), hop_to(hosts->b1)),
                {{bpf::VERDICT_FORWARDED, 1}, {bpf::VERDICT_MISS_SYN, 1}});
    expect_sent(build(syn), sent_on(syn, syn.from, hosts->backend(hosts->b2), hop_to(hosts->b2)),
                {{bpf::VERDICT_FORWARDED, 1}, {bpf::VERDICT_FAILED_OVER, 1}});
  }
}

TEST_F(Failover, BlamesTheSilentBackendAndMovesWhatWaits) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    lb.events();
    const Conversation conversation = moved(*hosts);
    const auto left = lb.backend_stats(hosts->b1), taken = lb.backend_stats(hosts->b2);
    EXPECT_EQ(left.failovers, 1U);
    EXPECT_EQ(left.handshake_timeouts, 1U);
    EXPECT_EQ(left.packets_in, 1U);
    EXPECT_EQ(taken.handshake_timeouts, 0U);
    EXPECT_EQ(taken.connections, 1U);
    EXPECT_EQ(taken.packets_in, 1U);
    EXPECT_EQ(lb.waiting_syn(hosts->b1), 0);
    EXPECT_EQ(lb.waiting_syn(hosts->b2), 1);
    EXPECT_EQ(lb.inflight(hosts->b1), 0);
    EXPECT_EQ(lb.inflight(hosts->b2), 1);
    EXPECT_EQ(lb.service_inflight(hosts->service), 1);
    EXPECT_TRUE(conversation.entry().flags & bpf::CONNECTION_FAILED_OVER);
    // The client knows of no failure, and its SYN was the same: neither a retry nor an attempt.
    const auto service = lb.service_stats(hosts->service);
    EXPECT_EQ(service.failures[bpf::FAILURE_HANDSHAKE_TIMEOUT], 0U);
    EXPECT_EQ(service.first_attempts, 1U);
    EXPECT_EQ(service.retries, 0U);
    const auto events = lb.events();
    ASSERT_EQ(events.size(), 1U);
    EXPECT_EQ(events[0].type, bpf::EVENT_MOVED);
    EXPECT_EQ(events[0].backend_id, hosts->b1);
    EXPECT_EQ(events[0].failure, bpf::FAILURE_HANDSHAKE_TIMEOUT);
    Conversation next(lb, *hosts, 40002);
    next.syn();
    EXPECT_EQ(next.entry().attempt, 1);
  }
}

TEST_F(Failover, CompletesTheHandshakeWithTheNewBackend) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    Conversation conversation = moved(*hosts);
    const Segment synack = conversation.next_of_backend(kSynAck);
    EXPECT_EQ(conversation.from_backend(kSynAck).packet,
              sent_on(synack, hosts->vip, hosts->client, kClientHop));
    conversation.from_client(kAck);
    ASSERT_TRUE(conversation.is_established());
    EXPECT_EQ(conversation.entry().moves, 1);
    conversation.request().answer().client_fin();
    EXPECT_EQ(lb.backend_stats(hosts->b1).established, 0U);
    EXPECT_EQ(lb.backend_stats(hosts->b2).established, 1U);
    EXPECT_EQ(lb.backend_stats(hosts->b2).answers, 1U);
    EXPECT_EQ(lb.service_inflight(hosts->service), 0);
  }
}

TEST_F(Failover, AnswersTheFirstBackendsLateSynAckWithAReset) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    Conversation conversation = moved(*hosts);
    Segment late{.from = hosts->backend(hosts->b1), .to = hosts->client, .flags = kSynAck,
                 .seq = 0xfffffff0, .ack = conversation.entry().syn_seq + 1};
    for (const bool established : {false, true}) {
      SCOPED_TRACE(hosts->family + (established ? " established" : " half open"));
      if (established) {
        conversation.syn_ack();
        conversation.from_client(kAck);
        ASSERT_TRUE(conversation.is_established());
      }
      expect_answered(build(late), reset_of(late), {{bpf::VERDICT_LATE_BACKEND, 1}});
      late.tcp_options = {2, 4, 5, 0xb4, 1, 1, 1, 0};  // the reset has none of them
      late.trailer_bytes = 6;
      expect_answered(build(late), reset_of(late), {{bpf::VERDICT_LATE_BACKEND, 1}});
      EXPECT_EQ(conversation.backend_id(), hosts->b2);
      EXPECT_EQ(lb.backend_stats(hosts->b1).established, 0U);
    }
  }
}

TEST_F(Failover, AnswersWhateverElseIsLateAsAHostWould) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    moved(*hosts);
    Segment late{.from = hosts->backend(hosts->b1), .to = hosts->client, .seq = 77, .ack = 4711};
    for (const int flags : {int{kAck}, int{kFinAck}, int{kSyn}, int{kFin}, 0}) {
      for (const char* payload : {"", "some payload"}) {
        late.flags = static_cast<std::uint8_t>(flags);
        late.payload = payload;
        expect_answered(build(late), reset_of(late), {{bpf::VERDICT_LATE_BACKEND, 1}});
      }
    }
    // A RST is never answered, and is not the client's to hear.
    late.flags = kRstAck;
    const auto before = lb.verdicts();
    EXPECT_EQ(lb.run(build(late)).action, XDP_DROP);
    EXPECT_EQ(growth(before, lb.verdicts()), (VerdictGrowth{{bpf::VERDICT_LATE_BACKEND, 1}}));
  }
}

TEST_F(Failover, DoesNotMoveASynMoreOftenThanItMay) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    lb.join(*hosts, hosts->b4);
    lb.fill_ring(hosts->service, {hosts->b1, hosts->b2, hosts->b3, hosts->b4});
    Conversation conversation(lb, *hosts, 40001);
    conversation.syn();
    std::vector<std::uint32_t> backends{conversation.backend_id()};
    for (int i = 0; i < MAX_MOVES; ++i) {
      conversation.repeat_client();
      EXPECT_EQ(std::ranges::count(backends, conversation.backend_id()), 0);  // never back
      backends.push_back(conversation.backend_id());
    }
    for (int i = 0; i < 3; ++i) conversation.repeat_client();
    EXPECT_EQ(conversation.backend_id(), backends.back());
    EXPECT_EQ(lb.verdicts_of(hosts->service)[bpf::VERDICT_FAILED_OVER], MAX_MOVES + 0U);
    EXPECT_EQ(lb.inflight(backends.back()), 1);
    EXPECT_EQ(lb.service_inflight(hosts->service), 1);
  }
}

TEST_F(Failover, DoesNotMoveASynThatWasAnswered) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    Conversation conversation(lb, *hosts, 40001);
    conversation.syn().syn_ack();
    expect_not_moved(*hosts, conversation);
  }
}

TEST_F(Failover, DoesNotMoveASynWithoutTheFlagInDsrOrWithoutAnotherBackend) {
  const Hosts& h = v4();
  std::uint16_t port = 40000;
  for (const std::uint32_t flags : {kFailover & ~bpf::SERVICE_FAILOVER,
                                    kFailover | bpf::SERVICE_DSR}) {
    lb.set_service(h, flags);
    Conversation conversation(lb, h, ++port);
    conversation.syn();
    conversation.repeat_client();
    EXPECT_EQ(conversation.backend_id(), h.b1);
  }
  lb.set_service(h, kFailover);
  lb.set_state(h.b2, bpf::BACKEND_QUARANTINED);
  Conversation conversation(lb, h, ++port);
  conversation.syn();
  conversation.repeat_client();
  EXPECT_EQ(conversation.backend_id(), h.b1);
  EXPECT_EQ(lb.verdicts()[bpf::VERDICT_FAILED_OVER], 0U);
}

struct PatientFailover : Failover {
  PatientFailover() : Failover({.failover_after = 1h}) {}
};

TEST_F(PatientFailover, DoesNotMoveASynBeforeItsTime) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    Conversation conversation(lb, *hosts, 40001);
    conversation.syn();
    expect_not_moved(*hosts, conversation);
  }
}

}  // namespace
}  // namespace petrel::test
