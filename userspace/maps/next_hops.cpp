// SPDX-License-Identifier: MIT
#include "maps/next_hops.hpp"

#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <netlink/netlink.h>
#include <netlink/route/link.h>
#include <netlink/route/neighbour.h>
#include <netlink/route/route.h>
#include <sys/socket.h>

#include <cstring>
#include <map>

#include "config/address.hpp"

namespace petrel {
namespace {

template <auto Release>
struct Releaser {
  template <class T>
  void operator()(T* object) const {
    Release(object);
  }
};
template <class T, auto Release>
using Owned = std::unique_ptr<T, Releaser<Release>>;

using Socket = Owned<nl_sock, nl_socket_free>;
using Cache = Owned<nl_cache, nl_cache_free>;
using Address = Owned<nl_addr, nl_addr_put>;
using Route = Owned<rtnl_route, rtnl_route_put>;
using Neighbour = Owned<rtnl_neigh, rtnl_neigh_put>;
using Link = Owned<rtnl_link, rtnl_link_put>;

constexpr int kMacBytes = 6;
constexpr int kUsableStates =
    NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_PERMANENT | NUD_NOARP;

Error netlink_error(int rc, const char* what) {
  return Error(ExitCode::kRuntime, std::string(what) + ": " + nl_geterror(rc));
}

Address to_netlink(const bpf::address& address) {
  if (is_v4(address)) return Address(nl_addr_build(AF_INET, &address.bytes[12], 4));
  return Address(nl_addr_build(AF_INET6, address.bytes, 16));
}

int count_message(nl_msg*, void* changed) {
  *static_cast<bool*>(changed) = true;
  return NL_OK;
}

bool copy_mac(nl_addr* from, std::uint8_t (&to)[kMacBytes]) {
  if (from == nullptr || nl_addr_get_len(from) != kMacBytes) return false;
  std::memcpy(to, nl_addr_get_binary_addr(from), kMacBytes);
  return true;
}

}  // namespace

struct NextHops::Sockets {
  Socket request;
  Socket monitor;
  Cache neighbours;
  bool changed = false;

  // Makes the kernel resolve a neighbour it does not know, as a packet to it would.
  void kick(int ifindex, nl_addr* address) const {
    const Neighbour neighbour(rtnl_neigh_alloc());
    rtnl_neigh_set_ifindex(neighbour.get(), ifindex);
    rtnl_neigh_set_dst(neighbour.get(), address);
    rtnl_neigh_set_flags(neighbour.get(), NTF_USE);
    rtnl_neigh_add(request.get(), neighbour.get(), NLM_F_CREATE);
  }
};

NextHops::NextHops() : sockets_(std::make_unique<Sockets>()) {}
NextHops::NextHops(NextHops&&) noexcept = default;
NextHops& NextHops::operator=(NextHops&&) noexcept = default;
NextHops::~NextHops() = default;

Result<NextHops> NextHops::open() {
  NextHops hops;
  Sockets& sockets = *hops.sockets_;
  sockets.request.reset(nl_socket_alloc());
  sockets.monitor.reset(nl_socket_alloc());
  if (!sockets.request || !sockets.monitor) return Error(ExitCode::kRuntime, "allocate netlink");
  if (const int rc = nl_connect(sockets.request.get(), NETLINK_ROUTE); rc < 0) {
    return netlink_error(rc, "connect to rtnetlink");
  }
  nl_sock* monitor = sockets.monitor.get();
  nl_socket_disable_seq_check(monitor);
  nl_socket_modify_cb(monitor, NL_CB_VALID, NL_CB_CUSTOM, count_message, &sockets.changed);
  if (const int rc = nl_connect(monitor, NETLINK_ROUTE); rc < 0) {
    return netlink_error(rc, "connect to rtnetlink");
  }
  const int rc = nl_socket_add_memberships(monitor, RTNLGRP_NEIGH, RTNLGRP_LINK,
                                           RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE, 0);
  if (rc < 0) return netlink_error(rc, "listen to rtnetlink");
  nl_socket_set_nonblocking(monitor);
  if (auto fresh = hops.refresh(); !fresh) return fresh.error();
  return hops;
}

int NextHops::changed_fd() const { return nl_socket_get_fd(sockets_->monitor.get()); }

bool NextHops::drain_changes() {
  sockets_->changed = false;
  // An overrun (-NLE_NOMEM) lost messages: that, too, means that something changed.
  for (int rc = 0; rc >= 0;) {
    rc = nl_recvmsgs_default(sockets_->monitor.get());
    if (rc == -NLE_NOMEM) sockets_->changed = true;
  }
  return sockets_->changed;
}

Result<void> NextHops::refresh() {
  nl_cache* cache = nullptr;
  if (const int rc = rtnl_neigh_alloc_cache(sockets_->request.get(), &cache); rc < 0) {
    return netlink_error(rc, "read neighbours");
  }
  sockets_->neighbours.reset(cache);
  return {};
}

std::optional<bpf::next_hop> NextHops::resolve(const bpf::address& address) {
  const Address target = to_netlink(address);
  rtnl_route* found_route = nullptr;
  if (rtnl_route_lookup(sockets_->request.get(), target.get(), &found_route) < 0) return {};
  const Route route(found_route);
  rtnl_nexthop* via = rtnl_route_nexthop_n(route.get(), 0);
  if (via == nullptr || rtnl_route_get_type(route.get()) != RTN_UNICAST) return {};
  const int ifindex = rtnl_route_nh_get_ifindex(via);
  nl_addr* gateway = rtnl_route_nh_get_gateway(via);
  nl_addr* neighbour_address = gateway != nullptr ? gateway : target.get();

  const Neighbour neighbour(
      rtnl_neigh_get(sockets_->neighbours.get(), ifindex, neighbour_address));
  bpf::next_hop hop{};
  if (!neighbour || (rtnl_neigh_get_state(neighbour.get()) & kUsableStates) == 0 ||
      !copy_mac(rtnl_neigh_get_lladdr(neighbour.get()), hop.destination_mac)) {
    sockets_->kick(ifindex, neighbour_address);
    return {};
  }
  rtnl_link* found_link = nullptr;
  if (rtnl_link_get_kernel(sockets_->request.get(), ifindex, nullptr, &found_link) < 0) return {};
  const Link link(found_link);
  if (!copy_mac(rtnl_link_get_addr(link.get()), hop.source_mac)) return {};
  hop.ifindex = static_cast<std::uint32_t>(ifindex);
  return hop;
}

}  // namespace petrel
