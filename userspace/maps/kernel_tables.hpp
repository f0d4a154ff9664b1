// SPDX-License-Identifier: MIT
// KernelTables: the kernel's rules, routes, neighbours and links at one moment, read over
// rtnetlink.
//
// Only what decides where a packet goes is kept. Messages are read attribute by attribute: one that
// is not known here (a newer kernel's, an encapsulation) makes a route the kernel's own affair.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "base/error.hpp"
#include "bpf/types.h"

namespace petrel {

struct KernelRoute {
  bpf::address prefix{};
  std::uint32_t prefix_bits = 0;  // as in bpf::route_key: of IPv4 96 more than its own
  std::uint32_t metric = 0;       // of several routes to one prefix the least wins
  bool selective = false;         // asks for more than the destination: TOS, source prefix
  bool plain = false;             // unicast, one next hop that lives, no encapsulation
  int ifindex = 0;
  std::optional<bpf::address> gateway;  // nullopt: on the link
  std::uint32_t mtu_bytes = 0;          // 0: the link's
};

struct KernelNeighbour {
  int ifindex = 0;
  bpf::address address{};
  std::uint8_t mac[6] = {};
  bool has_mac = false;
  std::uint16_t state = 0;  // NUD_*
};

struct KernelLink {
  std::uint8_t mac[6] = {};
  bool usable = false;  // up, Ethernet
  std::uint32_t mtu_bytes = 0;
  std::uint32_t mtu_v6_bytes = 0;  // 0: as mtu_bytes
};

struct FamilyTables {
  bool present = false;        // the kernel has the family, with policy rules
  bool default_rules = false;  // local, main (and IPv4's default) for all packets, nothing else
  bool too_many = false;       // more routes than asked for: they were not read to their end
  std::vector<KernelRoute> local;
  std::vector<KernelRoute> main;
};

struct KernelTables {
  FamilyTables v4;
  FamilyTables v6;
  std::map<int, KernelLink> links;  // by ifindex
  std::vector<KernelNeighbour> neighbours;
};

// Of the calling thread's network namespace. Reads at most `most_routes` of each family: a full
// Internet table takes a second to read, and would not fit.
Result<KernelTables> read_kernel_tables(std::size_t most_routes);

}  // namespace petrel
