// SPDX-License-Identifier: MIT
// wanted_routes(): from the kernel's tables to the entries of the `routes` map. Pure.
//
// An entry answers for its whole prefix, so it may be there only if nothing more specific that
// answers otherwise is missing. Where the kernel decides by more than the destination, the entry
// says so (hop.ifindex 0), and the balancer asks bpf_fib_lookup.
#pragma once

#include <cstddef>
#include <cstring>
#include <map>
#include <vector>

#include "bpf/types.h"
#include "maps/kernel_tables.hpp"

namespace petrel {

// By address, then by length: what a prefix covers follows it without a gap.
struct RouteKeyLess {
  bool operator()(const bpf::route_key& left, const bpf::route_key& right) const {
    const int order =
        std::memcmp(left.address.bytes, right.address.bytes, sizeof(left.address.bytes));
    return order != 0 ? order < 0 : left.prefix_bits < right.prefix_bits;
  }
};
using RouteEntries = std::map<bpf::route_key, bpf::route, RouteKeyLess>;

// Why a family is in the map, or is not.
enum class FamilyState {
  kCached,
  kAbsent,   // the kernel does not have it
  kRules,    // rules other than the default ones: where a packet goes is not its address's alone
  kTooMany,  // more routes than the map holds
};

struct NeighbourKey {
  int ifindex;
  bpf::address address;
};

struct WantedRoutes {
  RouteEntries entries;
  FamilyState v4 = FamilyState::kAbsent;
  FamilyState v6 = FamilyState::kAbsent;
  std::vector<NeighbourKey> to_probe;  // gateways that are not known, or not known to live
  std::size_t hosts_left_out = 0;      // neighbours without room: the kernel is asked for them
};

WantedRoutes wanted_routes(const KernelTables& tables, std::size_t most_entries);

}  // namespace petrel
