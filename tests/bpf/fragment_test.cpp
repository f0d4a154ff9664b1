// SPDX-License-Identifier: MIT
// The fragments of one datagram go one way: where its first, which alone has the ports, went.
//
// What is expected is the rewritten datagram cut at the same places: so the transport's checksum,
// in the first fragment, is that of the whole.
#include <gtest/gtest.h>

#include "tests/bpf/conversation.hpp"
#include "tests/bpf/path_fixture.hpp"

namespace petrel::test {
namespace {

constexpr std::size_t kPieceBytes = 400;

const VerdictGrowth kFirstForwarded{{bpf::VERDICT_FORWARDED, 1}, {bpf::VERDICT_FRAGMENT_FIRST, 1}};
const VerdictGrowth kFirstReturned{{bpf::VERDICT_RETURNED, 1}, {bpf::VERDICT_FRAGMENT_FIRST, 1}};
const VerdictGrowth kForwarded{{bpf::VERDICT_FORWARDED, 1}, {bpf::VERDICT_FRAGMENT_FOLLOWED, 1}};
const VerdictGrowth kReturned{{bpf::VERDICT_RETURNED, 1}, {bpf::VERDICT_FRAGMENT_FOLLOWED, 1}};
const VerdictGrowth kUnplaced{{bpf::VERDICT_FRAGMENT, 1}};

std::string long_payload() {
  std::string payload(1101, '\0');
  for (std::size_t i = 0; i < payload.size(); ++i) payload[i] = static_cast<char>(i * 31 + i / 256);
  return payload;
}

Packet tcp_of(const Endpoint& from, const Endpoint& to, std::uint8_t ttl = 64) {
  return tcp_datagram({.from = from, .to = to, .payload = long_payload(), .ttl = ttl});
}

Packet udp_of(const Endpoint& from, const Endpoint& to, std::uint8_t ttl = 64) {
  return udp_datagram(from, to, long_payload(), ttl);
}

struct Fragments : PathTest {
  void open_flows(const Hosts& hosts) {
    Conversation(lb, hosts, hosts.client.port).open();
    serve_udp(hosts);
    lb.run(frame(udp_datagram(hosts.client, udp_vip(hosts), "query")));
    lb.run(frame(udp_datagram(udp_backend(hosts), hosts.client, "answer")));
  }

  void expect_pieces(const Packet& in, const Packet& out, const bpf::next_hop& hop,
                     std::uint32_t id, const VerdictGrowth& first, const VerdictGrowth& later) {
    const auto sent = fragments(in, id, kPieceBytes);
    const auto expected = fragments(out, id, kPieceBytes);
    ASSERT_EQ(sent.size(), 3U);
    for (std::size_t i = 0; i < sent.size(); ++i) {
      SCOPED_TRACE("fragment " + std::to_string(i));
      expect_sent(frame(sent[i]), frame(expected[i], hop), i == 0 ? first : later);
    }
  }
};

TEST_F(Fragments, FromAClientGoToTheBackendOfTheirFirst) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    const auto& h = *hosts;
    open_flows(h);
    expect_pieces(tcp_of(h.client, h.vip), tcp_of(h.client, h.backend(h.b1), 63), hop_to(h.b1), 21,
                  kFirstForwarded, kForwarded);
    expect_pieces(udp_of(h.client, udp_vip(h)), udp_of(h.client, udp_backend(h), 63), hop_to(h.b4),
                  22, kFirstForwarded, kForwarded);
  }
}

TEST_F(Fragments, FromABackendReturnToTheClientFromTheVip) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    const auto& h = *hosts;
    open_flows(h);
    expect_pieces(tcp_of(h.backend(h.b1), h.client), tcp_of(h.vip, h.client, 63), kClientHop, 23,
                  kFirstReturned, kReturned);
    expect_pieces(udp_of(udp_backend(h), h.client), udp_of(udp_vip(h), h.client, 63), kClientHop,
                  24, kFirstReturned, kReturned);
  }
}

// A datagram's first fragment may be its flow's first packet.
TEST_F(Fragments, OfANewFlowAreKeptTogether) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    const auto& h = *hosts;
    serve_udp(h);
    VerdictGrowth first = kFirstForwarded;
    first[bpf::VERDICT_MISS_SYN] = 1;
    expect_pieces(udp_of(h.client, udp_vip(h)), udp_of(h.client, udp_backend(h), 63), hop_to(h.b4),
                  25, first, kForwarded);
  }
}

TEST_F(Fragments, KeepTheirVlanTag) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    const auto& h = *hosts;
    open_flows(h);
    const auto sent = fragments(udp_of(h.client, udp_vip(h)), 26, kPieceBytes);
    const auto expected = fragments(udp_of(h.client, udp_backend(h), 63), 26, kPieceBytes);
    for (std::size_t i = 0; i < sent.size(); ++i) {
      expect_sent(with_tags(frame(sent[i]), {0x81000064}),
                  with_tags(frame(expected[i], hop_to(h.b4)), {0x81000064}),
                  i == 0 ? kFirstForwarded : kForwarded);
    }
  }
}

// Same addresses, same protocol, two backends: the id alone tells their fragments apart.
TEST_F(Fragments, OfTwoDatagramsDoNotMixWhenInterleaved) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    const auto& h = *hosts;
    Conversation(lb, h, h.client.port).open();
    Conversation(lb, h, h.client, h.other_vip, h.other_service).open();
    const auto one = fragments(tcp_of(h.client, h.vip), 1, kPieceBytes);
    const auto two = fragments(tcp_of(h.client, h.other_vip), 2, kPieceBytes);
    const auto to_b1 = fragments(tcp_of(h.client, h.backend(h.b1), 63), 1, kPieceBytes);
    const auto to_b4 = fragments(tcp_of(h.client, h.backend(h.b4), 63), 2, kPieceBytes);
    expect_sent(frame(one[0]), frame(to_b1[0], hop_to(h.b1)), kFirstForwarded);
    expect_sent(frame(two[0]), frame(to_b4[0], hop_to(h.b4)), kFirstForwarded);
    expect_sent(frame(one[2]), frame(to_b1[2], hop_to(h.b1)), kForwarded);  // and out of order
    expect_sent(frame(two[1]), frame(to_b4[1], hop_to(h.b4)), kForwarded);
    expect_sent(frame(one[1]), frame(to_b1[1], hop_to(h.b1)), kForwarded);
    expect_sent(frame(two[2]), frame(to_b4[2], hop_to(h.b4)), kForwarded);
  }
}

// A client that uses an id again means a new datagram, perhaps of another flow.
TEST_F(Fragments, OfAnIdUsedAgainFollowTheNewFirst) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    const auto& h = *hosts;
    Conversation(lb, h, h.client.port).open();
    Conversation(lb, h, h.client, h.other_vip, h.other_service).open();
    expect_pieces(tcp_of(h.client, h.vip), tcp_of(h.client, h.backend(h.b1), 63), hop_to(h.b1), 3,
                  kFirstForwarded, kForwarded);
    expect_pieces(tcp_of(h.client, h.other_vip), tcp_of(h.client, h.backend(h.b4), 63),
                  hop_to(h.b4), 3, kFirstForwarded, kForwarded);
  }
}

// --- what they do not ----------------------------------------------------------------------------

TEST_F(Fragments, WithoutTheirFirstPassUntouched) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    const auto& h = *hosts;
    open_flows(h);
    for (const Packet& whole : {tcp_of(h.client, h.vip), udp_of(h.client, udp_vip(h)),
                                tcp_of(h.backend(h.b1), h.client)}) {
      const auto pieces = fragments(whole, 31, kPieceBytes);
      expect_untouched(frame(pieces[1]), kUnplaced);
      expect_untouched(frame(pieces[2]), kUnplaced);
    }
  }
}

TEST_F(Fragments, OfAnotherIdClientOrProtocolAreNotPlacedByAFirst) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    const auto& h = *hosts;
    open_flows(h);
    lb.run(frame(fragments(udp_of(h.client, udp_vip(h)), 32, kPieceBytes)[0]));
    const auto second = [&](const Packet& whole, std::uint32_t id) {
      return frame(fragments(whole, id, kPieceBytes)[1]);
    };
    expect_untouched(second(udp_of(h.client, udp_vip(h)), 33), kUnplaced);
    expect_untouched(second(udp_of(h.other_client, udp_vip(h)), 32), kUnplaced);
    expect_untouched(second(tcp_of(h.client, h.vip), 32), kUnplaced);
    if (hosts == &v6()) {  // 32 bits of id, all of which count
      expect_untouched(second(udp_of(h.client, udp_vip(h)), 32 | 1U << 16), kUnplaced);
    }
  }
}

TEST_F(Fragments, WhoseFirstWasNotSentPassUntouched) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    const auto& h = *hosts;
    open_flows(h);
    const std::vector<std::pair<Packet, int>> firsts{
        {tcp_of(h.client, at_port(h.vip, 81)), bpf::VERDICT_NO_SERVICE},
        {tcp_of(h.backend(h.b1), h.other_client), bpf::VERDICT_NO_CONNECTION},
        {tcp_of(h.client, h.vip, 1), bpf::VERDICT_TTL_EXPIRED}};
    for (const auto& [whole, verdict] : firsts) {
      SCOPED_TRACE(verdict);
      const auto pieces = fragments(whole, 34, kPieceBytes);
      expect_untouched(frame(pieces[0]), {{verdict, 1}});
      expect_untouched(frame(pieces[1]), kUnplaced);
    }
  }
}

// RFC 791 lets a first fragment be of 8 bytes: too few for a TCP header (RFC 1858's tiny fragment).
TEST_F(Fragments, TooSmallForAHeaderPassUntouched) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    const auto& h = *hosts;
    open_flows(h);
    const auto pieces = fragments(tcp_of(h.client, h.vip), 35, 16);
    expect_untouched(frame(pieces[0]), {{bpf::VERDICT_MALFORMED, 1}});
    expect_untouched(frame(pieces[1]), kUnplaced);
  }
}

TEST_F(Fragments, WhoseTimeToLiveIsOverOrWhoseBackendIsGonePassUntouched) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    const auto& h = *hosts;
    open_flows(h);
    lb.run(frame(fragments(tcp_of(h.client, h.vip), 36, kPieceBytes)[0]));
    expect_untouched(frame(fragments(tcp_of(h.client, h.vip, 1), 36, kPieceBytes)[1]), kUnplaced);
    lb.retire(h.b1);
    expect_untouched(frame(fragments(tcp_of(h.client, h.vip), 36, kPieceBytes)[1]), kUnplaced);
  }
}

TEST_F(Fragments, OfNobodysAreNotOurs) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    for (const Packet& piece : fragments(udp_of(hosts->client, hosts->stranger), 37, kPieceBytes)) {
      expect_untouched(frame(piece), {{bpf::VERDICT_NOT_OURS, 1}});
    }
  }
}

}  // namespace
}  // namespace petrel::test
