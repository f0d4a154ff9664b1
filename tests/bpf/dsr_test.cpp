// SPDX-License-Identifier: MIT
// Direct server return: what an encapsulated packet looks like, outside and in.
#include <arpa/inet.h>
#include <gtest/gtest.h>

#include <set>

#include "tests/bpf/dsr_fixture.hpp"

namespace petrel::test {
namespace {

const VerdictGrowth kBegun{{bpf::VERDICT_FORWARDED, 1}, {bpf::VERDICT_MISS_SYN, 1}};
const VerdictGrowth kForwarded{{bpf::VERDICT_FORWARDED, 1}};
constexpr bool kIsUdp = true;

using Dsr = DsrTest;

std::string text_of(const bpf::address& address) {
  return std::string(address.bytes, address.bytes + 16);
}

Segment segment_of(const Mode& mode, std::uint8_t flags, std::uint32_t seq,
                   const std::string& payload = "") {
  return {.from = mode.hosts->client, .to = mode.vip(), .flags = flags, .seq = seq, .ack = 5,
          .payload = payload};
}

Ip query_of(const Mode& mode, const std::string& payload) {
  const Endpoint& client = mode.hosts->client;
  return {.from = client.address, .to = mode.udp().address,
          .payload = udp(client, mode.udp(), payload)};
}

TEST_F(Dsr, AConnectionsSegmentsAreEncapsulatedForItsBackend) {
  each_mode(0, [&](const Mode& mode) {
    expect_encapsulated(mode, tcp_datagram(segment_of(mode, kSyn, 999)), !kIsUdp, kBegun);
    for (const char* payload : {"", "x", "even"}) {
      expect_encapsulated(mode, tcp_datagram(segment_of(mode, kAck | kPsh, 1000, payload)),
                          !kIsUdp, kForwarded);
    }
    expect_encapsulated(mode, tcp_datagram(segment_of(mode, kFinAck, 1000)), !kIsUdp, kForwarded);
    expect_encapsulated(mode, tcp_datagram(segment_of(mode, kRst, 1001)), !kIsUdp, kForwarded);
  });
}

TEST_F(Dsr, UdpIsEncapsulatedForItsBackend) {
  each_mode(0, [&](const Mode& mode) {
    expect_encapsulated(mode, query_of(mode, "a query"), kIsUdp, kBegun);
    expect_encapsulated(mode, query_of(mode, "another"), kIsUdp, kForwarded);
    if (mode.inner_v6()) return;
    Ip bare = query_of(mode, "");
    bare.payload = udp(mode.hosts->client, mode.udp(), "bare", UdpChecksum::kNone);
    expect_encapsulated(mode, bare, kIsUdp, kForwarded);
  });
}

// RFC 6040, normal mode on entry: ECN is copied, all four of it, and so is the rest of the byte.
TEST_F(Dsr, TheOuterHeaderCopiesServiceCodeAndCongestionBits) {
  each_mode(0, [&](const Mode& mode) {
    lb.run(frame(ip(query_of(mode, "first"))));
    for (const unsigned tos : {0x00U, 0x01U, 0x02U, 0x03U, 0x10U, 0xb8U, 0xb9U, 0xffU}) {
      SCOPED_TRACE(tos);
      Ip query = query_of(mode, "a query");
      query.tos = static_cast<std::uint8_t>(tos);
      query.flow_label = 0xfffff;
      expect_encapsulated(mode, query, kIsUdp, kForwarded);
    }
  });
}

TEST_F(Dsr, TheOuterHeaderCopiesDontFragment) {
  each_mode(0, [&](const Mode& mode) {
    if (mode.inner_v6()) return;
    lb.run(frame(ip(query_of(mode, "first"))));
    for (const std::uint16_t flags : std::vector<std::uint16_t>{0, kDontFragment}) {
      Ip query = query_of(mode, "a query");
      query.fragment = flags;
      query.id = 0x1357;
      expect_encapsulated(mode, query, kIsUdp, kForwarded);
    }
  });
}

TEST_F(Dsr, TheInnerTimeToLiveIsOneLessAndTheOuterOneOurOwn) {
  each_mode(0, [&](const Mode& mode) {
    lb.run(frame(ip(query_of(mode, "first"))));
    Ip query = query_of(mode, "a query");
    for (const std::uint8_t ttl : std::vector<std::uint8_t>{2, 3, 64, 255}) {
      SCOPED_TRACE(int{ttl});
      query.ttl = ttl;
      expect_encapsulated(mode, query, kIsUdp, kForwarded);
    }
    for (const std::uint8_t ttl : std::vector<std::uint8_t>{0, 1}) {
      query.ttl = ttl;
      expect_untouched(frame(ip(query)), {{bpf::VERDICT_TTL_EXPIRED, 1}});
    }
  });
}

TEST_F(Dsr, IpOptionsExtensionHeadersAndATrailerStayInside) {
  each_mode(0, [&](const Mode& mode) {
    lb.run(frame(ip(query_of(mode, "first"))));
    Ip query = query_of(mode, "a query");
    if (mode.inner_v6()) {
      expect_encapsulated(
          mode, with_extensions(ip(query), {{kHopByHop, {5, 2, 0, 0, 1, 0}}}), kIsUdp, kForwarded);
    } else {
      query.options = {0x94, 4, 0, 0};
      expect_encapsulated(mode, query, kIsUdp, kForwarded);
    }
    // What Ethernet added behind the datagram is behind it still.
    const Packet packet = frame(ip(query_of(mode, "")));
    Packet padded = packet;
    padded.resize(padded.size() + 18, 0);
    Packet expected = lb.run(packet).packet;
    expected.resize(expected.size() + 18, 0);
    EXPECT_EQ(hex(lb.run(padded).packet), hex(expected));
  });
}

TEST_F(Dsr, VlanTagsStayOutside) {
  each_mode(0, [&](const Mode& mode) {
    lb.run(frame(ip(query_of(mode, "first"))));
    for (const std::vector<std::uint32_t>& tags :
         {std::vector<std::uint32_t>{0x8100e064}, {0x88a80065, 0x81000064}}) {
      expect_encapsulated(mode, query_of(mode, "a query"), kIsUdp, kForwarded, tags);
    }
  });
}

TEST_F(Dsr, ManyFlowsHaveManyOuterSourcesAndOneFlowAlwaysTheSame) {
  each_mode(0, [&](const Mode& mode) {
    std::set<std::string> sources;
    for (std::uint16_t port = 3000; port < 3200; ++port) {
      const Endpoint client = at_port(mode.hosts->client, port);
      const Ip query{.from = client.address, .to = mode.udp().address,
                     .payload = udp(client, mode.udp(), "query")};
      const auto source = expect_encapsulated(mode, query, kIsUdp, kBegun);
      EXPECT_EQ(text_of(expect_encapsulated(mode, query, kIsUdp, kForwarded)), text_of(source));
      sources.insert(text_of(source));
    }
    // 200 draws from 2^16 meet 0.3 times; IPv6 has 2^64 to draw from.
    EXPECT_GE(sources.size(), 195U);
  });
}

TEST_F(Dsr, FragmentsAreEncapsulatedForTheBackendOfTheirFirst) {
  each_mode(0, [&](const Mode& mode) {
    lb.run(frame(ip(query_of(mode, "first"))));
    VerdictGrowth first = kForwarded, later = kForwarded;
    first[bpf::VERDICT_FRAGMENT_FIRST] = 1;
    later[bpf::VERDICT_FRAGMENT_FOLLOWED] = 1;
    const auto pieces = fragments(ip(query_of(mode, std::string(1000, 'p'))), 41, 400);
    expect_encapsulated(mode, pieces[0], kIsUdp, first);
    expect_encapsulated(mode, pieces[1], kIsUdp, later);
    expect_encapsulated(mode, pieces[2], kIsUdp, later);
    expect_untouched(frame(fragments(ip(query_of(mode, std::string(1000, 'p'))), 42, 400)[1]),
                     {{bpf::VERDICT_FRAGMENT, 1}});
  });
}

// Nobody here knows the way: the kernel gets the packet as it is to go.
TEST_F(Dsr, WithoutAWayToTheBackendTheKernelRoutesTheEncapsulatedPacket) {
  each_mode(0, [&](const Mode& mode) {
    const Packet query = ip(query_of(mode, "a query"));
    Packet expected = lb.run(frame(query)).packet;
    const Packet macs = frame({0x45});
    std::copy_n(macs.begin(), 12, expected.begin());
    lb.set_hop(mode.hosts->b4, {});
    const auto before = lb.verdicts();
    const Outcome out = lb.run(frame(query));
    EXPECT_EQ(out.action, XDP_PASS);
    EXPECT_EQ(hex(out.packet), hex(expected));
    EXPECT_EQ(growth(before, lb.verdicts()), (VerdictGrowth{{bpf::VERDICT_KERNEL_ROUTED, 1}}));
  });
}

TEST_F(Dsr, AnIcmpErrorAboutAReplyIsEncapsulatedAsItIs) {
  each_mode(0, [&](const Mode& mode) {
    const auto& client = mode.hosts->client;
    const auto& router = mode.hosts->stranger.address;
    lb.run(frame(tcp_datagram(segment_of(mode, kSyn, 999))));
    const auto error = [&](const Endpoint& about) {
      const Packet quote = tcp_datagram({.from = mode.vip(), .to = about, .payload = "reply"});
      const std::uint8_t type = mode.inner_v6() ? 2 : 3, code = mode.inner_v6() ? 0 : 4;
      return Ip{.from = router, .to = mode.vip().address,
                .protocol = mode.inner_v6() ? kIcmpv6 : kIcmp,
                .payload = icmp(router, mode.vip().address, type, code, 1300, quote)};
    };
    const auto source = expect_encapsulated(mode, error(client), !kIsUdp,
                                            {{bpf::VERDICT_ICMP_FORWARDED, 1}});
    const auto of_flow = expect_encapsulated(
        mode, tcp_datagram(segment_of(mode, kAck, 1000)), !kIsUdp, kForwarded);
    EXPECT_EQ(text_of(source), text_of(of_flow)) << "it goes the flow's way";
    expect_untouched(frame(ip(error(at_port(client, 1)))), {{bpf::VERDICT_ICMP_UNMATCHED, 1}});
  });
}

// The backend's half is never seen: the client's next segment must show that it got an answer.
TEST_F(Dsr, AClientsSecondSegmentMakesAConnectionOfItsHalfOpenFlow) {
  each_mode(0, [&](const Mode& mode) {
    const auto& client = mode.hosts->client;
    const bpf::connection_key key{client.address, htons(client.port), htons(mode.vip().port),
                                  mode.hosts->service, 0};
    lb.run(frame(tcp_datagram(segment_of(mode, kSyn, 999))));
    EXPECT_TRUE(lb.half_open(key));
    lb.run(frame(tcp_datagram(segment_of(mode, kSyn, 999))));
    lb.run(frame(tcp_datagram(segment_of(mode, kAck, 5555))));  // another sequence number
    EXPECT_FALSE(lb.connection(key));
    EXPECT_TRUE(lb.half_open(key));
    lb.run(frame(tcp_datagram(segment_of(mode, kAck, 1000))));
    ASSERT_TRUE(lb.connection(key));
    EXPECT_FALSE(lb.half_open(key));
    EXPECT_EQ(lb.connection(key)->backend_id, mode.hosts->b1);
    EXPECT_EQ(lb.connection(key)->state, bpf::CONNECTION_ESTABLISHED);
  });
}

}  // namespace
}  // namespace petrel::test
