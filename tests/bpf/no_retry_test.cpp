// SPDX-License-Identifier: MIT
// What does not count as a retry.
#include <gtest/gtest.h>

#include "tests/bpf/conversation.hpp"

namespace petrel::test {
namespace {

struct NoRetry : BalancerTest {
  using BalancerTest::BalancerTest;
  const Hosts& h = v4();

  void expect_first_attempt(const Conversation& conversation, std::uint16_t service) {
    EXPECT_EQ(conversation.entry().attempt, 1);
    EXPECT_EQ(conversation.entry().previous_failure, bpf::FAILURE_NONE);
    EXPECT_EQ(conversation.entry().previous_backend_id, 0U);
    EXPECT_EQ(lb.service_stats(service).retries, 0U);
  }
};

TEST_F(NoRetry, AfterWhatDidNotFail) {
  struct Case {
    std::string description;
    void (*play)(Conversation&);
  };
  const std::vector<Case> cases{
      {"200", [](Conversation& c) { c.open().request().answer().client_fin(); }},
      {"302", [](Conversation& c) { c.open().request().answer(302).client_fin(); }},
      {"404", [](Conversation& c) { c.open().request().answer(404).client_fin(); }},
      {"no HTTP", [](Conversation& c) { c.open().request("\x01"); c.from_backend(kAck, "\x02"); }},
      {"200, then the client's RST",
       [](Conversation& c) { c.open().request().answer().client_rst(); }},
      {"200, then the backend's RST",
       [](Conversation& c) { c.open().request().answer().backend_rst(); }},
      {"connected and closed", [](Conversation& c) { c.open().client_fin(); }},
      {"closed by the backend when idle", [](Conversation& c) { c.open().backend_fin(); }},
      {"still waiting", [](Conversation& c) { c.open().request(); }},
      {"still connecting", [](Conversation& c) { c.syn(); }},
      {"the port used again while waiting", [](Conversation& c) { c.open().request().syn(); }},
  };
  Endpoint client = h.client;
  for (const Case& test : cases) {
    SCOPED_TRACE(test.description);
    client.address.bytes[15]++;
    client.port = 40001;
    Conversation first(lb, h, client, h.vip, h.service);
    test.play(first);
    client.port = 40002;
    Conversation second(lb, h, client, h.vip, h.service);
    second.open().request();
    expect_first_attempt(second, h.service);
  }
}

TEST_F(NoRetry, OfAnotherClient) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    Conversation(lb, *hosts, 40001).syn().backend_rst();
    Conversation other(lb, *hosts, hosts->other_client, hosts->vip, hosts->service);
    other.syn();
    expect_first_attempt(other, hosts->service);
  }
}

TEST_F(NoRetry, AtAnotherService) {
  Conversation(lb, h, 40001).syn().backend_rst();
  Conversation other(lb, h, h.client, h.other_vip, h.other_service);
  other.syn();
  expect_first_attempt(other, h.other_service);
}

TEST_F(NoRetry, OfOneFailureTwice) {
  Conversation(lb, h, 40001).syn().backend_rst();
  Conversation(lb, h, 40002).open().request().answer();
  Conversation third(lb, h, 40003);
  third.syn();
  EXPECT_EQ(third.entry().attempt, 1);
  EXPECT_EQ(lb.service_stats(h.service).retries, 1U);
}

TEST_F(NoRetry, ByRepeatingTheSyn) {
  Conversation conversation(lb, h, 40001);
  conversation.syn();
  conversation.repeat_client();
  conversation.repeat_client();
  expect_first_attempt(conversation, h.service);
  EXPECT_EQ(lb.service_stats(h.service).first_attempts, 1U);
}

// Browsers open several connections at once: the first one's SYN is only a moment old.
TEST_F(NoRetry, ByAParallelConnectionWithinTheHandshakeTimeout) {
  std::vector<Conversation> parallel;
  for (std::uint16_t port = 40001; port <= 40006; ++port) {
    parallel.emplace_back(lb, h, port).syn();
  }
  for (Conversation& conversation : parallel) {
    expect_first_attempt(conversation, h.service);
    EXPECT_EQ(conversation.entry().state, bpf::CONNECTION_SYN);
  }
  EXPECT_EQ(lb.service_stats(h.service).first_attempts, 6U);
  EXPECT_EQ(lb.inflight(h.b1), 6);
}

struct ShortWindow : NoRetry {
  ShortWindow() : NoRetry({.retry_window = 1ns}) {}
};

TEST_F(ShortWindow, IsOverBeforeTheClientComesAgain) {
  Conversation(lb, h, 40001).syn().backend_rst();
  Conversation(lb, h, 40002).syn().backend_rst();
  Conversation late(lb, h, 40003);
  late.syn();
  expect_first_attempt(late, h.service);
  EXPECT_EQ(lb.service_stats(h.service).first_attempts, 3U);
}

}  // namespace
}  // namespace petrel::test
