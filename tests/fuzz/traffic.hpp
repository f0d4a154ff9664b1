// SPDX-License-Identifier: MIT
// Traffic: well-formed packets of flows that live on, as clients, backends and routers send them.
//
// A flow's end sends what comes next in its sequence numbers, or something else that real ends
// send: the same again, a SYN from a port in use, an answer from a backend that the flow has left.
// Each packet may come as fragments, with VLAN tags, with options, or quoted by an ICMP error.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "tests/bpf/datagram.hpp"
#include "tests/fuzz/rng.hpp"
#include "tests/fuzz/world.hpp"

namespace petrel::fuzz {

class Traffic {
 public:
  Traffic(const World& world, std::uint64_t seed);

  test::Packet next();
  // The balancer sent the last packet, as it is or mutated, to this backend.
  void went_to(std::uint32_t backend_id);

 private:
  struct Flow {
    const Service* service = nullptr;
    Endpoint client{}, vip{};
    std::uint32_t client_seq = 0, backend_seq = 0;
    std::uint32_t backend = 0;  // 0: not known
    test::Packet last{};        // a datagram: of the client's, as it left it
  };

  void begin(Flow& flow);
  test::Packet tcp_of_client(Flow& flow);
  test::Packet tcp_of_backend(Flow& flow);
  test::Packet udp_of(Flow& flow, bool backend);
  test::Packet quote_of(const Flow& flow);
  test::Packet ping();
  test::Packet stranger();
  test::Packet with_headers(test::Packet datagram);
  test::Packet on_the_wire(const test::Packet& datagram);
  Endpoint backend_of(const Flow& flow);
  std::string payload();
  std::vector<std::uint8_t> tcp_options();

  const World& world_;
  Rng rng_;
  std::vector<Flow> flows_;
  Flow* current_ = nullptr;
  std::deque<test::Packet> waiting_;  // later fragments
  std::uint32_t fragment_id_ = 0;
};

}  // namespace petrel::fuzz
