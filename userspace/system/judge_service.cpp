// SPDX-License-Identifier: MIT
// A service: who else answers for its VIP, and whether its backends can be reached.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "config/address.hpp"
#include "system/judges.hpp"

namespace petrel {
namespace {

std::string prefix_text(const bpf::address& address) {
  return to_string(address) + (is_v4(address) ? "/32" : "/128");
}

void judge_vip(const ServiceConfig& service, const RouteFacts& vip, Checks& checks) {
  const std::string address = to_string(service.address);
  const std::string take = "ip address add " + prefix_text(service.address) + " dev lo";
  if (vip.kind == RouteKind::kLocal) {
    checks.push_back(good("service.vip", service.name, address + " is an address of this host",
                          "what petrel lets pass, the kernel answers"));
  } else if (vip.kind == RouteKind::kUnicast && vip.has_gateway) {
    checks.push_back(degraded(
        "service.vip", service.name,
        fmt::format("{} is routed on to {} by {}", address, to_string(vip.next_hop), vip.interface),
        "what petrel lets pass goes back to that router: it may circle until "
        "its TTL ends",
        take));
  } else if (vip.kind == RouteKind::kUnicast) {
    checks.push_back(
        degraded("service.vip", service.name,
                 fmt::format("{} is taken to be a neighbour on {}", address, vip.interface),
                 "this host does not answer ARP or neighbour discovery for it: "
                 "only those with a route through this host reach it",
                 take));
  } else {
    checks.push_back(good("service.vip", service.name,
                          address + " is no address of this host and has no route",
                          "what petrel lets pass, the kernel refuses as unreachable"));
  }
}

// True where the route serves; else adds a check.
bool judge_route(const Config& config, const ServiceConfig& service, const BackendConfig& backend,
                 const RouteFacts& route, Checks& checks) {
  const std::string subject = service.name + "/" + backend.name;
  const std::string address = to_string(backend.address);
  const std::string family = is_v4(backend.address) ? "ip route" : "ip -6 route";
  if (route.kind == RouteKind::kNone || route.kind == RouteKind::kRefused) {
    checks.push_back(degraded(
        "backend.route", subject,
        address + (route.kind == RouteKind::kNone ? " has no route" : "'s route refuses packets"),
        "nothing reaches this backend",
        fmt::format("{} replace {} via GATEWAY", family, prefix_text(backend.address))));
    return false;
  }
  if (route.kind == RouteKind::kLocal) {
    checks.push_back(degraded("backend.route", subject, address + " is this host itself",
                              service.forward == Forward::kNat
                                  ? "its replies never pass an interface: they are not rewritten, "
                                    "and clients do not take them"
                                  : "the kernel has to take what is encapsulated for it apart",
                              ""));
    return false;
  }
  const auto& ours = config.agent.interfaces;
  if (service.forward == Forward::kNat &&
      std::find(ours.begin(), ours.end(), route.interface) == ours.end()) {
    checks.push_back(degraded(
        "backend.route", subject,
        fmt::format("{} is reached by {}, none of agent.interfaces", address, route.interface),
        "its replies come in where petrel does not see them: they are not "
        "rewritten. Add the interface to agent.interfaces",
        ""));
    return false;
  }
  return true;
}

}  // namespace

void judge_service(const Config& config, const ServiceConfig& service, const ServiceFacts& found,
                   Checks& checks) {
  judge_vip(service, found.vip, checks);
  std::size_t routed = 0;
  std::size_t known = 0;
  std::set<std::string> asked;  // next hops already named: a gateway has many backends
  const std::size_t count = std::min(service.backends.size(), found.backends.size());
  for (std::size_t i = 0; i < count; ++i) {
    const RouteFacts& route = found.backends[i];
    if (!judge_route(config, service, service.backends[i], route, checks)) continue;
    ++routed;
    if (route.neighbour_known) {
      ++known;
      continue;
    }
    const std::string hop = to_string(route.next_hop);
    if (!asked.insert(hop + "%" + route.interface).second) continue;
    checks.push_back(
        degraded("backend.neighbour", service.name + "/" + service.backends[i].name,
                 fmt::format("the link address of {} on {} is not known", hop, route.interface),
                 "first packets go through the kernel until it has asked; if it does "
                 "not answer, none arrives",
                 fmt::format("ip neighbour replace {} dev {} use", hop, route.interface)));
  }
  if (routed > 0 && routed == known) {
    checks.push_back(
        good("service.backends", service.name,
             fmt::format("{} of {} backends: route and neighbour known", known, count)));
  }
}

}  // namespace petrel
