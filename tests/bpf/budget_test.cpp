// SPDX-License-Identifier: MIT
// The retry budget: a token bucket that retries spend, and first attempts do not. Its law is tested
// against the clock, from one CPU and from several at once.
#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <set>
#include <thread>

#include "tests/bpf/conversation.hpp"
#include "tests/bpf/path_fixture.hpp"

namespace petrel::test {
namespace {

constexpr std::uint32_t kBudget =
    bpf::SERVICE_READY | bpf::SERVICE_ACT | bpf::SERVICE_BUDGET;
constexpr std::uint64_t kToken = 65536;
constexpr std::uint64_t kSecondNs = 1'000'000'000;

struct Budget : PathTest {
  Budget() : PathTest({.set_clock = false}) {}

  void SetUp() override {
    PathTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    for (const Hosts* hosts : {&v4(), &v6()}) lb.set_service(*hosts, kBudget);
  }

  void set(const Hosts& hosts, double rate, std::uint64_t burst, std::uint64_t tokens,
           std::uint64_t age_ns = 0) {
    bpf::budget budget{};
    budget.rate_q16 = static_cast<std::uint32_t>(rate * kToken);
    budget.burst_q16 = burst * kToken;
    budget.tokens_q16 = tokens * kToken;
    const std::uint64_t now_ns = monotonic_now_ns();
    budget.filled_ns = now_ns > age_ns ? now_ns - age_ns : 1;  // a host may be up for less
    lb.set_budget(hosts.service, budget);
  }

  Conversation from_port(const Hosts& hosts, std::uint16_t port) {
    Endpoint client = hosts.client;
    client.address.bytes[15] = client_;
    client.port = port;
    return {lb, hosts, client, hosts.vip, hosts.service};
  }

  // A SYN of a client whose last connection failed. True: it was let through, and refused in turn.
  bool retry(const Hosts& hosts, std::uint16_t port) {
    Conversation conversation = from_port(hosts, port);
    if (conversation.from_client(kSyn).action != XDP_REDIRECT) return false;
    EXPECT_GT(conversation.entry().attempt, 1);
    conversation.backend_rst();
    return true;
  }

  // Of a new client's, whose first attempt fails.
  int admitted_of(const Hosts& hosts, int retries) {
    ++client_;
    from_port(hosts, 40000).syn().backend_rst();
    int admitted = 0;
    for (int i = 0; i < retries; ++i) {
      admitted += retry(hosts, static_cast<std::uint16_t>(40001 + i)) ? 1 : 0;
    }
    return admitted;
  }

 private:
  std::uint8_t client_ = 20;  // the last byte of its address
};

TEST_F(Budget, LetsThroughAsManyRetriesAsThereAreTokens) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    set(*hosts, 0, 10, 3);
    EXPECT_EQ(admitted_of(*hosts, 8), 3);
    const bpf::budget budget = lb.budget(hosts->service);
    EXPECT_EQ(budget.tokens_q16, 0U);
    EXPECT_EQ(budget.admitted, 3U);
    EXPECT_EQ(budget.refused, 5U);
    EXPECT_EQ(lb.service_stats(hosts->service).shed_retries, 5U);
    EXPECT_EQ(lb.verdicts_of(hosts->service)[bpf::VERDICT_OVER_BUDGET], 5U);
    set(*hosts, 0, 10, 1);  // its state can be set: here a token is granted
    EXPECT_TRUE(retry(*hosts, 40009));
    EXPECT_FALSE(retry(*hosts, 40010));
  }
}

TEST_F(Budget, RefusesWithAResetThatAcknowledgesTheSyn) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    set(*hosts, 0, 10, 0);
    Conversation(lb, *hosts, 50000).syn().backend_rst();
    const Segment syn{.from = hosts->client, .to = hosts->vip, .flags = kSyn, .seq = 77};
    expect_answered(build(syn), reset_of(syn), {{bpf::VERDICT_OVER_BUDGET, 1}});
    EXPECT_EQ(lb.inflight(hosts->b1), 0);
  }
}

TEST_F(Budget, EarnsTokensByTimeUpToItsBurst) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    set(*hosts, 0.1, 10, 0, 25 * kSecondNs);  // slowly, so that the test itself earns nothing
    EXPECT_EQ(admitted_of(*hosts, 4), 2);
    set(*hosts, 0.1, 5, 0, 3600 * kSecondNs);
    EXPECT_EQ(admitted_of(*hosts, 8), 5);
    set(*hosts, 0.1, 5, 0);
    lb.set_budget(hosts->service, [&] {
      bpf::budget budget = lb.budget(hosts->service);
      budget.filled_ns += kSecondNs;  // as another CPU's clock may have it
      return budget;
    }());
    EXPECT_EQ(admitted_of(*hosts, 2), 0);
  }
}

// An hour's tokens are earned once: what is beyond the burst is lost, not earned again and again.
TEST_F(Budget, DoesNotEarnTheSameTimeTwice) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    set(*hosts, 0.1, 5, 0, 3600 * kSecondNs);
    EXPECT_EQ(admitted_of(*hosts, 5), 5);
    EXPECT_EQ(admitted_of(*hosts, 5), 0);
    EXPECT_LT(monotonic_now_ns() - lb.budget(hosts->service).filled_ns, 2 * kSecondNs);
  }
}

TEST_F(Budget, IsNotSpentByFirstAttemptsOrRepeatedSyns) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    set(*hosts, 0, 10, 0);
    for (std::uint16_t port = 40001; port < 40010; ++port) {
      Conversation conversation(lb, *hosts, port);
      EXPECT_EQ(conversation.from_client(kSyn).action, XDP_REDIRECT);
      EXPECT_EQ(conversation.repeat_client().action, XDP_REDIRECT);
    }
    EXPECT_EQ(lb.budget(hosts->service).refused, 0U);
  }
}

TEST_F(Budget, DoesNotActWithoutTheFlagOrForASilentAgent) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    set(*hosts, 0, 10, 0);
    lb.set_service(*hosts, bpf::SERVICE_READY | bpf::SERVICE_ACT);
    EXPECT_EQ(admitted_of(*hosts, 3), 3);
    lb.set_service(*hosts, kBudget);
    lb.set_control({0, 1, 1, 0, 0, 0});
    EXPECT_EQ(admitted_of(*hosts, 3), 3);
    lb.set_control({monotonic_now_ns(), 3600 * kSecondNs, 1, 0, 0, 0});
    EXPECT_EQ(admitted_of(*hosts, 3), 0);
    EXPECT_EQ(lb.budget(hosts->service).admitted, 0U);
  }
}

// --- the law: rate * time + burst ---------------------------------------------------------------

std::vector<int> cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  sched_getaffinity(0, sizeof(set), &set);
  std::vector<int> found;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) found.push_back(cpu);
  }
  return found;
}

void pin_to(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  sched_setaffinity(0, sizeof(set), &set);
}

struct BudgetLaw : Budget {
  // Retries without a pause, of a client of the thread's own. What is let through is refused by its
  // backend, what is not by the balancer: so each SYN repeats a failed one.
  std::uint64_t hammer(const Hosts& hosts, int thread, const std::atomic<bool>& stop) {
    Endpoint client = hosts.client;
    client.address.bytes[15] = static_cast<std::uint8_t>(100 + thread);
    std::uint64_t admitted = 0;
    for (std::uint32_t seq = 1; !stop; ++seq) {
      client.port = static_cast<std::uint16_t>(32768 + seq % 28232);
      const Segment syn{.from = client, .to = hosts.vip, .flags = kSyn, .seq = seq};
      if (lb.run(build(syn)).action != XDP_REDIRECT) continue;
      admitted += seq > 1 ? 1 : 0;  // the first repeats nothing
      lb.run(build({.from = hosts.backend(hosts.b1), .to = client, .flags = kRstAck,
                    .ack = seq + 1}));
    }
    return admitted;
  }
};

// Half a second's worth of tokens, so that threads that do not get to run for a while lose none.
TEST_F(BudgetLaw, HoldsOnOneCpuAndOnSeveral) {
  constexpr std::uint32_t kRate = 1000, kBurst = 500;
  const Hosts& h = v4();
  const std::vector<int> all = cpus();
  for (const std::size_t threads : std::set<std::size_t>{1, std::min<std::size_t>(2, all.size()),
                                                         std::min<std::size_t>(8, all.size())}) {
    SCOPED_TRACE(std::to_string(threads) + " threads");
    lb.reset();
    lb.write_defaults(h);
    lb.set_service(h, kBudget);
    std::atomic<bool> stop = false;
    std::atomic<std::uint64_t> admitted = 0;
    set(h, kRate, kBurst, kBurst);
    const std::uint64_t begin_ns = lb.budget(h.service).filled_ns;
    std::vector<std::jthread> running;
    for (std::size_t i = 0; i < threads; ++i) {
      running.emplace_back([&, i] {
        pin_to(all[i]);
        admitted += hammer(h, static_cast<int>(i), stop);
      });
    }
    std::this_thread::sleep_for(1s);
    const std::uint64_t end_ns = monotonic_now_ns();
    stop = true;
    running.clear();
    const double seconds = static_cast<double>(end_ns - begin_ns) / kSecondNs;
    const double lawful = kRate * seconds + kBurst;
    const bpf::budget budget = lb.budget(h.service);
    if (budget.refused < budget.admitted) {
      GTEST_SKIP() << "SKIPPED: too slow a machine to ask for far more than the rate";
    }
    EXPECT_NEAR(static_cast<double>(admitted), lawful, 0.05 * lawful);
    EXPECT_EQ(budget.admitted, admitted);
    EXPECT_EQ(lb.inflight(h.b1), 0);
  }
}

}  // namespace
}  // namespace petrel::test
