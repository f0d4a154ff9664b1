// SPDX-License-Identifier: MIT
// What of the kernel's tables goes into the `routes` map: never an answer that the kernel would not
// give.
#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <string>

#include "config/address.hpp"
#include "maps/netlink.hpp"
#include "maps/wanted_routes.hpp"

namespace petrel {
namespace {

constexpr int kEth0 = 2;
constexpr int kEth1 = 3;
constexpr std::size_t kRoom = 8192;

bpf::address at(const std::string& text) {
  return *parse_address(text);
}

// "10.0.0.0/8", "2001:db8::/32"
bpf::route_key prefix(const std::string& text) {
  const auto slash = text.find('/');
  const bpf::address address = at(text.substr(0, slash));
  const auto bits = static_cast<std::uint32_t>(std::stoul(text.substr(slash + 1)));
  return {bits + (is_v4(address) ? 96 : 0), address};
}

// What the map would answer: longest prefix first, as an LPM trie does.
std::optional<bpf::route> look_up(const RouteEntries& entries, const std::string& text) {
  const bpf::address address = at(text);
  std::optional<bpf::route> best;
  std::uint32_t best_bits = 0;
  for (const auto& [key, route] : entries) {
    bool matches = true;
    for (std::uint32_t bit = 0; bit < key.prefix_bits; ++bit) {
      const int mask = 0x80 >> (bit % 8);
      matches &= ((key.address.bytes[bit / 8] ^ address.bytes[bit / 8]) & mask) == 0;
    }
    if (matches && (!best || key.prefix_bits >= best_bits)) {
      best = route;
      best_bits = key.prefix_bits;
    }
  }
  return best;
}

struct WantedRoutesTest : testing::Test {
  // eth0: 10.0.0.0/24 and 2001:db8:0::/64, its router at .1 and ::1.  eth1: 10.0.1.0/24.
  WantedRoutesTest() {
    for (FamilyTables* family : {&tables.v4, &tables.v6}) {
      family->present = family->default_rules = true;
    }
    tables.links[kEth0] = {{2, 0, 0, 0, 0, 0x10}, true, 1500, 1480};
    tables.links[kEth1] = {{2, 0, 0, 0, 0, 0x11}, true, 9000, 0};
    add("10.0.0.0/24", kEth0);
    add("10.0.1.0/24", kEth1);
    add("2001:db8::/64", kEth0);
    neighbour("10.0.0.1", kEth0, NUD_REACHABLE, 1);
    neighbour("2001:db8::1", kEth0, NUD_REACHABLE, 2);
  }

  KernelRoute& add(const std::string& to, int ifindex, const std::string& gateway = "") {
    KernelRoute route;
    const bpf::route_key key = prefix(to);
    route.prefix = key.address;
    route.prefix_bits = key.prefix_bits;
    route.plain = true;
    route.ifindex = ifindex;
    if (!gateway.empty()) route.gateway = at(gateway);
    auto& list = (is_v4(key.address) ? tables.v4 : tables.v6).main;
    return list.emplace_back(route);
  }
  void local(const std::string& to) {
    const bpf::route_key key = prefix(to);
    KernelRoute route;
    route.prefix = key.address;
    route.prefix_bits = key.prefix_bits;
    (is_v4(key.address) ? tables.v4 : tables.v6).local.push_back(route);
  }
  KernelNeighbour& neighbour(const std::string& address, int ifindex, std::uint16_t state,
                             std::uint8_t mac) {
    KernelNeighbour entry{ifindex, at(address), {2, 0, 0, 0, 1, mac}, true, state};
    return tables.neighbours.emplace_back(entry);
  }

  WantedRoutes wanted(std::size_t room = kRoom) { return wanted_routes(tables, room); }

  // The last byte of the MAC that frames to it are sent to; 0: the kernel is asked.
  int sent_to(const std::string& address) {
    const auto found = look_up(wanted().entries, address);
    return found && found->hop.ifindex != 0 ? found->hop.destination_mac[5] : 0;
  }

  KernelTables tables;
};

TEST_F(WantedRoutesTest, RouteByAKnownGatewayIsAHop) {
  add("0.0.0.0/0", kEth0, "10.0.0.1");
  const auto found = look_up(wanted().entries, "203.0.113.7");
  ASSERT_TRUE(found);
  EXPECT_EQ(found->hop.ifindex, kEth0);
  EXPECT_EQ(found->hop.source_mac[5], 0x10);
  EXPECT_EQ(found->hop.destination_mac[5], 1);
  EXPECT_EQ(found->mtu, 1500);
  EXPECT_TRUE(wanted().to_probe.empty());
}

TEST_F(WantedRoutesTest, RouteByAnUnknownGatewayIsAskedAndTheGatewayProbed) {
  add("0.0.0.0/0", kEth0, "10.0.0.9");
  EXPECT_EQ(sent_to("203.0.113.7"), 0);
  ASSERT_EQ(wanted().to_probe.size(), 1u);
  EXPECT_EQ(to_string(wanted().to_probe[0].address), "10.0.0.9");
}

TEST_F(WantedRoutesTest, FailedGatewayIsNoHopAndAStaleOneIsProbed) {
  add("0.0.0.0/0", kEth0, "10.0.0.1");
  tables.neighbours[0].state = NUD_FAILED;
  EXPECT_EQ(sent_to("203.0.113.7"), 0);
  EXPECT_EQ(wanted().to_probe.size(), 1u);
  tables.neighbours[0].state = NUD_STALE;
  EXPECT_EQ(sent_to("203.0.113.7"), 1);
  EXPECT_EQ(wanted().to_probe.size(), 1u);
}

TEST_F(WantedRoutesTest, OnLinkPrefixIsAskedExceptForKnownNeighbours) {
  neighbour("10.0.0.7", kEth0, NUD_STALE, 7);
  neighbour("10.0.0.8", kEth0, NUD_INCOMPLETE, 8);
  add("0.0.0.0/0", kEth0, "10.0.0.1");
  EXPECT_EQ(sent_to("10.0.0.7"), 7);
  EXPECT_EQ(sent_to("10.0.0.8"), 0);
  EXPECT_EQ(sent_to("10.0.0.99"), 0);
  const auto entries = wanted().entries;
  ASSERT_TRUE(entries.contains(prefix("10.0.0.0/24")));
  EXPECT_EQ(entries.at(prefix("10.0.0.0/24")).hop.ifindex, 0u);
  EXPECT_EQ(entries.at(prefix("10.0.0.7/32")).mtu, 1500u);
}

TEST_F(WantedRoutesTest, NeighbourOnAnotherLinkThanItsRouteIsLeftOut) {
  neighbour("10.0.0.7", kEth1, NUD_REACHABLE, 7);
  neighbour("192.0.2.1", kEth1, NUD_REACHABLE, 8);  // no route at all
  EXPECT_EQ(sent_to("10.0.0.7"), 0);
  EXPECT_FALSE(wanted().entries.contains(prefix("192.0.2.1/32")));
}

TEST_F(WantedRoutesTest, NeighbourBehindAMoreSpecificRouteGoesByThatRoute) {
  neighbour("10.0.0.7", kEth0, NUD_REACHABLE, 7);
  add("10.0.0.0/28", kEth0, "10.0.0.1");
  EXPECT_EQ(sent_to("10.0.0.7"), 1);
}

TEST_F(WantedRoutesTest, HostRouteOnLinkIsReplacedByItsNeighbour) {
  add("192.0.2.1/32", kEth1);
  EXPECT_EQ(sent_to("192.0.2.1"), 0);
  neighbour("192.0.2.1", kEth1, NUD_PERMANENT, 9);
  EXPECT_EQ(sent_to("192.0.2.1"), 9);
}

TEST_F(WantedRoutesTest, OurOwnAddressesAreAsked) {
  add("0.0.0.0/0", kEth0, "10.0.0.1");
  add("127.5.0.0/16", kEth0, "10.0.0.1");
  local("10.0.0.2/32");
  local("203.0.113.7/32");
  local("127.0.0.0/8");
  EXPECT_EQ(sent_to("203.0.113.7"), 0);
  EXPECT_EQ(sent_to("203.0.113.8"), 1);
  EXPECT_EQ(sent_to("10.0.0.2"), 0);
  EXPECT_EQ(sent_to("127.5.0.1"), 0);
}

TEST_F(WantedRoutesTest, WhatIsNotPlainIsAskedAndHidesWhatIsLessSpecific) {
  add("0.0.0.0/0", kEth0, "10.0.0.1");
  add("198.51.100.0/24", 0).plain = false;  // blackhole, several next hops, encapsulation
  EXPECT_EQ(sent_to("198.51.100.9"), 0);
  EXPECT_EQ(sent_to("198.51.101.9"), 1);
}

TEST_F(WantedRoutesTest, OfSeveralMetricsTheLeastWins) {
  neighbour("10.0.1.1", kEth1, NUD_REACHABLE, 5);
  add("0.0.0.0/0", kEth0, "10.0.0.1").metric = 200;
  add("0.0.0.0/0", kEth1, "10.0.1.1").metric = 100;
  EXPECT_EQ(sent_to("203.0.113.7"), 5);
}

TEST_F(WantedRoutesTest, OfEqualMetricsTheKernelChooses) {
  neighbour("10.0.1.1", kEth1, NUD_REACHABLE, 5);
  add("0.0.0.0/0", kEth0, "10.0.0.1").metric = 100;
  add("0.0.0.0/0", kEth1, "10.0.1.1").metric = 100;
  EXPECT_EQ(sent_to("203.0.113.7"), 0);
}

TEST_F(WantedRoutesTest, RouteForOneTosMakesItsPrefixTheKernels) {
  add("0.0.0.0/0", kEth0, "10.0.0.1");
  auto& special = add("0.0.0.0/0", kEth0, "10.0.0.1");
  special.metric = 5;
  special.selective = true;
  EXPECT_EQ(sent_to("203.0.113.7"), 0);
}

TEST_F(WantedRoutesTest, LinkThatIsDownOrNoEthernetIsAsked) {
  add("0.0.0.0/0", kEth0, "10.0.0.1");
  tables.links[kEth0].usable = false;
  EXPECT_EQ(sent_to("203.0.113.7"), 0);
  tables.links.erase(kEth0);
  EXPECT_EQ(sent_to("203.0.113.7"), 0);
}

TEST_F(WantedRoutesTest, MtuIsTheRoutesAndAtMostTheLinks) {
  add("203.0.113.0/24", kEth0, "10.0.0.1").mtu_bytes = 1400;
  add("198.51.100.0/24", kEth0, "10.0.0.1").mtu_bytes = 9000;
  add("2001:db8:1::/48", kEth0, "2001:db8::1");
  const auto entries = wanted().entries;
  EXPECT_EQ(look_up(entries, "203.0.113.1")->mtu, 1400u);
  EXPECT_EQ(look_up(entries, "198.51.100.1")->mtu, 1500u);
  EXPECT_EQ(look_up(entries, "2001:db8:1::5")->mtu, 1480u);
}

TEST_F(WantedRoutesTest, Ipv4RouteMayHaveAnIpv6Gateway) {
  add("203.0.113.0/24", kEth0, "2001:db8::1");
  EXPECT_EQ(sent_to("203.0.113.7"), 2);
}

TEST_F(WantedRoutesTest, Ipv6DefaultRouteDoesNotAnswerForIpv4) {
  add("::/0", kEth0, "2001:db8::1");
  EXPECT_EQ(sent_to("2001:db8:ffff::1"), 2);
  EXPECT_EQ(sent_to("203.0.113.7"), 0);
  tables.v4.default_rules = false;
  EXPECT_EQ(sent_to("203.0.113.7"), 0);
}

TEST_F(WantedRoutesTest, Ipv6RouteIntoMappedAddressesIsNotTakenForIpv4s) {
  add("0.0.0.0/0", kEth0, "10.0.0.1");
  auto& mapped = add("203.0.113.0/24", kEth0, "2001:db8::1");
  tables.v6.main.push_back(mapped);
  tables.v4.main.pop_back();
  EXPECT_EQ(sent_to("203.0.113.7"), 1);
}

TEST_F(WantedRoutesTest, LinkLocalNeighboursAreAsked) {
  add("fe80::/64", kEth0);
  neighbour("fe80::7", kEth0, NUD_REACHABLE, 7);
  EXPECT_EQ(sent_to("fe80::7"), 0);
}

TEST_F(WantedRoutesTest, GroupAddressesAreNoHosts) {
  neighbour("10.0.0.255", kEth0, NUD_NOARP, 7).mac[0] = 0xff;
  EXPECT_FALSE(wanted().entries.contains(prefix("10.0.0.255/32")));
}

TEST_F(WantedRoutesTest, WithPolicyRulesNothingOfTheFamilyIsCached) {
  add("0.0.0.0/0", kEth0, "10.0.0.1");
  tables.v4.default_rules = false;
  const WantedRoutes result = wanted();
  EXPECT_EQ(result.v4, FamilyState::kRules);
  EXPECT_EQ(result.v6, FamilyState::kCached);
  tables.v6.default_rules = false;
  EXPECT_TRUE(wanted().entries.empty());
}

TEST_F(WantedRoutesTest, TooManyRoutesLeaveTheFamilyOutAsAWhole) {
  add("0.0.0.0/0", kEth0, "10.0.0.1");
  for (int i = 0; i < 20; ++i) add("198.51." + std::to_string(i) + ".0/24", kEth0, "10.0.0.1");
  const WantedRoutes result = wanted(20);
  EXPECT_EQ(result.v4, FamilyState::kTooMany);
  EXPECT_EQ(result.v6, FamilyState::kCached);
  EXPECT_LE(result.entries.size(), 20u);
  EXPECT_EQ(look_up(result.entries, "198.51.3.1")->hop.ifindex, 0u);
}

TEST_F(WantedRoutesTest, NeighboursWithoutRoomAreAsked) {
  for (int i = 10; i < 60; ++i) {
    neighbour("10.0.0." + std::to_string(i), kEth0, NUD_REACHABLE, static_cast<std::uint8_t>(i));
  }
  const WantedRoutes result = wanted(20);
  EXPECT_EQ(result.v4, FamilyState::kCached);
  EXPECT_EQ(result.entries.size(), 20u);
  EXPECT_EQ(result.entries.size() + result.hosts_left_out, 3u + 1u + 52u);
  EXPECT_EQ(look_up(result.entries, "10.0.0.59")->hop.ifindex, 0u);
}

}  // namespace
}  // namespace petrel
