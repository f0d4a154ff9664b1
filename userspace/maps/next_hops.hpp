// SPDX-License-Identifier: MIT
// NextHops: where the frames to an address go, from the kernel's routes, neighbours and links.
//
// Answers come over rtnetlink (libnl). changed_fd() becomes readable when a route, rule, next-hop
// object, neighbour or link changes; the owner then calls drain_changes(), resolves anew, and has
// RouteCache follow. Not thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "base/error.hpp"
#include "bpf/types.h"

namespace petrel {

struct ResolvedHop {
  bpf::next_hop hop;
  std::uint32_t mtu_bytes;  // of the route, at most the link's: from the IP header on
};

class NextHops {
 public:
  static Result<NextHops> open();

  NextHops(NextHops&&) noexcept;
  NextHops& operator=(NextHops&&) noexcept;
  ~NextHops();

  int changed_fd() const;
  // Reads all that is pending; true if anything had changed.
  bool drain_changes();

  // Reads the neighbour table anew; before a round of resolve() calls.
  Result<void> refresh();

  // nullopt: there is no route, or the neighbour is not known (the kernel is asked to find it, and
  // changed_fd() tells when it has). Links without addresses (tun), and routes that encapsulate,
  // are not cached either. In `dsr`, `address` is the backend's: the outer packet's way.
  std::optional<ResolvedHop> resolve(const bpf::address& address);

 private:
  NextHops();
  struct Sockets;
  std::unique_ptr<Sockets> sockets_;
};

}  // namespace petrel
