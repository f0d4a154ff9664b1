// SPDX-License-Identifier: MIT
// What there is to know about this host before petrel runs on it. Plain data: probe.hpp gathers it.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "bpf/types.h"

namespace petrel {

struct KernelVersion {
  std::uint32_t major = 0;
  std::uint32_t minor = 0;

  auto operator<=>(const KernelVersion&) const = default;
};

// A BPF program type or map type, and whether the kernel takes one from us.
struct Loadable {
  std::string name;  // as in enum bpf_prog_type and bpf_map_type, in lower case
  bool works = false;
};

struct HostFacts {
  std::string kernel_release;
  KernelVersion kernel;
  bool btf = false;
  bool atomics = true;                  // BPF_FETCH, 5.12; true where it could not be asked
  std::uint64_t capabilities = 0;       // effective; bit n: capability n
  std::optional<bool> jit;              // nullopt: could not be asked
  std::vector<Loadable> program_types;  // empty: could not be asked
  std::vector<Loadable> map_types;      // empty: could not be asked
  bool pin_path_on_bpffs = false;
  std::optional<std::uint64_t> memlock_bytes;  // RLIMIT_MEMLOCK; nullopt: unlimited
  std::string cgroup2;                         // where one is mounted; "": nowhere
  std::string executable;                      // this program's file
  std::optional<bool> forwarding_v4;           // net.ipv4.ip_forward
  std::optional<bool> forwarding_v6;           // net.ipv6.conf.all.forwarding; nullopt: no IPv6
};

enum class XdpAttached : std::uint8_t { kNone, kNative, kGeneric, kHardware };

struct XdpFacts {
  XdpAttached attached = XdpAttached::kNone;
  std::uint32_t program_id = 0;
  std::uint32_t link_id = 0;      // 0: attached without a BPF link, or that could not be asked
  std::string program_name = {};  // "": could not be asked
  std::string owner = {};         // user that loaded it
  std::chrono::seconds age{};
  bool ours = false;  // held by the link pinned under agent.pin_path
};

// An offload of an interface; an absent one is one that the driver does not know.
struct Offload {
  bool on = false;
  bool fixed = false;  // cannot be switched
};
using Offloads = std::map<std::string, Offload>;  // by the kernel's names, as `ethtool -k`

// The far end of a veth pair.
struct PeerFacts {
  std::string name;
  std::string enter;  // put before a command to run it where the peer is; "": the peer is here
  Offloads offloads;
  bool has_xdp = false;
};

struct InterfaceFacts {
  std::string name;
  std::uint32_t ifindex = 0;  // 0: there is none of that name
  bool up = false;
  std::uint32_t mtu_bytes = 0;
  std::string driver;
  std::uint32_t receive_queues = 0;           // 0: could not be asked
  std::optional<std::uint64_t> xdp_features;  // enum netdev_xdp_act; nullopt: kernel below 6.3
  XdpFacts xdp;
  Offloads offloads;
  std::optional<PeerFacts> peer;  // of a veth; nullopt: not found
  std::optional<bool> forwarding_v4;
  std::uint32_t rp_filter = 0;  // in force: the greater of the interface's and `all`
  bool accept_local = false;    // in force
};

enum class RouteKind : std::uint8_t { kNone, kUnicast, kLocal, kRefused };

// The way that the kernel would send a packet to an address.
struct RouteFacts {
  RouteKind kind = RouteKind::kNone;
  std::string interface;
  bool has_gateway = false;
  bpf::address next_hop{};       // the gateway, or the address itself
  bool neighbour_known = false;  // its link address is; or the link has none
  std::uint32_t mtu_bytes = 0;   // the route's, else the interface's
};

struct ServiceFacts {
  RouteFacts vip;
  std::vector<RouteFacts> backends;  // in the configuration's order
};

struct SystemFacts {
  HostFacts host;
  std::vector<InterfaceFacts> interfaces;  // in the configuration's order
  std::vector<ServiceFacts> services;      // in the configuration's order
};

}  // namespace petrel
