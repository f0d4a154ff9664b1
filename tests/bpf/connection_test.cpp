// SPDX-License-Identifier: MIT
// The life of a connection's entry: repeated SYNs, ports used again, times, bytes, ways of ending.
#include <gtest/gtest.h>

#include <numeric>

#include "tests/bpf/conversation.hpp"

namespace petrel::test {
namespace {

struct Connection : BalancerTest {
  const Hosts& h = v4();
};

TEST_F(Connection, ARepeatedSynKeepsItsBackendAndIsNeitherNewNorARetry) {
  Conversation conversation(lb, h, 40001);
  conversation.syn();
  const auto first = conversation.entry();
  lb.fill_ring(h.service, {h.b2});
  for (int i = 0; i < 3; ++i) EXPECT_EQ(conversation.repeat_client().action, XDP_REDIRECT);
  const auto entry = conversation.entry();
  const auto stats = lb.backend_stats(h.b1);
  EXPECT_EQ(entry.backend_id, h.b1);
  EXPECT_EQ(entry.syn_ns, first.syn_ns);
  EXPECT_EQ(entry.syn_repeats, 3);
  EXPECT_EQ(stats.syn_repeats, 3U);
  EXPECT_EQ(stats.connections, 1U);
  EXPECT_EQ(lb.service_stats(h.service).first_attempts, 1U);
  EXPECT_EQ(lb.service_stats(h.service).retries, 0U);
  EXPECT_EQ(lb.inflight(h.b1), 1);
}

TEST_F(Connection, ASynRepeatedAfterItsSynAckIsStillTheSameConnection) {
  Conversation conversation(lb, h, 40001);
  conversation.syn().syn_ack();
  conversation.repeat_client();
  EXPECT_EQ(conversation.entry().state, bpf::CONNECTION_ANSWERED);
  EXPECT_EQ(conversation.entry().syn_repeats, 1);
  EXPECT_EQ(lb.backend_stats(h.b1).connections, 1U);
}

// A SYN never asks whether its port has a connection: what answers it tells.
TEST_F(Connection, ACopyOfItsSynAfterTheHandshakeDoesNotDisturbIt) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    Conversation conversation(lb, *hosts, 40001);
    conversation.syn().syn_ack();
    const Segment ack = conversation.next_of_client(kAck);
    lb.fill_ring(hosts->service, {hosts->b2});
    lb.run(build(ack));
    ASSERT_TRUE(conversation.is_established());
    conversation.repeat_client();
    // The other backend takes it for a new one and is told; the client hears nothing of it.
    const Outcome answer = lb.run(build(conversation.next_of_backend(kSynAck)));
    EXPECT_EQ(answer.action, XDP_TX);
    EXPECT_FALSE(conversation.is_half_open());
    EXPECT_EQ(conversation.backend_id(), hosts->b1);
    EXPECT_EQ(conversation.entry().state, bpf::CONNECTION_ESTABLISHED);
    EXPECT_EQ(lb.backend_stats(hosts->b1).closes, 0U);
    EXPECT_EQ(lb.inflight(hosts->b2), 0);
    conversation.request().answer();
    EXPECT_EQ(lb.backend_stats(hosts->b1).answers, 1U);
  }
}

TEST_F(Connection, ANewSynFromThePortOfAClosedConnectionFollowsTheRing) {
  Conversation conversation(lb, h, 40001);
  conversation.open().request().answer().client_fin();
  lb.fill_ring(h.service, {h.b2});
  conversation.open();
  EXPECT_EQ(conversation.backend_id(), h.b2);
  EXPECT_EQ(conversation.entry().state, bpf::CONNECTION_ESTABLISHED);
  EXPECT_EQ(conversation.entry().requests, 0U);
  EXPECT_EQ(lb.backend_stats(h.b1).closes, 1U);
  EXPECT_EQ(lb.backend_stats(h.b2).connections, 1U);
  EXPECT_EQ(lb.inflight(h.b2), 0);
}

// The SYN may be forged, and the connection alive.
TEST_F(Connection, ANewSynFromThePortOfAnOpenConnectionEndsItOnlyOnceItIsAccepted) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    Conversation conversation(lb, *hosts, 40001);
    conversation.open().request();
    const Segment old = conversation.next_of_client(kAck, "more");
    lb.events();
    lb.fill_ring(hosts->service, {hosts->b2});
    conversation.syn();
    EXPECT_EQ(lb.inflight(hosts->b1), 1);
    EXPECT_EQ(lb.inflight(hosts->b2), 1);
    EXPECT_EQ(lb.run(build(old)).packet[5], hosts->b1);  // the last byte of its next hop's MAC
    EXPECT_EQ(lb.connection(conversation.key()).value().state, bpf::CONNECTION_ESTABLISHED);

    conversation.syn_ack();
    EXPECT_FALSE(conversation.is_established());
    EXPECT_EQ(conversation.backend_id(), hosts->b2);
    EXPECT_EQ(lb.backend_stats(hosts->b1).closes, 1U);
    EXPECT_EQ(lb.inflight(hosts->b1), 0);
    EXPECT_EQ(lb.inflight(hosts->b2), 0);
    const auto events = lb.events();
    ASSERT_EQ(events.size(), 1U);
    EXPECT_EQ(events[0].type, bpf::EVENT_END);
    EXPECT_EQ(events[0].closed_by, bpf::CLOSED_BY_REUSE);
    EXPECT_EQ(events[0].failure, bpf::FAILURE_NONE);
  }
}

TEST_F(Connection, ANewSynFromThePortOfAnOpenConnectionDoesNotEndItWhenItIsRefused) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    Conversation conversation(lb, *hosts, 40001);
    conversation.open().request();
    lb.fill_ring(hosts->service, {hosts->b2});
    conversation.syn().backend_rst();
    EXPECT_FALSE(conversation.is_half_open());
    EXPECT_EQ(lb.backend_stats(hosts->b2).refused, 1U);
    EXPECT_EQ(conversation.backend_id(), hosts->b1);
    EXPECT_EQ(conversation.entry().state, bpf::CONNECTION_ESTABLISHED);
    EXPECT_EQ(lb.inflight(hosts->b1), 1);
    EXPECT_EQ(lb.inflight(hosts->b2), 0);
  }
}

TEST_F(Connection, TheSameSequenceNumberAfterTheEndIsANewConnection) {
  Conversation conversation(lb, h, 40001);
  conversation.syn();
  conversation.backend_rst();
  conversation.repeat_client();
  EXPECT_EQ(conversation.entry().state, bpf::CONNECTION_SYN);
  EXPECT_EQ(lb.backend_stats(h.b1).connections, 2U);
  EXPECT_EQ(lb.backend_stats(h.b1).closes, 1U);
}

TEST_F(Connection, TimesAreInOrderAndHistogramsCountThem) {
  Conversation conversation(lb, h, 40001);
  const std::uint64_t before = lb.now_ns();
  conversation.open().request().answer().client_fin();
  const std::uint64_t after = lb.now_ns();
  const auto entry = conversation.entry();
  const auto stats = lb.backend_stats(h.b1);
  const auto total = [](const auto& buckets) {
    return std::accumulate(std::begin(buckets), std::end(buckets), 0U);
  };
  EXPECT_LE(before, entry.syn_ns);
  EXPECT_LT(entry.syn_ns, entry.synack_ns);
  EXPECT_LT(entry.synack_ns, entry.request_ns);
  EXPECT_LT(entry.request_ns, entry.response_ns);
  EXPECT_LT(entry.response_ns, entry.close_ns);
  EXPECT_LE(entry.close_ns, after);
  EXPECT_EQ(total(stats.connect_histogram), 1U);
  EXPECT_EQ(total(stats.response_histogram), 1U);
}

TEST_F(Connection, CountsPacketsAndPayload) {
  Conversation conversation(lb, h, 40001);
  conversation.open().request("12345").answer(200).client_fin().backend_fin();
  const auto stats = lb.backend_stats(h.b1);
  EXPECT_EQ(stats.packets_in, 4U);   // SYN, ACK, request, FIN
  EXPECT_EQ(stats.packets_out, 3U);  // SYN-ACK, answer, FIN
  EXPECT_EQ(stats.bytes_in, 5U);
  EXPECT_EQ(stats.bytes_out, response(200).size());
  EXPECT_EQ(conversation.entry().bytes_in, stats.bytes_in);
  EXPECT_EQ(conversation.entry().bytes_out, stats.bytes_out);
  EXPECT_EQ(stats.established, 1U);
  EXPECT_EQ(stats.closes, 1U);
}

TEST_F(Connection, PaddingIsNoPayload) {
  Conversation conversation(lb, h, 40001);
  conversation.open();
  lb.run(build({.from = {h.client.address, 40001}, .to = h.vip, .trailer_bytes = 6}));
  EXPECT_EQ(conversation.entry().bytes_in, 0U);
  EXPECT_EQ(conversation.entry().requests, 0U);
}

TEST_F(Connection, ASecondSynAckChangesNothing) {
  Conversation conversation(lb, h, 40001);
  conversation.syn().syn_ack();
  const auto first = conversation.entry();
  conversation.repeat_backend();
  EXPECT_EQ(conversation.entry().synack_ns, first.synack_ns);
  EXPECT_EQ(lb.backend_stats(h.b1).established, 1U);
  EXPECT_EQ(lb.inflight(h.b1), 0);
}

TEST_F(Connection, EndsOnceByWhoeverEndsItFirst) {
  struct Case {
    std::string description;
    void (*end)(Conversation&);
    std::uint8_t closed_by;
    std::uint8_t failure;
  };
  const std::vector<Case> cases{
      {"client's FIN", [](Conversation& c) { c.open().request().answer().client_fin(); },
       bpf::CLOSED_BY_CLIENT_FIN, bpf::FAILURE_NONE},
      {"client's RST", [](Conversation& c) { c.open().request().answer().client_rst(); },
       bpf::CLOSED_BY_CLIENT_RST, bpf::FAILURE_NONE},
      {"backend's FIN", [](Conversation& c) { c.open().request().answer().backend_fin(); },
       bpf::CLOSED_BY_BACKEND_FIN, bpf::FAILURE_NONE},
      {"backend's RST", [](Conversation& c) { c.open().request().answer().backend_rst(); },
       bpf::CLOSED_BY_BACKEND_RST, bpf::FAILURE_NONE},
      {"FIN before any request", [](Conversation& c) { c.open().client_fin(); },
       bpf::CLOSED_BY_CLIENT_FIN, bpf::FAILURE_NONE},
      {"backend's FIN before any request", [](Conversation& c) { c.open().backend_fin(); },
       bpf::CLOSED_BY_BACKEND_FIN, bpf::FAILURE_NONE},
      {"backend's RST before any request", [](Conversation& c) { c.open().backend_rst(); },
       bpf::CLOSED_BY_BACKEND_RST, bpf::FAILURE_RESET},
      {"abandoned", [](Conversation& c) { c.open().request().client_fin(); },
       bpf::CLOSED_BY_CLIENT_FIN, bpf::FAILURE_ABANDONED},
      {"abandoned by RST", [](Conversation& c) { c.open().request().client_rst(); },
       bpf::CLOSED_BY_CLIENT_RST, bpf::FAILURE_ABANDONED},
      {"reset", [](Conversation& c) { c.open().request().backend_rst(); },
       bpf::CLOSED_BY_BACKEND_RST, bpf::FAILURE_RESET},
      {"empty", [](Conversation& c) { c.open().request().backend_fin(); },
       bpf::CLOSED_BY_BACKEND_FIN, bpf::FAILURE_EMPTY},
  };
  std::uint16_t port = 40000;
  std::uint64_t closes = 0;
  for (const Case& test : cases) {
    SCOPED_TRACE(test.description);
    Conversation conversation(lb, h, ++port);
    const auto failed = lb.service_stats(h.service).failures[test.failure];
    test.end(conversation);
    const auto entry = conversation.entry();
    EXPECT_EQ(entry.state, bpf::CONNECTION_CLOSED);
    EXPECT_EQ(entry.closed_by, test.closed_by);
    EXPECT_EQ(entry.failure, test.failure);
    EXPECT_EQ(lb.service_stats(h.service).failures[test.failure],
              failed + (test.failure == bpf::FAILURE_NONE ? 0 : 1));
    // Whatever still comes is forwarded and ends nothing again.
    conversation.client_fin().backend_fin().backend_rst().client_rst();
    EXPECT_EQ(conversation.entry().closed_by, test.closed_by);
    EXPECT_EQ(lb.backend_stats(h.b1).closes, ++closes);
    EXPECT_EQ(lb.inflight(h.b1), 0);
  }
  const auto stats = lb.backend_stats(h.b1);
  EXPECT_EQ(stats.abandoned, 2U);
  EXPECT_EQ(stats.resets, 2U);
  EXPECT_EQ(stats.empty, 1U);
}

TEST_F(Connection, AHandshakeEndsOnceAndLeavesNoEntry) {
  struct Case {
    std::string description;
    void (*end)(Conversation&);
    std::uint8_t closed_by;
    std::uint8_t failure;
    std::uint8_t state;  // in the event
  };
  const std::vector<Case> cases{
      {"refused", [](Conversation& c) { c.syn().backend_rst(); }, bpf::CLOSED_BY_BACKEND_RST,
       bpf::FAILURE_REFUSED, bpf::CONNECTION_SYN},
      {"reset once answered", [](Conversation& c) { c.syn().syn_ack().backend_rst(); },
       bpf::CLOSED_BY_BACKEND_RST, bpf::FAILURE_RESET, bpf::CONNECTION_ESTABLISHED},
      {"abandoned", [](Conversation& c) { c.syn().client_rst(); }, bpf::CLOSED_BY_CLIENT_RST,
       bpf::FAILURE_ABANDONED, bpf::CONNECTION_SYN},
      {"given up once answered", [](Conversation& c) { c.syn().syn_ack().client_rst(); },
       bpf::CLOSED_BY_CLIENT_RST, bpf::FAILURE_NONE, bpf::CONNECTION_ESTABLISHED},
  };
  std::uint16_t port = 40000;
  std::uint64_t closes = 0;
  for (const Case& test : cases) {
    SCOPED_TRACE(test.description);
    Endpoint client = h.client;  // of its own, so that no case is another's retry
    client.address.bytes[15] = static_cast<std::uint8_t>(++port);
    Conversation conversation(lb, h, client, h.vip, h.service);
    const auto failed = lb.service_stats(h.service).failures[test.failure];
    test.end(conversation);
    EXPECT_FALSE(conversation.is_tracked());
    EXPECT_EQ(lb.service_stats(h.service).failures[test.failure],
              failed + (test.failure == bpf::FAILURE_NONE ? 0 : 1));
    conversation.backend_rst().client_rst();  // stray ones end nothing and begin nothing
    EXPECT_FALSE(conversation.is_tracked());
    const auto events = lb.events();
    ASSERT_EQ(events.size(), 1U);
    EXPECT_EQ(events[0].type, bpf::EVENT_END);
    EXPECT_EQ(events[0].closed_by, test.closed_by);
    EXPECT_EQ(events[0].failure, test.failure);
    EXPECT_EQ(events[0].state, test.state);
    EXPECT_EQ(lb.backend_stats(h.b1).closes, ++closes);
    EXPECT_EQ(lb.inflight(h.b1), 0);
  }
  const auto stats = lb.backend_stats(h.b1);
  EXPECT_EQ(stats.refused, 1U);
  EXPECT_EQ(stats.abandoned, 1U);
  EXPECT_EQ(stats.resets, 1U);
}

}  // namespace
}  // namespace petrel::test
