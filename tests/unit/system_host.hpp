// SPDX-License-Identifier: MIT
// A host, as facts, that has nothing to be mended, for tests to spoil.
#pragma once

#include "config/address.hpp"
#include "system/checks.hpp"

namespace petrel::test {

inline constexpr const char* kConfigPath = "/etc/petrel/petrel.toml";
inline constexpr std::uint64_t kEveryXdpFeature = 0x7f;
inline constexpr std::uint64_t kSeveralBuffers = 1 << 5;  // of one packet: RX_SG

struct Host {
  Config config;
  SystemFacts facts;

  std::vector<Check> judged() const { return judge(config, kConfigPath, facts); }
  HostFacts& host() { return facts.host; }
  InterfaceFacts& interface(std::size_t i) { return facts.interfaces.at(i); }
  RouteFacts& backend() { return facts.services.at(0).backends.at(0); }
  RouteFacts& vip() { return facts.services.at(0).vip; }
};

inline InterfaceFacts card(const std::string& name, std::uint32_t ifindex) {
  InterfaceFacts interface;
  interface.name = name;
  interface.ifindex = ifindex;
  interface.up = true;
  interface.mtu_bytes = 1500;
  interface.driver = "ice";
  interface.receive_queues = 8;
  interface.xdp_features = kEveryXdpFeature;
  interface.offloads = {{"rx-lro", {}}, {"rx-gro-hw", {}}, {"rx-vlan-hw-parse", {}}};
  interface.forwarding_v4 = true;
  return interface;
}

// A service on eth0 with one backend behind eth1; nothing about it is to be mended.
inline Host good_host() {
  Host it;
  it.config.agent.interfaces = {"eth0", "eth1"};
  ServiceConfig service;
  service.name = "web";
  service.address = *parse_address("10.0.0.1");
  BackendConfig backend;
  backend.name = "b1";
  backend.address = *parse_address("10.2.1.2");
  service.backends = {backend};
  it.config.services = {service};

  HostFacts& host = it.facts.host;
  host.kernel_release = "6.1.0-18-amd64";
  host.kernel = {6, 1};
  host.btf = true;
  host.capabilities = ~0ULL;
  host.jit = true;
  host.program_types = {{"xdp", true}, {"tracing", true}, {"sock_ops", true}};
  host.map_types = {{"lru_hash", true}, {"ringbuf", true}};
  host.pin_path_on_bpffs = true;
  host.cgroup2 = "/sys/fs/cgroup";
  host.executable = "/usr/sbin/petrel";
  host.forwarding_v4 = true;
  host.forwarding_v6 = true;
  it.facts.interfaces = {card("eth0", 2), card("eth1", 3)};
  ServiceFacts found;
  found.vip.kind = RouteKind::kNone;
  found.backends = {{.kind = RouteKind::kUnicast,
                     .interface = "eth1",
                     .has_gateway = false,
                     .next_hop = *parse_address("10.2.1.2"),
                     .neighbour_known = true,
                     .mtu_bytes = 1500}};
  it.facts.services = {found};
  return it;
}

inline PeerFacts good_peer() {
  return {.name = "veth1",
          .enter = "nsenter --net=/run/netns/b1 ",
          .offloads = {{"rx-gro", {.on = true}}, {"tx-checksum-ip-generic", {}}},
          .has_xdp = false};
}

inline void make_veth(Host& it) {
  it.interface(1).driver = "veth";
  it.interface(1).peer = good_peer();
}

}  // namespace petrel::test
