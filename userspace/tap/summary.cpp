// SPDX-License-Identifier: MIT
#include "tap/summary.hpp"

#include <netinet/in.h>

#include <cstdint>
#include <cstring>

#include "config/address.hpp"

namespace petrel::tap {
namespace {

constexpr std::uint16_t kEthertypeV4 = 0x0800;
constexpr std::uint16_t kEthertypeV6 = 0x86dd;
constexpr std::uint16_t kEthertypeVlan = 0x8100;
constexpr std::uint16_t kEthertypeServiceVlan = 0x88a8;
constexpr int kMostExtensions = 8;
constexpr int kMostNesting = 2;

using Bytes = std::span<const std::byte>;

// The bytes from some header on. Ask has() before reading.
class Cursor {
 public:
  explicit Cursor(Bytes bytes) : bytes_(bytes) {}

  bool has(std::size_t count) const { return bytes_.size() >= count; }
  std::uint8_t u8(std::size_t at) const { return std::to_integer<std::uint8_t>(bytes_[at]); }
  std::uint16_t be16(std::size_t at) const {
    return static_cast<std::uint16_t>(u8(at) << 8 | u8(at + 1));
  }
  const std::byte* at(std::size_t offset) const { return bytes_.data() + offset; }
  Cursor after(std::size_t count) const {
    return Cursor(has(count) ? bytes_.subspan(count) : Bytes{});
  }

 private:
  Bytes bytes_;
};

std::string packet_text(const Cursor& packet, std::uint16_t ethertype, int nesting);

struct Ends {
  bpf::address source{};
  bpf::address destination{};

  std::string text() const { return to_string(source) + " > " + to_string(destination); }
  std::string text(std::uint16_t from, std::uint16_t to) const {
    return endpoint_text(source, from) + " > " + endpoint_text(destination, to);
  }
};

bpf::address v4_at(const Cursor& cursor, std::size_t offset) {
  bpf::address address{};
  address.bytes[10] = address.bytes[11] = 0xff;
  std::memcpy(&address.bytes[12], cursor.at(offset), 4);
  return address;
}

bpf::address v6_at(const Cursor& cursor, std::size_t offset) {
  bpf::address address{};
  std::memcpy(address.bytes, cursor.at(offset), sizeof(address.bytes));
  return address;
}

std::string tcp_flags(std::uint8_t flags) {
  constexpr char kLetters[] = "FSRP.UEW";  // from the lowest bit; '.' is ACK, as tcpdump has it
  std::string text;
  for (int bit = 0; bit < 8; ++bit) {
    if ((flags >> bit & 1) != 0) text.push_back(kLetters[bit]);
  }
  return " [" + (text.empty() ? "none" : text) + "]";
}

std::string transport_text(const Ends& ends, const Cursor& payload, std::uint8_t protocol,
                           int nesting) {
  switch (protocol) {
    case IPPROTO_TCP:
      if (!payload.has(14)) return ends.text() + " TCP, cut short";
      return ends.text(payload.be16(0), payload.be16(2)) + " TCP" + tcp_flags(payload.u8(13));
    case IPPROTO_UDP:
      if (!payload.has(4)) return ends.text() + " UDP, cut short";
      return ends.text(payload.be16(0), payload.be16(2)) + " UDP";
    case IPPROTO_ICMP:
    case IPPROTO_ICMPV6: {
      const std::string name = protocol == IPPROTO_ICMP ? " ICMP" : " ICMPv6";
      if (!payload.has(2)) return ends.text() + name + ", cut short";
      return ends.text() + name + " type " + std::to_string(payload.u8(0)) + " code " +
             std::to_string(payload.u8(1));
    }
    case IPPROTO_IPIP:
    case IPPROTO_IPV6:
      if (nesting >= kMostNesting) break;
      return ends.text() + " (" +
             packet_text(payload, protocol == IPPROTO_IPIP ? kEthertypeV4 : kEthertypeV6,
                         nesting + 1) +
             ")";
    default:
      break;
  }
  return ends.text() + " protocol " + std::to_string(protocol);
}

std::string v4_text(const Cursor& packet, int nesting) {
  if (!packet.has(20)) return "IPv4, cut short";
  const Ends ends{v4_at(packet, 12), v4_at(packet, 16)};
  const int offset = (packet.be16(6) & 0x1fff) * 8;
  if (offset != 0) return ends.text() + " fragment at " + std::to_string(offset);
  return transport_text(ends, packet.after((packet.u8(0) & 0x0f) * 4u), packet.u8(9), nesting);
}

std::string v6_text(const Cursor& packet, int nesting) {
  if (!packet.has(40)) return "IPv6, cut short";
  const Ends ends{v6_at(packet, 8), v6_at(packet, 24)};
  std::uint8_t next = packet.u8(6);
  Cursor rest = packet.after(40);
  for (int i = 0; i < kMostExtensions && rest.has(8); ++i) {
    std::size_t length = 0;
    if (next == IPPROTO_FRAGMENT) {
      const int offset = rest.be16(2) & 0xfff8;
      if (offset != 0) return ends.text() + " fragment at " + std::to_string(offset);
      length = 8;
    } else if (next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_DSTOPTS) {
      length = (rest.u8(1) + 1u) * 8;
    } else {
      break;
    }
    next = rest.u8(0);
    rest = rest.after(length);
  }
  return transport_text(ends, rest, next, nesting);
}

std::string packet_text(const Cursor& packet, std::uint16_t ethertype, int nesting) {
  if (ethertype == kEthertypeV4) return v4_text(packet, nesting);
  if (ethertype == kEthertypeV6) return v6_text(packet, nesting);
  return "ethertype " + std::to_string(ethertype);
}

}  // namespace

std::string summarize(std::span<const std::byte> frame) {
  Cursor cursor(frame);
  if (!cursor.has(14)) return "frame, cut short";
  std::uint16_t ethertype = cursor.be16(12);
  cursor = cursor.after(14);
  std::string vlans;
  while ((ethertype == kEthertypeVlan || ethertype == kEthertypeServiceVlan) && cursor.has(4)) {
    vlans += "vlan " + std::to_string(cursor.be16(0) & 0x0fff) + " ";
    ethertype = cursor.be16(2);
    cursor = cursor.after(4);
  }
  return vlans + packet_text(cursor, ethertype, 0);
}

}  // namespace petrel::tap
