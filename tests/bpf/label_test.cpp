// SPDX-License-Identifier: MIT
// What counts as a retry: the label's "does". Its "does not" is in no_retry_test.cpp.
#include <gtest/gtest.h>

#include "tests/bpf/conversation.hpp"

namespace petrel::test {
namespace {

struct Failure {
  std::string description;
  void (*fail)(Conversation&);
  std::uint8_t kind;
};

const std::vector<Failure> kFailures{
    {"refused", [](Conversation& c) { c.syn().backend_rst(); }, bpf::FAILURE_REFUSED},
    {"reset between SYN-ACK and ACK", [](Conversation& c) { c.syn().syn_ack().backend_rst(); },
     bpf::FAILURE_RESET},
    {"reset", [](Conversation& c) { c.open().request().backend_rst(); }, bpf::FAILURE_RESET},
    {"reset before its request came", [](Conversation& c) { c.open().backend_rst(); },
     bpf::FAILURE_RESET},
    {"503", [](Conversation& c) { c.open().request().answer(503); }, bpf::FAILURE_SERVER_ERROR},
    {"503, then closed", [](Conversation& c) { c.open().request().answer(503).backend_fin(); },
     bpf::FAILURE_SERVER_ERROR},
    {"429", [](Conversation& c) { c.open().request().answer(429).client_fin(); },
     bpf::FAILURE_OVERLOAD},
    {"abandoned", [](Conversation& c) { c.open().request().client_fin(); },
     bpf::FAILURE_ABANDONED},
    {"abandoned by RST", [](Conversation& c) { c.open().request().client_rst(); },
     bpf::FAILURE_ABANDONED},
    {"closed without an answer", [](Conversation& c) { c.open().request().backend_fin(); },
     bpf::FAILURE_EMPTY},
    {"the second request of a connection",
     [](Conversation& c) { c.open().request().answer().request().backend_rst(); },
     bpf::FAILURE_RESET},
};

struct Retry : BalancerTest {
  const Hosts& h = v4();

  std::uint64_t retries() { return lb.service_stats(h.service).retries; }
  std::uint64_t first_attempts() { return lb.service_stats(h.service).first_attempts; }
};

void expect_retry_of(const Conversation& conversation, std::uint8_t attempt, std::uint8_t failure,
                     std::uint32_t backend_id) {
  EXPECT_EQ(conversation.entry().attempt, attempt);
  EXPECT_EQ(conversation.entry().previous_failure, failure);
  EXPECT_EQ(conversation.entry().previous_backend_id, backend_id);
}

TEST_F(Retry, IsTheNextConnectionAfterEachKindOfFailure) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    Endpoint client = hosts->client;
    for (const Failure& failure : kFailures) {
      SCOPED_TRACE(hosts->family + " " + failure.description);
      client.address.bytes[15]++;
      client.port = 40001;
      const auto retries = lb.service_stats(hosts->service).retries;
      const auto connections = lb.backend_stats(hosts->b2).retry_connections;
      const auto failures = lb.service_stats(hosts->service).failures[failure.kind];
      lb.fill_ring(hosts->service, {hosts->b1});
      Conversation first(lb, *hosts, client, hosts->vip, hosts->service);
      failure.fail(first);
      EXPECT_EQ(lb.service_stats(hosts->service).failures[failure.kind], failures + 1);
      lb.fill_ring(hosts->service, {hosts->b2});
      client.port = 40002;
      Conversation second(lb, *hosts, client, hosts->vip, hosts->service);
      second.open().request();
      expect_retry_of(second, 2, failure.kind, hosts->b1);
      EXPECT_EQ(lb.service_stats(hosts->service).retries, retries + 1);
      EXPECT_EQ(lb.backend_stats(hosts->b2).retry_connections, connections + 1);
    }
  }
}

TEST_F(Retry, OfTheSamePortIsOneToo) {
  Conversation conversation(lb, h, 40001);
  conversation.open().request().answer(503).client_fin();
  conversation.syn();
  expect_retry_of(conversation, 2, bpf::FAILURE_SERVER_ERROR, h.b1);
}

TEST_F(Retry, OnAKeptConnectionIsOneToo) {
  Conversation conversation(lb, h, 40001);
  conversation.open().request().answer(503).request();
  expect_retry_of(conversation, 2, bpf::FAILURE_SERVER_ERROR, h.b1);
  EXPECT_EQ(retries(), 1U);
  EXPECT_EQ(first_attempts(), 1U);
  // The connection is no retry: its request is.
  EXPECT_EQ(lb.backend_stats(h.b1).retry_connections, 0U);
  conversation.answer().request();
  expect_retry_of(conversation, 1, bpf::FAILURE_NONE, 0);
}

TEST_F(Retry, OnAnotherKeptConnectionIsOneToo) {
  Conversation kept(lb, h, 40001);
  kept.open().request().answer();
  Conversation(lb, h, 40002).syn().backend_rst();
  kept.request();
  expect_retry_of(kept, 2, bpf::FAILURE_REFUSED, h.b1);
}

TEST_F(Retry, NumbersItsAttempts) {
  const std::vector<std::uint32_t> ring{h.b1, h.b2, h.b3, h.b2};
  std::uint32_t previous = 0;
  for (std::uint8_t attempt = 1; attempt <= 4; ++attempt) {
    SCOPED_TRACE(int{attempt});
    lb.fill_ring(h.service, {ring[attempt - 1U]});
    Conversation conversation(lb, h, static_cast<std::uint16_t>(40000 + attempt));
    conversation.open().request();
    expect_retry_of(conversation, attempt,
                    attempt == 1 ? bpf::FAILURE_NONE : bpf::FAILURE_SERVER_ERROR, previous);
    previous = conversation.backend_id();
    conversation.answer(503).client_fin();
  }
  EXPECT_EQ(retries(), 3U);
  EXPECT_EQ(first_attempts(), 1U);
  Conversation(lb, h, 40005).open().request().answer(200);
  Conversation after(lb, h, 40006);
  after.syn();
  expect_retry_of(after, 1, bpf::FAILURE_NONE, 0);  // the chain ended with the good answer
}

TEST_F(Retry, AttemptNumbersSaturate) {
  Conversation conversation(lb, h, 40001);
  for (int i = 0; i < 300; ++i) conversation.syn().backend_rst();
  conversation.syn();
  EXPECT_EQ(conversation.entry().attempt, 255);
}

TEST_F(Retry, EachOfTwoFailuresExplainsOne) {
  Conversation a(lb, h, 40001), b(lb, h, 40002);
  a.open().request();
  b.open().request();
  a.backend_rst();
  b.backend_rst();
  Conversation(lb, h, 40003).syn();
  Conversation(lb, h, 40004).syn();
  EXPECT_EQ(retries(), 2U);
  Conversation(lb, h, 40005).syn();
  EXPECT_EQ(retries(), 2U);
}

// Every unanswered SYN has waited too long at once.
struct HandshakeTimeout : BalancerTest {
  HandshakeTimeout() : BalancerTest({.handshake_timeout = 0ns}) {}
};

TEST_F(HandshakeTimeout, FailsTheSynThatTheClientGaveUp) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    lb.fill_ring(hosts->service, {hosts->b1});
    Conversation first(lb, *hosts, 40001);
    first.syn();
    lb.fill_ring(hosts->service, {hosts->b2});
    lb.events();
    Conversation second(lb, *hosts, 40002);
    second.syn();
    expect_retry_of(second, 2, bpf::FAILURE_HANDSHAKE_TIMEOUT, hosts->b1);
    EXPECT_EQ(first.entry().state, bpf::CONNECTION_CLOSED);
    EXPECT_EQ(lb.backend_stats(hosts->b1).handshake_timeouts, 1U);
    EXPECT_EQ(lb.inflight(hosts->b1), 0);
    EXPECT_EQ(lb.waiting_syn(hosts->b1), 0);
    const auto events = lb.events();
    ASSERT_EQ(events.size(), 2U);
    EXPECT_EQ(events[0].type, bpf::EVENT_END);
    EXPECT_EQ(events[0].closed_by, bpf::CLOSED_BY_TIMEOUT);
    EXPECT_EQ(events[0].failure, bpf::FAILURE_HANDSHAKE_TIMEOUT);
    EXPECT_EQ(events[1].type, bpf::EVENT_RETRY);
  }
}

// Two connections of a browser: the first is only slow. It must work, though nothing is sensed of it.
TEST_F(HandshakeTimeout, DoesNotBreakTheConnectionThatIsAnsweredAfterAll) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    Conversation first(lb, *hosts, 40001);
    first.syn();
    Conversation(lb, *hosts, 40002).syn();
    lb.events();
    const auto returned = lb.verdicts()[bpf::VERDICT_KERNEL_ROUTED];
    first.syn_ack();
    first.from_client(kAck);
    EXPECT_TRUE(first.is_established());
    first.request().answer(503).client_fin().backend_fin();
    EXPECT_EQ(lb.verdicts()[bpf::VERDICT_KERNEL_ROUTED], returned + 3);
    EXPECT_EQ(first.entry().state, bpf::CONNECTION_CLOSED);
    EXPECT_EQ(first.entry().closed_by, bpf::CLOSED_BY_TIMEOUT);
    EXPECT_EQ(lb.backend_stats(hosts->b1).established, 0U);
    EXPECT_EQ(lb.backend_stats(hosts->b1).requests, 0U);
    EXPECT_EQ(lb.backend_stats(hosts->b1).closes, 1U);
    EXPECT_EQ(lb.inflight(hosts->b1), 1);  // the second's
    EXPECT_TRUE(lb.events().empty());
  }
}

TEST_F(HandshakeTimeout, LeavesNothingOfAConnectionThatIsRefusedAfterAll) {
  Conversation first(lb, v4(), 40001);
  first.syn();
  Conversation(lb, v4(), 40002).syn();
  first.backend_rst();
  EXPECT_FALSE(first.is_tracked());
  EXPECT_EQ(lb.backend_stats(v4().b1).closes, 1U);
  EXPECT_EQ(lb.backend_stats(v4().b1).refused, 0U);
  EXPECT_EQ(lb.backend_stats(v4().b1).handshake_timeouts, 1U);
}

TEST_F(HandshakeTimeout, NumbersItsAttempts) {
  for (std::uint8_t attempt = 1; attempt <= 4; ++attempt) {
    Conversation conversation(lb, v4(), static_cast<std::uint16_t>(40000 + attempt));
    conversation.syn();
    EXPECT_EQ(conversation.entry().attempt, attempt);
  }
  EXPECT_EQ(lb.backend_stats(v4().b1).handshake_timeouts, 3U);
  EXPECT_EQ(lb.inflight(v4().b1), 1);
}

TEST_F(HandshakeTimeout, DoesNotFailASynThatWasAnswered) {
  Conversation first(lb, v4(), 40001);
  first.syn().syn_ack();
  Conversation second(lb, v4(), 40002);
  second.syn();
  EXPECT_EQ(second.entry().attempt, 1);
  EXPECT_EQ(first.entry().state, bpf::CONNECTION_ANSWERED);
}

TEST_F(HandshakeTimeout, DoesNotFailASynForItsOwnRepetition) {
  Conversation conversation(lb, v4(), 40001);
  conversation.syn();
  conversation.repeat_client();
  EXPECT_EQ(conversation.entry().attempt, 1);
  EXPECT_EQ(conversation.entry().state, bpf::CONNECTION_SYN);
  EXPECT_EQ(lb.backend_stats(v4().b1).handshake_timeouts, 0U);
}

TEST_F(HandshakeTimeout, DoesNotFailTheSynOfAnotherClientOrService) {
  const Hosts& h = v4();
  Conversation first(lb, h, 40001);
  first.syn();
  Conversation(lb, h, h.other_client, h.vip, h.service).syn();
  Conversation(lb, h, h.client, h.other_vip, h.other_service).syn();
  EXPECT_EQ(first.entry().state, bpf::CONNECTION_SYN);
  EXPECT_EQ(lb.backend_stats(h.b1).handshake_timeouts, 0U);
}

}  // namespace
}  // namespace petrel::test
