// SPDX-License-Identifier: MIT
// RouteCache against a real kernel: routes and neighbours made by `ip`, a real LPM map, look-ups.
#include "maps/route_cache.hpp"

#include <bpf/bpf.h>
#include <gtest/gtest.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <string>
#include <thread>

#include "base/unique_fd.hpp"
#include "config/address.hpp"
#include "maps/next_hops.hpp"

namespace petrel {
namespace {

using namespace std::chrono_literals;

constexpr std::uint32_t kMapEntries = 64;

// Each test has a network namespace of its own:
//     petrel0 02::01 (192.0.2.1/24, 2001:db8:1::1/64) ── petrel1 02::02
//     neighbours: 192.0.2.254 = 02::fe, 2001:db8:1::fe = 02::6e, all of them permanent
struct RouteCacheTest : testing::Test {
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root";
    if (::unshare(CLONE_NEWNET) != 0) GTEST_SKIP() << "needs network namespaces";
    LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_NO_PREALLOC);
    map.reset(bpf_map_create(BPF_MAP_TYPE_LPM_TRIE, "routes", sizeof(bpf::route_key),
                             sizeof(bpf::route), kMapEntries, &options));
    if (!map) GTEST_SKIP() << "needs CAP_BPF";
    ip("link set lo up");
    ip("link add petrel0 address 02:00:00:00:00:01 type veth peer name petrel1");
    ip("link set petrel1 address 02:00:00:00:00:02 up");
    ip("link set petrel0 mtu 1400 up");
    ip("addr add 192.0.2.1/24 dev petrel0");
    ip("addr add 2001:db8:1::1/64 dev petrel0 nodad");
    ip("neigh add 192.0.2.254 lladdr 02:00:00:00:00:fe dev petrel0 nud permanent");
    ip("neigh add 2001:db8:1::fe lladdr 02:00:00:00:00:6e dev petrel0 nud permanent");
    auto opened_hops = NextHops::open();
    ASSERT_TRUE(opened_hops) << opened_hops.error().message();
    hops.emplace(std::move(*opened_hops));
    open_cache();
  }

  void open_cache() {
    auto opened = RouteCache::open(map.get());
    ASSERT_TRUE(opened) << opened.error().message();
    cache.emplace(std::move(*opened));
  }

  static void ip(const std::string& command) {
    ASSERT_EQ(std::system(("PATH=$PATH:/usr/sbin:/sbin ip " + command).c_str()), 0) << command;
  }

  bool sync() {
    const auto changed = cache->sync();
    EXPECT_TRUE(changed) << changed.error().message();
    return changed && *changed;
  }

  std::optional<bpf::route> find(const std::string& address) const {
    const bpf::route_key key{128, *parse_address(address)};
    bpf::route route{};
    if (bpf_map_lookup_elem(map.get(), &key, &route) != 0) return {};
    return route;
  }
  // The last byte of the MAC that frames to it are sent to; 0: the kernel is asked.
  int sent_to(const std::string& address) const {
    const auto route = find(address);
    return route && route->hop.ifindex != 0 ? route->hop.destination_mac[5] : 0;
  }

  UniqueFd map;
  std::optional<NextHops> hops;
  std::optional<RouteCache> cache;
};

TEST_F(RouteCacheTest, FollowsARouteThroughItsLife) {
  ip("route add default via 192.0.2.254");
  ip("-6 route add default via 2001:db8:1::fe");
  EXPECT_TRUE(sync());
  EXPECT_FALSE(sync());
  const auto route = find("203.0.113.9");
  ASSERT_TRUE(route);
  EXPECT_EQ(route->hop.ifindex, ::if_nametoindex("petrel0"));
  EXPECT_EQ(route->hop.source_mac[5], 1);
  EXPECT_EQ(route->hop.destination_mac[5], 0xfe);
  EXPECT_EQ(route->mtu, 1400u);
  EXPECT_EQ(sent_to("2001:db8:ffff::1"), 0x6e);

  ip("neigh add 192.0.2.253 lladdr 02:00:00:00:00:fd dev petrel0 nud permanent");
  ip("route replace default via 192.0.2.253 mtu 1300");
  EXPECT_TRUE(sync());
  EXPECT_EQ(sent_to("203.0.113.9"), 0xfd);
  EXPECT_EQ(find("203.0.113.9")->mtu, 1300u);

  ip("route del default");
  EXPECT_TRUE(sync());
  EXPECT_EQ(sent_to("203.0.113.9"), 0);
  EXPECT_EQ(sent_to("2001:db8:ffff::1"), 0x6e);
}

TEST_F(RouteCacheTest, FollowsAGatewayThatFailsAndComesBack) {
  ip("route add default via 192.0.2.254");
  sync();
  EXPECT_EQ(sent_to("203.0.113.9"), 0xfe);
  ip("neigh del 192.0.2.254 dev petrel0");
  EXPECT_TRUE(sync());
  EXPECT_EQ(sent_to("203.0.113.9"), 0);
  ip("neigh replace 192.0.2.254 lladdr 02:00:00:00:00:fc dev petrel0 nud reachable");
  EXPECT_TRUE(sync());
  EXPECT_EQ(sent_to("203.0.113.9"), 0xfc);
}

TEST_F(RouteCacheTest, StaleGatewayThatDoesNotAnswerIsFoundOut) {
  std::system("echo 0 > /proc/sys/net/ipv4/neigh/petrel0/delay_first_probe_time 2>/dev/null");
  std::system("echo 20 > /proc/sys/net/ipv4/neigh/petrel0/retrans_time_ms 2>/dev/null");
  ip("neigh replace 192.0.2.254 lladdr 02:00:00:00:00:fe dev petrel0 nud stale");
  ip("route add default via 192.0.2.254");
  sync();
  EXPECT_EQ(sent_to("203.0.113.9"), 0xfe);
  const auto end = std::chrono::steady_clock::now() + 10s;
  while (sent_to("203.0.113.9") != 0 && std::chrono::steady_clock::now() < end) {
    pollfd changed{hops->changed_fd(), POLLIN, 0};
    ::poll(&changed, 1, 100);
    if (hops->drain_changes()) sync();
  }
  EXPECT_EQ(sent_to("203.0.113.9"), 0);
}

TEST_F(RouteCacheTest, NeighboursOnTheLinkAreHosts) {
  sync();
  EXPECT_EQ(sent_to("192.0.2.254"), 0xfe);
  EXPECT_EQ(find("192.0.2.254")->mtu, 1400u);
  EXPECT_EQ(sent_to("192.0.2.77"), 0);
  EXPECT_EQ(sent_to("192.0.2.1"), 0);  // our own
  ip("neigh add 192.0.2.77 lladdr 02:00:00:00:00:77 dev petrel0 nud stale");
  EXPECT_TRUE(sync());
  EXPECT_EQ(sent_to("192.0.2.77"), 0x77);
}

TEST_F(RouteCacheTest, WhatOnlyTheKernelKnowsIsAsked) {
  ip("neigh add 192.0.2.253 lladdr 02:00:00:00:00:fd dev petrel0 nud permanent");
  ip("route add default via 192.0.2.254");
  ip("route add blackhole 198.51.100.0/25");
  ip("route add unreachable 198.51.100.128/25");
  ip("route add 203.0.113.0/24 nexthop via 192.0.2.254 nexthop via 192.0.2.253");
  ip("route add 100.64.0.0/10 tos 0x10 via 192.0.2.253");
  ip("-6 route add default via 2001:db8:1::fe");
  ip("-6 route add 2001:db8:2::/48 from 2001:db8:9::/48 via 2001:db8:1::fe");
  sync();
  for (const char* address :
       {"198.51.100.1", "198.51.100.200", "203.0.113.9", "100.64.0.1", "2001:db8:2::1"}) {
    EXPECT_EQ(sent_to(address), 0) << address;
  }
  EXPECT_EQ(sent_to("8.8.8.8"), 0xfe);
  EXPECT_EQ(sent_to("2001:db8:3::1"), 0x6e);
}

TEST_F(RouteCacheTest, EncapsulatingRouteIsAsked) {
  ip("route add default via 192.0.2.254");
  if (std::system("PATH=$PATH:/usr/sbin:/sbin ip route add 203.0.113.0/24 encap ip id 1 dst "
                  "192.0.2.9 via 192.0.2.254 2>/dev/null") != 0) {
    GTEST_SKIP() << "needs a kernel with CONFIG_LWTUNNEL";
  }
  sync();
  EXPECT_EQ(sent_to("203.0.113.9"), 0);
  EXPECT_EQ(sent_to("8.8.8.8"), 0xfe);
  EXPECT_FALSE(hops->resolve(*parse_address("203.0.113.9")));
}

TEST_F(RouteCacheTest, NextHopObjectsAreRead) {
  if (std::system("PATH=$PATH:/usr/sbin:/sbin ip nexthop add id 7 via 192.0.2.254 dev petrel0 "
                  "2>/dev/null") != 0) {
    GTEST_SKIP() << "needs a kernel with next-hop objects";
  }
  ip("neigh add 192.0.2.253 lladdr 02:00:00:00:00:fd dev petrel0 nud permanent");
  ip("route add default nhid 7");
  sync();
  EXPECT_EQ(sent_to("203.0.113.9"), 0xfe);
  hops->drain_changes();
  ip("nexthop replace id 7 via 192.0.2.253 dev petrel0");
  EXPECT_TRUE(hops->drain_changes());
  EXPECT_TRUE(sync());
  EXPECT_EQ(sent_to("203.0.113.9"), 0xfd);
}

TEST_F(RouteCacheTest, PolicyRulesEmptyTheirFamily) {
  ip("route add default via 192.0.2.254");
  ip("-6 route add default via 2001:db8:1::fe");
  sync();
  hops->drain_changes();
  ip("rule add fwmark 1 lookup 100");
  EXPECT_TRUE(hops->drain_changes());
  EXPECT_TRUE(sync());
  EXPECT_EQ(cache->v4(), FamilyState::kRules);
  EXPECT_EQ(sent_to("203.0.113.9"), 0);
  EXPECT_EQ(sent_to("2001:db8:ffff::1"), 0x6e);
  ip("rule del fwmark 1 lookup 100");
  EXPECT_TRUE(sync());
  EXPECT_EQ(sent_to("203.0.113.9"), 0xfe);
}

TEST_F(RouteCacheTest, TooManyRoutesEmptyTheirFamily) {
  ip("route add default via 192.0.2.254");
  sync();
  EXPECT_EQ(sent_to("203.0.113.9"), 0xfe);
  ip("-batch - <<EOF\n$(for i in $(seq 1 80); do echo route add 10.$i.0.0/16 via 192.0.2.254; "
     "done)\nEOF");
  EXPECT_TRUE(sync());
  EXPECT_EQ(cache->v4(), FamilyState::kTooMany);
  EXPECT_FALSE(find("203.0.113.9") && find("203.0.113.9")->hop.ifindex != 0);
}

TEST_F(RouteCacheTest, EntriesThatFitOnlyOneAfterTheOtherAreReplaced) {
  ip("-batch - <<EOF\n$(for i in $(seq 1 45); do echo route add 10.$i.0.0/16 via 192.0.2.254; "
     "done)\nEOF");
  EXPECT_TRUE(sync());
  EXPECT_EQ(sent_to("10.45.0.1"), 0xfe);
  ip("route flush root 10.0.0.0/8");
  ip("-batch - <<EOF\n$(for i in $(seq 1 45); do echo route add 11.$i.0.0/16 via 192.0.2.254; "
     "done)\nEOF");
  EXPECT_TRUE(sync());
  EXPECT_EQ(sent_to("11.45.0.1"), 0xfe);
  EXPECT_FALSE(find("10.45.0.1") && find("10.45.0.1")->hop.ifindex != 0);
}

TEST_F(RouteCacheTest, NewAgentTakesOverWhatTheMapHolds) {
  ip("route add default via 192.0.2.254");
  sync();
  const std::size_t entries = cache->entries();
  open_cache();
  EXPECT_EQ(cache->entries(), entries);
  EXPECT_FALSE(sync());
  ip("route del default");
  open_cache();
  EXPECT_TRUE(sync());
  EXPECT_EQ(sent_to("203.0.113.9"), 0);
}

TEST_F(RouteCacheTest, ResolvedHopHasTheRoutesMtu) {
  ip("route add 203.0.113.0/24 via 192.0.2.254 mtu 1280");
  ASSERT_TRUE(hops->refresh());
  const auto far = hops->resolve(*parse_address("203.0.113.9"));
  ASSERT_TRUE(far);
  EXPECT_EQ(far->mtu_bytes, 1280u);
  EXPECT_EQ(far->hop.destination_mac[5], 0xfe);
  const auto near = hops->resolve(*parse_address("2001:db8:1::fe"));
  ASSERT_TRUE(near);
  EXPECT_EQ(near->mtu_bytes, 1400u);
  EXPECT_EQ(near->hop.source_mac[5], 1);
}

TEST_F(RouteCacheTest, Ipv4RouteByAnIpv6GatewayIsResolved) {
  ip("route add 203.0.113.0/24 via inet6 2001:db8:1::fe dev petrel0");
  sync();
  EXPECT_EQ(sent_to("203.0.113.9"), 0x6e);
  ASSERT_TRUE(hops->refresh());
  const auto hop = hops->resolve(*parse_address("203.0.113.9"));
  ASSERT_TRUE(hop);
  EXPECT_EQ(hop->hop.destination_mac[5], 0x6e);
}

}  // namespace
}  // namespace petrel
