// SPDX-License-Identifier: MIT
// Where frames go: the cached hop, the kernel's tables, or the kernel itself.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "tests/bpf/conversation.hpp"

namespace petrel::test {
namespace {

struct NextHop : BalancerTest {
  // Routes and neighbours for clients and backends, in this test's own namespace:
  //     lo (where packets come in)   petrel0 ── petrel1 (never answers: neighbours are permanent)
  bool make_routes() {
    for (const char* path :
         {"/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"}) {
      std::ofstream(path) << "1";
    }
    return std::system(
               "PATH=$PATH:/usr/sbin:/sbin; set -e; exec 2>/dev/null\n"
               "ip link add name petrel0 type veth peer name petrel1\n"
               "ip link set lo up; ip link set petrel1 up\n"
               "ip link set petrel0 address 02:00:00:00:0a:01 up\n"
               "ip addr add 192.0.2.1/24 dev petrel0; ip addr add 198.51.100.254/24 dev petrel0\n"
               "ip addr add 2001:db8:1::1/64 dev petrel0 nodad\n"
               "ip addr add 2001:db8:2::fe/64 dev petrel0 nodad\n"
               "for a in 192.0.2.10 198.51.100.1 2001:db8:1::10 2001:db8:2::1; do\n"
               "  ip neigh add $a lladdr 02:00:00:00:0a:02 dev petrel0 nud permanent\n"
               "done") == 0;
  }
};

TEST_F(NextHop, SendsBackWhereItCameFromByTx) {
  auto hop = hop_to(v4().b1);
  hop.ifindex = kOurIfindex;
  lb.set_hop(v4().b1, hop);
  EXPECT_EQ(Conversation(lb, v4(), 40001).from_client(kSyn).action, XDP_TX);
}

TEST_F(NextHop, LeavesARewrittenPacketToTheKernelWhenNoHopIsKnown) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    lb.set_hop(hosts->b1, {});
    Segment segment{.from = hosts->client, .to = hosts->vip, .flags = kSyn};
    const auto before = lb.verdicts();
    const Outcome out = lb.run(build(segment));
    EXPECT_EQ(out.action, XDP_PASS);
    // The kernel ages it when it forwards it: neither TTL nor MACs are touched here.
    segment.to = hosts->backend(hosts->b1);
    EXPECT_EQ(out.packet, build(segment));
    EXPECT_EQ(growth(before, lb.verdicts()),
              (VerdictGrowth{{bpf::VERDICT_KERNEL_ROUTED, 1}, {bpf::VERDICT_MISS_SYN, 1}}));
    // The same on the way back.
    Segment reply{.from = hosts->backend(hosts->b1), .to = hosts->client, .flags = kSynAck};
    const Outcome back = lb.run(build(reply));
    EXPECT_EQ(back.action, XDP_PASS);
    reply.from = hosts->vip;
    EXPECT_EQ(back.packet, build(reply));
  }
}

TEST_F(NextHop, AsksTheKernelsTablesWhenNoneIsCached) {
  if (!make_routes()) GTEST_SKIP() << "SKIPPED: needs ip (iproute2) and veth";
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    lb.set_hop(hosts->b1, {});
    const auto before = lb.verdicts();
    Segment segment{.from = hosts->client, .to = hosts->vip, .flags = kSyn};
    const Outcome out = lb.run(build(segment));
    EXPECT_EQ(out.action, XDP_REDIRECT);
    segment.to = hosts->backend(hosts->b1);
    segment.ttl--;
    segment.source_mac = {0x02, 0, 0, 0, 0x0a, 0x01};
    segment.destination_mac = {0x02, 0, 0, 0, 0x0a, 0x02};
    EXPECT_EQ(out.packet, build(segment));
    EXPECT_EQ(growth(before, lb.verdicts()),
              (VerdictGrowth{{bpf::VERDICT_FORWARDED, 1},
                             {bpf::VERDICT_MISS_SYN, 1},
                             {bpf::VERDICT_FIB_LOOKUP, 1}}));
  }
}

TEST_F(NextHop, KeepsTheWayBackUntilRoutesChange) {
  if (!make_routes()) GTEST_SKIP() << "SKIPPED: needs ip (iproute2) and veth";
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    lb.set_control({monotonic_now_ns(), 3600'000'000'000, 1, 0, 0, 0});
    Conversation conversation(lb, *hosts, 40001);
    const auto lookups = [&] { return lb.verdicts()[bpf::VERDICT_FIB_LOOKUP]; };
    const auto before = lookups();
    conversation.syn();
    EXPECT_EQ(conversation.from_backend(kSynAck).action, XDP_REDIRECT);
    EXPECT_EQ(lookups(), before + 1);
    conversation.from_client(kAck);  // a half-open flow remembers no way: from here it does
    EXPECT_EQ(conversation.from_backend(kAck, "more").action, XDP_REDIRECT);
    EXPECT_EQ(lookups(), before + 2);
    EXPECT_EQ(conversation.from_backend(kAck, "more").action, XDP_REDIRECT);
    EXPECT_EQ(lookups(), before + 2);
    lb.set_control({monotonic_now_ns(), 3600'000'000'000, 2, 0, 0, 0});
    EXPECT_EQ(conversation.from_backend(kAck, "more").action, XDP_REDIRECT);
    EXPECT_EQ(lookups(), before + 3);
  }
}

// `routes` is asked first, by longest prefix; an entry without a hop leaves it to the kernel.
TEST_F(NextHop, DoesNotAskTheKernelWhatTheAgentHasWritten) {
  if (!make_routes()) GTEST_SKIP() << "SKIPPED: needs ip (iproute2) and veth";
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    lb.set_route({96, hosts->client.address}, {hop_to(70), 1500});
    lb.set_route({128, hosts->client.address}, {hop_to(71), 1500});
    const auto before = lb.verdicts()[bpf::VERDICT_FIB_LOOKUP];
    Conversation conversation(lb, *hosts, 40001);
    conversation.syn();
    const Outcome synack = conversation.from_backend(kSynAck);
    EXPECT_EQ(synack.action, XDP_REDIRECT);
    EXPECT_EQ(synack.packet[5], 71);
    EXPECT_EQ(lb.verdicts()[bpf::VERDICT_FIB_LOOKUP], before);
    lb.set_route({128, hosts->client.address}, {{}, 1500});
    EXPECT_EQ(conversation.repeat_backend().action, XDP_REDIRECT);
    EXPECT_EQ(lb.verdicts()[bpf::VERDICT_FIB_LOOKUP], before + 1);
  }
}

}  // namespace
}  // namespace petrel::test
