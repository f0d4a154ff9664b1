// SPDX-License-Identifier: MIT
// Datagrams of any kind, in layers: what build() of packet.hpp, for TCP alone, does not have.
//
// Each function makes one layer from scratch, with the lengths and checksums that its RFC says. A
// "datagram" is an IP header and all above it; a "frame" has an Ethernet header before that.
#pragma once

#include <string>
#include <vector>

#include "tests/bpf/packet.hpp"

namespace petrel::test {

enum Protocol : std::uint8_t {
  kHopByHop = 0,
  kIcmp = 1,
  kIpip = 4,
  kTcp = 6,
  kUdp = 17,
  kIpv6InIp = 41,
  kRouting = 43,
  kFragmentHeader = 44,
  kIcmpv6 = 58,
  kNoNext = 59,
  kDestinationOptions = 60,
};

constexpr std::size_t kUdpBytes = 8;
constexpr std::size_t kIcmpBytes = 8;
constexpr std::uint16_t kDontFragment = 0x4000;
constexpr std::uint16_t kMoreFragments = 0x2000;

// --- above IP ------------------------------------------------------------------------------------

enum class UdpChecksum { kRight, kNone };

Packet udp(const Endpoint& from, const Endpoint& to, const std::string& payload,
           UdpChecksum checksum = UdpChecksum::kRight);
// A payload with which the checksum comes out as 0.
std::string zero_sum_payload(const Endpoint& from, const Endpoint& to);

// The header's second word is `rest`: identifier and number, or the MTU. ICMPv6 where the addresses
// are IPv6: its checksum covers them.
Packet icmp(const bpf::address& from, const bpf::address& to, std::uint8_t type, std::uint8_t code,
            std::uint32_t rest, const Packet& body);

// --- IP ------------------------------------------------------------------------------------------

struct Ip {
  bpf::address from{}, to{};  // both of one family, which is the datagram's
  std::uint8_t protocol = kUdp;
  Packet payload{};
  std::uint8_t ttl = 64;
  std::uint8_t tos = 0x12;                 // or traffic class; not zero, so that a lost bit shows
  std::uint16_t id = 0xbeef;               // IPv4 only
  std::uint16_t fragment = kDontFragment;  // IPv4 only: flags and offset
  Packet options{};                        // IPv4 only, a multiple of 4 bytes
  std::uint32_t flow_label = 0x34567;      // IPv6 only
};

Packet ip(const Ip& header);
Packet udp_datagram(const Endpoint& from, const Endpoint& to, const std::string& payload,
                    std::uint8_t ttl = 64, UdpChecksum checksum = UdpChecksum::kRight);
Packet tcp_datagram(const Segment& segment);

// An IPv6 header between the fixed one and the transport's. `body` is what follows its first two
// bytes: 6 and any multiple of 8.
struct Extension {
  std::uint8_t type;
  Packet body;
};
Packet with_extensions(const Packet& datagram, const std::vector<Extension>& extensions);

// The datagram in pieces with `bytes` (a multiple of 8) of payload each; the last may have less.
std::vector<Packet> fragments(const Packet& datagram, std::uint32_t id, std::size_t bytes);

// --- Ethernet ------------------------------------------------------------------------------------

Packet frame(const Packet& datagram, const Mac& to = kOurMac, const Mac& from = kSomeMac);
Packet frame(const Packet& datagram, const bpf::next_hop& hop);

// Each tag: its type (0x8100, 0x88a8), then its control information; the first is the outermost.
Packet with_tags(const Packet& frame, const std::vector<std::uint32_t>& tags);

// --- reading -------------------------------------------------------------------------------------

Packet slice(const Packet& packet, std::size_t from, std::size_t count);
Packet first_bytes(const Packet& packet, std::size_t count);

// What is wrong with the lengths and checksums of a frame, "" if nothing: through VLAN tags, IP,
// extension headers, tunnels, TCP, UDP, ICMP and the IPv4 header that an ICMP error quotes.
std::string frame_error(const Packet& frame);

}  // namespace petrel::test
