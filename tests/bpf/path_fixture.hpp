// SPDX-License-Identifier: MIT
// PathTest: what becomes of one frame is compared whole: bytes, checksums, action, verdicts.
//
// Clients are reached by a route of the cache, backends by their own hops; so every frame that is
// sent on is redirected, and its Ethernet addresses say where to.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "tests/bpf/balancer_fixture.hpp"
#include "tests/bpf/datagram.hpp"

namespace petrel::test {

inline const bpf::next_hop kClientHop = hop_to(77);

// A service and its backends, to be written over what the defaults have of the same ids.
struct Served {
  Endpoint vip;  // of several ports: with the first of them
  std::uint8_t protocol = kUdp;
  std::uint16_t id = 0;
  std::uint32_t flags = 0;  // besides READY and ACT
  std::vector<std::pair<std::uint32_t, Endpoint>> backends;  // id, where
  std::uint16_t mtu = 0;    // of the links towards them
};

class PathTest : public BalancerTest {
 protected:
  explicit PathTest(const LoadOptions& options = {}) : BalancerTest(options) {}
  void SetUp() override;

  void serve(const Served& served);
  // Only these of the address's services have several ports.
  void serve_ranges(const bpf::address& vip, const std::vector<bpf::port_range>& ranges);
  // A UDP service at udp_vip() of one backend, b4, at udp_backend(); its id is other_service.
  void serve_udp(const Hosts& hosts, std::uint32_t flags = 0);

  void expect_sent(const Packet& in, const Packet& expected, const VerdictGrowth& counted);
  void expect_answered(const Packet& in, const Packet& expected, const VerdictGrowth& counted);
  void expect_untouched(const Packet& in, const VerdictGrowth& counted);

 private:
  void expect(const Packet& in, int action, const Packet& expected, const VerdictGrowth& counted);
};

// Two of these are told apart by eye; two vectors of numbers are not.
std::string hex(const Packet& packet);

Endpoint udp_vip(const Hosts& hosts);
Endpoint udp_backend(const Hosts& hosts);
Endpoint at_port(Endpoint endpoint, unsigned port);

}  // namespace petrel::test
