// SPDX-License-Identifier: MIT
// The verifier itself, before it is believed of the balancer; then the balancer on random packets.
#include <gtest/gtest.h>

#include <random>

#include "tests/bpf/conversation.hpp"

namespace petrel::test {
namespace {

// The example of RFC 1071, section 3.
TEST(Checksum, SumsAsTheRfcDoes) {
  EXPECT_EQ(ones_complement_sum({0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7}), 0xddf2);
  EXPECT_EQ(ones_complement_sum({0x12}), 0x1200);
  EXPECT_EQ(ones_complement_sum({}), 0);
}

TEST(Checksum, AcceptsAWholePacketAndNoBrokenOne) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    const Packet good = build({.from = hosts->client, .to = hosts->vip, .payload = "odd"});
    EXPECT_EQ(checksum_error(good), "");
    // What neither checksum covers: MACs; IPv6 traffic class, flow label and hop limit.
    const bool ipv6 = hosts == &v6();
    const auto covered = [&](std::size_t i) {
      return !ipv6 || i >= kEthernetBytes + 8 || i == kEthernetBytes + 6;
    };
    for (std::size_t i = kEthernetBytes; i < good.size(); ++i) {
      if (!covered(i) || i == kEthernetBytes || i == kEthernetBytes + 6) continue;
      if (i == kEthernetBytes + 2 || i == kEthernetBytes + 3) continue;  // lengths: not readable
      Packet broken = good;
      broken[i] ^= 0x04;
      EXPECT_NE(checksum_error(broken), "") << "byte " << i;
    }
  }
}

using RandomPackets = BalancerTest;

TEST_F(RandomPackets, KeepRightChecksumsInBothDirections) {
  std::mt19937 random(20240601);  // fixed: the same packets each run
  for (const Hosts* hosts : {&v4(), &v6()}) {
    for (int i = 0; i < 1500; ++i) {
      Endpoint client = hosts->client;
      client.port = static_cast<std::uint16_t>(random() % 65535 + 1);
      for (int byte = 12; byte < 16; ++byte) {
        client.address.bytes[byte] = static_cast<std::uint8_t>(random());
      }
      std::string payload(random() % 64, '\0');
      for (char& c : payload) c = static_cast<char>(random());
      Segment there{.from = client, .to = hosts->vip, .flags = kSyn};
      lb.run(build(there));
      for (Segment segment : {Segment{.from = client, .to = hosts->vip},
                              Segment{.from = hosts->backend(hosts->b1), .to = client}}) {
        segment.seq = static_cast<std::uint32_t>(random());
        segment.ack = static_cast<std::uint32_t>(random());
        segment.ttl = static_cast<std::uint8_t>(random() % 254 + 2);
        segment.payload = payload;
        const Packet in = build(segment);
        const Packet out = lb.run(in).packet;
        ASSERT_NE(in, out) << hosts->family << " packet " << i;
        ASSERT_EQ(checksum_error(out), "") << hosts->family << " packet " << i;
      }
    }
  }
}

}  // namespace
}  // namespace petrel::test
