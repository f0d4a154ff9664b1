// SPDX-License-Identifier: MIT
// RouteTables: links, neighbours, routes and XDP features, as netlink tells them.
//
// Links and neighbours are as they were at open(). Not thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/error.hpp"
#include "system/facts.hpp"

namespace petrel {

struct LinkFacts {
  std::uint32_t ifindex = 0;
  bool up = false;
  std::uint32_t mtu_bytes = 0;
  std::uint32_t peer_ifindex = 0;        // of a veth; 0: none
  std::optional<int> peer_namespace_id;  // where the peer is, if not here
};

class RouteTables {
 public:
  static Result<RouteTables> open();

  RouteTables(RouteTables&&) noexcept;
  RouteTables& operator=(RouteTables&&) noexcept;
  ~RouteTables();

  std::optional<LinkFacts> link(const std::string& name) const;
  RouteFacts route(const bpf::address& address) const;

  // The id by which this network namespace knows another one; nullopt if it does not.
  std::optional<int> namespace_id(int namespace_fd) const;

  // enum netdev_xdp_act of an interface; nullopt on kernels before 6.3.
  std::optional<std::uint64_t> xdp_features(std::uint32_t ifindex) const;

 private:
  RouteTables();
  struct Sockets;
  std::unique_ptr<Sockets> sockets_;
};

}  // namespace petrel
