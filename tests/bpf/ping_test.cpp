// SPDX-License-Identifier: MIT
// An echo request to a VIP is answered; ICMP of all other kinds is the kernel's.
#include <gtest/gtest.h>

#include "tests/bpf/path_fixture.hpp"

namespace petrel::test {
namespace {

const VerdictGrowth kPing{{bpf::VERDICT_PING, 1}};
const VerdictGrowth kNotOurs{{bpf::VERDICT_NOT_OURS, 1}};
const VerdictGrowth kNoService{{bpf::VERDICT_NO_SERVICE, 1}};

std::uint8_t request_of(const Hosts& hosts) { return &hosts == &v4() ? 8 : 128; }
std::uint8_t reply_of(const Hosts& hosts) { return &hosts == &v4() ? 0 : 129; }

Ip echo(const bpf::address& from, const bpf::address& to, std::uint8_t type, std::size_t bytes,
        std::uint8_t ttl = 64) {
  Packet body(bytes);
  for (std::size_t i = 0; i < bytes; ++i) body[i] = static_cast<std::uint8_t>(i * 7 + 1);
  return {.from = from, .to = to, .protocol = is_v4(from) ? kIcmp : kIcmpv6,
          .payload = icmp(from, to, type, 0, 0x12340001, body), .ttl = ttl};
}

using Ping = PathTest;

TEST_F(Ping, ToAVipIsAnsweredWhateverItsSize) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    const auto& client = hosts->client.address;
    const auto& vip = hosts->vip.address;
    for (const std::size_t bytes : {0, 1, 2, 55, 56, 1400, 1473}) {
      SCOPED_TRACE(hosts->family + ", " + std::to_string(bytes) + " bytes");
      expect_answered(frame(ip(echo(client, vip, request_of(*hosts), bytes))),
                      frame(ip(echo(vip, client, reply_of(*hosts), bytes)), kSomeMac, kOurMac),
                      kPing);
    }
  }
}

TEST_F(Ping, IsAnsweredWithATimeToLiveOfOurOwn) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    for (const std::uint8_t ttl : std::vector<std::uint8_t>{1, 2, 255}) {
      SCOPED_TRACE(hosts->family + ", " + std::to_string(ttl));
      const auto& client = hosts->client.address;
      const auto& vip = hosts->vip.address;
      expect_answered(frame(ip(echo(client, vip, request_of(*hosts), 8, ttl))),
                      frame(ip(echo(vip, client, reply_of(*hosts), 8, 64)), kSomeMac, kOurMac),
                      kPing);
    }
  }
}

TEST_F(Ping, KeepsItsVlanTags) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    for (const std::vector<std::uint32_t>& tags :
         {std::vector<std::uint32_t>{0x8100a064}, {0x88a80065, 0x81000064}}) {
      SCOPED_TRACE(hosts->family);
      const auto& client = hosts->client.address;
      const auto& vip = hosts->vip.address;
      expect_answered(
          with_tags(frame(ip(echo(client, vip, request_of(*hosts), 56))), tags),
          with_tags(frame(ip(echo(vip, client, reply_of(*hosts), 56)), kSomeMac, kOurMac), tags),
          kPing);
    }
  }
}

TEST_F(Ping, ThroughIpOptionsAndExtensionHeadersIsAnswered) {
  const auto &client = v4().client.address, &vip = v4().vip.address;
  Ip request = echo(client, vip, 8, 9), reply = echo(vip, client, 0, 9);
  request.options = reply.options = {0x94, 4, 0, 0};
  expect_answered(frame(ip(request)), frame(ip(reply), kSomeMac, kOurMac), kPing);

  const std::vector<Extension> padding{{kDestinationOptions, {1, 4, 0, 0, 0, 0}}};
  const auto &client6 = v6().client.address, &vip6 = v6().vip.address;
  expect_answered(
      frame(with_extensions(ip(echo(client6, vip6, 128, 9)), padding)),
      frame(with_extensions(ip(echo(vip6, client6, 129, 9)), padding), kSomeMac, kOurMac), kPing);
}

TEST_F(Ping, ToAnyoneElseIsNotAnswered) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    for (const Endpoint& to : {hosts->stranger, hosts->other_client, hosts->backend(hosts->b1)}) {
      expect_untouched(
          frame(ip(echo(hosts->client.address, to.address, request_of(*hosts), 56))), kNotOurs);
    }
  }
}

TEST_F(Ping, ThatIsNoneIsNotAnswered) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    const auto& client = hosts->client.address;
    const auto& vip = hosts->vip.address;
    expect_untouched(frame(ip(echo(client, vip, reply_of(*hosts), 56))), kNoService);
    Ip coded = echo(client, vip, request_of(*hosts), 56);
    coded.payload = icmp(client, vip, request_of(*hosts), 1, 0, {});
    expect_untouched(frame(ip(coded)), kNoService);
    // Seven bytes: not even a header.
    Ip cut = echo(client, vip, request_of(*hosts), 0);
    cut.payload.pop_back();
    expect_untouched(frame(ip(cut)), kNotOurs);
    // The other family's protocol, with a message that it would understand.
    Ip strange = echo(client, vip, request_of(*hosts), 8);
    strange.protocol = hosts == &v4() ? kIcmpv6 : kIcmp;
    expect_untouched(frame(ip(strange)), kNotOurs);
    strange.payload[0] = hosts == &v4() ? 128 : 8;
    expect_untouched(frame(ip(strange)), kNotOurs);
  }
}

// One answer to each fragment would be none to the request: the kernel puts them together.
TEST_F(Ping, InFragmentsIsLeftToTheKernel) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    const Packet whole =
        ip(echo(hosts->client.address, hosts->vip.address, request_of(*hosts), 2000));
    for (const Packet& piece : fragments(whole, 7, 1400)) {
      expect_untouched(frame(piece), kNotOurs);
    }
  }
}

TEST_F(Ping, LeavesNeighbourDiscoveryAndArpAlone) {
  Packet arp(28, 0);  // an Ethernet request for the VIP (RFC 826)
  const Packet fixed{0, 1, 8, 0, 6, 4, 0, 1};
  std::copy(fixed.begin(), fixed.end(), arp.begin());
  std::copy_n(v4().vip.address.bytes + 12, 4, arp.begin() + 24);
  Packet asked = frame(ip(echo(v4().client.address, v4().vip.address, 8, 0)));
  asked.resize(kEthernetBytes);
  store_be16(asked, 12, 0x0806);
  asked.insert(asked.end(), arp.begin(), arp.end());
  expect_untouched(asked, kNotOurs);

  const auto &client = v6().client.address, &vip = v6().vip.address;
  const Packet target(vip.bytes, vip.bytes + 16);
  const auto group = endpoint("ff02::1:ff00:200", 0).address;
  for (const std::uint8_t type : std::vector<std::uint8_t>{133, 134, 135, 136}) {
    SCOPED_TRACE(type);
    const auto of = [&](const bpf::address& to) {
      return frame(ip({.from = client, .to = to, .protocol = kIcmpv6,
                       .payload = icmp(client, to, type, 0, 0, target), .ttl = 255}));
    };
    expect_untouched(of(group), kNotOurs);
    expect_untouched(of(vip), kNoService);
  }
}

}  // namespace
}  // namespace petrel::test
