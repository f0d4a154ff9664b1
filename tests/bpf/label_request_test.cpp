// SPDX-License-Identifier: MIT
// What a request asks for: the label made at its SYN is confirmed or taken back by its first bytes.
#include <gtest/gtest.h>

#include "label/retry_fit.hpp"
#include "tests/bpf/fleet.hpp"

namespace petrel::test {
namespace {

const std::string kPage = "GET /page HTTP/1.1\r\nHost: example\r\n\r\n";
const std::string kOther = "GET /other HTTP/1.1\r\nHost: example\r\n\r\n";

struct LabelRequest : BalancerTest {
  LabelRequest() : BalancerTest({.retry_window = 5s, .handshake_timeout = 200ms}) {}
  bpf::retry_odds odds() const override { return fit_retry_odds({}); }
  const Hosts& h = v4();
  HostStack host{7, {}};

  void fail(const std::string& request) {
    host.connect(lb, h).accept().request(request).answer(503).client_fin();
    lb.pass(100ms);
  }

  std::vector<bpf::event> events_of(bpf::event_type type) {
    std::vector<bpf::event> found;
    for (const bpf::event& event : lb.events()) {
      if (event.type == type) found.push_back(event);
    }
    return found;
  }
};

TEST_F(LabelRequest, TheSameOneConfirmsTheLabel) {
  fail(kPage);
  Conversation retry = host.connect(lb, h);
  const auto before = retry.entry();
  retry.accept().request(kPage);
  EXPECT_EQ(retry.entry().attempt, 2);
  EXPECT_NE(retry.entry().evidence & bpf::EVIDENCE_SAME_REQUEST, 0);
  EXPECT_GT(retry.entry().confidence, before.confidence);
  EXPECT_TRUE(events_of(bpf::EVENT_NO_RETRY).empty());
}

TEST_F(LabelRequest, AnotherPageAnInstantLaterIsNoRetry) {
  fail(kPage);
  lb.events();
  Conversation next = host.connect(lb, h);
  EXPECT_EQ(next.entry().attempt, 2);  // as far as a SYN tells
  next.accept().request(kOther);
  EXPECT_EQ(next.entry().attempt, 1);
  EXPECT_EQ(next.entry().previous_failure, bpf::FAILURE_NONE);
  EXPECT_NE(next.entry().evidence & bpf::EVIDENCE_OTHER_REQUEST, 0);
  EXPECT_EQ(lb.service_stats(h.service).retries, 0U);
  EXPECT_EQ(lb.service_stats(h.service).first_attempts, 2U);
  EXPECT_EQ(lb.backend_stats(h.b1).retry_connections, 0U);

  std::vector<bpf::event> said;
  for (const bpf::event& event : lb.events()) {
    if (event.type == bpf::EVENT_RETRY || event.type == bpf::EVENT_NO_RETRY) said.push_back(event);
  }
  ASSERT_EQ(said.size(), 2U);
  EXPECT_EQ(said[0].type, bpf::EVENT_RETRY);
  EXPECT_EQ(said[1].type, bpf::EVENT_NO_RETRY);
  EXPECT_EQ(said[0].previous_syn_ns, said[1].previous_syn_ns);
  EXPECT_EQ(said[0].previous_port_be, said[1].previous_port_be);
  EXPECT_EQ(said[0].previous_request, said[1].previous_request);

  // The failure waits for its own retry still.
  next.answer().client_fin();
  lb.pass(200ms);
  Conversation retry = host.connect(lb, h);
  retry.accept().request(kPage);
  EXPECT_EQ(retry.entry().attempt, 2);
  EXPECT_EQ(lb.service_stats(h.service).retries, 1U);
}

TEST_F(LabelRequest, OfSeveralThatFailedEachMayBeRepeated) {
  std::vector<Conversation> page;
  for (int i = 0; i < 3; ++i) page.push_back(host.connect(lb, h));
  for (int i = 0; i < 3; ++i) {
    page[i].accept().request("GET /part" + std::to_string(i) + " HTTP/1.1\r\n\r\n");
  }
  for (Conversation& each : page) each.answer(503).client_fin();
  lb.pass(100ms);
  for (int i = 0; i < 3; ++i) {
    Conversation retry = host.connect(lb, h);
    retry.accept().request("GET /part" + std::to_string(i) + " HTTP/1.1\r\n\r\n");
    EXPECT_EQ(retry.entry().attempt, 2) << i;
  }
}

TEST_F(LabelRequest, OnAKeptConnectionIsJudgedByWhatItAsks) {
  Conversation kept = host.connect(lb, h);
  kept.accept().request(kPage).answer(503).request(kOther);
  EXPECT_EQ(kept.entry().attempt, 1);
  EXPECT_NE(kept.entry().evidence & bpf::EVIDENCE_OTHER_REQUEST, 0);
  kept.answer().request(kPage);
  EXPECT_EQ(kept.entry().attempt, 2);
  EXPECT_EQ(lb.service_stats(h.service).retries, 1U);
}

TEST_F(LabelRequest, WhatCannotBeReadIsLabelledAtItsSynAndCountedAsUnreadable) {
  Conversation kept = host.connect(lb, h);
  kept.accept().request("\x16\x03\x01 hello");
  kept.from_backend(kAck | kPsh, "\x16\x03\x03 hello");
  kept.request("\x17\x03\x03 secret").backend_rst();
  EXPECT_EQ(lb.service_stats(h.service).unreadable_failures, 1U);
  lb.pass(100ms);
  Conversation retry = host.connect(lb, h);
  retry.accept().request("\x16\x03\x01 hello");
  EXPECT_EQ(retry.entry().attempt, 2);
  EXPECT_EQ(lb.service_stats(h.service).unreadable_retries, 1U);
}

TEST_F(LabelRequest, AnUnreadableTurnOfAKeptConnectionIsTakenForNoRetry) {
  Conversation kept = host.connect(lb, h);
  kept.accept().request("\x16\x03\x01 hello");
  kept.from_backend(kAck | kPsh, "\x16\x03\x03 hello");
  host.connect(lb, h).accept().request("\x16\x03\x01 hello").backend_rst();
  lb.pass(100ms);
  kept.request("\x17\x03\x03 secret");
  EXPECT_EQ(kept.entry().attempt, 1);
  EXPECT_EQ(host.connect(lb, h).entry().attempt, 2);
}

}  // namespace
}  // namespace petrel::test
