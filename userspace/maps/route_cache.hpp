// SPDX-License-Identifier: MIT
// RouteCache: keeps the `routes` map as the kernel's routes and neighbours are, so that replies
// find their way to clients without bpf_fib_lookup. wanted_routes.hpp says what is in it.
//
// Call sync() when NextHops::drain_changes() says that something changed, at most once a tick: it
// reads the kernel's tables anew. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/error.hpp"
#include "maps/netlink.hpp"
#include "maps/wanted_routes.hpp"

namespace petrel {

class RouteCache {
 public:
  // `map_fd`: the `routes` map, which must outlive the cache. What it holds from an earlier agent
  // is taken over.
  static Result<RouteCache> open(int map_fd);

  // Writes what differs; true if anything did: the caller then makes control.route_generation grow.
  // Has the kernel probe gateways that it does not know or last heard of long ago, so that one that
  // fails is noticed. After an error the map answers as before it, or less.
  Result<bool> sync();

  std::size_t entries() const { return written_.size(); }
  FamilyState v4() const { return v4_; }
  FamilyState v6() const { return v6_; }

 private:
  RouteCache(int map_fd, std::uint32_t most_entries, netlink::Socket socket)
      : map_fd_(map_fd), most_entries_(most_entries), socket_(std::move(socket)) {}

  Result<void> read_map();
  Result<bool> write(const RouteEntries& wanted);
  Result<void> put_missing(const RouteEntries& wanted);
  Result<void> remove_others(const RouteEntries& wanted);
  void tell(const WantedRoutes& wanted);

  int map_fd_;
  std::uint32_t most_entries_;
  netlink::Socket socket_;  // for probes
  RouteEntries written_;    // what the map holds
  FamilyState v4_ = FamilyState::kCached;
  FamilyState v6_ = FamilyState::kCached;
};

}  // namespace petrel
