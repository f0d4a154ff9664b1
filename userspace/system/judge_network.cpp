// SPDX-License-Identifier: MIT
// What several interfaces have to agree on, and what the kernel must be willing to route for us.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "config/address.hpp"
#include "system/judges.hpp"

namespace petrel {
namespace {

constexpr std::uint32_t kInternetMtu = 1500;

struct Family {
  bool v4 = false;
  bool v6 = false;
};

Family families(const Config& config) {
  Family used;
  const auto add = [&](const bpf::address& address) {
    (is_v4(address) ? used.v4 : used.v6) = true;
  };
  for (const ServiceConfig& service : config.services) {
    add(service.address);
    for (const BackendConfig& backend : service.backends) add(backend.address);
  }
  return used;
}

// Interfaces that backends of services forwarded in this way are reached through.
std::set<std::string> backend_sides(const Config& config, const SystemFacts& facts,
                                    Forward forward) {
  std::set<std::string> sides;
  const std::size_t count = std::min(config.services.size(), facts.services.size());
  for (std::size_t i = 0; i < count; ++i) {
    if (config.services[i].forward != forward) continue;
    for (const RouteFacts& route : facts.services[i].backends) {
      if (route.kind == RouteKind::kUnicast) sides.insert(route.interface);
    }
  }
  return sides;
}

// How large clients' packets may come: the MTU of the interfaces that lead to no backend. A host
// with one interface is taken to be reached over paths of 1500.
std::uint32_t client_mtu(const SystemFacts& facts, const std::set<std::string>& backend_side) {
  std::uint32_t largest = 0;
  std::uint32_t shared = kInternetMtu;
  for (const InterfaceFacts& interface : facts.interfaces) {
    if (interface.ifindex == 0) continue;
    if (!backend_side.contains(interface.name)) {
      largest = std::max(largest, interface.mtu_bytes);
    } else {
      shared = std::min(shared, interface.mtu_bytes);
    }
  }
  return largest != 0 ? largest : shared;
}

// IPv4 encapsulates IPv4 in 20 bytes; an IPv6 backend's outer header has 40.
void judge_encapsulation(const Config& config, const SystemFacts& facts, Checks& checks) {
  const std::set<std::string> sides = backend_sides(config, facts, Forward::kDsr);
  const std::uint32_t from_clients = client_mtu(facts, sides);
  const std::size_t count = std::min(config.services.size(), facts.services.size());
  for (std::size_t i = 0; i < count; ++i) {
    const ServiceConfig& service = config.services[i];
    if (service.forward != Forward::kDsr) continue;
    const Check* said = nullptr;
    for (std::size_t j = 0; j < service.backends.size() && said == nullptr; ++j) {
      const RouteFacts& route = facts.services[i].backends[j];
      const std::uint32_t needed = from_clients + (is_v4(service.backends[j].address) ? 20 : 40);
      if (route.kind != RouteKind::kUnicast || route.mtu_bytes >= needed) continue;
      checks.push_back(degraded(
          "service.encap_mtu", service.name,
          fmt::format("{} towards backend {} by {}, {} from clients", route.mtu_bytes,
                      service.backends[j].name, route.interface, from_clients),
          fmt::format("encapsulated, a client's largest packet takes {}: it is answered \"too "
                      "big\", and connections go on in smaller segments",
                      needed),
          fmt::format("ip link set dev {} mtu {}", route.interface, needed)));
      said = &checks.back();
    }
    if (said == nullptr) {
      checks.push_back(good("service.encap_mtu", service.name,
                            fmt::format("clients' {} bytes fit when encapsulated", from_clients)));
    }
  }
}

void judge_sysctl(const char* id, const char* name, const std::optional<bool>& on, Checks& checks) {
  if (on.value_or(false)) {
    checks.push_back(good(id, "", std::string(name) + " is 1"));
    return;
  }
  checks.push_back(degraded(id, "", std::string(name) + (on ? " is 0" : " is not there"),
                            "bpf_fib_lookup finds no way and the kernel routes nothing: first "
                            "packets to a neighbour not yet known are lost",
                            on ? std::string("sysctl -w ") + name + "=1" : ""));
}

// What the kernel makes of replies that come from a VIP: how its reverse path check sees the VIP.
struct VipRoutes {
  bool local = false;     // a VIP is this host's own
  bool unrouted = false;  // there is no way to a VIP
};

// Of IPv4 services with nat: IPv6 has no such check, dsr no replies.
VipRoutes vip_routes(const Config& config, const SystemFacts& facts) {
  VipRoutes routes;
  const std::size_t count = std::min(config.services.size(), facts.services.size());
  for (std::size_t i = 0; i < count; ++i) {
    const ServiceConfig& service = config.services[i];
    if (service.forward != Forward::kNat || !is_v4(service.address)) continue;
    const RouteKind kind = facts.services[i].vip.kind;
    routes.local = routes.local || kind == RouteKind::kLocal;
    routes.unrouted = routes.unrouted || kind == RouteKind::kNone || kind == RouteKind::kRefused;
  }
  return routes;
}

// Strict (1) drops what would not be answered by the interface that it came in on; loose (2) what
// could not be answered at all, so that without a way to the VIP only 0 serves.
void judge_rp_filter(const InterfaceFacts& interface, bool unrouted_vip, Checks& checks) {
  if (interface.rp_filter != 1 && (interface.rp_filter == 0 || !unrouted_vip)) {
    checks.push_back(good("interface.rp_filter", interface.name,
                          fmt::format("rp_filter is {}", interface.rp_filter)));
    return;
  }
  // The greater of the interface's and of all's is in force.
  const std::string command = unrouted_vip
                                  ? sysctl_command("ipv4", "all", "rp_filter", 0) + " && " +
                                        sysctl_command("ipv4", interface.name, "rp_filter", 0)
                                  : sysctl_command("ipv4", interface.name, "rp_filter", 2);
  checks.push_back(degraded("interface.rp_filter", interface.name,
                            fmt::format("rp_filter is {} ({}){}", interface.rp_filter,
                                        interface.rp_filter == 1 ? "strict" : "loose",
                                        unrouted_vip ? ", and a VIP has no route" : ""),
                            "replies from backends that the kernel is left to route are dropped "
                            "as coming the wrong way",
                            command));
}

// A reply that XDP cannot place is rewritten to come from the VIP and left to the kernel, which
// then asks whether such a packet may come in by that interface (fib_validate_source).
void judge_reverse_path(const Config& config, const SystemFacts& facts, Checks& checks) {
  const std::set<std::string> sides = backend_sides(config, facts, Forward::kNat);
  const VipRoutes vips = vip_routes(config, facts);
  for (const InterfaceFacts& interface : facts.interfaces) {
    if (interface.ifindex == 0 || !sides.contains(interface.name)) continue;
    judge_rp_filter(interface, vips.unrouted, checks);
    if (vips.local && !interface.accept_local) {
      checks.push_back(degraded("interface.accept_local", interface.name,
                                "accept_local is 0, and a VIP is this host's own address",
                                "replies from backends that the kernel is left to route come from "
                                "the VIP: it drops them as martians",
                                sysctl_command("ipv4", interface.name, "accept_local", 1)));
    }
  }
}

}  // namespace

void judge_mtu(const Config& config, const SystemFacts& facts, Checks& checks) {
  const InterfaceFacts* least = nullptr;
  for (const InterfaceFacts& interface : facts.interfaces) {
    if (interface.ifindex == 0) continue;
    if (least == nullptr || interface.mtu_bytes < least->mtu_bytes) least = &interface;
  }
  // With dsr the way to backends is meant to be the larger one.
  const std::set<std::string> encapsulated = backend_sides(config, facts, Forward::kDsr);
  bool equal = true;
  for (const InterfaceFacts& interface : facts.interfaces) {
    if (interface.ifindex == 0 || interface.mtu_bytes == least->mtu_bytes) continue;
    if (encapsulated.contains(interface.name)) continue;
    equal = false;
    checks.push_back(degraded(
        "interface.mtu_equal", interface.name,
        fmt::format("{}, and {} has {}", interface.mtu_bytes, least->name, least->mtu_bytes),
        "larger packets from here do not fit there: they are answered \"too big\" or lost",
        fmt::format("ip link set dev {} mtu {}", interface.name, least->mtu_bytes)));
  }
  if (equal && facts.interfaces.size() > 1 && least != nullptr) {
    checks.push_back(good("interface.mtu_equal", "", "no interface's MTU is in another's way"));
  }
  judge_encapsulation(config, facts, checks);
}

void judge_forwarding(const Config& config, const SystemFacts& facts, Checks& checks) {
  const Family used = families(config);
  if (used.v4) {
    judge_sysctl("net.ip_forward", "net.ipv4.ip_forward", facts.host.forwarding_v4, checks);
    for (const InterfaceFacts& interface : facts.interfaces) {
      // Setting ip_forward sets them all: one that differs was switched off by itself.
      if (!facts.host.forwarding_v4.value_or(false) || interface.forwarding_v4.value_or(true)) {
        continue;
      }
      checks.push_back(degraded("interface.forwarding", interface.name, "forwarding is 0",
                                "bpf_fib_lookup finds no way for packets that come in here",
                                sysctl_command("ipv4", interface.name, "forwarding", 1)));
    }
  }
  if (used.v6) {
    judge_sysctl("net.ipv6_forwarding", "net.ipv6.conf.all.forwarding", facts.host.forwarding_v6,
                 checks);
  }
  judge_reverse_path(config, facts, checks);
}

}  // namespace petrel
