// SPDX-License-Identifier: MIT
// Which service a packet is of, and which backend: UDP, ports in ranges, services that share an
// address, affinity by client.
#include <arpa/inet.h>
#include <gtest/gtest.h>

#include <functional>
#include <set>

#include "tests/bpf/path_fixture.hpp"

namespace petrel::test {
namespace {

const VerdictGrowth kBegun{{bpf::VERDICT_FORWARDED, 1}, {bpf::VERDICT_MISS_SYN, 1}};
const VerdictGrowth kForwarded{{bpf::VERDICT_FORWARDED, 1}};
const VerdictGrowth kReturned{{bpf::VERDICT_RETURNED, 1}};
const VerdictGrowth kNoService{{bpf::VERDICT_NO_SERVICE, 1}};

Packet syn_of(const Endpoint& from, const Endpoint& to, std::uint8_t ttl = 64) {
  return tcp_datagram({.from = from, .to = to, .flags = kSyn, .ttl = ttl});
}

Packet answer_of(const Endpoint& from, const Endpoint& to, std::uint8_t ttl = 64) {
  return tcp_datagram({.from = from, .to = to, .flags = kSynAck, .seq = 77, .ack = 1001,
                       .ttl = ttl});
}

struct Services : PathTest {
  // Each family with tables that hold nothing but the VIP's address: ids 1 to 4, backends 1 to 8.
  void each_family(const std::function<void(const Hosts&)>& test) {
    for (const Hosts* hosts : {&v4(), &v6()}) {
      SCOPED_TRACE(hosts->family);
      lb.reset();
      lb.set_route({128, hosts->client.address}, {kClientHop, 1500});
      serve_ranges(hosts->vip.address, {});
      test(*hosts);
    }
  }

  // A SYN and its answer, whole.
  void expect_served(const Endpoint& client, const Endpoint& vip, const Endpoint& backend,
                     std::uint32_t id) {
    SCOPED_TRACE("port " + std::to_string(vip.port));
    expect_sent(frame(syn_of(client, vip)), frame(syn_of(client, backend, 63), hop_to(id)), kBegun);
    expect_sent(frame(answer_of(backend, client)), frame(answer_of(vip, client, 63), kClientHop),
                kReturned);
  }

  // Which backends `flows` new flows go to.
  std::set<std::uint32_t> backends_of(const std::vector<Packet>& flows) {
    std::set<std::uint32_t> ids;
    for (const Packet& packet : flows) {
      const Outcome out = lb.run(frame(packet));
      EXPECT_EQ(out.action, XDP_REDIRECT);
      EXPECT_EQ(frame_error(out.packet), "");
      ids.insert(out.packet.at(5));  // hop_to(): the destination's last byte
    }
    return ids;
  }
};

// --- UDP -----------------------------------------------------------------------------------------

TEST_F(Services, UdpFlowIsPinnedAndItsReplyReturnsFromTheVip) {
  each_family([&](const Hosts& h) {
    const Endpoint vip = udp_vip(h), one = at_port(h.backend(h.b1), 5353),
                   two = at_port(h.backend(h.b2), 5353);
    serve({.vip = vip, .id = 1, .backends = {{1, one}, {2, two}}});
    lb.fill_ring(1, {1});
    const auto query = [&](const Endpoint& client, const Endpoint& to, std::uint8_t ttl) {
      return udp_datagram(client, to, "a query", ttl);
    };
    expect_sent(frame(query(h.client, vip, 64)), frame(query(h.client, one, 63), hop_to(1)),
                kBegun);
    lb.fill_ring(1, {2});
    expect_sent(frame(query(h.client, vip, 64)), frame(query(h.client, one, 63), hop_to(1)),
                kForwarded);
    expect_sent(frame(udp_datagram(one, h.client, "its answer")),
                frame(udp_datagram(vip, h.client, "its answer", 63), kClientHop), kReturned);
    const bpf::connection_key key{h.client.address, htons(h.client.port), htons(vip.port), 1, 0};
    EXPECT_FALSE(lb.connection(key)) << "before the client has shown that it hears";
    expect_sent(frame(query(h.client, vip, 64)), frame(query(h.client, one, 63), hop_to(1)),
                kForwarded);
    EXPECT_TRUE(lb.connection(key));
    const Endpoint later = at_port(h.client, h.client.port + 1);
    expect_sent(frame(query(later, vip, 64)), frame(query(later, two, 63), hop_to(2)), kBegun);
  });
}

TEST_F(Services, UdpOfNoFlowOrOfAnotherBackendDoesNotReachTheClient) {
  each_family([&](const Hosts& h) {
    const Endpoint one = at_port(h.backend(h.b1), 5353), two = at_port(h.backend(h.b2), 5353);
    serve({.vip = udp_vip(h), .id = 1, .backends = {{1, one}, {2, two}}});
    lb.fill_ring(1, {1});
    expect_untouched(frame(udp_datagram(one, h.client, "unasked")),
                     {{bpf::VERDICT_NO_CONNECTION, 1}});
    lb.run(frame(udp_datagram(h.client, udp_vip(h), "a query")));
    const auto before = lb.verdicts();
    EXPECT_EQ(lb.run(frame(udp_datagram(two, h.client, "not asked"))).action, XDP_DROP);
    EXPECT_EQ(growth(before, lb.verdicts()), (VerdictGrowth{{bpf::VERDICT_LATE_BACKEND, 1}}));
    expect_untouched(frame(udp_datagram(at_port(one, 9), h.client, "another port's")),
                     {{bpf::VERDICT_NOT_OURS, 1}});
  });
}

TEST_F(Services, UdpWithoutAChecksumStaysWithoutOne) {
  each_family([&](const Hosts& h) {
    if (!is_v4(h.client.address)) return;  // over IPv6 there is always one (RFC 8200, 8.1)
    const Endpoint vip = udp_vip(h), one = at_port(h.backend(h.b1), 5353);
    serve({.vip = vip, .id = 1, .backends = {{1, one}}});
    const auto bare = [](const Endpoint& from, const Endpoint& to, std::uint8_t ttl) {
      return udp_datagram(from, to, "bare", ttl, UdpChecksum::kNone);
    };
    expect_sent(frame(bare(h.client, vip, 64)), frame(bare(h.client, one, 63), hop_to(1)), kBegun);
    expect_sent(frame(bare(one, h.client, 64)), frame(bare(vip, h.client, 63), kClientHop),
                kReturned);
  });
}

TEST_F(Services, UdpChecksumThatComesOutAsZeroIsWrittenAsAllOnes) {
  each_family([&](const Hosts& h) {
    const Endpoint vip = udp_vip(h), one = at_port(h.backend(h.b1), 5353);
    serve({.vip = vip, .id = 1, .backends = {{1, one}}});
    const std::string there = zero_sum_payload(h.client, one);
    const std::string back = zero_sum_payload(vip, h.client);
    const Packet expected = udp_datagram(h.client, one, there, 63);
    ASSERT_EQ(load_be16(expected, expected.size() - 4), 0xffff);
    expect_sent(frame(udp_datagram(h.client, vip, there)), frame(expected, hop_to(1)), kBegun);
    expect_sent(frame(udp_datagram(one, h.client, back)),
                frame(udp_datagram(vip, h.client, back, 63), kClientHop), kReturned);
  });
}

// --- ports ---------------------------------------------------------------------------------------

TEST_F(Services, RangeKeepsThePortThatWasAskedFor) {
  each_family([&](const Hosts& h) {
    const Endpoint at = h.backend(h.b1);
    serve_ranges(h.vip.address, {{8000, 8099, kTcp, {}}});
    serve({.vip = at_port(h.vip, 8000), .protocol = kTcp, .id = 1,
           .flags = bpf::SERVICE_KEEP_PORT, .backends = {{1, at}}});
    for (const std::uint16_t port : std::vector<std::uint16_t>{8000, 8001, 8050, 8099}) {
      expect_served(h.client, at_port(h.vip, port), at_port(at, port), 1);
    }
    for (const std::uint16_t port : std::vector<std::uint16_t>{0, 80, 7999, 8100, 65535}) {
      SCOPED_TRACE(port);
      expect_untouched(frame(syn_of(h.client, at_port(h.vip, port))), kNoService);
    }
    expect_untouched(frame(udp_datagram(h.client, at_port(h.vip, 8050), "UDP")), kNoService);
  });
}

TEST_F(Services, ExactPortWinsOverTheRangeAroundItInBothDirections) {
  each_family([&](const Hosts& h) {
    const Endpoint shared = h.backend(h.b1), own = at_port(h.backend(h.b2), 9051);
    serve_ranges(h.vip.address, {{8000, 8099, kTcp, {}}});
    serve({.vip = at_port(h.vip, 8000), .protocol = kTcp, .id = 1,
           .flags = bpf::SERVICE_KEEP_PORT, .backends = {{1, shared}}});
    // One on the range's own backend, at a port of the range; one elsewhere.
    serve({.vip = at_port(h.vip, 8050), .protocol = kTcp, .id = 2,
           .backends = {{2, at_port(shared, 8050)}}});
    serve({.vip = at_port(h.vip, 8051), .protocol = kTcp, .id = 3, .backends = {{3, own}}});
    expect_served(h.client, at_port(h.vip, 8049), at_port(shared, 8049), 1);
    expect_served(h.client, at_port(h.vip, 8050), at_port(shared, 8050), 2);
    expect_served(h.client, at_port(h.vip, 8051), own, 3);
    expect_served(h.client, at_port(h.vip, 8052), at_port(shared, 8052), 1);
    for (const auto& [id, flows] : {std::pair{1, 2U}, {2, 1U}, {3, 1U}}) {
      const auto counts = lb.verdicts_of(static_cast<std::uint16_t>(id));
      EXPECT_EQ(counts[bpf::VERDICT_FORWARDED], flows) << id;
      EXPECT_EQ(counts[bpf::VERDICT_RETURNED], flows) << id;
    }
  });
}

TEST_F(Services, AllPortsOfAnAddressAreOneService) {
  each_family([&](const Hosts& h) {
    const Endpoint at = h.backend(h.b1), exact = at_port(h.backend(h.b2), 8443);
    serve_ranges(h.vip.address, {{0, 65535, kTcp, {}}, {100, 65535, kUdp, {}}});
    serve({.vip = at_port(h.vip, 0), .protocol = kTcp, .id = 1,
           .flags = bpf::SERVICE_KEEP_PORT, .backends = {{1, at}}});
    serve({.vip = at_port(h.vip, 100), .protocol = kUdp, .id = 2,
           .flags = bpf::SERVICE_KEEP_PORT, .backends = {{2, at}}});
    serve({.vip = at_port(h.vip, 443), .protocol = kTcp, .id = 3, .backends = {{3, exact}}});
    for (const std::uint16_t port : std::vector<std::uint16_t>{0, 1, 22, 80, 442, 444, 65535}) {
      expect_served(h.client, at_port(h.vip, port), at_port(at, port), 1);
    }
    expect_served(h.client, at_port(h.vip, 443), exact, 3);
    const Endpoint vip = at_port(h.vip, 443), backend = at_port(at, 443);
    expect_sent(frame(udp_datagram(h.client, vip, "QUIC")),
                frame(udp_datagram(h.client, backend, "QUIC", 63), hop_to(2)), kBegun);
    expect_sent(frame(udp_datagram(backend, h.client, "QUIC")),
                frame(udp_datagram(vip, h.client, "QUIC", 63), kClientHop), kReturned);
  });
}

TEST_F(Services, SixteenRangesOfAnAddressAreAllFound) {
  each_family([&](const Hosts& h) {
    const Endpoint at = h.backend(h.b1);
    std::vector<bpf::port_range> ranges;
    for (std::uint16_t i = 0; i < VIP_RANGES; ++i) {
      const auto first = static_cast<std::uint16_t>(1000 + i * 100);
      ranges.push_back({first, static_cast<std::uint16_t>(first + 9), kTcp, {}});
      serve({.vip = at_port(h.vip, first), .protocol = kTcp, .id = 1,
             .flags = bpf::SERVICE_KEEP_PORT, .backends = {{1, at}}});
    }
    serve_ranges(h.vip.address, ranges);
    for (const bpf::port_range& range : ranges) {
      const auto last = range.last;
      expect_served(h.client, at_port(h.vip, last), at_port(at, last), 1);
      expect_untouched(frame(syn_of(h.client, at_port(h.vip, last + 1))), kNoService);
    }
  });
}

// --- several services, counters ------------------------------------------------------------------

TEST_F(Services, OnOneAddressHaveTheirOwnBackendsFlowsAndCounters) {
  each_family([&](const Hosts& h) {
    const Endpoint web = at_port(h.backend(h.b1), 8080), tls = at_port(h.backend(h.b1), 8443),
                   quic = at_port(h.backend(h.b1), 8443);
    serve({.vip = at_port(h.vip, 80), .protocol = kTcp, .id = 1, .backends = {{1, web}}});
    serve({.vip = at_port(h.vip, 443), .protocol = kTcp, .id = 2, .backends = {{2, tls}}});
    serve({.vip = at_port(h.vip, 443), .protocol = kUdp, .id = 3, .backends = {{3, quic}}});
    // One client port for all three.
    expect_served(h.client, at_port(h.vip, 80), web, 1);
    expect_served(h.client, at_port(h.vip, 443), tls, 2);
    const Endpoint vip = at_port(h.vip, 443);
    expect_sent(frame(udp_datagram(h.client, vip, "hello")),
                frame(udp_datagram(h.client, quic, "hello", 63), hop_to(3)), kBegun);
    expect_untouched(frame(syn_of(h.client, at_port(h.vip, 81))), kNoService);
    for (const std::uint16_t id : std::vector<std::uint16_t>{1, 2, 3}) {
      EXPECT_EQ(growth({}, lb.verdicts_of(id)),
                (id == 3 ? kBegun
                         : VerdictGrowth{{bpf::VERDICT_FORWARDED, 1}, {bpf::VERDICT_RETURNED, 1},
                                         {bpf::VERDICT_MISS_SYN, 1}}))
          << id;
    }
    EXPECT_EQ(growth({}, lb.verdicts_of(0)), kNoService);
    EXPECT_EQ(growth({}, lb.verdicts_of(4)), VerdictGrowth{});
  });
}

TEST_F(Services, AVipWithoutAServicePassesUntouched) {
  each_family([&](const Hosts& h) {
    expect_untouched(frame(syn_of(h.client, h.vip)), kNoService);
    expect_untouched(frame(udp_datagram(h.client, udp_vip(h), "query")), kNoService);
    expect_untouched(frame(syn_of(h.client, h.stranger)), {{bpf::VERDICT_NOT_OURS, 1}});
  });
}

// --- affinity ------------------------------------------------------------------------------------

std::vector<Packet> flows_of_ports(const Hosts& h, const Endpoint& vip) {
  std::vector<Packet> flows;
  for (std::uint16_t port = 2000; port < 2100; ++port) {
    flows.push_back(syn_of(at_port(h.client, port), vip));
  }
  return flows;
}

std::vector<Packet> flows_of_clients(const Hosts& h, const Endpoint& vip) {
  std::vector<Packet> flows;
  for (std::uint8_t host = 0; host < 100; ++host) {
    Endpoint client = h.client;
    client.address.bytes[15] = host;
    flows.push_back(syn_of(client, vip));
  }
  return flows;
}

TEST_F(Services, AffinityByClientKeepsAllOfAClientsPortsAtOneBackend) {
  each_family([&](const Hosts& h) {
    serve_ranges(h.vip.address, {{8000, 8099, kTcp, {}}});
    serve({.vip = at_port(h.vip, 8000), .protocol = kTcp, .id = 1,
           .flags = bpf::SERVICE_KEEP_PORT | bpf::SERVICE_AFFINITY | bpf::SERVICE_TWO_CHOICES,
           .backends = {{1, h.backend(h.b1)}, {2, h.backend(h.b2)}, {3, h.backend(h.b3)}}});
    auto flows = flows_of_ports(h, at_port(h.vip, 8000));
    for (const Packet& flow : flows_of_ports(h, at_port(h.vip, 8042))) flows.push_back(flow);
    EXPECT_EQ(backends_of(flows).size(), 1U);
    EXPECT_EQ(backends_of(flows_of_clients(h, at_port(h.vip, 8000))),
              (std::set<std::uint32_t>{1, 2, 3}));
  });
}

TEST_F(Services, WithoutAffinityAClientsPortsSpread) {
  each_family([&](const Hosts& h) {
    serve({.vip = h.vip, .protocol = kTcp, .id = 1,
           .backends = {{1, h.backend(h.b1)}, {2, h.backend(h.b2)}, {3, h.backend(h.b3)}}});
    EXPECT_EQ(backends_of(flows_of_ports(h, h.vip)), (std::set<std::uint32_t>{1, 2, 3}));
  });
}

}  // namespace
}  // namespace petrel::test
