// SPDX-License-Identifier: MIT
// Headers that lie between Ethernet and the transport: looked through within a bound, and kept.
#include <gtest/gtest.h>

#include <functional>

#include "tests/bpf/conversation.hpp"
#include "tests/bpf/path_fixture.hpp"

namespace petrel::test {
namespace {

using Tags = std::vector<std::uint32_t>;
using Chain = std::vector<Extension>;
using Wrap = std::function<Packet(const Packet& datagram, const bpf::next_hop* hop)>;

const VerdictGrowth kForwarded{{bpf::VERDICT_FORWARDED, 1}};
const VerdictGrowth kReturned{{bpf::VERDICT_RETURNED, 1}};
const VerdictGrowth kNotOurs{{bpf::VERDICT_NOT_OURS, 1}};
const VerdictGrowth kMalformed{{bpf::VERDICT_MALFORMED, 1}};

Packet framed(const Packet& datagram, const bpf::next_hop* hop) {
  return hop == nullptr ? frame(datagram) : frame(datagram, *hop);
}

struct Headers : PathTest {
  void open_flows(const Hosts& hosts) {
    Conversation(lb, hosts, hosts.client.port).open();
    serve_udp(hosts);
    lb.run(frame(udp_datagram(hosts.client, udp_vip(hosts), "query")));
    lb.run(frame(udp_datagram(udp_backend(hosts), hosts.client, "answer")));
  }

  // TCP and UDP, to the backend and back, in whatever `wrap` puts around them.
  void expect_through(const Hosts& h, const Wrap& wrap, const Packet& ip_options = {}) {
    const auto tcp = [&](const Endpoint& from, const Endpoint& to, std::uint8_t ttl) {
      return tcp_datagram({.from = from, .to = to, .payload = "odd", .ttl = ttl,
                           .ip_options = ip_options});
    };
    const auto udp_of = [&](const Endpoint& from, const Endpoint& to, std::uint8_t ttl) {
      return ip({.from = from.address, .to = to.address, .payload = udp(from, to, "query"),
                 .ttl = ttl, .options = ip_options});
    };
    const bpf::next_hop to_b1 = hop_to(h.b1), to_b4 = hop_to(h.b4);
    const Endpoint b1 = h.backend(h.b1);
    expect_sent(wrap(tcp(h.client, h.vip, 64), nullptr), wrap(tcp(h.client, b1, 63), &to_b1),
                kForwarded);
    expect_sent(wrap(tcp(b1, h.client, 64), nullptr), wrap(tcp(h.vip, h.client, 63), &kClientHop),
                kReturned);
    expect_sent(wrap(udp_of(h.client, udp_vip(h), 64), nullptr),
                wrap(udp_of(h.client, udp_backend(h), 63), &to_b4), kForwarded);
    expect_sent(wrap(udp_of(udp_backend(h), h.client, 64), nullptr),
                wrap(udp_of(udp_vip(h), h.client, 63), &kClientHop), kReturned);
  }

  void expect_chain_untouched(const Chain& chain, const VerdictGrowth& counted) {
    const Hosts& h = v6();
    expect_untouched(
        frame(with_extensions(tcp_datagram({.from = h.client, .to = h.vip}), chain)), counted);
  }
};

// --- VLAN ----------------------------------------------------------------------------------------

const std::vector<Tags> kTagged{{0x81000001},              // 802.1Q
                                {0x8100e064},              // with a priority
                                {0x88a80fff},              // 802.1ad
                                {0x88a80065, 0x81000064},  // a customer's in a provider's
                                {0x81000065, 0x81000064}};

TEST_F(Headers, OneOrTwoVlanTagsAreKeptInBothDirections) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    open_flows(*hosts);
    for (const Tags& tags : kTagged) {
      SCOPED_TRACE(testing::Message() << hosts->family << std::hex << " " << tags.front());
      expect_through(*hosts, [&](const Packet& datagram, const bpf::next_hop* hop) {
        return with_tags(framed(datagram, hop), tags);
      });
    }
  }
}

TEST_F(Headers, MoreTagsThanTwoPassUntouched) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    const Packet packet = frame(tcp_datagram({.from = hosts->client, .to = hosts->vip}));
    expect_untouched(with_tags(packet, {0x88a80001, 0x81000002, 0x81000003}), kNotOurs);
  }
}

TEST_F(Headers, ATagCutOffPassesUntouched) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    open_flows(*hosts);
    const Packet packet = with_tags(frame(tcp_datagram({.from = hosts->client, .to = hosts->vip})),
                                    {0x88a80001, 0x81000002});
    for (std::size_t bytes = kEthernetBytes; bytes < packet.size(); ++bytes) {
      SCOPED_TRACE(hosts->family + " cut to " + std::to_string(bytes));
      const bool has_ip = bytes >= kEthernetBytes + 8;
      expect_untouched(first_bytes(packet, bytes), has_ip ? kMalformed : kNotOurs);
    }
  }
}

// --- IPv4 options --------------------------------------------------------------------------------

TEST_F(Headers, IpOptionsAreKept) {
  open_flows(v4());
  for (const std::size_t bytes : std::vector<std::size_t>{4, 8, 20, 36, 40}) {
    SCOPED_TRACE(bytes);
    Packet options(bytes, 1);  // no-operation
    options[0] = 0x94;         // router alert (RFC 2113)
    options[1] = 4;
    options[2] = options[3] = 0;
    expect_through(v4(), framed, options);
    expect_through(v4(), [](const Packet& datagram, const bpf::next_hop* hop) {
      return with_tags(framed(datagram, hop), {0x81000064});
    }, options);
  }
}

// --- IPv6 extension headers ----------------------------------------------------------------------

const Extension kPadding{kDestinationOptions, {1, 4, 0, 0, 0, 0}};
const Extension kRouterAlert{kHopByHop, {5, 2, 0, 0, 1, 0}};
// All of its way travelled: no segments are left.
const Extension kTravelled{kRouting, {4, 0, 0, 0, 0, 0}};
const Extension kAtomic{kFragmentHeader, {0, 0, 0, 0, 0, 9}};  // RFC 6946: a fragment of one

Extension padding_of(std::size_t units) {  // of 8 bytes, all together
  Packet body(units * 8 - 2, 0);
  body[0] = 1;
  body[1] = static_cast<std::uint8_t>(body.size() - 2);
  return {kDestinationOptions, body};
}

TEST_F(Headers, ExtensionHeadersAreLookedThroughAndKept) {
  open_flows(v6());
  const std::vector<std::pair<std::string, Chain>> chains{
      {"hop-by-hop options", {kRouterAlert}},
      {"routing", {kTravelled}},
      {"destination options", {kPadding}},
      {"an atomic fragment", {kAtomic}},
      {"two", {kRouterAlert, kPadding}},
      {"three", {kRouterAlert, kTravelled, kPadding}},
      {"all kinds, in RFC 8200's order", {kRouterAlert, kPadding, kTravelled, kAtomic, kPadding}},
      {"six", {kRouterAlert, kPadding, kTravelled, kPadding, kPadding, kPadding}},
      {"a long one", {padding_of(20)}},
      {"as many bytes as are looked through", {padding_of(30), padding_of(2)}},
  };
  for (const auto& [description, chain] : chains) {
    SCOPED_TRACE(description);
    expect_through(v6(), [&](const Packet& datagram, const bpf::next_hop* hop) {
      return framed(with_extensions(datagram, chain), hop);
    });
  }
}

TEST_F(Headers, ExtensionHeadersBehindAVlanTagAreLookedThroughToo) {
  open_flows(v6());
  expect_through(v6(), [&](const Packet& datagram, const bpf::next_hop* hop) {
    return with_tags(framed(with_extensions(datagram, {kRouterAlert, kPadding}), hop),
                     {0x88a80065, 0x81000064});
  });
}

TEST_F(Headers, MoreExtensionHeadersThanTheBoundPassUntouched) {
  open_flows(v6());
  expect_chain_untouched(Chain(7, kPadding), kNotOurs);
  expect_chain_untouched(Chain(12, kPadding), kNotOurs);
  expect_chain_untouched({padding_of(31), padding_of(2)}, kMalformed);  // 264 bytes
  expect_chain_untouched({padding_of(31), kPadding, kPadding}, kMalformed);
}

TEST_F(Headers, ExtensionHeadersThatHideTheTransportPassUntouched) {
  open_flows(v6());
  for (const std::uint8_t type : std::vector<std::uint8_t>{50, 51, 135, 139, 140, kNoNext, 253}) {
    SCOPED_TRACE(testing::Message() << "next header " << int{type});
    expect_chain_untouched({{type, {0, 0, 0, 0, 0, 0}}}, kNotOurs);
    expect_chain_untouched({kRouterAlert, {type, {0, 0, 0, 0, 0, 0}}}, kNotOurs);
  }
}

// The VIP is only a stop on its way: TCP's checksum covers where it ends (RFC 8200, 8.1).
TEST_F(Headers, ARouteNotYetTravelledPassesUntouched) {
  open_flows(v6());
  Packet body{4, 1, 0, 0, 0, 0};
  const auto& next = v6().stranger.address;
  body.insert(body.end(), next.bytes, next.bytes + 16);
  expect_chain_untouched({{kRouting, body}}, kMalformed);
  expect_chain_untouched({kPadding, {kRouting, body}, kPadding}, kMalformed);
}

TEST_F(Headers, ACutChainPassesUntouched) {
  open_flows(v6());
  const Packet whole = frame(with_extensions(tcp_datagram({.from = v6().client, .to = v6().vip}),
                                             {kRouterAlert, padding_of(3), kTravelled}));
  for (std::size_t bytes = kEthernetBytes; bytes < whole.size(); ++bytes) {
    SCOPED_TRACE("frame cut to " + std::to_string(bytes));
    expect_untouched(first_bytes(whole, bytes), kMalformed);
  }
  for (std::size_t bytes = 0; bytes < whole.size() - kEthernetBytes - kIpv6Bytes; ++bytes) {
    SCOPED_TRACE("payload length " + std::to_string(bytes));
    Packet lying = whole;
    store_be16(lying, kEthernetBytes + 4, static_cast<std::uint16_t>(bytes));
    expect_untouched(lying, kMalformed);
  }
}

TEST_F(Headers, AnExtensionHeaderLongerThanItsPacketPassesUntouched) {
  open_flows(v6());
  for (const std::uint8_t units : std::vector<std::uint8_t>{3, 10, 255}) {
    SCOPED_TRACE(int{units});
    Packet packet = frame(with_extensions(tcp_datagram({.from = v6().client, .to = v6().vip}),
                                          {kPadding}));
    packet[kEthernetBytes + kIpv6Bytes + 1] = units;
    expect_untouched(packet, kMalformed);
  }
}

}  // namespace
}  // namespace petrel::test
