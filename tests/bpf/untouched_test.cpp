// SPDX-License-Identifier: MIT
// What is not ours, or cannot be read, passes byte for byte: never dropped, never changed, and no
// state is made of it.
#include <gtest/gtest.h>

#include <functional>

#include "tests/bpf/conversation.hpp"

namespace petrel::test {
namespace {

constexpr std::size_t kIp = kEthernetBytes;

struct Untouched : BalancerTest {
  void expect_untouched(const Packet& packet, int verdict) {
    const auto before = lb.verdicts();
    const std::size_t connections = lb.connections();
    const Outcome out = lb.run(packet);
    EXPECT_EQ(out.action, XDP_PASS);
    EXPECT_EQ(out.packet, packet);
    EXPECT_EQ(growth(before, lb.verdicts()), (VerdictGrowth{{verdict, 1}}));
    EXPECT_EQ(lb.connections(), connections);
  }
};

struct Case {
  std::string description;
  std::function<void(Segment&)> shape;
  std::function<void(Packet&)> break_it;
  int verdict;
};

void run_cases(const std::vector<Case>& cases, const Hosts& hosts,
               const std::function<void(const Packet&, int)>& expect) {
  for (const Case& test : cases) {
    SCOPED_TRACE(hosts.family + " " + test.description);
    Segment segment{.from = hosts.client, .to = hosts.vip, .flags = kSyn, .payload = "payload"};
    if (test.shape) test.shape(segment);
    Packet packet = build(segment);
    if (test.break_it) test.break_it(packet);
    expect(packet, test.verdict);
  }
}

Packet with_vlan(const Packet& packet) {
  Packet tagged = packet;
  const std::uint8_t tag[] = {0x81, 0x00, 0x00, 0x05};
  tagged.insert(tagged.begin() + 12, std::begin(tag), std::end(tag));
  return tagged;
}

TEST_F(Untouched, WhatIsNotOurs) {
  const auto not_ours = bpf::VERDICT_NOT_OURS, no_service = bpf::VERDICT_NO_SERVICE;
  const auto to_stranger = [](const Hosts* hosts) {
    return [=](Segment& s) { s.to = hosts->stranger; };
  };
  const auto expect = [this](const Packet& p, int verdict) { expect_untouched(p, verdict); };
  for (const Hosts* hosts : {&v4(), &v6()}) {
    run_cases({{"another address", to_stranger(hosts), {}, not_ours},
               {"another address and a lie", to_stranger(hosts),
                [](Packet& p) { p[tcp_offset(p) + 12] = 0; }, not_ours},
               {"another address behind a VLAN tag", to_stranger(hosts),
                [](Packet& p) { p = with_vlan(p); }, not_ours},
               {"another port", [](Segment& s) { s.to.port = 81; }, {}, no_service},
               {"ARP", {}, [](Packet& p) { store_be16(p, 12, 0x0806); }, not_ours},
               {"another ethertype", {}, [](Packet& p) { store_be16(p, 12, 0x88cc); }, not_ours},
               {"a backend's other port",
                [=](Segment& s) { s.from = hosts->backend(hosts->b1); s.from.port = 22;
                                  s.to = hosts->client; },
                {}, not_ours}},
              *hosts, expect);
  }
  run_cases({{"UDP", {}, [](Packet& p) { p[kIp + 9] = 17; }, no_service},
             {"ICMP", {}, [](Packet& p) { p[kIp + 9] = 1; }, no_service},
             {"SCTP", {}, [](Packet& p) { p[kIp + 9] = 132; }, not_ours},
             {"another address's fragment", to_stranger(&v4()),
              [](Packet& p) { store_be16(p, kIp + 6, 0x2001); }, not_ours}},
            v4(), expect);
  run_cases({{"UDP", {}, [](Packet& p) { p[kIp + 6] = 17; }, no_service},
             {"ICMPv6", {}, [](Packet& p) { p[kIp + 6] = 58; }, no_service},
             {"SCTP", {}, [](Packet& p) { p[kIp + 6] = 132; }, not_ours}},
            v6(), expect);
}

TEST_F(Untouched, FragmentsWhoseFirstWasNotSeen) {
  const auto fragment = bpf::VERDICT_FRAGMENT;
  run_cases({{"a middle one", {}, [](Packet& p) { store_be16(p, kIp + 6, 0x2001); }, fragment},
             {"the last", {}, [](Packet& p) { store_be16(p, kIp + 6, 0x1fff); }, fragment}},
            v4(), [this](const Packet& p, int verdict) { expect_untouched(p, verdict); });
}

TEST_F(Untouched, LengthsThatLie) {
  const auto malformed = bpf::VERDICT_MALFORMED;
  const auto expect = [this](const Packet& p, int verdict) { expect_untouched(p, verdict); };
  const auto doff = [](std::uint8_t words) {
    return [=](Packet& p) { p[tcp_offset(p) + 12] = static_cast<std::uint8_t>(words << 4); };
  };
  const auto total = [](std::uint16_t bytes) {
    return [=](Packet& p) { store_be16(p, kIp + 2, bytes); };
  };
  const auto payload = [](std::uint16_t bytes) {
    return [=](Packet& p) { store_be16(p, kIp + 4, bytes); };
  };
  for (const Hosts* hosts : {&v4(), &v6()}) {
    run_cases({{"doff 0", {}, doff(0), malformed},
               {"doff 4", {}, doff(4), malformed},
               {"doff past the segment", {}, doff(7), malformed},
               {"doff 15", {}, doff(15), malformed},
               {"doff into the trailer", [](Segment& s) { s.trailer_bytes = 40; }, doff(10),
                malformed}},
              *hosts, expect);
  }
  // The datagram is 20 + 20 + 7 bytes.
  run_cases({{"total length 0", {}, total(0), malformed},
             {"total length less than the header", {}, total(19), malformed},
             {"total length of the header alone", {}, total(20), malformed},
             {"total length cuts the TCP header", {}, total(39), malformed},
             {"total length one too large", {}, total(48), malformed},
             {"total length as large as can be", {}, total(0xffff), malformed},
             {"ihl 0", {}, [](Packet& p) { p[kIp] = 0x40; }, malformed},
             {"ihl 4", {}, [](Packet& p) { p[kIp] = 0x44; }, malformed},
             {"ihl past the datagram", {}, [](Packet& p) { p[kIp] = 0x4f; }, malformed},
             {"ihl leaves half a TCP header", {}, [](Packet& p) { p[kIp] = 0x47; }, malformed},
             {"version 6", {}, [](Packet& p) { p[kIp] = 0x65; }, malformed}},
            v4(), expect);
  run_cases({{"payload length 0", {}, payload(0), malformed},
             {"payload length cuts the TCP header", {}, payload(19), malformed},
             {"payload length one too large", {}, payload(28), malformed},
             {"payload length as large as can be", {}, payload(0xffff), malformed},
             {"version 4", {}, [](Packet& p) { p[kIp] = 0x45; }, malformed}},
            v6(), expect);
}

// A datagram that ends before its frame does is whole: what follows is a trailer.
TEST_F(Untouched, NotWhenTheDatagramIsShorterThanItsFrame) {
  Segment segment{.from = v4().client, .to = v4().vip, .flags = kSyn, .payload = "payload"};
  Packet packet = build(segment);
  store_be16(packet, kIp + 2, 40);
  EXPECT_EQ(lb.run(packet).action, XDP_REDIRECT);
}

TEST_F(Untouched, EveryTruncation) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    Conversation(lb, *hosts, hosts->client.port).open();
    for (Segment segment : {Segment{.from = hosts->client, .to = hosts->vip},
                            Segment{.from = hosts->backend(hosts->b1), .to = hosts->client}}) {
      segment.payload = "payload";
      segment.tcp_options = {2, 4, 5, 0xb4};
      if (hosts == &v4()) segment.ip_options = {0x94, 4, 0, 0};
      const Packet whole = build(segment);
      ASSERT_NE(lb.run(whole).packet, whole);
      // The kernel takes no frame shorter than an Ethernet header.
      for (std::size_t bytes = kEthernetBytes; bytes < whole.size(); ++bytes) {
        const Packet cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(bytes));
        const Outcome out = lb.run(cut);
        ASSERT_EQ(out.action, XDP_PASS) << hosts->family << " cut to " << bytes;
        ASSERT_EQ(out.packet, cut) << hosts->family << " cut to " << bytes;
      }
    }
  }
}

TEST_F(Untouched, WhoseTimeToLiveIsOver) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    Conversation(lb, *hosts, hosts->client.port).open();
    for (const std::uint8_t ttl : {std::uint8_t{0}, std::uint8_t{1}}) {
      expect_untouched(build({.from = hosts->client, .to = hosts->vip, .ttl = ttl}),
                       bpf::VERDICT_TTL_EXPIRED);
      expect_untouched(
          build({.from = hosts->backend(hosts->b1), .to = hosts->client, .ttl = ttl}),
          bpf::VERDICT_TTL_EXPIRED);
    }
  }
}

TEST_F(Untouched, AServiceThatIsNotReady) {
  lb.set_service(v4(), bpf::SERVICE_ACT);
  expect_untouched(build({.from = v4().client, .to = v4().vip, .flags = kSyn}),
                   bpf::VERDICT_NOT_READY);
}

// Sockets may tell of it, in the same table: its flows are none of the balancer's.
TEST_F(Untouched, AReplyOfAServiceThatIsNotReady) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    Conversation(lb, *hosts, 40000).open();
    lb.set_service(*hosts, bpf::SERVICE_AT_CLIENT);
    expect_untouched(build({.from = hosts->backend(hosts->b1),
                            .to = {hosts->client.address, 40000}, .flags = kAck}),
                     bpf::VERDICT_NOT_OURS);
  }
}

TEST_F(Untouched, AReplyOfNoConnection) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    expect_untouched(build({.from = hosts->backend(hosts->b1), .to = hosts->client}),
                     bpf::VERDICT_NO_CONNECTION);
  }
}

TEST_F(Untouched, AReplyFromABackendNoLongerUsed) {
  Conversation(lb, v4(), 40000).open();
  lb.retire(v4().b1);
  expect_untouched(build({.from = v4().backend(v4().b1), .to = v4().client}),
                   bpf::VERDICT_NOT_OURS);
}

}  // namespace
}  // namespace petrel::test
