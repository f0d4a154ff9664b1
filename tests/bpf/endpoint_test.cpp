// SPDX-License-Identifier: MIT
// Endpoints share slots: who finds its own taken by another is found all the same.
#include <arpa/inet.h>
#include <gtest/gtest.h>

#include <map>

#include "bpf/hash.h"
#include "tests/bpf/path_fixture.hpp"

namespace petrel::test {
namespace {

std::uint32_t slot_of(const Endpoint& at, std::uint8_t protocol) {
  return bpf::hash_endpoint(&at.address, htons(at.port), protocol);
}

// Two ports of the address that share a slot.
std::pair<Endpoint, Endpoint> two_of_one_slot(const Endpoint& at, std::uint8_t protocol) {
  std::map<std::uint32_t, Endpoint> seen;
  for (unsigned port = 1; port < 65536; ++port) {
    const Endpoint here = at_port(at, port);
    const auto [other, is_new] = seen.try_emplace(slot_of(here, protocol), here);
    if (!is_new) return {other->second, here};
  }
  throw std::runtime_error("65535 ports in 16384 slots, and no two in one");
}

struct SharedSlot : PathTest {
  // A SYN to `vip`, and its answer, whole.
  void expect_served(const Hosts& h, const Endpoint& vip, const Endpoint& at, std::uint32_t id) {
    const auto syn = [&](const Endpoint& to, std::uint8_t ttl) {
      return tcp_datagram({.from = h.client, .to = to, .flags = kSyn, .ttl = ttl});
    };
    const auto answer = [&](const Endpoint& from, std::uint8_t ttl) {
      return tcp_datagram({.from = from, .to = h.client, .flags = kSynAck, .seq = 7, .ack = 1001,
                           .ttl = ttl});
    };
    expect_sent(frame(syn(vip, 64)), frame(syn(at, 63), hop_to(id)),
                {{bpf::VERDICT_FORWARDED, 1}, {bpf::VERDICT_MISS_SYN, 1}});
    expect_sent(frame(answer(at, 64)), frame(answer(vip, 63), kClientHop),
                {{bpf::VERDICT_RETURNED, 1}});
  }
};

TEST_F(SharedSlot, ServicesAndBackendsAreFoundInWhateverOrderTheyCame) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    const auto& h = *hosts;
    const auto [vip_a, vip_b] = two_of_one_slot(h.vip, kTcp);
    const auto [at_a, at_b] = two_of_one_slot(h.backend(h.b1), kTcp);
    ASSERT_EQ(slot_of(vip_a, kTcp), slot_of(vip_b, kTcp));
    for (const bool swapped : {false, true}) {
      SCOPED_TRACE(swapped);
      lb.reset();
      lb.set_route({128, h.client.address}, {kClientHop, 1500});
      serve_ranges(h.vip.address, {});
      serve({.vip = swapped ? vip_b : vip_a, .protocol = kTcp, .id = 1,
             .backends = {{1, swapped ? at_b : at_a}}});
      serve({.vip = swapped ? vip_a : vip_b, .protocol = kTcp, .id = 2,
             .backends = {{2, swapped ? at_a : at_b}}});
      expect_served(h, vip_a, at_a, swapped ? 2 : 1);
      expect_served(h, vip_b, at_b, swapped ? 1 : 2);
    }
  }
}

TEST_F(SharedSlot, WhoIsInNoTableIsNotServed) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    const auto& h = *hosts;
    const auto [known, unknown] = two_of_one_slot(h.vip, kTcp);
    lb.reset();
    serve_ranges(h.vip.address, {});
    serve({.vip = known, .protocol = kTcp, .id = 1, .backends = {{1, h.backend(h.b1)}}});
    expect_untouched(frame(tcp_datagram({.from = h.client, .to = unknown, .flags = kSyn})),
                     {{bpf::VERDICT_NO_SERVICE, 1}});
    expect_untouched(frame(udp_datagram(h.client, known, "the port, but not the protocol")),
                     {{bpf::VERDICT_NO_SERVICE, 1}});
  }
}

}  // namespace
}  // namespace petrel::test
