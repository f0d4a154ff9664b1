// SPDX-License-Identifier: MIT
// Admission: limits on the requests in flight, of a service and of a backend; retries refused first.
#include <gtest/gtest.h>

#include "tests/bpf/conversation.hpp"
#include "tests/bpf/path_fixture.hpp"

namespace petrel::test {
namespace {

constexpr std::uint32_t kActs = bpf::SERVICE_READY | bpf::SERVICE_ACT;
constexpr std::uint32_t kAdmit = kActs | bpf::SERVICE_ADMIT;

struct Admission : PathTest {
  void SetUp() override {
    PathTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    for (const Hosts* hosts : {&v4(), &v6()}) {
      lb.set_service(*hosts, kAdmit);
      lb.fill_neutral(hosts->service, {hosts->b2});
    }
  }

  void limit_service(const Hosts& hosts, std::uint64_t limit, std::uint64_t retry_limit) {
    lb.set_limits(hosts.service, true, limit, retry_limit);
  }
  void limit_backend(std::uint32_t id, std::uint64_t limit, std::uint64_t retry_limit = 0) {
    lb.set_limits(id, false, limit, retry_limit);
  }

  // The client's next SYN repeats a request that failed.
  void fail(const Hosts& hosts) { Conversation(lb, hosts, 50000).syn().backend_rst(); }

  void expect_refused(Conversation& conversation, int verdict) {
    const Segment syn = conversation.next_of_client(kSyn);
    expect_answered(build(syn), reset_of(syn), {{verdict, 1}});
    EXPECT_FALSE(conversation.is_half_open());
  }
  void expect_admitted(Conversation& conversation) {
    EXPECT_EQ(conversation.from_client(kSyn).action, XDP_REDIRECT);
    EXPECT_TRUE(conversation.is_half_open());
  }
};

TEST_F(Admission, RefusesAFirstAttemptAtTheServicesLimit) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    limit_service(*hosts, 2, 0);
    Conversation first(lb, *hosts, 40001), second(lb, *hosts, 40002), third(lb, *hosts, 40003);
    first.open().request();  // a request without an answer counts as a SYN without one does
    expect_admitted(second);
    expect_refused(third, bpf::VERDICT_OVER_LIMIT);
    EXPECT_EQ(lb.service_stats(hosts->service).shed, 1U);
    EXPECT_EQ(lb.service_stats(hosts->service).shed_retries, 0U);
    EXPECT_EQ(lb.service_inflight(hosts->service), 2);
    EXPECT_EQ(lb.backend_stats(hosts->b1).refused, 0U);  // no backend is to blame
    EXPECT_EQ(lb.service_stats(hosts->service).failures[bpf::FAILURE_REFUSED], 0U);
  }
}

TEST_F(Admission, TheRefusalOfASynAcknowledgesItsNumberPlusOne) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    limit_service(*hosts, 1, 0);
    Conversation(lb, *hosts, 40001).syn();
    const Segment syn{.from = hosts->client, .to = hosts->vip, .flags = kSyn, .seq = 0xffffffff,
                      .tcp_options = {2, 4, 5, 0xb4}};
    const Segment refusal{.from = hosts->vip, .to = hosts->client, .flags = kRstAck, .seq = 0,
                          .ack = 0, .source_mac = kOurMac, .destination_mac = kSomeMac,
                          .window = 0, .tos = 0, .plain = true};
    expect_answered(build(syn), build(refusal), {{bpf::VERDICT_OVER_LIMIT, 1}});
  }
}

TEST_F(Admission, AdmitsAgainOnceSomethingIsAnswered) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    limit_service(*hosts, 1, 0);
    Conversation first(lb, *hosts, 40001), second(lb, *hosts, 40002);
    first.syn();
    expect_refused(second, bpf::VERDICT_OVER_LIMIT);
    first.syn_ack();
    expect_admitted(second);
  }
}

TEST_F(Admission, RefusesRetriesFirst) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    limit_service(*hosts, 2, 1);
    fail(*hosts);
    Conversation other(lb, *hosts, hosts->other_client, hosts->vip, hosts->service);
    other.syn();
    Conversation retry(lb, *hosts, 40001);
    expect_refused(retry, bpf::VERDICT_RETRY_OVER_LIMIT);
    EXPECT_EQ(lb.service_stats(hosts->service).shed_retries, 1U);
    EXPECT_EQ(lb.service_stats(hosts->service).shed, 0U);
    Endpoint third = hosts->other_client;
    third.port++;
    Conversation first_attempt(lb, *hosts, third, hosts->vip, hosts->service);
    expect_admitted(first_attempt);
  }
}

TEST_F(Admission, TheNextSynOfARefusedClientIsARetry) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    limit_service(*hosts, 1, 0);
    Conversation other(lb, *hosts, hosts->other_client, hosts->vip, hosts->service);
    other.syn();
    Conversation refused(lb, *hosts, 40001);
    expect_refused(refused, bpf::VERDICT_OVER_LIMIT);
    other.syn_ack();
    Conversation next(lb, *hosts, 40002);
    next.syn();
    EXPECT_EQ(next.entry().attempt, 2);
    EXPECT_EQ(next.entry().previous_failure, bpf::FAILURE_REFUSED);
    EXPECT_EQ(next.entry().previous_backend_id, 0U);
    EXPECT_EQ(lb.service_stats(hosts->service).retries, 1U);
  }
}

TEST_F(Admission, TakesAnotherBackendWhenThePlacedOneIsAtItsLimit) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    limit_backend(hosts->b1, 1);
    limit_backend(hosts->b2, 1);
    Conversation first(lb, *hosts, 40001), second(lb, *hosts, 40002), third(lb, *hosts, 40003);
    EXPECT_EQ(first.syn().backend_id(), hosts->b1);
    EXPECT_EQ(first.entry().flags & bpf::CONNECTION_OFF_RING, 0U);
    EXPECT_EQ(second.syn().backend_id(), hosts->b2);
    EXPECT_NE(second.entry().flags & bpf::CONNECTION_OFF_RING, 0U);
    EXPECT_EQ(lb.service_stats(hosts->service).off_ring, 1U);
    expect_refused(third, bpf::VERDICT_OVER_LIMIT);
    EXPECT_EQ(lb.inflight(hosts->b1), 1);
    EXPECT_EQ(lb.inflight(hosts->b2), 1);
  }
}

TEST_F(Admission, RefusesARetryWhereEachBackendIsAtItsLimitForRetries) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    fail(*hosts);
    limit_backend(hosts->b1, 10, 1);
    limit_backend(hosts->b2, 10, 1);
    lb.set_inflight(hosts->b1, 1);
    Conversation retry(lb, *hosts, 40001);
    retry.syn();
    EXPECT_EQ(retry.backend_id(), hosts->b2);
    retry.backend_rst();
    lb.set_inflight(hosts->b2, 1);
    Conversation again(lb, *hosts, 40002);
    expect_refused(again, bpf::VERDICT_RETRY_OVER_LIMIT);
    Conversation other(lb, *hosts, hosts->other_client, hosts->vip, hosts->service);
    expect_admitted(other);  // no retry
  }
}

TEST_F(Admission, DoesNotRefuseWhatIsNoNewConnection) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    Conversation established(lb, *hosts, 40001), waiting(lb, *hosts, 40002);
    established.open();
    waiting.syn();
    limit_service(*hosts, 1, 1);
    limit_backend(hosts->b1, 1, 1);
    EXPECT_EQ(waiting.repeat_client().action, XDP_REDIRECT);
    EXPECT_EQ(established.from_client(kAck | kPsh, kRequest).action, XDP_REDIRECT);
    Conversation adopted(lb, *hosts, 40003);
    EXPECT_EQ(adopted.from_client(kAck).action, XDP_REDIRECT);
  }
}

TEST_F(Admission, DoesNotRefuseWithoutTheFlagALimitOrAnAgent) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    std::uint16_t port = 40000;
    lb.set_inflight(hosts->b1, 1000);
    Conversation no_limit(lb, *hosts, ++port);
    expect_admitted(no_limit);
    limit_backend(hosts->b1, 1, 1);
    limit_backend(hosts->b2, 1, 1);
    limit_service(*hosts, 1, 1);
    lb.set_service(*hosts, kActs);
    Conversation no_flag(lb, *hosts, ++port);
    expect_admitted(no_flag);
    lb.set_service(*hosts, kAdmit);
    lb.set_control({0, 1, 1, 0, 0, 0});
    Conversation no_agent(lb, *hosts, ++port);
    expect_admitted(no_agent);
    lb.set_control({monotonic_now_ns(), 3600'000'000'000, 1, 0, 0, 0});
    Conversation all(lb, *hosts, ++port);
    expect_refused(all, bpf::VERDICT_OVER_LIMIT);
  }
}

}  // namespace
}  // namespace petrel::test
