// SPDX-License-Identifier: MIT
// ICMP errors follow the flow whose packet they quote, rewritten inside and out.
//
// What is expected is built from scratch with the other addresses: had the reporter seen the packet
// as its sender knows it, byte for byte the same.
#include <gtest/gtest.h>

#include <functional>

#include "tests/bpf/conversation.hpp"
#include "tests/bpf/path_fixture.hpp"

namespace petrel::test {
namespace {

struct Error {
  std::uint8_t type;
  std::uint8_t code;
  std::uint32_t rest;
};

const std::vector<Error> kErrorsV4{{3, 4, 1400},  // fragmentation needed
                                   {3, 0, 0}, {3, 1, 0}, {3, 3, 0}, {3, 13, 0},
                                   {11, 0, 0}, {12, 0, 0x14000000}};
const std::vector<Error> kErrorsV6{{1, 0, 0}, {1, 4, 0}, {2, 0, 1400}, {3, 0, 0}, {4, 1, 40}};

// A packet as a reporter might quote it.
struct Quote {
  std::string description;
  std::function<Packet(const Endpoint& from, const Endpoint& to)> packet;
  std::size_t bytes;  // of what is above IP
  bool is_udp = false;
  const Hosts* only = nullptr;  // one family's
};

Segment seen(const Endpoint& from, const Endpoint& to) {
  return {.from = from, .to = to, .seq = 0x12345678, .payload = "payload, of an odd length",
          .ttl = 1};
}

const std::vector<Quote> kQuotes{
    {"TCP, 8 bytes", [](auto& from, auto& to) { return tcp_datagram(seen(from, to)); }, 8},
    {"TCP, up to its checksum",
     [](auto& from, auto& to) { return tcp_datagram(seen(from, to)); }, 18},
    {"TCP, short of its checksum",
     [](auto& from, auto& to) { return tcp_datagram(seen(from, to)); }, 16},
    {"TCP, its header", [](auto& from, auto& to) { return tcp_datagram(seen(from, to)); }, 20},
    {"TCP, all of it", [](auto& from, auto& to) { return tcp_datagram(seen(from, to)); }, 45},
    {"TCP after IP options",
     [](const Endpoint& from, const Endpoint& to) {
       Segment segment = seen(from, to);
       segment.ip_options = {0x94, 4, 0, 0, 1, 1, 1, 1};
       return tcp_datagram(segment);
     }, 20, false, &v4()},
    {"UDP", [](auto& from, auto& to) { return udp_datagram(from, to, "query", 1); }, 13, true},
    {"UDP, 8 bytes", [](auto& from, auto& to) { return udp_datagram(from, to, "query", 1); }, 8,
     true},
    {"UDP without a checksum",
     [](auto& from, auto& to) {
       return udp_datagram(from, to, "query", 1, UdpChecksum::kNone);
     }, 13, true, &v4()},
    {"TCP after extension headers",
     [](auto& from, auto& to) {
       return with_extensions(tcp_datagram(seen(from, to)),
                              {{kHopByHop, {5, 2, 0, 0, 1, 0}},
                               {kDestinationOptions, {1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}}});
     }, 24 + 20, false, &v6()},
    {"UDP, a first fragment of it",
     [](auto& from, auto& to) {
       return fragments(udp_datagram(from, to, std::string(99, 'q'), 1), 9, 64).front();
     }, 8 + 64, true, &v6()},
};

const VerdictGrowth kForwarded{{bpf::VERDICT_ICMP_FORWARDED, 1}};
const VerdictGrowth kUnmatched{{bpf::VERDICT_ICMP_UNMATCHED, 1}};
const VerdictGrowth kNotOurs{{bpf::VERDICT_NOT_OURS, 1}};
const VerdictGrowth kNoService{{bpf::VERDICT_NO_SERVICE, 1}};

Packet error_datagram(const bpf::address& from, const bpf::address& to, const Error& error,
                      const Packet& quote, std::uint8_t ttl = 64) {
  return ip({.from = from, .to = to, .protocol = is_v4(from) ? kIcmp : kIcmpv6,
             .payload = icmp(from, to, error.type, error.code, error.rest, quote), .ttl = ttl,
             .tos = 0xc0});
}

std::size_t header_of(const Packet& datagram) {
  return datagram[0] >> 4 == 4 ? (datagram[0] & 15U) * 4U : kIpv6Bytes;
}

Packet quoted(const Packet& datagram, std::size_t bytes) {
  return first_bytes(datagram, header_of(datagram) + bytes);
}

const std::vector<Error>& errors_of(const Hosts& hosts) {
  return &hosts == &v4() ? kErrorsV4 : kErrorsV6;
}

struct IcmpErrors : PathTest {
  // One TCP flow at b1 and one UDP flow at b4, of the client.
  void open_flows(const Hosts& hosts) {
    Conversation(lb, hosts, hosts.client.port).open();
    serve_udp(hosts);
    lb.run(frame(udp_datagram(hosts.client, udp_vip(hosts), "query")));
    lb.run(frame(udp_datagram(udp_backend(hosts), hosts.client, "answer")));
  }

  // Each error with each quote; `expect` gets the ends as the quoted packet's flow has them.
  template <class Expect>
  void each(const Expect& expect) {
    for (const Hosts* hosts : {&v4(), &v6()}) {
      open_flows(*hosts);
      for (const Quote& quote : kQuotes) {
        if (quote.only != nullptr && quote.only != hosts) continue;
        const Endpoint vip = quote.is_udp ? udp_vip(*hosts) : hosts->vip;
        const Endpoint backend =
            quote.is_udp ? udp_backend(*hosts) : hosts->backend(hosts->b1);
        const std::uint32_t id = quote.is_udp ? hosts->b4 : hosts->b1;
        for (const Error& error : errors_of(*hosts)) {
          SCOPED_TRACE(hosts->family + " " + quote.description + ", type " +
                       std::to_string(error.type) + ", code " + std::to_string(error.code));
          expect(*hosts, quote, error, vip, backend, hop_to(id));
        }
      }
    }
  }
};

TEST_F(IcmpErrors, FromARouterAboutAClientsPacketReachTheClientAndQuoteTheVip) {
  each([&](const Hosts& hosts, const Quote& quote, const Error& error, const Endpoint& vip,
           const Endpoint& backend, const bpf::next_hop&) {
    const auto& router = hosts.stranger.address;
    const auto& client = hosts.client;
    expect_sent(frame(error_datagram(router, client.address, error,
                                     quoted(quote.packet(client, backend), quote.bytes))),
                frame(error_datagram(router, client.address, error,
                                     quoted(quote.packet(client, vip), quote.bytes), 63),
                      kClientHop),
                kForwarded);
  });
}

TEST_F(IcmpErrors, FromTheBackendComeFromTheVip) {
  each([&](const Hosts& hosts, const Quote& quote, const Error& error, const Endpoint& vip,
           const Endpoint& backend, const bpf::next_hop&) {
    const auto& client = hosts.client;
    expect_sent(frame(error_datagram(backend.address, client.address, error,
                                     quoted(quote.packet(client, backend), quote.bytes))),
                frame(error_datagram(vip.address, client.address, error,
                                     quoted(quote.packet(client, vip), quote.bytes), 63),
                      kClientHop),
                kForwarded);
  });
}

TEST_F(IcmpErrors, AboutAReplyReachTheBackend) {
  each([&](const Hosts& hosts, const Quote& quote, const Error& error, const Endpoint& vip,
           const Endpoint& backend, const bpf::next_hop& hop) {
    for (const Endpoint& reporter : {hosts.stranger, hosts.client}) {
      expect_sent(frame(error_datagram(reporter.address, vip.address, error,
                                       quoted(quote.packet(vip, hosts.client), quote.bytes))),
                  frame(error_datagram(reporter.address, backend.address, error,
                                       quoted(quote.packet(backend, hosts.client), quote.bytes),
                                       63),
                        hop),
                  kForwarded);
    }
  });
}

TEST_F(IcmpErrors, KeepTheirVlanTag) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    open_flows(*hosts);
    const Error error = errors_of(*hosts).front();
    const auto of = [&](const Endpoint& from, const Endpoint& to, std::uint8_t ttl) {
      return error_datagram(hosts->stranger.address, from.address, error,
                            tcp_datagram(seen(from, to)), ttl);
    };
    expect_sent(with_tags(frame(of(hosts->vip, hosts->client, 64)), {0x81000064}),
                with_tags(frame(of(hosts->backend(hosts->b1), hosts->client, 63),
                                hop_to(hosts->b1)), {0x81000064}),
                kForwarded);
  }
}

// A quote whose UDP checksum comes out as 0 must say so as 0xffff: 0 means that there is none.
TEST_F(IcmpErrors, NeverTurnAQuotedChecksumIntoNone) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    open_flows(*hosts);
    const auto& client = hosts->client;
    const std::string payload = zero_sum_payload(client, udp_vip(*hosts));
    const Error error = errors_of(*hosts).front();
    const auto of = [&](const Endpoint& to, std::uint8_t ttl) {
      return error_datagram(hosts->stranger.address, client.address, error,
                            udp_datagram(client, to, payload, 1), ttl);
    };
    expect_sent(frame(of(udp_backend(*hosts), 64)), frame(of(udp_vip(*hosts), 63), kClientHop),
                kForwarded);
  }
}

// --- what they do not ----------------------------------------------------------------------------

TEST_F(IcmpErrors, AboutUnknownFlowsPassUntouched) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    open_flows(*hosts);
    const auto& h = *hosts;
    const Endpoint other_port = at_port(h.client, 41000), b1 = h.backend(h.b1);
    const auto& router = h.stranger.address;
    const auto pass = [&](const bpf::address& to, const Endpoint& from_inside,
                          const Endpoint& to_inside, const VerdictGrowth& counted) {
      for (const Error& error : errors_of(h)) {
        expect_untouched(frame(error_datagram(router, to, error,
                                              tcp_datagram(seen(from_inside, to_inside)))),
                         counted);
      }
    };
    pass(h.client.address, other_port, b1, kUnmatched);                    // no such flow
    pass(h.client.address, h.client, h.backend(h.b2), kUnmatched);         // another backend's
    pass(h.vip.address, h.vip, other_port, kUnmatched);
    pass(h.vip.address, h.vip, h.other_client, kUnmatched);
    pass(h.vip.address, at_port(h.vip, 81), h.client, kUnmatched);         // no such service
    pass(h.other_client.address, h.client, b1, kUnmatched);                // another client's
    lb.add_vip(h.other_client.address);
    pass(h.other_client.address, h.vip, h.client, kUnmatched);             // another VIP's
    pass(h.client.address, h.client, h.stranger, kNotOurs);
    pass(h.client.address, h.client, at_port(b1, 22), kNotOurs);           // the backend's own
  }
}

TEST_F(IcmpErrors, OfOtherKindsPassUntouched) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    open_flows(*hosts);
    const auto& h = *hosts;
    const std::vector<std::uint8_t> types =
        hosts == &v4() ? std::vector<std::uint8_t>{1, 2, 4, 5, 6, 9, 10, 13, 40}
                       : std::vector<std::uint8_t>{0, 5, 11, 127, 133, 137, 140};
    for (const std::uint8_t type : types) {
      SCOPED_TRACE(hosts->family + " type " + std::to_string(type));
      expect_untouched(frame(error_datagram(h.stranger.address, h.client.address, {type, 0, 0},
                                            tcp_datagram(seen(h.client, h.backend(h.b1))))),
                       kNotOurs);
      expect_untouched(frame(error_datagram(h.stranger.address, h.vip.address, {type, 0, 0},
                                            tcp_datagram(seen(h.vip, h.client)))),
                       kNoService);
    }
  }
}

TEST_F(IcmpErrors, WithACutQuotePassUntouched) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    open_flows(*hosts);
    const Error error = errors_of(*hosts).front();
    const Packet quote = tcp_datagram(seen(hosts->vip, hosts->client));
    for (std::size_t bytes = 0; bytes < header_of(quote) + 8; ++bytes) {
      SCOPED_TRACE(hosts->family + " cut to " + std::to_string(bytes));
      Packet in = frame(error_datagram(hosts->stranger.address, hosts->vip.address, error,
                                       first_bytes(quote, bytes)));
      expect_untouched(in, kUnmatched);
      in.resize(in.size() + 64, 0x45);  // what follows the datagram is no part of the quote
      expect_untouched(in, kUnmatched);
    }
  }
}

TEST_F(IcmpErrors, AboutALaterFragmentOrAnotherProtocolPassUntouched) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    open_flows(*hosts);
    const Error error = errors_of(*hosts).front();
    Packet quote = tcp_datagram(seen(hosts->vip, hosts->client));
    expect_untouched(frame(error_datagram(hosts->client.address, hosts->vip.address, error,
                                          fragments(quote, 9, 24)[1])), kUnmatched);
    if (hosts == &v6()) {
      const Packet far = with_extensions(
          quote, std::vector<Extension>(7, {kDestinationOptions, {1, 4, 0, 0, 0, 0}}));
      expect_untouched(frame(error_datagram(hosts->client.address, hosts->vip.address, error, far)),
                       kUnmatched);
    }
    quote[hosts == &v4() ? 9 : 6] = 50;
    expect_untouched(frame(error_datagram(hosts->client.address, hosts->vip.address, error, quote)),
                     kUnmatched);
  }
}

TEST_F(IcmpErrors, WhoseTimeToLiveIsOverPassUntouched) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    open_flows(*hosts);
    expect_untouched(frame(error_datagram(hosts->stranger.address, hosts->vip.address,
                                          errors_of(*hosts).front(),
                                          tcp_datagram(seen(hosts->vip, hosts->client)), 1)),
                     {{bpf::VERDICT_TTL_EXPIRED, 1}});
  }
}

}  // namespace
}  // namespace petrel::test
