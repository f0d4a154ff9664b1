// SPDX-License-Identifier: MIT
// A retry budget that is short is shared: one client that hammers does not spend what the others are to
// have. By the program's own clock, so that a second begins where the test says.
#include <gtest/gtest.h>

#include "tests/bpf/conversation.hpp"
#include "tests/bpf/path_fixture.hpp"

namespace petrel::test {
namespace {

constexpr std::uint32_t kBudget = bpf::SERVICE_READY | bpf::SERVICE_ACT | bpf::SERVICE_BUDGET;
constexpr std::uint64_t kToken = 65536;
constexpr std::uint64_t kSecond = 1ULL << 30;  // as the budget counts them

struct BudgetShare : PathTest {
  void SetUp() override {
    PathTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    for (const Hosts* hosts : {&v4(), &v6()}) lb.set_service(*hosts, kBudget);
  }

  void begin_second() { lb.pass(std::chrono::nanoseconds(kSecond - lb.now_ns() % kSecond)); }

  void set(const Hosts& hosts, double rate, std::uint64_t burst, std::uint64_t tokens) {
    bpf::budget budget = lb.budget(hosts.service);
    budget.rate_q16 = static_cast<std::uint32_t>(rate * kToken);
    budget.burst_q16 = burst * kToken;
    budget.tokens_q16 = tokens * kToken;
    budget.filled_ns = lb.now_ns();
    budget.admitted = budget.refused = budget.refused_unfair = 0;
    lb.set_budget(hosts.service, budget);
  }

  Conversation of(const Hosts& hosts, int client, std::uint16_t port) {
    Endpoint from = hosts.client;
    from.address.bytes[15] = static_cast<std::uint8_t>(20 + client);
    from.port = port;
    return {lb, hosts, from, hosts.vip, hosts.service};
  }
  void fail_once(const Hosts& hosts, int client) {
    of(hosts, client, 40000).syn().backend_rst();
  }
  bool retry(const Hosts& hosts, int client) {
    Conversation conversation = of(hosts, client, ++port_);
    if (conversation.from_client(kSyn).action != XDP_REDIRECT) return false;
    EXPECT_GT(conversation.entry().attempt, 1);
    conversation.backend_rst();
    return true;
  }
  int retries(const Hosts& hosts, int client, int count) {
    int admitted = 0;
    for (int i = 0; i < count; ++i) admitted += retry(hosts, client) ? 1 : 0;
    return admitted;
  }

  std::uint16_t port_ = 40000;
};

// 20 tokens a second, 10 clients, of whom one asks for far more than the rest.
TEST_F(BudgetShare, OneWhoHammersLeavesTheOthersTheirs) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    begin_second();
    for (int client = 0; client < 10; ++client) fail_once(*hosts, client);
    set(*hosts, 20, 20, 20);
    for (int client = 0; client < 10; ++client) EXPECT_TRUE(retry(*hosts, client));
    // Half of the burst was free to whoever came; of the rest the hammer gets its three a second.
    EXPECT_LE(retries(*hosts, 0, 100), 3);
    EXPECT_GT(lb.budget(hosts->service).refused_unfair, 90U);
    int others = 0;
    for (int client = 1; client < 9; ++client) others += retry(*hosts, client) ? 1 : 0;
    EXPECT_GE(others, 5);  // two that fall on one share have had what is one's
  }
}

// The next second is as fair, although the hammer comes first in it.
TEST_F(BudgetShare, WhoAskedInTheSecondBeforeIsCountedOn) {
  const Hosts& h = v4();
  begin_second();
  for (int client = 0; client < 10; ++client) fail_once(h, client);
  set(h, 20, 20, 20);
  for (int client = 0; client < 10; ++client) retry(h, client);
  begin_second();
  set(h, 20, 20, 9);
  EXPECT_LE(retries(h, 0, 100), 3);
}

TEST_F(BudgetShare, OneAloneMaySpendItAll) {
  const Hosts& h = v4();
  begin_second();
  fail_once(h, 0);
  set(h, 20, 20, 20);
  EXPECT_EQ(retries(h, 0, 20), 20);
  EXPECT_EQ(lb.budget(h.service).refused_unfair, 0U);
}

TEST_F(BudgetShare, ThereIsNothingToShareWhileThereIsEnough) {
  const Hosts& h = v4();
  begin_second();
  for (int client = 0; client < 10; ++client) fail_once(h, client);
  set(h, 1, 100, 100);
  for (int client = 0; client < 10; ++client) EXPECT_TRUE(retry(h, client));
  EXPECT_EQ(retries(h, 0, 40), 40);
}

}  // namespace
}  // namespace petrel::test
