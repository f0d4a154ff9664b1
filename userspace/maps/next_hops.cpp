// SPDX-License-Identifier: MIT
#include "maps/next_hops.hpp"

#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "config/address.hpp"
#include "maps/netlink.hpp"

namespace petrel {
namespace {

using namespace netlink;

// A bridge's forwarding table comes by the neighbours' group too: it says nothing about routes.
bool is_about_bridging(const nlmsghdr* header) {
  if (header->nlmsg_type != RTM_NEWNEIGH && header->nlmsg_type != RTM_DELNEIGH) return false;
  return static_cast<const ndmsg*>(nlmsg_data(header))->ndm_family == AF_BRIDGE;
}

int note_message(nl_msg* message, void* changed) {
  if (!is_about_bridging(nlmsg_hdr(message))) *static_cast<bool*>(changed) = true;
  return NL_OK;
}

bool copy_mac(nl_addr* from, std::uint8_t (&to)[kMacBytes]) {
  if (from == nullptr || nl_addr_get_len(from) != kMacBytes) return false;
  std::memcpy(to, nl_addr_get_binary_addr(from), kMacBytes);
  return true;
}

// RTA_GATEWAY, or RTA_VIA (an IPv4 route by an IPv6 neighbour); else the target is on the link.
bpf::address neighbour_of(rtnl_nexthop* via, const bpf::address& target) {
  nl_addr* gateway = rtnl_route_nh_get_gateway(via);
  if (gateway == nullptr) gateway = rtnl_route_nh_get_via(via);
  if (gateway == nullptr) return target;
  return from_bytes(nl_addr_get_binary_addr(gateway), static_cast<int>(nl_addr_get_len(gateway)));
}

}  // namespace

struct NextHops::Sockets {
  Socket request;
  Socket monitor;
  Cache neighbours;
  bool changed = false;
};

NextHops::NextHops() : sockets_(std::make_unique<Sockets>()) {}
NextHops::NextHops(NextHops&&) noexcept = default;
NextHops& NextHops::operator=(NextHops&&) noexcept = default;
NextHops::~NextHops() = default;

Result<NextHops> NextHops::open() {
  auto request = connect();
  if (!request) return request.error();
  auto connected = connect();
  if (!connected) return connected.error();

  NextHops hops;
  Sockets& sockets = *hops.sockets_;
  sockets.request = std::move(*request);
  sockets.monitor = std::move(*connected);
  nl_sock* monitor = sockets.monitor.get();
  nl_socket_disable_seq_check(monitor);
  nl_socket_modify_cb(monitor, NL_CB_VALID, NL_CB_CUSTOM, note_message, &sockets.changed);
  const int rc = nl_socket_add_memberships(
      monitor, RTNLGRP_NEIGH, RTNLGRP_LINK, RTNLGRP_IPV6_IFINFO, RTNLGRP_IPV4_ROUTE,
      RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_RULE, RTNLGRP_NEXTHOP, 0);
  if (rc < 0) return netlink::error(rc, "listen to rtnetlink");
  nl_socket_set_nonblocking(monitor);
  if (auto fresh = hops.refresh(); !fresh) return fresh.error();
  return hops;
}

int NextHops::changed_fd() const {
  return nl_socket_get_fd(sockets_->monitor.get());
}

bool NextHops::drain_changes() {
  sockets_->changed = false;
  // An overrun (-NLE_NOMEM) lost messages: that, too, means that something changed.
  for (int rc = 0; rc >= 0 || rc == -NLE_NOMEM;) {
    rc = nl_recvmsgs_default(sockets_->monitor.get());
    if (rc == -NLE_NOMEM) sockets_->changed = true;
  }
  return sockets_->changed;
}

Result<void> NextHops::refresh() {
  nl_cache* cache = nullptr;
  if (const int rc = rtnl_neigh_alloc_cache(sockets_->request.get(), &cache); rc < 0) {
    return netlink::error(rc, "read neighbours");
  }
  sockets_->neighbours.reset(cache);
  return {};
}

std::optional<ResolvedHop> NextHops::resolve(const bpf::address& address) {
  nl_sock* request = sockets_->request.get();
  const Address target = to_address(address);
  rtnl_route* found_route = nullptr;
  // Fails, too, for encapsulations that libnl does not know: the kernel's own affair.
  if (rtnl_route_lookup(request, target.get(), &found_route) < 0) return {};
  const Route route(found_route);
  rtnl_nexthop* via = rtnl_route_nexthop_n(route.get(), 0);
  if (via == nullptr || rtnl_route_get_type(route.get()) != RTN_UNICAST) return {};
  if (rtnl_route_nh_get_encap_mpls_dst(via) != nullptr) return {};
  const int ifindex = rtnl_route_nh_get_ifindex(via);

  const bpf::address next = neighbour_of(via, address);
  const Address key = to_address(next);
  const Neighbour neighbour(rtnl_neigh_get(sockets_->neighbours.get(), ifindex, key.get()));
  const int state = neighbour ? rtnl_neigh_get_state(neighbour.get()) : NUD_NONE;
  ResolvedHop resolved{};
  const bool usable =
      (state & kUsableStates) != 0 &&
      copy_mac(rtnl_neigh_get_lladdr(neighbour.get()), resolved.hop.destination_mac);
  if (!usable || state == NUD_STALE) probe_neighbour(request, ifindex, next);
  if (!usable) return {};

  rtnl_link* found_link = nullptr;
  if (rtnl_link_get_kernel(request, ifindex, nullptr, &found_link) < 0) return {};
  const Link link(found_link);
  if (!copy_mac(rtnl_link_get_addr(link.get()), resolved.hop.source_mac)) return {};
  resolved.hop.ifindex = static_cast<std::uint32_t>(ifindex);
  resolved.mtu_bytes = rtnl_link_get_mtu(link.get());
  std::uint32_t route_mtu = 0;
  if (rtnl_route_get_metric(route.get(), RTAX_MTU, &route_mtu) == 0 && route_mtu != 0) {
    resolved.mtu_bytes = std::min(resolved.mtu_bytes, route_mtu);
  }
  return resolved;
}

}  // namespace petrel
