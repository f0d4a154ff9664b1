// SPDX-License-Identifier: MIT
// What a forwarded packet looks like: in each direction, of each family, each kind of segment.
//
// The expected packet is built from scratch with the other addresses, so that one comparison covers
// every byte: those that must change, those that must not, and the checksums.
#include <gtest/gtest.h>

#include <functional>

#include "tests/bpf/conversation.hpp"

namespace petrel::test {
namespace {

using Forward = BalancerTest;

const std::vector<std::uint8_t> kTimestamps{1, 1, 8, 10, 0, 0, 1, 2, 3, 4, 5, 6};
const std::vector<std::uint8_t> kMss{2, 4, 5, 0xb4};
const std::vector<std::uint8_t> kRouterAlert{0x94, 4, 0, 0};
const std::vector<std::uint8_t> kMostOptions(40, 1);  // no-operation, 40 times

struct Case {
  std::string description;
  std::function<void(Segment&)> shape;
  bool v4_only = false;
};

const std::vector<Case> kSegments{
    {"SYN", [](Segment& s) { s.flags = kSyn; s.tcp_options = kMss; }},
    {"SYN-ACK", [](Segment& s) { s.flags = kSynAck; s.tcp_options = kMss; }},
    {"ACK", [](Segment& s) { s.flags = kAck; }},
    {"data, even length", [](Segment& s) { s.payload = "even"; }},
    {"data, odd length", [](Segment& s) { s.payload = "odd"; }},
    {"one byte", [](Segment& s) { s.payload = "x"; }},
    {"data of all ones", [](Segment& s) { s.payload = std::string(64, '\xff'); }},
    {"data of zeros", [](Segment& s) { s.payload = std::string(63, '\0'); }},
    {"a full segment", [](Segment& s) { s.payload = std::string(1400, 'p'); }},
    {"FIN", [](Segment& s) { s.flags = kFinAck; }},
    {"FIN with data", [](Segment& s) { s.flags = kFinAck; s.payload = "last"; }},
    {"RST", [](Segment& s) { s.flags = kRst; }},
    {"RST-ACK", [](Segment& s) { s.flags = kRstAck; }},
    {"all flags", [](Segment& s) { s.flags = 0xff; }},
    {"no flag", [](Segment& s) { s.flags = 0; }},
    {"TCP options", [](Segment& s) { s.tcp_options = kTimestamps; s.payload = "data"; }},
    {"most TCP options", [](Segment& s) { s.tcp_options = kMostOptions; s.payload = "odd"; }},
    {"TTL 2", [](Segment& s) { s.ttl = 2; }},
    {"TTL 255", [](Segment& s) { s.ttl = 255; }},
    {"Ethernet padding", [](Segment& s) { s.trailer_bytes = 6; }},
    {"Ethernet padding after an odd byte",
     [](Segment& s) { s.payload = "x"; s.trailer_bytes = 5; }},
    {"IP options", [](Segment& s) { s.ip_options = kRouterAlert; s.payload = "odd"; }, true},
    {"most IP options", [](Segment& s) { s.ip_options = kMostOptions; }, true},
    {"IP and TCP options",
     [](Segment& s) { s.ip_options = kRouterAlert; s.tcp_options = kTimestamps; s.payload = "x"; },
     true},
};

TEST_F(Forward, ClientsSegmentGoesToTheBackend) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    Endpoint client = hosts->client;
    for (const Case& test : kSegments) {
      if (test.v4_only && hosts == &v6()) continue;
      SCOPED_TRACE(hosts->family + " " + test.description);
      client.port++;
      Conversation(lb, *hosts, client, hosts->vip, hosts->service).open();
      Segment segment{.from = client, .to = hosts->vip};
      test.shape(segment);
      const auto before = lb.verdicts();
      const Outcome out = lb.run(build(segment));
      EXPECT_EQ(out.action, XDP_REDIRECT);
      EXPECT_EQ(checksum_error(out.packet), "");
      EXPECT_EQ(out.packet, sent_on(segment, client, hosts->backend(hosts->b1), hop_to(hosts->b1)));
      VerdictGrowth grown{{bpf::VERDICT_FORWARDED, 1}};
      if ((segment.flags & kSynAck) == kSyn) grown[bpf::VERDICT_MISS_SYN] = 1;
      EXPECT_EQ(growth(before, lb.verdicts()), grown);
    }
  }
}

TEST_F(Forward, BackendsSegmentReturnsToTheClientFromTheVip) {
  const bpf::next_hop client_hop = hop_to(77);
  for (const Hosts* hosts : {&v4(), &v6()}) {
    Endpoint client = hosts->client;
    for (const Case& test : kSegments) {
      if (test.v4_only && hosts == &v6()) continue;
      SCOPED_TRACE(hosts->family + " " + test.description);
      client.port++;
      Conversation conversation(lb, *hosts, client, hosts->vip, hosts->service);
      conversation.open();
      auto entry = conversation.entry();  // no route leads anywhere here: give it its way back
      entry.client_hop = client_hop;
      entry.client_hop_generation = 1;
      lb.set_connection(conversation.key(), entry);
      Segment segment{.from = hosts->backend(hosts->b1), .to = client};
      test.shape(segment);
      const auto before = lb.verdicts();
      const Outcome out = lb.run(build(segment));
      EXPECT_EQ(out.action, XDP_REDIRECT);
      EXPECT_EQ(checksum_error(out.packet), "");
      EXPECT_EQ(out.packet, sent_on(segment, hosts->vip, client, client_hop));
      EXPECT_EQ(growth(before, lb.verdicts()), (VerdictGrowth{{bpf::VERDICT_RETURNED, 1}}));
    }
  }
}

TEST_F(Forward, EachServiceHasItsOwnBackend) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    const Segment syn{.from = hosts->client, .to = hosts->other_vip, .flags = kSyn};
    EXPECT_EQ(lb.run(build(syn)).packet,
              sent_on(syn, hosts->client, hosts->backend(hosts->b4), hop_to(hosts->b4)));
  }
}

struct WithoutSensor : BalancerTest {
  WithoutSensor() : BalancerTest({.wire_sensor = false}) {}
};

TEST_F(WithoutSensor, PacketsStillFlowAndNothingIsSensed) {
  Conversation conversation(lb, v4(), 40001);
  conversation.open().request().answer(503).client_fin();
  Conversation again(lb, v4(), 40002);
  again.open();
  EXPECT_EQ(lb.verdicts()[bpf::VERDICT_FORWARDED], 6U);
  EXPECT_EQ(lb.verdicts()[bpf::VERDICT_KERNEL_ROUTED], 3U);  // replies: no route is known
  EXPECT_EQ(lb.backend_stats(v4().b1).connections, 2U);
  EXPECT_EQ(lb.backend_stats(v4().b1).requests, 0U);
  EXPECT_EQ(lb.inflight(v4().b1), 0);
  EXPECT_EQ(lb.service_stats(v4().service).retries, 0U);
  EXPECT_TRUE(lb.events().empty());
}

}  // namespace
}  // namespace petrel::test
