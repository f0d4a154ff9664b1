// SPDX-License-Identifier: MIT
#include "tests/bpf/dsr_fixture.hpp"

#include <algorithm>

namespace petrel::test {
namespace {

const std::vector<Mode> kModes{{"IPv4 in IPv4", &v4(), false},
                               {"IPv6 in IPv6", &v6(), true},
                               {"IPv4 in IPv6", &v4(), true}};

// The address that lies at `offset`; 0.0.0.0 or :: if the packet is too short.
bpf::address address_at(const Packet& packet, std::size_t offset, bool is_v6) {
  bpf::address address = is_v6 ? bpf::address{} : endpoint("0.0.0.0", 0).address;
  const Packet bytes = slice(packet, offset, is_v6 ? 16 : 4);
  std::copy(bytes.begin(), bytes.end(), address.bytes + (is_v6 ? 0 : 12));
  return address;
}

std::uint8_t tos_of(const Packet& datagram) {
  return datagram[0] >> 4 == 4 ? datagram[1]
                               : static_cast<std::uint8_t>(datagram[0] << 4 | datagram[1] >> 4);
}

}  // namespace

Packet aged(Packet datagram) {
  if (datagram[0] >> 4 == 6) {
    datagram[7]--;
    return datagram;
  }
  datagram[8]--;
  store_be16(datagram, 10, 0);
  const Packet header = first_bytes(datagram, (datagram[0] & 15U) * 4U);
  store_be16(datagram, 10, static_cast<std::uint16_t>(~ones_complement_sum(header)));
  return datagram;
}

void DsrTest::each_mode(std::uint16_t mtu, const std::function<void(const Mode&)>& test) {
  for (const Mode& mode : kModes) {
    SCOPED_TRACE(mode.name);
    lb.reset();
    lb.set_route({128, mode.hosts->client.address}, {kClientHop, 1500});
    serve_ranges(mode.hosts->vip.address, {});
    serve({.vip = mode.vip(), .protocol = kTcp, .id = mode.hosts->service,
           .flags = bpf::SERVICE_DSR, .backends = {{mode.hosts->b1, mode.backend(false)}},
           .mtu = mtu});
    serve({.vip = mode.udp(), .protocol = kUdp, .id = mode.hosts->other_service,
           .flags = bpf::SERVICE_DSR, .backends = {{mode.hosts->b4, mode.backend(true)}},
           .mtu = mtu});
    test(mode);
  }
}

bpf::address DsrTest::expect_encapsulated(const Mode& mode, const Ip& in, bool is_udp,
                                          const VerdictGrowth& counted,
                                          const std::vector<std::uint32_t>& tags) {
  return expect_encapsulated(mode, ip(in), is_udp, counted, tags);
}

bpf::address DsrTest::expect_encapsulated(const Mode& mode, const Packet& in, bool is_udp,
                                          const VerdictGrowth& counted,
                                          const std::vector<std::uint32_t>& tags) {
  const std::size_t l3 = kEthernetBytes + tags.size() * 4;
  const Packet packet = with_tags(frame(in), tags);
  const auto before = lb.verdicts();
  const Outcome out = lb.run(packet);
  EXPECT_EQ(out.action, XDP_REDIRECT);
  EXPECT_EQ(growth(before, lb.verdicts()), counted);
  EXPECT_EQ(frame_error(out.packet), "");

  Ip outer{.from = address_at(out.packet, l3 + (mode.outer_v6 ? 8 : 12), mode.outer_v6),
           .to = mode.backend(is_udp).address,
           .protocol = mode.inner_v6() ? kIpv6InIp : kIpip, .payload = aged(in), .ttl = 64,
           .tos = tos_of(in)};
  if (mode.outer_v6) {
    const Packet label = slice(out.packet, l3, 4);
    if (label.size() == 4) {
      outer.flow_label =
          (label[1] & 15U) << 16 | static_cast<std::uint32_t>(label[2]) << 8 | label[3];
    }
    EXPECT_TRUE(std::equal(kEncapV6.begin(), kEncapV6.end(), outer.from.bytes));
  } else {
    outer.id = load_be16(in, 4);
    outer.fragment = load_be16(in, 6) & kDontFragment;
    EXPECT_TRUE(std::equal(kEncapV4.begin(), kEncapV4.end(), outer.from.bytes + 12));
  }
  EXPECT_EQ(hex(out.packet), hex(with_tags(frame(ip(outer), mode.hop(is_udp)), tags)));
  return outer.from;
}

}  // namespace petrel::test
