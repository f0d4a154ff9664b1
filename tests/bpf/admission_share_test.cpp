// SPDX-License-Identifier: MIT
// Near a service's limit each client has its share of what is answered: one that opens connections as
// fast as it can does not take the places of the others. By the program's own clock.
#include <gtest/gtest.h>

#include "tests/bpf/conversation.hpp"
#include "tests/bpf/path_fixture.hpp"

namespace petrel::test {
namespace {

constexpr std::uint32_t kAdmit = bpf::SERVICE_READY | bpf::SERVICE_ACT | bpf::SERVICE_ADMIT;
constexpr std::uint64_t kOne = 65536;
constexpr std::uint64_t kSecond = 1ULL << 30;  // as shares count them

struct AdmissionShare : PathTest {
  void SetUp() override {
    PathTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    for (const Hosts* hosts : {&v4(), &v6()}) lb.set_service(*hosts, kAdmit);
    lb.pass(std::chrono::nanoseconds(kSecond - lb.now_ns() % kSecond));
  }

  // At most `limit` in flight, of which so many are; so much is answered in a second.
  void set(const Hosts& hosts, std::uint64_t limit, std::int64_t waiting, double answered_per_s) {
    lb.set_limits(hosts.service, true, limit, 0);
    lb.set_service_inflight(hosts.service, waiting);
    bpf::budget shares{};
    shares.rate_q16 = static_cast<std::uint32_t>(answered_per_s * kOne);
    lb.set_admissions(hosts.service, shares);
  }
  bool ask(const Hosts& hosts, int client) {
    Endpoint from = hosts.client;
    from.address.bytes[15] = static_cast<std::uint8_t>(20 + client);
    from.port = ++port_;
    Conversation conversation{lb, hosts, from, hosts.vip, hosts.service};
    if (conversation.from_client(kSyn).action != XDP_REDIRECT) return false;
    conversation.accept().request().answer();  // nothing is left in flight
    return true;
  }
  int ask(const Hosts& hosts, int client, int count) {
    int admitted = 0;
    for (int i = 0; i < count; ++i) admitted += ask(hosts, client) ? 1 : 0;
    return admitted;
  }

  std::uint16_t port_ = 40000;
};

TEST_F(AdmissionShare, OneWhoHammersLeavesTheOthersTheirs) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    set(*hosts, 100, 80, 30);
    for (int client = 0; client < 10; ++client) EXPECT_TRUE(ask(*hosts, client));
    EXPECT_LE(ask(*hosts, 0, 100), 4);
    EXPECT_GE(lb.admissions(hosts->service).refused_unfair, 96U);
    int others = 0;
    for (int client = 1; client < 9; ++client) others += ask(*hosts, client) ? 1 : 0;
    EXPECT_GE(others, 6);  // who falls on the hammer's share waits for the next hash
    // What comes after a refusal is a retry.
    const VerdictCounts verdicts = lb.verdicts_of(hosts->service);
    EXPECT_GE(verdicts[bpf::VERDICT_OVER_LIMIT] + verdicts[bpf::VERDICT_RETRY_OVER_LIMIT], 96U);
  }
}

TEST_F(AdmissionShare, BelowThreeQuartersOfTheLimitNobodyIsRefused) {
  const Hosts& h = v4();
  set(h, 100, 70, 30);
  for (int client = 0; client < 10; ++client) EXPECT_TRUE(ask(h, client));
  EXPECT_EQ(ask(h, 0, 100), 100);
}

TEST_F(AdmissionShare, OneAloneHasAllOfIt) {
  const Hosts& h = v4();
  set(h, 100, 80, 30);
  EXPECT_EQ(ask(h, 0, 100), 100);
}

TEST_F(AdmissionShare, NothingIsSharedWithoutARate) {
  const Hosts& h = v4();
  set(h, 100, 80, 0);
  for (int client = 0; client < 10; ++client) EXPECT_TRUE(ask(h, client));
  EXPECT_EQ(ask(h, 0, 100), 100);
}

// Agent silent: all are placed as without petrel.
TEST_F(AdmissionShare, NothingIsSharedOnceTheAgentIsSilent) {
  const Hosts& h = v4();
  set(h, 100, 80, 30);
  for (int client = 0; client < 10; ++client) ask(h, client);
  lb.set_control({0, 1, 1, 0, 0, 0});
  EXPECT_EQ(ask(h, 0, 50), 50);
}

}  // namespace
}  // namespace petrel::test
