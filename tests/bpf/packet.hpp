// SPDX-License-Identifier: MIT
// Frames to send: a TCP segment between two endpoints, built with correct lengths and checksums.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tests/bpf/hosts.hpp"

namespace petrel::test {

using Packet = std::vector<std::uint8_t>;

enum TcpFlag : std::uint8_t { kFin = 1, kSyn = 2, kRst = 4, kPsh = 8, kAck = 16 };
constexpr std::uint8_t kSynAck = kSyn | kAck;
constexpr std::uint8_t kFinAck = kFin | kAck;
constexpr std::uint8_t kRstAck = kRst | kAck;

constexpr Mac kSomeMac{0x02, 0, 0, 0, 0, 0x01};
constexpr Mac kOurMac{0x02, 0, 0, 0, 0, 0x02};

// Where the layers begin in what build() makes; the TCP header follows IP options.
constexpr std::size_t kEthernetBytes = 14;
constexpr std::size_t kIpv4Bytes = 20;
constexpr std::size_t kIpv6Bytes = 40;
constexpr std::size_t kTcpBytes = 20;

struct Segment {
  Endpoint from, to;  // both of one family, which is the packet's
  std::uint8_t flags = kAck;
  std::uint32_t seq = 1000;
  std::uint32_t ack = 0;
  std::string payload{};
  std::uint8_t ttl = 64;
  std::vector<std::uint8_t> ip_options{};  // IPv4 only; a multiple of 4 bytes, at most 40
  std::vector<std::uint8_t> tcp_options{};  // the same
  std::size_t trailer_bytes = 0;  // Ethernet padding after the IP datagram
  Mac source_mac = kSomeMac;
  Mac destination_mac = kOurMac;
  std::uint16_t window = 0xfaf0;
  std::uint8_t tos = 0x12;  // or traffic class: not zero, so that a lost byte shows
  bool plain = false;       // as the balancer makes them: IPv4 identification, flow label are 0
};

Packet build(const Segment& segment);

// Where the TCP header begins.
std::size_t tcp_offset(const Packet& packet);

void store_be16(Packet& packet, std::size_t offset, std::uint16_t value);
std::uint16_t load_be16(const Packet& packet, std::size_t offset);

// What is wrong with the packet's IP and TCP checksums, "" if nothing. Reads the packet as RFC 791,
// 8200, 9293 and 1071 say, and shares no code with what it checks.
std::string checksum_error(const Packet& packet);

// RFC 1071: the 16-bit ones' complement sum; an odd last byte counts as the high one of a word.
std::uint16_t ones_complement_sum(const Packet& bytes);

}  // namespace petrel::test
