// SPDX-License-Identifier: MIT
// What waits for an answer goes up by one and comes back to exactly 0, however it ends.
#include <gtest/gtest.h>

#include "tests/bpf/conversation.hpp"

namespace petrel::test {
namespace {

struct Waiting : BalancerTest {
  const Hosts& h = v4();

  void expect_waiting(std::int64_t syns, std::int64_t requests) {
    EXPECT_EQ(lb.waiting_syn(h.b1), syns);
    EXPECT_EQ(lb.waiting(h.b1), requests);
    EXPECT_EQ(lb.inflight(h.b1), syns + requests);
  }
};

struct End {
  std::string description;
  void (*end)(Conversation&);
};

TEST_F(Waiting, ASynWaitsUntilItsEnd) {
  const std::vector<End> ends{
      {"SYN-ACK", [](Conversation& c) { c.syn_ack(); }},
      {"SYN-ACK twice", [](Conversation& c) { c.syn_ack(); c.repeat_backend(); }},
      {"refused", [](Conversation& c) { c.backend_rst(); }},
      {"client's RST", [](Conversation& c) { c.client_rst(); }},
      {"SYN-ACK after the client's RST", [](Conversation& c) { c.client_rst().syn_ack(); }},
      {"SYN repeated", [](Conversation& c) { c.repeat_client(); c.syn_ack(); }},
      {"port used again", [](Conversation& c) { c.syn().syn_ack(); }},
  };
  std::uint16_t port = 40000;
  for (const End& test : ends) {
    SCOPED_TRACE(test.description);
    Conversation conversation(lb, h, ++port);
    conversation.syn();
    expect_waiting(1, 0);
    EXPECT_TRUE(conversation.entry().flags & bpf::CONNECTION_WAITING_SYN);
    test.end(conversation);
    expect_waiting(0, 0);
    EXPECT_FALSE(conversation.is_tracked() &&
                 (conversation.entry().flags & bpf::CONNECTION_WAITING_SYN));
  }
}

// RFC 9293, 3.10.7.3: in SYN-SENT none of these answers anything.
TEST_F(Waiting, ASynGoesOnWaitingWhateverIsNoAnswerToIt) {
  const std::vector<End> no_ends{
      {"SYN repeated", [](Conversation& c) { c.repeat_client(); }},
      {"client's ACK", [](Conversation& c) { c.from_client(kAck); }},
      {"client's FIN", [](Conversation& c) { c.client_fin(); }},
      {"backend's data", [](Conversation& c) { c.from_backend(kAck, "data"); }},
      {"backend's FIN", [](Conversation& c) { c.backend_fin(); }},
      {"backend's SYN", [](Conversation& c) { c.from_backend(kSyn); }},
      {"backend's RST without an ACK", [](Conversation& c) { c.from_backend(kRst); }},
  };
  std::uint16_t port = 40000;
  std::int64_t waiting = 0;
  for (const End& test : no_ends) {
    SCOPED_TRACE(test.description);
    Conversation conversation(lb, h, ++port);
    conversation.syn();
    test.end(conversation);
    expect_waiting(++waiting, 0);
    EXPECT_TRUE(conversation.entry().flags & bpf::CONNECTION_WAITING_SYN);
  }
}

TEST_F(Waiting, ARequestWaitsUntilItsEnd) {
  const std::vector<End> ends{
      {"answer", [](Conversation& c) { c.answer(); }},
      {"answer with FIN", [](Conversation& c) { c.from_backend(kFinAck, response(200)); }},
      {"answer with RST", [](Conversation& c) { c.from_backend(kRstAck, response(200)); }},
      {"503", [](Conversation& c) { c.answer(503); }},
      {"answer, then FIN by both", [](Conversation& c) { c.answer().client_fin().backend_fin(); }},
      {"client's FIN", [](Conversation& c) { c.client_fin(); }},
      {"client's FIN, then the answer", [](Conversation& c) { c.client_fin().answer(); }},
      {"client's RST", [](Conversation& c) { c.client_rst(); }},
      {"backend's FIN", [](Conversation& c) { c.backend_fin(); }},
      {"backend's RST", [](Conversation& c) { c.backend_rst(); }},
      {"RST by both", [](Conversation& c) { c.backend_rst().client_rst(); }},
      {"port used again", [](Conversation& c) { c.syn().syn_ack(); }},
  };
  std::uint16_t port = 40000;
  for (const End& test : ends) {
    SCOPED_TRACE(test.description);
    Conversation conversation(lb, h, ++port);
    conversation.open();
    expect_waiting(0, 0);
    conversation.request();
    expect_waiting(0, 1);
    EXPECT_TRUE(conversation.entry().flags & bpf::CONNECTION_WAITING);
    test.end(conversation);
    expect_waiting(0, 0);
    EXPECT_FALSE(conversation.entry().flags & bpf::CONNECTION_WAITING);
  }
}

TEST_F(Waiting, ManyAtOnceAreCountedEach) {
  std::vector<Conversation> conversations;
  for (std::uint16_t port = 40000; port < 40050; ++port) {
    conversations.emplace_back(lb, h, port).open().request();
  }
  expect_waiting(0, 50);
  for (Conversation& conversation : conversations) conversation.answer();
  expect_waiting(0, 0);
}

// As another CPU leaves it that handles the backend's RST: marked as closed, and not told so yet.
TEST_F(Waiting, ARequestDoesNotWaitAtAConnectionThatIsBeingClosed) {
  Conversation conversation(lb, h, 40001);
  conversation.open();
  auto entry = conversation.entry();
  ASSERT_EQ(entry.state, bpf::CONNECTION_ESTABLISHED);
  entry.close_ns = entry.syn_ns + 1;
  lb.set_connection(conversation.key(), entry);
  conversation.request();
  expect_waiting(0, 0);
  EXPECT_FALSE(conversation.entry().flags & bpf::CONNECTION_WAITING);
  EXPECT_EQ(lb.backend_stats(h.b1).requests, 1U);
}

TEST_F(Waiting, AnOldRequestIsGivenBackAsWaitedOut) {
  Conversation conversation(lb, h, 40001);
  conversation.open().request();
  auto entry = conversation.entry();
  entry.request_ns -= 8'000'000'000;  // longer than WAITING_YOUNG_SLOTS
  lb.set_connection(conversation.key(), entry);
  conversation.answer();
  // Its slot is the agent's to settle; the balancer says that it ended.
  EXPECT_EQ(lb.backend_stats(h.b1).waited_out, 1U);
  EXPECT_EQ(lb.waiting(h.b1), 1);
  EXPECT_EQ(lb.inflight(h.b1), 0);
}

}  // namespace
}  // namespace petrel::test
