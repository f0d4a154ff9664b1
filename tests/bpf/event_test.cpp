// SPDX-License-Identifier: MIT
// The events that the agent drains: which come, in which order, and what they say.
#include <gtest/gtest.h>

#include <cstring>

#include "tests/bpf/conversation.hpp"

namespace petrel::test {
namespace {

struct Events : BalancerTest {
  const Hosts& h = v4();

  void expect_names(const bpf::event& event, const Conversation& conversation) {
    const auto key = conversation.key();
    EXPECT_EQ(std::memcmp(&event.key, &key, sizeof(key)), 0);
    EXPECT_EQ(event.syn_ns, conversation.entry().syn_ns);
    EXPECT_EQ(event.backend_id, conversation.backend_id());
  }
};

TEST_F(Events, OfAnAnsweredRequestAreAnswerAndEnd) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    Conversation conversation(lb, *hosts, 40001);
    conversation.syn();
    conversation.repeat_client();
    conversation.syn_ack().request();
    conversation.repeat_client();
    conversation.answer(204);
    const auto entry = conversation.entry();
    conversation.client_fin();

    const auto events = lb.events();
    ASSERT_EQ(events.size(), 2U);
    const bpf::event& answer = events[0];
    expect_names(answer, conversation);
    EXPECT_EQ(answer.type, bpf::EVENT_ANSWER);
    EXPECT_EQ(answer.time_ns, entry.response_ns);
    EXPECT_EQ(answer.waited_ns, entry.response_ns - entry.request_ns);
    EXPECT_EQ(answer.connect_ns, entry.synack_ns - entry.syn_ns);
    EXPECT_EQ(answer.status, 204);
    EXPECT_EQ(answer.request, 1U);
    EXPECT_EQ(answer.attempt, 1);
    EXPECT_EQ(answer.failure, bpf::FAILURE_NONE);
    EXPECT_EQ(answer.syn_repeats, 1);
    EXPECT_EQ(answer.repeats, 1);
    EXPECT_EQ(answer.state, bpf::CONNECTION_ESTABLISHED);

    const bpf::event& end = events[1];
    expect_names(end, conversation);
    EXPECT_EQ(end.type, bpf::EVENT_END);
    EXPECT_EQ(end.time_ns, conversation.entry().close_ns);
    EXPECT_EQ(end.closed_by, bpf::CLOSED_BY_CLIENT_FIN);
    EXPECT_EQ(end.failure, bpf::FAILURE_NONE);
    EXPECT_EQ(end.waited_ns, 0U);
    EXPECT_EQ(end.state, bpf::CONNECTION_ESTABLISHED);
  }
}

TEST_F(Events, OfARefusalSayHowLongTheSynWaited) {
  Conversation conversation(lb, h, 40001);
  conversation.syn();
  const auto key = conversation.key();
  const std::uint64_t syn_ns = conversation.entry().syn_ns;
  conversation.backend_rst();  // no entry is left
  const auto events = lb.events();
  ASSERT_EQ(events.size(), 1U);
  EXPECT_EQ(std::memcmp(&events[0].key, &key, sizeof(key)), 0);
  EXPECT_EQ(events[0].syn_ns, syn_ns);
  EXPECT_EQ(events[0].backend_id, h.b1);
  EXPECT_EQ(events[0].type, bpf::EVENT_END);
  EXPECT_EQ(events[0].closed_by, bpf::CLOSED_BY_BACKEND_RST);
  EXPECT_EQ(events[0].failure, bpf::FAILURE_REFUSED);
  EXPECT_EQ(events[0].waited_ns, events[0].time_ns - events[0].syn_ns);
  EXPECT_EQ(events[0].connect_ns, 0U);
  EXPECT_EQ(events[0].request, 0U);
  EXPECT_EQ(events[0].state, bpf::CONNECTION_SYN);
}

TEST_F(Events, OfAnAbandonedRequestSayHowLongItWaited) {
  Conversation conversation(lb, h, 40001);
  conversation.open().request().client_fin();
  const auto events = lb.events();
  ASSERT_EQ(events.size(), 1U);
  EXPECT_EQ(events[0].failure, bpf::FAILURE_ABANDONED);
  EXPECT_EQ(events[0].waited_ns, events[0].time_ns - conversation.entry().request_ns);
  EXPECT_EQ(events[0].request, 1U);
}

TEST_F(Events, OfARetryNameTheRequestThatFailed) {
  Conversation first(lb, h, 40001);
  first.open().request().answer().request().answer(503);
  Conversation second(lb, h, 40002);
  lb.events();
  second.syn();
  const auto events = lb.events();
  ASSERT_EQ(events.size(), 1U);
  const bpf::event& retry = events[0];
  const auto key = second.key();
  EXPECT_EQ(retry.type, bpf::EVENT_RETRY);
  EXPECT_EQ(std::memcmp(&retry.key, &key, sizeof(key)), 0);
  EXPECT_EQ(retry.time_ns, second.entry().syn_ns);
  EXPECT_EQ(retry.attempt, 2);
  EXPECT_EQ(retry.failure, bpf::FAILURE_SERVER_ERROR);
  EXPECT_EQ(retry.previous_backend_id, h.b1);
  EXPECT_EQ(retry.previous_syn_ns, first.entry().syn_ns);
  EXPECT_EQ(retry.previous_port_be, first.key().client_port_be);
  EXPECT_EQ(retry.previous_request, 2U);
}

TEST_F(Events, OfARetriedHandshakeNameNoRequest) {
  Conversation(lb, h, 40001).syn().backend_rst();
  lb.events();
  Conversation(lb, h, 40002).syn();
  const auto events = lb.events();
  ASSERT_EQ(events.size(), 1U);
  EXPECT_EQ(events[0].type, bpf::EVENT_RETRY);
  EXPECT_EQ(events[0].previous_request, 0U);
}

// The ring buffer holds some 43,000 of them.
TEST_F(Events, ThatFindNoRoomAreCountedAsLost) {
  Conversation conversation(lb, h, 40001);
  conversation.open();
  for (int i = 0; i < 45000; ++i) conversation.request("q").answer();
  const std::uint64_t lost = lb.verdicts()[bpf::VERDICT_EVENT_LOST];
  EXPECT_GT(lost, 0U);
  EXPECT_EQ(lb.events().size() + lost, 45000U);
  EXPECT_EQ(lb.backend_stats(h.b1).answers, 45000U);
  EXPECT_EQ(lb.inflight(h.b1), 0);
}

}  // namespace
}  // namespace petrel::test
