// SPDX-License-Identifier: MIT
// Backends on their way out: a draining one keeps its flows and gets no new ones; those of a removed
// one are reset or moved, as the service says.
#include <gtest/gtest.h>

#include "tests/bpf/conversation.hpp"
#include "tests/bpf/path_fixture.hpp"

namespace petrel::test {
namespace {

constexpr std::uint32_t kActs = bpf::SERVICE_READY | bpf::SERVICE_ACT;
constexpr std::uint32_t kResets = kActs | bpf::SERVICE_RESET_GONE;

// The rings name b1 until it goes, then b2.
struct Gone : PathTest {
  void SetUp() override {
    PathTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    for (const Hosts* hosts : {&v4(), &v6()}) lb.fill_neutral(hosts->service, {hosts->b2});
  }

  void let_go(const Hosts& hosts, bpf::backend_state state) {
    lb.set_state(hosts.b1, state);
    lb.fill_ring(hosts.service, {hosts.b2});
  }
};

TEST_F(Gone, ADrainingBackendKeepsItsFlows) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    Conversation established(lb, *hosts, 40001), half_open(lb, *hosts, 40002);
    established.open();
    half_open.syn();
    let_go(*hosts, bpf::BACKEND_DRAINING);
    half_open.repeat_client();
    half_open.syn_ack();
    half_open.from_client(kAck);
    for (Conversation* conversation : {&established, &half_open}) {
      ASSERT_TRUE(conversation->is_established());
      EXPECT_EQ(conversation->from_client(kAck | kPsh, kRequest).packet[5], hosts->b1);
      conversation->answer().client_fin().backend_fin();
      EXPECT_EQ(conversation->backend_id(), hosts->b1);
    }
    EXPECT_EQ(lb.backend_stats(hosts->b1).answers, 2U);
    EXPECT_EQ(lb.inflight(hosts->b1), 0);
  }
}

TEST_F(Gone, ADrainingBackendGetsNoNewFlows) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    lb.set_state(hosts->b1, bpf::BACKEND_DRAINING);  // the ring still names it
    for (std::uint16_t port = 40001; port <= 40050; ++port) {
      ASSERT_EQ(Conversation(lb, *hosts, port).open().backend_id(), hosts->b2);
    }
    // Nor by adoption, and not for an agent that has fallen silent: it was told to end.
    EXPECT_EQ(Conversation(lb, *hosts, 40100).request().backend_id(), hosts->b2);
    lb.fill_neutral(hosts->service, {hosts->b1, hosts->b2});
    lb.set_control({0, 1, 1, 0, 0, 0});
    for (std::uint16_t port = 40101; port <= 40120; ++port) {
      ASSERT_EQ(Conversation(lb, *hosts, port).syn().backend_id(), hosts->b2);
    }
    EXPECT_EQ(lb.backend_stats(hosts->b1).connections, 0U);
    lb.set_control({monotonic_now_ns(), 3600'000'000'000, 1, 0, 0, 0});
  }
}

// --- removed, and its flows reset ---------------------------------------------------------------

TEST_F(Gone, AClientsSegmentOfARemovedBackendsFlowIsReset) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    lb.set_service(*hosts, kResets);
    Conversation conversation(lb, *hosts, 40001);
    conversation.open().request();
    lb.events();
    let_go(*hosts, bpf::BACKEND_REMOVED);
    const Segment data = conversation.next_of_client(kAck | kPsh, "more");
    for (int i = 0; i < 2; ++i) {  // the second time, too: the first RST may be lost
      expect_answered(build(data), reset_of(data), {{bpf::VERDICT_GONE_RESET, 1}});
    }
    EXPECT_EQ(conversation.entry().state, bpf::CONNECTION_CLOSED);
    EXPECT_EQ(conversation.entry().closed_by, bpf::CLOSED_BY_US);
    EXPECT_EQ(lb.inflight(hosts->b1), 0);
    EXPECT_EQ(lb.waiting(hosts->b1), 0);
    EXPECT_EQ(lb.backend_stats(hosts->b1).closes, 1U);
    const auto events = lb.events();
    ASSERT_EQ(events.size(), 1U);
    EXPECT_EQ(events[0].closed_by, bpf::CLOSED_BY_US);
    EXPECT_EQ(events[0].failure, bpf::FAILURE_NONE);
    // Its backend is told as well, and a RST is not answered.
    const Segment answer = conversation.next_of_backend(kAck | kPsh, "answer");
    expect_answered(build(answer), reset_of(answer), {{bpf::VERDICT_GONE_RESET, 1}});
    EXPECT_EQ(lb.run(build(conversation.next_of_client(kRstAck))).action, XDP_DROP);
    // What the client begins next is a new flow of another backend.
    EXPECT_EQ(conversation.open().backend_id(), hosts->b2);
  }
}

TEST_F(Gone, ARemovedBackendsSegmentIsResetThoughItSpeaksFirst) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    lb.set_service(*hosts, kResets);
    Conversation conversation(lb, *hosts, 40001);
    conversation.open().request();
    let_go(*hosts, bpf::BACKEND_REMOVED);
    const Segment answer = conversation.next_of_backend(kAck | kPsh, "answer");
    expect_answered(build(answer), reset_of(answer), {{bpf::VERDICT_GONE_RESET, 1}});
    const Segment data = conversation.next_of_client(kAck);
    expect_answered(build(data), reset_of(data), {{bpf::VERDICT_GONE_RESET, 1}});
  }
}

// --- removed, and its flows moved ---------------------------------------------------------------

TEST_F(Gone, AFlowOfARemovedBackendMovesWithoutTheFlag) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    Conversation conversation(lb, *hosts, hosts->client.port);
    conversation.open().request();
    let_go(*hosts, bpf::BACKEND_REMOVED);
    Segment late = conversation.next_of_backend(kAck | kPsh, "answer");
    const Segment data = conversation.next_of_client(kAck | kPsh, "more");
    expect_sent(build(data),
                sent_on(data, data.from, hosts->backend(hosts->b2), hop_to(hosts->b2)),
                {{bpf::VERDICT_FORWARDED, 1}, {bpf::VERDICT_GONE_MOVED, 1}});
    EXPECT_EQ(conversation.backend_id(), hosts->b2);
    EXPECT_TRUE(conversation.entry().flags & bpf::CONNECTION_MOVED);
    EXPECT_EQ(lb.inflight(hosts->b1), 0);
    EXPECT_EQ(lb.waiting(hosts->b1), 0);
    EXPECT_EQ(lb.service_inflight(hosts->service), lb.inflight(hosts->b2));
    expect_sent(build(data),
                sent_on(data, data.from, hosts->backend(hosts->b2), hop_to(hosts->b2)),
                {{bpf::VERDICT_FORWARDED, 1}});  // once
    late.from = hosts->backend(hosts->b1);
    expect_answered(build(late), reset_of(late), {{bpf::VERDICT_LATE_BACKEND, 1}});
  }
}

TEST_F(Gone, AFlowIsPassedUntouchedWhenThereIsNoBackendToMoveItTo) {
  Conversation conversation(lb, v4(), 40001);
  conversation.open();
  for (const std::uint32_t id : {v4().b1, v4().b2, v4().b3}) {
    lb.set_state(id, bpf::BACKEND_REMOVED);
  }
  expect_untouched(build(conversation.next_of_client(kAck)),
                   {{bpf::VERDICT_NO_BACKEND, 1}, {bpf::VERDICT_BAD_SLOT, 1}});
}

TEST_F(Gone, AHalfOpenFlowBeginsAnewElsewhere) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    for (const std::uint32_t flags : {kActs, kResets}) {
      SCOPED_TRACE(hosts->family + (flags == kResets ? " resets" : " moves"));
      lb.set_service(*hosts, flags);
      lb.set_state(hosts->b1, bpf::BACKEND_UP);
      lb.fill_ring(hosts->service, {hosts->b1});
      Conversation conversation(lb, *hosts, 40001);
      conversation.syn();
      let_go(*hosts, bpf::BACKEND_REMOVED);
      EXPECT_EQ(conversation.repeat_client().packet[5], hosts->b2);
      EXPECT_EQ(lb.inflight(hosts->b1), 0);
      EXPECT_EQ(lb.inflight(hosts->b2), 1);
      EXPECT_EQ(lb.service_stats(hosts->service).retries, 0U);
      conversation.syn_ack().client_rst();
    }
  }
}

// UDP has no RST: its flows move whatever the flag says.
TEST_F(Gone, AnUdpFlowMovesInEitherCase) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    for (const std::uint32_t flags : {0U, std::uint32_t{bpf::SERVICE_RESET_GONE}}) {
      SCOPED_TRACE(hosts->family + (flags != 0 ? " resets" : " moves"));
      const Endpoint vip = udp_vip(*hosts);
      const Endpoint first = udp_backend(*hosts), second = at_port(hosts->backend(hosts->b3), 5353);
      const Endpoint client = at_port(hosts->client, flags != 0 ? 40002 : 40001);
      serve({.vip = vip, .id = hosts->other_service, .flags = flags,
             .backends = {{hosts->b4, first}, {hosts->b3, second}}});
      lb.fill_ring(hosts->other_service, {hosts->b4});
      const auto query = frame(udp_datagram(client, vip, "query"));
      lb.run(query);
      lb.run(frame(udp_datagram(first, client, "answer")));
      EXPECT_EQ(lb.run(query).packet[5], hosts->b4);
      ASSERT_EQ(lb.connections(), 1U);
      lb.set_state(hosts->b4, bpf::BACKEND_REMOVED);
      lb.fill_ring(hosts->other_service, {hosts->b3});
      expect_sent(query, frame(udp_datagram(client, second, "query", 63), hop_to(hosts->b3)),
                  {{bpf::VERDICT_FORWARDED, 1}, {bpf::VERDICT_GONE_MOVED, 1}});
      lb.forget_connections();
    }
  }
}

}  // namespace
}  // namespace petrel::test
