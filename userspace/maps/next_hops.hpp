// SPDX-License-Identifier: MIT
// NextHops: where the frames to an address go, from the kernel's routes, neighbours and links.
//
// Answers come over rtnetlink (libnl). changed_fd() becomes readable when a route, neighbour or link
// changes; the owner then calls drain_changes() and resolves anew. Not thread-safe.
#pragma once

#include <memory>
#include <optional>

#include "base/error.hpp"
#include "bpf/types.h"

namespace petrel {

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
  // changed_fd() tells when it has). Links without addresses (tun) are not cached either.
  std::optional<bpf::next_hop> resolve(const bpf::address& address);

 private:
  NextHops();
  struct Sockets;
  std::unique_ptr<Sockets> sockets_;
};

}  // namespace petrel
