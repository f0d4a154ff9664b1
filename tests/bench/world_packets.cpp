// SPDX-License-Identifier: MIT
// The packets that a world's clients and backends send.
#include <algorithm>

#include "tests/bench/bench.h"
#include "tests/bench/world.hpp"

namespace petrel::bench {
namespace {

constexpr std::size_t kSourceOffset = test::kEthernetBytes + 12;
constexpr std::size_t kPortsOffset = test::kEthernetBytes + test::kIpv4Bytes;

test::Endpoint endpoint_at(const test::Packet& packet, std::size_t address, std::size_t port) {
  test::Endpoint found = vip();  // for the prefix that IPv4 has among IPv6 addresses
  std::copy_n(packet.begin() + static_cast<std::ptrdiff_t>(address), 4, found.address.bytes + 12);
  found.port = test::load_be16(packet, port);
  return found;
}

}  // namespace

const test::Endpoint& vip() {
  static const test::Endpoint kVip = test::endpoint("192.0.2.200", 80);
  return kVip;
}

test::Endpoint flow_source(std::uint32_t flow) {
  test::Endpoint source = vip();
  const std::uint32_t address = bench_flow_address(flow);
  for (int i = 0; i < 4; ++i) {
    source.address.bytes[15 - i] = static_cast<std::uint8_t>(address >> (8 * i));
  }
  source.port = bench_flow_port(flow);
  return source;
}

test::Endpoint source_of(const test::Packet& packet) {
  return endpoint_at(packet, kSourceOffset, kPortsOffset);
}

test::Endpoint destination_of(const test::Packet& packet) {
  return endpoint_at(packet, kSourceOffset + 4, kPortsOffset + 2);
}

test::Packet syn_packet(const test::Endpoint& from) {
  test::Segment segment;
  segment.from = from;
  segment.to = vip();
  segment.flags = test::kSyn;
  // MSS, SACK permitted, timestamps, window scale.
  segment.tcp_options = {2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0x12, 0x34, 0, 0, 0, 0, 1, 3, 3, 7};
  return test::build(segment);
}

test::Packet data_packet(const test::Endpoint& from, const test::Endpoint& to, std::uint32_t seq,
                         std::uint32_t ack) {
  test::Segment segment;
  segment.from = from;
  segment.to = to;
  segment.seq = seq;
  segment.ack = ack;
  segment.tcp_options = {1, 1, 8, 10, 0, 0, 0x12, 0x34, 0, 0, 0x56, 0x78};
  segment.payload = std::string(kPayloadBytes, 'x');
  return test::build(segment);
}

}  // namespace petrel::bench
