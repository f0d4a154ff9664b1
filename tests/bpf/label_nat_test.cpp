// SPDX-License-Identifier: MIT
// Many hosts behind one address: whose retry a request is.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <queue>

#include "label/retry_fit.hpp"
#include "tests/bpf/fleet.hpp"

namespace petrel::test {
namespace {

using Ms = std::chrono::duration<double, std::milli>;

struct LabelNat : BalancerTest {
  LabelNat() : BalancerTest({.retry_window = 5s, .handshake_timeout = 200ms, .max_clients = 8192}) {}
  bpf::retry_odds odds() const override { return fit_retry_odds({}); }
  const Hosts& h = v4();
};

HostStack host(std::uint64_t seed, const HostStack::Options& options = {}) {
  return HostStack(seed, options);
}

TEST_F(LabelNat, AHostIsToldByItsClock) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    for (const std::uint32_t hz : {1000U, 250U, 100U}) {
      SCOPED_TRACE(hosts->family + ", " + std::to_string(hz) + " Hz");
      HostStack a = host(1, {.clock_hz = hz, .port_each = true});
      a.connect(lb, *hosts).accept().request().answer(503).client_fin();
      lb.pass(1500ms);
      const auto retry = a.connect(lb, *hosts).entry();
      EXPECT_EQ(retry.attempt, 2);
      EXPECT_EQ(retry.evidence, bpf::EVIDENCE_FAILURE | bpf::EVIDENCE_SAME_CLOCK |
                                    (retry.evidence & bpf::EVIDENCE_NEAR_PORT));
      EXPECT_GE(retry.confidence, CONFIDENCE_RETRY);
      lb.pass(10s);
    }
  }
}

// Once clocks have told hosts apart at an address, another clock is another host.
TEST_F(LabelNat, AnotherHostsRequestIsNoRetryAndLeavesTheFailureToItsOwn) {
  HostStack a = host(1), b = host(2);
  a.connect(lb, h).accept().request().answer(503).client_fin();
  lb.pass(100ms);
  a.connect(lb, h).accept().request().answer(503).client_fin();
  lb.pass(1ms);
  Conversation other = b.connect(lb, h);
  EXPECT_EQ(other.entry().attempt, 1);
  EXPECT_EQ(other.entry().evidence & bpf::EVIDENCE_OTHER_CLOCK, bpf::EVIDENCE_OTHER_CLOCK);
  lb.pass(100ms);
  Conversation own = a.connect(lb, h);
  EXPECT_EQ(own.entry().attempt, 3);
  EXPECT_EQ(lb.service_stats(h.service).retries, 2U);
}

TEST_F(LabelNat, EachOfManyFailedHostsIsFoundAgain) {
  std::vector<HostStack> hosts;
  for (std::uint64_t i = 0; i < 50; ++i) hosts.push_back(host(i));
  // Clocks tell hosts here, as the first retry shows.
  for (const int status : {503, 200}) {
    hosts[0].connect(lb, h).accept().request().answer(status).client_fin();
    lb.pass(200ms);
  }
  for (HostStack& each : hosts) each.connect(lb, h).accept().request().answer(503).client_fin();
  lb.pass(200ms);
  std::ranges::reverse(hosts);
  for (HostStack& each : hosts) {
    Conversation retry = each.connect(lb, h);
    EXPECT_EQ(retry.entry().attempt, 2);
    retry.accept().request().answer().client_fin();
  }
  for (HostStack& each : hosts) EXPECT_EQ(each.connect(lb, h).entry().attempt, 1);
}

// Each SYN waits by host: another one's does not fail it, its own next one does.
TEST_F(LabelNat, AnUnansweredSynFailsByItsOwnHostsNextOneOnly) {
  for (const bool timestamps : {true, false}) {
    SCOPED_TRACE(timestamps);
    lb.reset();
    write_defaults(h);
    std::vector<HostStack> hosts;
    for (std::uint64_t i = 0; i < 20; ++i) hosts.push_back(host(i, {.timestamps = timestamps}));
    for (HostStack& each : hosts) {
      each.connect(lb, h).accept().request().answer().client_fin();
      lb.pass(10ms);
    }
    Conversation silent = hosts[0].connect(lb, h);
    for (int i = 1; i < 20; ++i) {
      lb.pass(50ms);
      EXPECT_EQ(hosts[i].connect(lb, h).accept().request().answer().client_fin().entry().attempt, 1);
    }
    EXPECT_EQ(silent.entry().state, bpf::CONNECTION_SYN);
    EXPECT_EQ(lb.backend_stats(h.b1).handshake_timeouts, 0U);
    EXPECT_EQ(hosts[0].connect(lb, h).entry().attempt, 2);
    EXPECT_EQ(lb.backend_stats(h.b1).handshake_timeouts, 1U);
  }
}

// Clocks that are drawn anew for each connection never tell anybody: the address does, for one host.
TEST_F(LabelNat, AStackThatDrawsItsClockAnewIsStillKnownByItsPorts) {
  HostStack a = host(1, {.clock_each = true});
  for (std::uint8_t attempt = 1; attempt <= 4; ++attempt) {
    Conversation conversation = a.connect(lb, h);
    EXPECT_EQ(conversation.entry().attempt, attempt);
    conversation.accept().request().answer(503).client_fin();
    lb.pass(300ms);
  }
}

// Failed hosts are kept by clock only once clocks have told one: here they never do.
TEST_F(LabelNat, HostsThatDrawTheirClocksAnewAreFoundAgainByTheirPorts) {
  std::vector<HostStack> hosts;
  for (std::uint64_t i = 0; i < 20; ++i) hosts.push_back(host(i, {.clock_each = true}));
  // Of a service whose clients are known to try again after 200 ms.
  constexpr std::uint64_t kMany = 500 * 256;
  bpf::retry_counts counts{};
  counts.delays[bpf::CAUSE_REQUEST][bpf::retry_bucket(195'312)] = kMany;
  counts.retried[bpf::CAUSE_REQUEST][0] = counts.failed[bpf::CAUSE_REQUEST][0] = kMany;
  RetryFit fit;
  fit.update(counts, 1);
  lb.set_retry_odds(h.service, fit.update(counts, 10'000'000'000));
  for (HostStack& each : hosts) each.connect(lb, h).accept().request().answer(503).client_fin();
  lb.pass(200ms);
  int found = 0;
  for (HostStack& each : hosts) {
    Conversation retry = each.connect(lb, h);
    found += retry.entry().attempt == 2;
    retry.accept().request().answer().client_fin();
  }
  EXPECT_GE(found, 18);  // two hosts' ports may be near by chance
}

// A page asks for several things at once: each of its SYNs waits, though others' come between.
TEST_F(LabelNat, AllWaitingSynsOfAHostFailByItsNextOne) {
  std::vector<HostStack> hosts;
  for (std::uint64_t i = 0; i < 20; ++i) hosts.push_back(host(i));
  for (HostStack& each : hosts) {
    each.connect(lb, h).accept().request().answer().client_fin();
    lb.pass(50ms);  // the address is heard often, and of many hosts
  }
  for (int i = 0; i < 3; ++i) hosts[0].connect(lb, h);
  for (int i = 1; i < 20; ++i) {
    lb.pass(50ms);
    hosts[i].connect(lb, h).accept().request().answer().client_fin();
  }
  const auto timeouts = [&] {
    std::uint64_t sum = 0;
    for (const std::uint32_t id : h.backend_ids()) {
      if (id != 0) sum += lb.backend_stats(id).handshake_timeouts;
    }
    return sum;
  };
  EXPECT_EQ(timeouts(), 0U);
  EXPECT_EQ(hosts[0].connect(lb, h).entry().attempt, 2);
  EXPECT_EQ(timeouts(), 3U);
}

TEST_F(LabelNat, AStackThatDrawsBothAnewIsKnownByItsAddressWhileThatIsItsOwn) {
  HostStack a = host(1, {.clock_each = true, .port_each = true});
  a.connect(lb, h).accept().request().answer().client_fin();
  lb.pass(20s);
  a.connect(lb, h).accept().request().answer(503).client_fin();
  lb.pass(200ms);
  const auto retry = a.connect(lb, h).entry();
  EXPECT_EQ(retry.attempt, 2);
  EXPECT_LT(retry.confidence, 250);
}

// --- a crowd ------------------------------------------------------------------------------------

struct Crowd {
  int hosts = 100;
  HostStack::Options stack{};
  double requests_per_s = 100;
  double seconds = 30;
  double failing = 0.1;  // share of attempts
};

struct Score {
  int retries = 0, labelled = 0, right = 0;

  double precision() const { return labelled == 0 ? 0 : double(right) / labelled; }
  double recall() const { return retries == 0 ? 0 : double(right) / retries; }
};

struct Attempt {
  double at_ms;
  int host;
  int number;  // 1 = first
  int page;

  bool operator>(const Attempt& other) const { return at_ms > other.at_ms; }
};

// Requests of hosts drawn at random, in a Poisson stream, each for a page of its own. 9 in 10 of what
// fails is tried again, up to twice, after 50 to 250 ms and then twice that.
Score play(Balancer& lb, const Hosts& h, const Crowd& crowd, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto uniform = [&](double least, double most) {
    return least + (most - least) * double(random() >> 11) / double(1ULL << 53);
  };
  std::vector<HostStack> hosts;
  for (int i = 0; i < crowd.hosts; ++i) hosts.emplace_back(random(), crowd.stack);
  int pages = 100000;
  std::priority_queue<Attempt, std::vector<Attempt>, std::greater<>> due;
  for (double at = 0; at < crowd.seconds * 1000;
       at += -std::log(1 - uniform(0, 1)) * 1000 / crowd.requests_per_s) {
    due.push({at, int(random() % crowd.hosts), 1, ++pages});
  }
  const std::uint64_t begin_ns = lb.now_ns();
  const auto now_ms = [&] { return double(lb.now_ns() - begin_ns) / 1e6; };
  Score score;
  RetryFit fit;
  std::uint64_t fitted_ns = begin_ns;
  while (!due.empty()) {
    // As the agent does.
    if (lb.now_ns() - fitted_ns >= 200'000'000) {
      lb.set_retry_odds(h.service, fit.update(lb.retry_counts(h.service), lb.now_ns()));
      fitted_ns = lb.now_ns();
    }
    const Attempt attempt = due.top();
    due.pop();
    if (attempt.at_ms > now_ms())
      lb.pass(std::chrono::duration_cast<std::chrono::nanoseconds>(Ms(attempt.at_ms - now_ms())));
    Conversation conversation = hosts[attempt.host].connect(lb, h);
    const bool fails = uniform(0, 1) < crowd.failing;
    const bool refused = fails && uniform(0, 1) < 0.3;
    bool labelled = conversation.entry().attempt > 1;
    if (refused) {
      conversation.backend_rst();
    } else {
      conversation.accept().request("GET /" + std::to_string(attempt.page) + " HTTP/1.1\r\n\r\n");
      labelled = conversation.entry().attempt > 1;
      conversation.answer(fails ? 503 : 200).client_fin();
    }
    score.retries += attempt.number > 1;
    score.labelled += labelled;
    score.right += labelled && attempt.number > 1;
    if (fails && attempt.number < 3 && uniform(0, 1) < 0.9) {
      due.push({now_ms() + uniform(50, 250) * attempt.number, attempt.host, attempt.number + 1,
                attempt.page});
    }
  }
  lb.events();
  return score;
}

struct CrowdCase {
  std::string name;
  Crowd crowd;
  double precision, recall;
};

struct LabelCrowd : LabelNat, testing::WithParamInterface<CrowdCase> {};

TEST_P(LabelCrowd, IsNotTakenForOneHost) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    for (const std::uint64_t seed : {1U, 2U, 3U}) {
      lb.reset();
      write_defaults(*hosts);
      const Score score = play(lb, *hosts, GetParam().crowd, seed);
      const std::string what = hosts->family + ", seed " + std::to_string(seed) + ": " +
                               std::to_string(score.retries) + " retries, " +
                               std::to_string(score.labelled) + " labelled, " +
                               std::to_string(score.right) + " right";
      if (std::getenv("PETREL_SHOW_SCORES") != nullptr)
        std::printf("%s, %s: precision %.3f recall %.3f\n", GetParam().name.c_str(), what.c_str(),
                    score.precision(), score.recall());
      EXPECT_GE(score.precision(), GetParam().precision) << what;
      EXPECT_GE(score.recall(), GetParam().recall) << what;
      EXPECT_GT(score.retries, 50);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Crowds, LabelCrowd,
    testing::Values(
        CrowdCase{"A100Hosts", {.hosts = 100, .requests_per_s = 10, .seconds = 100}, 0.95, 0.95},
        CrowdCase{"A1000Hosts", {.hosts = 1000, .requests_per_s = 100, .seconds = 30}, 0.95, 0.95},
        CrowdCase{"A100HostsWithoutTimestamps",
                  {.hosts = 100, .stack = {.timestamps = false}, .requests_per_s = 10,
                   .seconds = 100},
                  0.85, 0.85},
        CrowdCase{"A1000HostsWithoutTimestamps",
                  {.hosts = 1000, .stack = {.timestamps = false}, .requests_per_s = 200,
                   .seconds = 15},
                  0.9, 0.8}),
    [](const auto& tested) { return tested.param.name; });

}  // namespace
}  // namespace petrel::test
