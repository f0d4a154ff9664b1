// SPDX-License-Identifier: MIT
#include "maps/wanted_routes.hpp"

#include <algorithm>
#include <functional>
#include <set>
#include <utility>

#include "config/address.hpp"
#include "maps/netlink.hpp"

namespace petrel {
namespace {

constexpr std::uint32_t kMappedBits = 96;
constexpr std::uint32_t kHostBits = 128;
constexpr bpf::address kMappedPrefix{{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}}};

// What the kernel would do with a packet to a prefix.
struct Decision {
  bpf::route route{};  // hop.ifindex 0: ask
  int on_link_index =
      0;  // the link that the destinations are on; 0: they are not, or it is unclear
  std::uint32_t on_link_mtu = 0;
};
using Decisions = std::map<bpf::route_key, Decision, RouteKeyLess>;

bool covers(const bpf::route_key& prefix, const bpf::address& address) {
  const std::uint32_t whole = prefix.prefix_bits / 8;
  if (std::memcmp(prefix.address.bytes, address.bytes, whole) != 0) return false;
  const std::uint32_t rest = prefix.prefix_bits % 8;
  if (rest == 0) return true;
  const int difference = prefix.address.bytes[whole] ^ address.bytes[whole];
  return (difference >> (8 - rest)) == 0;
}

bpf::address masked(bpf::address address, std::uint32_t bits) {
  for (std::uint32_t i = 0; i < sizeof(address.bytes); ++i) {
    const std::uint32_t kept = std::min(8u, bits - std::min(bits, i * 8));
    address.bytes[i] &= static_cast<std::uint8_t>(0xff00 >> kept);
  }
  return address;
}

bpf::route_key key_of(const KernelRoute& route) {
  return {route.prefix_bits, route.prefix};
}

// IPv4's part of the key space. An IPv6 route into it would be taken for IPv4's.
bool is_in_mapped(const KernelRoute& route) {
  return route.prefix_bits >= kMappedBits && is_v4(route.prefix);
}

class Neighbours {
 public:
  explicit Neighbours(const std::vector<KernelNeighbour>& list) {
    for (const auto& neighbour : list) {
      by_key_[{static_cast<std::uint32_t>(neighbour.ifindex), neighbour.address}] = &neighbour;
    }
  }
  const KernelNeighbour* find(int ifindex, const bpf::address& address) const {
    const auto found = by_key_.find({static_cast<std::uint32_t>(ifindex), address});
    return found == by_key_.end() ? nullptr : found->second;
  }

 private:
  std::map<bpf::route_key, const KernelNeighbour*, RouteKeyLess> by_key_;  // ifindex as the length
};

// The group bit: the kernel keeps multicast and broadcast addresses as neighbours too.
bool is_usable(const KernelNeighbour& neighbour) {
  return neighbour.has_mac && (neighbour.state & netlink::kUsableStates) != 0 &&
         (neighbour.mac[0] & 1) == 0;
}

// fe80::/10: the same address may be on every link, and the map's key names none.
bool is_link_local(const bpf::address& address) {
  return address.bytes[0] == 0xfe && (address.bytes[1] & 0xc0) == 0x80;
}

std::uint32_t mtu_of(const KernelRoute& route, const KernelLink& link) {
  const bool v6_limit = !is_in_mapped(route) && link.mtu_v6_bytes != 0;
  const std::uint32_t limit =
      v6_limit ? std::min(link.mtu_bytes, link.mtu_v6_bytes) : link.mtu_bytes;
  return route.mtu_bytes != 0 ? std::min(route.mtu_bytes, limit) : limit;
}

bpf::route hop_by(const KernelNeighbour& neighbour, const KernelLink& link, std::uint32_t mtu) {
  bpf::route route{};
  route.hop.ifindex = static_cast<std::uint32_t>(neighbour.ifindex);
  std::copy(std::begin(link.mac), std::end(link.mac), route.hop.source_mac);
  std::copy(std::begin(neighbour.mac), std::end(neighbour.mac), route.hop.destination_mac);
  route.mtu = mtu;
  return route;
}

class Planner {
 public:
  Planner(const KernelTables& tables, std::size_t room)
      : tables_(tables), neighbours_(tables.neighbours), room_(room) {}

  FamilyState add_family(const FamilyTables& family, bool v4) {
    if (!family.present) return FamilyState::kAbsent;
    if (!family.default_rules) return FamilyState::kRules;
    if (family.too_many) return FamilyState::kTooMany;
    std::vector<NeighbourKey> to_probe;
    Decisions decisions = decide(family, v4, to_probe);
    if (decisions.size() > room_) return FamilyState::kTooMany;
    room_ -= decisions.size();
    decisions_.merge(decisions);
    wanted_.to_probe.insert(wanted_.to_probe.end(), to_probe.begin(), to_probe.end());
    return FamilyState::kCached;
  }

  WantedRoutes finish(FamilyState v4, FamilyState v6) {
    wanted_.v4 = v4;
    wanted_.v6 = v6;
    // IPv4 without a default route would else be answered by IPv6's.
    if (v6 == FamilyState::kCached) {
      decisions_.try_emplace({kMappedBits, kMappedPrefix});
    }
    for (const auto& [key, decision] : decisions_) wanted_.entries[key] = decision.route;
    add_hosts();
    return std::move(wanted_);
  }

 private:
  Decisions decide(const FamilyTables& family, bool v4, std::vector<NeighbourKey>& to_probe) const {
    std::map<bpf::route_key, std::vector<const KernelRoute*>, RouteKeyLess> by_prefix;
    for (const auto& route : family.main) {
      if (is_in_mapped(route) == v4) by_prefix[key_of(route)].push_back(&route);
    }
    Decisions decisions;
    for (const auto& [key, routes] : by_prefix) decisions[key] = decide_prefix(routes, to_probe);
    // The local table is asked first, however specific the main one is; but IPv4's two are one tree
    // until the first rule is made, and then the more specific wins.
    for (const auto& route : family.local) {
      if (is_in_mapped(route) != v4) continue;
      const bpf::route_key key = key_of(route);
      auto covered = decisions.insert_or_assign(key, Decision{}).first;
      for (; covered != decisions.end() && covers(key, covered->first.address); ++covered) {
        covered->second = {};
      }
    }
    return decisions;
  }

  Decision decide_prefix(const std::vector<const KernelRoute*>& routes,
                         std::vector<NeighbourKey>& to_probe) const {
    const auto metric_less = [](const KernelRoute* left, const KernelRoute* right) {
      return left->metric < right->metric;
    };
    const KernelRoute& best = **std::min_element(routes.begin(), routes.end(), metric_less);
    // Of equals the kernel chooses by reachability, preference or hash.
    const auto equals = std::count_if(routes.begin(), routes.end(), [&](const KernelRoute* route) {
      return route->metric == best.metric;
    });
    const bool selective = std::any_of(routes.begin(), routes.end(),
                                       [](const KernelRoute* route) { return route->selective; });
    const auto link = tables_.links.find(best.ifindex);
    if (equals > 1 || selective || !best.plain || link == tables_.links.end() ||
        !link->second.usable) {
      return {};
    }
    const std::uint32_t mtu = mtu_of(best, link->second);
    if (!best.gateway) return {{}, best.ifindex, mtu};

    const KernelNeighbour* gateway = neighbours_.find(best.ifindex, *best.gateway);
    const bool usable = gateway != nullptr && is_usable(*gateway);
    if (!usable || gateway->state == NUD_STALE) {
      to_probe.push_back({best.ifindex, *best.gateway});
    }
    if (!usable) return {};
    return {hop_by(*gateway, link->second, mtu), 0, 0};
  }

  // Neighbours that a route puts on their link. One that is left out is asked of the kernel: its
  // prefix says so.
  void add_hosts() {
    std::set<std::uint32_t, std::greater<>> lengths;
    for (const auto& [key, decision] : decisions_) lengths.insert(key.prefix_bits);
    for (const auto& neighbour : tables_.neighbours) {
      if (!is_usable(neighbour) || is_link_local(neighbour.address)) continue;
      const Decision* decision = longest(lengths, neighbour.address);
      if (decision == nullptr || decision->on_link_index != neighbour.ifindex) continue;
      const bpf::route_key key{kHostBits, neighbour.address};
      const bool replaces = wanted_.entries.contains(key);
      if (!replaces && room_ == 0) {
        ++wanted_.hosts_left_out;
        continue;
      }
      if (!replaces) --room_;
      const KernelLink& link = tables_.links.at(neighbour.ifindex);
      wanted_.entries[key] = hop_by(neighbour, link, decision->on_link_mtu);
    }
  }

  const Decision* longest(const std::set<std::uint32_t, std::greater<>>& lengths,
                          const bpf::address& address) const {
    for (const std::uint32_t bits : lengths) {
      const auto found = decisions_.find({bits, masked(address, bits)});
      if (found != decisions_.end()) return &found->second;
    }
    return nullptr;
  }

  const KernelTables& tables_;
  Neighbours neighbours_;
  std::size_t room_;
  Decisions decisions_;
  WantedRoutes wanted_;
};

}  // namespace

WantedRoutes wanted_routes(const KernelTables& tables, std::size_t most_entries) {
  // One entry is kept back for IPv4's part of the key space.
  Planner planner(tables, most_entries > 0 ? most_entries - 1 : 0);
  const FamilyState v4 = planner.add_family(tables.v4, true);
  const FamilyState v6 = planner.add_family(tables.v6, false);
  return planner.finish(v4, v6);
}

}  // namespace petrel
