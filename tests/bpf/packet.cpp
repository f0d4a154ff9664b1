// SPDX-License-Identifier: MIT
#include "tests/bpf/packet.hpp"

namespace petrel::test {
namespace {

constexpr std::uint8_t kTcp = 6;

void append(Packet& packet, const std::uint8_t* bytes, std::size_t count) {
  packet.insert(packet.end(), bytes, bytes + count);
}

void append_be16(Packet& packet, std::size_t value) {
  packet.push_back(static_cast<std::uint8_t>(value >> 8));
  packet.push_back(static_cast<std::uint8_t>(value));
}

void append_be32(Packet& packet, std::size_t value) {
  append_be16(packet, value >> 16);
  append_be16(packet, value);
}

Packet tcp_segment(const Segment& segment) {
  Packet tcp;
  append_be16(tcp, segment.from.port);
  append_be16(tcp, segment.to.port);
  append_be32(tcp, segment.seq);
  append_be32(tcp, segment.ack);
  tcp.push_back(static_cast<std::uint8_t>((kTcpBytes + segment.tcp_options.size()) / 4 << 4));
  tcp.push_back(segment.flags);
  append_be16(tcp, segment.window);
  append_be32(tcp, 0);       // checksum, urgent pointer
  append(tcp, segment.tcp_options.data(), segment.tcp_options.size());
  tcp.insert(tcp.end(), segment.payload.begin(), segment.payload.end());
  return tcp;
}

// The addresses as they lie in a header of that family.
void append_addresses(Packet& packet, const bpf::address& from, const bpf::address& to) {
  const std::size_t skipped = is_v4(from) ? 12 : 0;
  append(packet, from.bytes + skipped, 16 - skipped);
  append(packet, to.bytes + skipped, 16 - skipped);
}

Packet ip_header(const Segment& segment, std::size_t tcp_bytes) {
  Packet ip;
  if (is_v4(segment.from.address)) {
    const std::size_t header_bytes = kIpv4Bytes + segment.ip_options.size();
    ip.push_back(static_cast<std::uint8_t>(0x40 | header_bytes / 4));
    ip.push_back(segment.tos);
    append_be16(ip, header_bytes + tcp_bytes);
    append_be32(ip, segment.plain ? 0x00004000 : 0xbeef4000);  // identification, don't fragment
    ip.push_back(segment.ttl);
    ip.push_back(kTcp);
    append_be16(ip, 0);
  } else {
    append_be32(ip, 0x60000000U | segment.tos << 20U | (segment.plain ? 0 : 0x34567));
    append_be16(ip, tcp_bytes);
    ip.push_back(kTcp);
    ip.push_back(segment.ttl);
  }
  append_addresses(ip, segment.from.address, segment.to.address);
  append(ip, segment.ip_options.data(), segment.ip_options.size());
  return ip;
}

Packet slice(const Packet& packet, std::size_t from, std::size_t count) {
  const auto begin = packet.begin() + static_cast<std::ptrdiff_t>(from);
  return Packet(begin, begin + static_cast<std::ptrdiff_t>(count));
}

// Source, destination, protocol and length: what the TCP checksum covers of the IP header.
Packet pseudo_header(const Packet& addresses, std::size_t tcp_bytes) {
  Packet pseudo = addresses;
  append_be32(pseudo, tcp_bytes);
  append_be32(pseudo, kTcp);
  return pseudo;
}

std::uint16_t tcp_sum(const Packet& addresses, const Packet& tcp) {
  Packet covered = pseudo_header(addresses, tcp.size());
  append(covered, tcp.data(), tcp.size());
  return ones_complement_sum(covered);
}

}  // namespace

std::uint16_t ones_complement_sum(const Packet& bytes) {
  std::uint32_t sum = 0;
  for (std::size_t i = 0; i < bytes.size(); i += 2) {
    const std::uint32_t low = i + 1 < bytes.size() ? bytes[i + 1] : 0;
    sum += static_cast<std::uint32_t>(bytes[i]) << 8 | low;
    if (sum > 0xffff) sum -= 0xffff;  // the carry comes back in at the bottom
  }
  return static_cast<std::uint16_t>(sum);
}

Packet build(const Segment& segment) {
  Packet tcp = tcp_segment(segment);
  Packet ip = ip_header(segment, tcp.size());
  Packet addresses;
  append_addresses(addresses, segment.from.address, segment.to.address);
  store_be16(tcp, 16, static_cast<std::uint16_t>(~tcp_sum(addresses, tcp)));
  const bool v4 = is_v4(segment.from.address);
  if (v4) store_be16(ip, 10, static_cast<std::uint16_t>(~ones_complement_sum(ip)));

  Packet packet;
  append(packet, segment.destination_mac.data(), segment.destination_mac.size());
  append(packet, segment.source_mac.data(), segment.source_mac.size());
  append_be16(packet, v4 ? 0x0800 : 0x86dd);
  append(packet, ip.data(), ip.size());
  append(packet, tcp.data(), tcp.size());
  packet.insert(packet.end(), segment.trailer_bytes, 0xee);
  return packet;
}

std::size_t tcp_offset(const Packet& packet) {
  const bool v4 = load_be16(packet, 12) == 0x0800;
  return kEthernetBytes + (v4 ? (packet.at(kEthernetBytes) & 15U) * 4U : kIpv6Bytes);
}

void store_be16(Packet& packet, std::size_t offset, std::uint16_t value) {
  packet.at(offset) = static_cast<std::uint8_t>(value >> 8);
  packet.at(offset + 1) = static_cast<std::uint8_t>(value);
}

std::uint16_t load_be16(const Packet& packet, std::size_t offset) {
  return static_cast<std::uint16_t>(packet.at(offset) << 8 | packet.at(offset + 1));
}

// A header or segment that holds its own checksum sums up to all ones.
std::string checksum_error(const Packet& packet) {
  const std::size_t tcp_begin = tcp_offset(packet);
  if (load_be16(packet, 12) == 0x0800) {
    if (ones_complement_sum(slice(packet, kEthernetBytes, tcp_begin - kEthernetBytes)) != 0xffff) {
      return "IPv4 header checksum";
    }
    const std::size_t tcp_bytes =
        load_be16(packet, kEthernetBytes + 2) + kEthernetBytes - tcp_begin;
    const Packet addresses = slice(packet, kEthernetBytes + 12, 8);
    return tcp_sum(addresses, slice(packet, tcp_begin, tcp_bytes)) == 0xffff ? "" : "TCP checksum";
  }
  const Packet addresses = slice(packet, kEthernetBytes + 8, 32);
  const Packet tcp = slice(packet, tcp_begin, load_be16(packet, kEthernetBytes + 4));
  return tcp_sum(addresses, tcp) == 0xffff ? "" : "TCP checksum";
}

}  // namespace petrel::test
