// SPDX-License-Identifier: MIT
// DsrTest: a TCP and a UDP service whose packets are encapsulated, in each of the three ways.
#pragma once

#include <functional>
#include <string>

#include "tests/bpf/path_fixture.hpp"

namespace petrel::test {

struct Mode {
  std::string name;
  const Hosts* hosts;  // of the inner packet
  bool outer_v6;

  bool inner_v6() const { return hosts == &v6(); }
  std::size_t outer_bytes() const { return outer_v6 ? kIpv6Bytes : kIpv4Bytes; }
  std::size_t inner_bytes() const { return inner_v6() ? kIpv6Bytes : kIpv4Bytes; }
  Endpoint vip() const { return hosts->vip; }               // TCP: to b1
  Endpoint udp() const { return udp_vip(*hosts); }          // UDP: to b4
  Endpoint backend(bool is_udp) const {
    const Hosts& outer = outer_v6 ? v6() : v4();
    return outer.backends[is_udp ? 3 : 0];
  }
  bpf::next_hop hop(bool is_udp) const { return hop_to(is_udp ? hosts->b4 : hosts->b1); }
};

class DsrTest : public PathTest {
 protected:
  explicit DsrTest(const LoadOptions& options = {}) : PathTest(options) {}

  // Each way in turn, its services in place with links of `mtu`, every table else empty.
  void each_mode(std::uint16_t mtu, const std::function<void(const Mode&)>& test);

  // `in` in a frame leaves encapsulated, once aged, for its backend. All bytes are known beforehand
  // but the outer source and flow label, which are the flow's own. Returns that source.
  bpf::address expect_encapsulated(const Mode& mode, const Ip& in, bool is_udp,
                                   const VerdictGrowth& counted,
                                   const std::vector<std::uint32_t>& tags = {});
  bpf::address expect_encapsulated(const Mode& mode, const Packet& in, bool is_udp,
                                   const VerdictGrowth& counted,
                                   const std::vector<std::uint32_t>& tags = {});
};

// The datagram after one router: its TTL or hop limit one less.
Packet aged(Packet datagram);

}  // namespace petrel::test
