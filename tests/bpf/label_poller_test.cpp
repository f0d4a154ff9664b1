// SPDX-License-Identifier: MIT
// When a request comes: pollers, parallel connections, reconnects, the other family.
#include <gtest/gtest.h>

#include "label/retry_fit.hpp"
#include "tests/bpf/fleet.hpp"

namespace petrel::test {
namespace {

struct LabelOrder : BalancerTest {
  LabelOrder() : BalancerTest({.retry_window = 5s, .handshake_timeout = 200ms}) {}
  bpf::retry_odds odds() const override { return fit_retry_odds({}); }
  const Hosts& h = v4();
  HostStack host{7, {}};

  Conversation poll(int status) {
    Conversation conversation = host.connect(lb, h);
    conversation.accept().request().answer(status).client_fin();
    return conversation;
  }
};

TEST_F(LabelOrder, APollersNextPollIsNoRetryOfTheOneThatFailed) {
  for (int i = 0; i < 5; ++i) {
    poll(200);
    lb.pass(2s);
  }
  for (int i = 0; i < 3; ++i) {
    const auto entry = poll(503).entry();
    EXPECT_EQ(entry.attempt, 1);
    EXPECT_EQ((entry.evidence & bpf::EVIDENCE_SCHEDULED) != 0, i > 0);
    lb.pass(2s);
  }
  EXPECT_EQ(lb.service_stats(h.service).retries, 0U);
}

TEST_F(LabelOrder, APollerThatTriesAgainOffItsScheduleDoesRetry) {
  for (int i = 0; i < 5; ++i) {
    poll(200);
    lb.pass(2s);
  }
  poll(503);
  lb.pass(300ms);
  EXPECT_EQ(poll(200).entry().attempt, 2);
  lb.pass(1700ms);
  EXPECT_EQ(poll(503).entry().attempt, 1);  // its schedule goes on
  lb.pass(2s);
  EXPECT_EQ(poll(200).entry().attempt, 1);
}

TEST_F(LabelOrder, TwoIntervalsAlikeAreNoSchedule) {
  for (int i = 0; i < 3; ++i) {
    poll(i < 2 ? 200 : 503);
    lb.pass(2s);
  }
  EXPECT_EQ(poll(200).entry().attempt, 2);
}

// Its client is a round trip away: what comes sooner was on its way already.
TEST_F(LabelOrder, AParallelConnectionCannotAnswerAFailureThatItsClientDoesNotKnowOf) {
  for (const auto& [delay, attempt] : {std::pair{5ms, 1}, std::pair{45ms, 2}}) {
    lb.reset();
    write_defaults(h);
    Conversation first = host.connect(lb, h);
    first.syn_ack();
    lb.pass(40ms);
    first.from_client(kAck);
    first.request().answer(503);
    lb.pass(delay);
    EXPECT_EQ(host.connect(lb, h).entry().attempt, attempt);
  }
}

TEST_F(LabelOrder, WhatTheClientGaveUpItselfItMayTryAgainAtOnce) {
  Conversation first = host.connect(lb, h);
  first.syn_ack();
  lb.pass(40ms);
  first.from_client(kAck);
  first.request().client_fin();
  EXPECT_EQ(host.connect(lb, h).entry().attempt, 2);
}

TEST_F(LabelOrder, AReconnectAfterAnIdleCloseIsNoRetry) {
  Conversation first = host.connect(lb, h);
  first.accept().request().answer();
  lb.pass(3s);
  first.backend_fin();
  lb.pass(1ms);
  EXPECT_EQ(host.connect(lb, h).entry().attempt, 1);
}

TEST_F(LabelOrder, TheOtherFamilysConnectionIsNoRetry) {
  Conversation(lb, v6(), 40001).syn();
  lb.pass(250ms);
  EXPECT_EQ(host.connect(lb, h).entry().attempt, 1);
  EXPECT_EQ(lb.service_stats(h.service).retries, 0U);
}

TEST_F(LabelOrder, AReusedPortIsNoRetryAndNeitherIsASynThatComesAgain) {
  Conversation conversation(lb, h, 40001);
  conversation.open().request().answer().client_fin();
  lb.pass(1s);
  conversation.syn();
  lb.pass(1s);
  conversation.repeat_client();
  EXPECT_EQ(conversation.entry().attempt, 1);
  EXPECT_EQ(lb.service_stats(h.service).retries, 0U);
}

}  // namespace
}  // namespace petrel::test
