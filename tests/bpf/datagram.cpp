// SPDX-License-Identifier: MIT
#include "tests/bpf/datagram.hpp"

namespace petrel::test {
namespace {

void append(Packet& packet, const Packet& bytes) {
  packet.insert(packet.end(), bytes.begin(), bytes.end());
}

void append_be16(Packet& packet, std::size_t value) {
  packet.push_back(static_cast<std::uint8_t>(value >> 8));
  packet.push_back(static_cast<std::uint8_t>(value));
}

void append_be32(Packet& packet, std::size_t value) {
  append_be16(packet, value >> 16);
  append_be16(packet, value);
}

void append_address(Packet& packet, const bpf::address& address) {
  packet.insert(packet.end(), address.bytes + (is_v4(address) ? 12 : 0), address.bytes + 16);
}

Packet addresses(const bpf::address& from, const bpf::address& to) {
  Packet both;
  append_address(both, from);
  append_address(both, to);
  return both;
}

// What TCP, UDP and ICMPv6 sum up: the addresses, length and protocol before themselves.
std::uint16_t transport_sum(const Packet& both_addresses, std::uint8_t protocol,
                            const Packet& payload) {
  Packet covered = both_addresses;
  append_be32(covered, payload.size());
  append_be32(covered, protocol);
  append(covered, payload);
  return ones_complement_sum(covered);
}

std::uint16_t inverted(std::uint16_t sum) { return static_cast<std::uint16_t>(~sum); }

bool is_ipv4(const Packet& datagram) { return datagram.at(0) >> 4 == 4; }

std::size_t header_bytes(const Packet& datagram) {
  return is_ipv4(datagram) ? (datagram[0] & 15U) * 4U : kIpv6Bytes;
}

}  // namespace

// --- above IP ------------------------------------------------------------------------------------

Packet udp(const Endpoint& from, const Endpoint& to, const std::string& payload,
           UdpChecksum checksum) {
  Packet result;
  append_be16(result, from.port);
  append_be16(result, to.port);
  append_be16(result, kUdpBytes + payload.size());
  append_be16(result, 0);
  result.insert(result.end(), payload.begin(), payload.end());
  if (checksum == UdpChecksum::kNone) return result;
  const std::uint16_t sum =
      inverted(transport_sum(addresses(from.address, to.address), kUdp, result));
  store_be16(result, 6, sum == 0 ? 0xffff : sum);  // RFC 768: 0 would say that there is none
  return result;
}

std::string zero_sum_payload(const Endpoint& from, const Endpoint& to) {
  const Packet without = udp(from, to, std::string(2, '\0'));
  // The checksum is what the sum lacks to be all ones: let the payload have it.
  return {static_cast<char>(without[6]), static_cast<char>(without[7])};
}

Packet icmp(const bpf::address& from, const bpf::address& to, std::uint8_t type, std::uint8_t code,
            std::uint32_t rest, const Packet& body) {
  Packet result{type, code, 0, 0};
  append_be32(result, rest);
  append(result, body);
  const std::uint16_t sum = is_v4(from)
                                ? ones_complement_sum(result)
                                : transport_sum(addresses(from, to), kIcmpv6, result);
  store_be16(result, 2, inverted(sum));
  return result;
}

// --- IP ------------------------------------------------------------------------------------------

Packet ip(const Ip& header) {
  Packet result;
  if (is_v4(header.from)) {
    const std::size_t bytes = kIpv4Bytes + header.options.size();
    result.push_back(static_cast<std::uint8_t>(0x40 | bytes / 4));
    result.push_back(header.tos);
    append_be16(result, bytes + header.payload.size());
    append_be16(result, header.id);
    append_be16(result, header.fragment);
    result.push_back(header.ttl);
    result.push_back(header.protocol);
    append_be16(result, 0);
    append(result, addresses(header.from, header.to));
    append(result, header.options);
    store_be16(result, 10, inverted(ones_complement_sum(result)));
  } else {
    append_be32(result, 6U << 28 | static_cast<std::uint32_t>(header.tos) << 20 |
                            header.flow_label);
    append_be16(result, header.payload.size());
    result.push_back(header.protocol);
    result.push_back(header.ttl);
    append(result, addresses(header.from, header.to));
  }
  append(result, header.payload);
  return result;
}

Packet udp_datagram(const Endpoint& from, const Endpoint& to, const std::string& payload,
                    std::uint8_t ttl, UdpChecksum checksum) {
  return ip({.from = from.address, .to = to.address, .payload = udp(from, to, payload, checksum),
             .ttl = ttl});
}

Packet tcp_datagram(const Segment& segment) {
  const Packet whole = build(segment);
  return Packet(whole.begin() + kEthernetBytes, whole.end());
}

Packet with_extensions(const Packet& datagram, const std::vector<Extension>& extensions) {
  Packet chain;
  for (std::size_t i = 0; i < extensions.size(); ++i) {
    const bool last = i + 1 == extensions.size();
    chain.push_back(last ? datagram.at(6) : extensions[i + 1].type);
    chain.push_back(static_cast<std::uint8_t>((extensions[i].body.size() + 2) / 8 - 1));
    append(chain, extensions[i].body);
  }
  Packet result = first_bytes(datagram, kIpv6Bytes);
  if (!extensions.empty()) result.at(6) = extensions.front().type;
  append(result, chain);
  result.insert(result.end(), datagram.begin() + kIpv6Bytes, datagram.end());
  store_be16(result, 4, static_cast<std::uint16_t>(result.size() - kIpv6Bytes));
  return result;
}

std::vector<Packet> fragments(const Packet& datagram, std::uint32_t id, std::size_t bytes) {
  const std::size_t header = header_bytes(datagram);
  std::vector<Packet> pieces;
  for (std::size_t at = header; at < datagram.size(); at += bytes) {
    const bool last = at + bytes >= datagram.size();
    const Packet payload = slice(datagram, at, last ? datagram.size() - at : bytes);
    Packet piece = first_bytes(datagram, header);
    if (is_ipv4(datagram)) {
      store_be16(piece, 2, static_cast<std::uint16_t>(header + payload.size()));
      store_be16(piece, 4, static_cast<std::uint16_t>(id));
      store_be16(piece, 6, static_cast<std::uint16_t>((at - header) / 8 |
                                                      (last ? 0 : kMoreFragments)));
      store_be16(piece, 10, 0);
      store_be16(piece, 10, inverted(ones_complement_sum(piece)));
    } else {
      piece[6] = kFragmentHeader;
      store_be16(piece, 4, static_cast<std::uint16_t>(8 + payload.size()));
      piece.push_back(datagram[6]);
      piece.push_back(0);
      append_be16(piece, (at - header) | (last ? 0 : 1));
      append_be32(piece, id);
    }
    append(piece, payload);
    pieces.push_back(piece);
  }
  return pieces;
}

// --- Ethernet ------------------------------------------------------------------------------------

Packet frame(const Packet& datagram, const Mac& to, const Mac& from) {
  Packet result(to.begin(), to.end());
  result.insert(result.end(), from.begin(), from.end());
  append_be16(result, is_ipv4(datagram) ? 0x0800 : 0x86dd);
  append(result, datagram);
  return result;
}

Packet frame(const Packet& datagram, const bpf::next_hop& hop) {
  Mac to, from;
  std::copy(std::begin(hop.destination_mac), std::end(hop.destination_mac), to.begin());
  std::copy(std::begin(hop.source_mac), std::end(hop.source_mac), from.begin());
  return frame(datagram, to, from);
}

Packet with_tags(const Packet& frame, const std::vector<std::uint32_t>& tags) {
  Packet result = first_bytes(frame, kEthernetBytes - 2);
  for (const std::uint32_t tag : tags) append_be32(result, tag);
  result.insert(result.end(), frame.begin() + kEthernetBytes - 2, frame.end());
  return result;
}

// --- reading -------------------------------------------------------------------------------------

Packet slice(const Packet& packet, std::size_t from, std::size_t count) {
  if (from > packet.size() || count > packet.size() - from) return {};
  const auto begin = packet.begin() + static_cast<std::ptrdiff_t>(from);
  return Packet(begin, begin + static_cast<std::ptrdiff_t>(count));
}

Packet first_bytes(const Packet& packet, std::size_t count) { return slice(packet, 0, count); }

namespace {

std::string datagram_error(const Packet& datagram);

std::string payload_error(const Packet& both_addresses, std::uint8_t protocol,
                          const Packet& payload) {
  const bool is_error_v4 = protocol == kIcmp && payload.size() >= kIcmpBytes + kIpv4Bytes &&
                           (payload[0] == 3 || payload[0] == 11 || payload[0] == 12);
  switch (protocol) {
    case kTcp:
      if (payload.size() < kTcpBytes) return "TCP header cut";
      return transport_sum(both_addresses, kTcp, payload) == 0xffff ? "" : "TCP checksum";
    case kUdp:
      if (payload.size() < kUdpBytes) return "UDP header cut";
      if (load_be16(payload, 4) != payload.size()) return "UDP length";
      if (load_be16(payload, 6) == 0) return both_addresses.size() == 8 ? "" : "no UDP checksum";
      return transport_sum(both_addresses, kUdp, payload) == 0xffff ? "" : "UDP checksum";
    case kIcmp:
      if (ones_complement_sum(payload) != 0xffff) return "ICMP checksum";
      if (is_error_v4) {
        const Packet quoted = slice(payload, kIcmpBytes, (payload[kIcmpBytes] & 15U) * 4U);
        if (ones_complement_sum(quoted) != 0xffff) return "quoted IPv4 header checksum";
      }
      return "";
    case kIcmpv6:
      return transport_sum(both_addresses, kIcmpv6, payload) == 0xffff ? "" : "ICMPv6 checksum";
    case kIpip:
    case kIpv6InIp: {
      const std::string inner = datagram_error(payload);
      return inner.empty() ? "" : "inner " + inner;
    }
    default: return "";
  }
}

std::string datagram_error(const Packet& datagram) {
  if (is_ipv4(datagram)) {
    const std::size_t header = header_bytes(datagram);
    const std::size_t total = load_be16(datagram, 2);
    if (total < header || total > datagram.size()) return "IPv4 total length";
    if (ones_complement_sum(first_bytes(datagram, header)) != 0xffff) return "IPv4 header checksum";
    if (load_be16(datagram, 6) & (kMoreFragments | 0x1fff)) return "";
    return payload_error(slice(datagram, 12, 8), datagram[9],
                         slice(datagram, header, total - header));
  }
  const std::size_t total = kIpv6Bytes + load_be16(datagram, 4);
  if (total > datagram.size()) return "IPv6 payload length";
  std::size_t at = kIpv6Bytes;
  std::uint8_t next = datagram.at(6);
  while (next == kHopByHop || next == kRouting || next == kDestinationOptions) {
    next = datagram.at(at);
    at += 8 + datagram.at(at + 1) * 8U;
  }
  if (next == kFragmentHeader) return "";
  return payload_error(slice(datagram, 8, 32), next, slice(datagram, at, total - at));
}

}  // namespace

std::string frame_error(const Packet& frame) {
  std::size_t at = kEthernetBytes;
  std::uint16_t type = load_be16(frame, at - 2);
  while (type == 0x8100 || type == 0x88a8) {
    at += 4;
    type = load_be16(frame, at - 2);
  }
  if (type != 0x0800 && type != 0x86dd) return "";
  const Packet datagram = slice(frame, at, frame.size() - at);
  if (is_ipv4(datagram) != (type == 0x0800)) return "ethertype";
  return datagram_error(datagram);
}

}  // namespace petrel::test
