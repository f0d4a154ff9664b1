// SPDX-License-Identifier: MIT
// libnl's objects with owners, its error codes as Error, and addresses both ways.
#pragma once

#include <linux/neighbour.h>
#include <netlink/netlink.h>
#include <netlink/route/link.h>
#include <netlink/route/neighbour.h>
#include <netlink/route/route.h>

#include <cstdint>
#include <memory>

#include "base/error.hpp"
#include "bpf/types.h"

namespace petrel::netlink {

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

inline constexpr int kMacBytes = 6;
// States in which the kernel itself would send to the neighbour's address: its NUD_VALID.
inline constexpr int kUsableStates =
    NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_PERMANENT | NUD_NOARP;

// From a negative NLE_ code: "<what>: <its text>".
Error error(int rc, const char* what);

Result<Socket> connect();

Address to_address(const bpf::address& address);

// Of 4 or 16 bytes.
bpf::address from_bytes(const void* bytes, int length);

// Makes the kernel find, or verify, a neighbour as a packet to it would (NTF_USE). Traffic that XDP
// forwards does not do that: without this nobody would notice that a neighbour has gone.
void probe_neighbour(nl_sock* socket, int ifindex, const bpf::address& address);

}  // namespace petrel::netlink
