// SPDX-License-Identifier: MIT
// dsr and the MTU: "too big" from the VIP, whole, and the MSS of SYN-ACKs that come through us.
#include <gtest/gtest.h>

#include "tests/bpf/dsr_fixture.hpp"

namespace petrel::test {
namespace {

constexpr std::uint16_t kLinkMtu = 1500;
constexpr bool kIsUdp = true;

const VerdictGrowth kForwarded{{bpf::VERDICT_FORWARDED, 1}};
const VerdictGrowth kTooBig{{bpf::VERDICT_TOO_BIG, 1}};
const VerdictGrowth kClamped{{bpf::VERDICT_NOT_OURS, 1}, {bpf::VERDICT_MSS_CLAMPED, 1}};
const VerdictGrowth kNotOurs{{bpf::VERDICT_NOT_OURS, 1}};

// --- too big -------------------------------------------------------------------------------------

struct TooBig : DsrTest {
  void each_mode(const std::function<void(const Mode&)>& test) {
    DsrTest::each_mode(kLinkMtu, [&](const Mode& mode) {
      lb.run(frame(ip(query_of(mode, 100))));  // the flow is known
      test(mode);
    });
  }

  // A UDP datagram of so many bytes, IP header and all.
  static Ip query_of(const Mode& mode, std::size_t bytes) {
    const Endpoint& client = mode.hosts->client;
    std::string payload(bytes - mode.inner_bytes() - kUdpBytes, 'q');
    for (std::size_t i = 0; i < payload.size(); ++i) {
      payload[i] = static_cast<char>(i * 13 + i / 256);
    }
    return {.from = client.address, .to = mode.udp().address,
            .payload = udp(client, mode.udp(), payload)};
  }

  // RFC 1191 and 1812 for IPv4: the message fits 576 bytes; RFC 4443 for IPv6: it fills 1280.
  static Packet answer_to(const Mode& mode, const Packet& datagram) {
    const auto& vip = mode.udp().address;
    const auto& client = mode.hosts->client.address;
    const auto mtu = static_cast<std::uint32_t>(kLinkMtu - mode.outer_bytes());
    Ip answer{.from = vip, .to = client, .ttl = 64, .tos = 0, .id = 0, .fragment = 0,
              .flow_label = 0};
    answer.protocol = mode.inner_v6() ? kIcmpv6 : kIcmp;
    answer.payload = mode.inner_v6()
                         ? icmp(vip, client, 2, 0, mtu, first_bytes(datagram, 1232))
                         : icmp(vip, client, 3, 4, mtu, first_bytes(datagram, 512));
    return frame(ip(answer), kSomeMac, kOurMac);
  }
};

TEST_F(TooBig, IsNotWhatJustFitsTheLink) {
  each_mode([&](const Mode& mode) {
    const std::size_t most = kLinkMtu - mode.outer_bytes();
    for (const std::size_t bytes : {most - 1, most}) {
      expect_encapsulated(mode, query_of(mode, bytes), kIsUdp, kForwarded);
    }
  });
}

TEST_F(TooBig, IsAnsweredFromTheVipWithTheMtuThatIsLeft) {
  each_mode([&](const Mode& mode) {
    const std::size_t most = kLinkMtu - mode.outer_bytes();
    for (const std::size_t bytes : {most + 1, most + 2, std::size_t{1501}, std::size_t{3000}}) {
      SCOPED_TRACE(bytes);
      const Packet datagram = ip(query_of(mode, bytes));
      expect_answered(frame(datagram), answer_to(mode, datagram), kTooBig);
    }
  });
}

// XDP cannot fragment, and who allows it is able to: his stack learns the path's MTU all the same.
TEST_F(TooBig, IsAnsweredWithoutDontFragmentToo) {
  each_mode([&](const Mode& mode) {
    Ip query = query_of(mode, 1490);
    query.fragment = 0;
    expect_answered(frame(ip(query)), answer_to(mode, ip(query)), kTooBig);
  });
}

TEST_F(TooBig, KeepsVlanTagsAndDropsTheTrailer) {
  each_mode([&](const Mode& mode) {
    const Packet datagram = ip(query_of(mode, 1500));
    for (const std::vector<std::uint32_t>& tags :
         {std::vector<std::uint32_t>{0x8100e064}, {0x88a80065, 0x81000064}}) {
      expect_answered(with_tags(frame(datagram), tags), with_tags(answer_to(mode, datagram), tags),
                      kTooBig);
    }
    Packet padded = frame(datagram);
    padded.resize(padded.size() + 7, 0xee);
    expect_answered(padded, answer_to(mode, datagram), kTooBig);
  });
}

TEST_F(TooBig, CoversTcpAndIpOptionsAsTheyCame) {
  each_mode([&](const Mode& mode) {
    Segment segment{.from = mode.hosts->client, .to = mode.vip(), .flags = kSyn};
    lb.run(build(segment));
    segment.flags = kAck;
    segment.seq = 1001;
    segment.payload = std::string(1440, 't');
    if (!mode.inner_v6()) segment.ip_options = {0x94, 4, 0, 0};
    expect_answered(build(segment), answer_to(mode, tcp_datagram(segment)), kTooBig);
  });
}

// The sender hears of the first fragment; what else is of that datagram is of no use to anyone.
TEST_F(TooBig, DropsTheLaterFragmentsOfWhatWasAnswered) {
  each_mode([&](const Mode& mode) {
    const auto pieces = fragments(ip(query_of(mode, 3500)), 61, 1464);
    ASSERT_EQ(pieces.size(), 3U);
    VerdictGrowth first = kTooBig;
    first[bpf::VERDICT_FRAGMENT_FIRST] = 1;
    expect_answered(frame(pieces[0]), answer_to(mode, pieces[0]), first);
    const auto before = lb.verdicts();
    EXPECT_EQ(lb.run(frame(pieces[1])).action, XDP_DROP);
    EXPECT_EQ(growth(before, lb.verdicts()),
              (VerdictGrowth{{bpf::VERDICT_DROPPED, 1}, {bpf::VERDICT_FRAGMENT_FOLLOWED, 1}}));
    expect_encapsulated(mode, pieces[2], kIsUdp,
                        {{bpf::VERDICT_FORWARDED, 1}, {bpf::VERDICT_FRAGMENT_FOLLOWED, 1}});
  });
}

// RFC 1122, 3.2.2; RFC 4443, 2.4(e): no error is answered with another.
TEST_F(TooBig, IsNotSaidOfAnIcmpError) {
  each_mode([&](const Mode& mode) {
    const auto &client = mode.hosts->client, &vip = mode.udp();
    const Packet quote = ip({.from = vip.address, .to = client.address,
                             .payload = udp(vip, client, std::string(1440, 'a'))});
    const std::uint8_t type = mode.inner_v6() ? 1 : 3;
    const Packet error = ip({.from = client.address, .to = vip.address,
                             .protocol = mode.inner_v6() ? kIcmpv6 : kIcmp,
                             .payload = icmp(client.address, vip.address, type, 3, 0, quote)});
    const auto before = lb.verdicts();
    EXPECT_EQ(lb.run(frame(error)).action, XDP_DROP);
    EXPECT_EQ(growth(before, lb.verdicts()), (VerdictGrowth{{bpf::VERDICT_DROPPED, 1}}));
  });
}

TEST_F(TooBig, IsNothingWhereTheLinksMtuIsNotKnown) {
  DsrTest::each_mode(0, [&](const Mode& mode) {
    lb.run(frame(ip(query_of(mode, 100))));
    expect_encapsulated(mode, query_of(mode, 3000), kIsUdp, kForwarded);
  });
}

// --- MSS -----------------------------------------------------------------------------------------

struct Mss : DsrTest {
  void each_mode(const std::function<void(const Mode&)>& test) {
    DsrTest::each_mode(kLinkMtu, [&](const Mode& mode) {
      lb.run(build({.from = mode.hosts->client, .to = mode.vip(), .flags = kSyn}));
      test(mode);
    });
  }

  static std::uint16_t most(const Mode& mode) {
    return static_cast<std::uint16_t>(kLinkMtu - mode.outer_bytes() - mode.inner_bytes() -
                                      kTcpBytes);
  }

  // A SYN-ACK of the backend, which answers as the VIP; `before` and `after` lie around the MSS.
  static Segment answer_of(const Mode& mode, unsigned mss, Packet before = {},
                           const Packet& after = {}) {
    Segment segment{.from = mode.vip(), .to = mode.hosts->client, .flags = kSynAck, .ack = 1001};
    segment.tcp_options = std::move(before);
    for (const unsigned byte : {2U, 4U, mss >> 8, mss & 0xff}) {
      segment.tcp_options.push_back(static_cast<std::uint8_t>(byte));
    }
    segment.tcp_options.insert(segment.tcp_options.end(), after.begin(), after.end());
    return segment;
  }

  // It goes on its way, which is not ours to choose, with another MSS.
  void expect_clamped(const Packet& in, const Packet& expected) {
    EXPECT_EQ(frame_error(expected), "");
    const auto before = lb.verdicts();
    const Outcome out = lb.run(in);
    EXPECT_EQ(out.action, XDP_PASS);
    EXPECT_EQ(hex(out.packet), hex(expected));
    EXPECT_EQ(growth(before, lb.verdicts()), kClamped);
  }
};

struct Place {
  std::string description;
  Packet before, after;
};

const std::vector<Place> kPlaces{
    {"alone", {}, {}},
    {"first of several", {}, {4, 2, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 3, 3, 7}},
    {"at an odd place", {1}, {1, 1, 0}},
    {"at another odd place", {1, 1, 1}, {1}},
    {"behind others", {4, 2, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8}, {}},
    {"behind one of an odd length", {3, 3, 7}, {0}},
    {"as late as can be", {8, 36, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
                           1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, {}},
};

TEST_F(Mss, OfASynAckThatIsTooLargeIsLowered) {
  each_mode([&](const Mode& mode) {
    for (const Place& place : kPlaces) {
      SCOPED_TRACE(place.description);
      for (const unsigned mss : {most(mode) + 1U, 1460U, 8960U, 65535U}) {
        expect_clamped(build(answer_of(mode, mss, place.before, place.after)),
                       build(answer_of(mode, most(mode), place.before, place.after)));
      }
    }
  });
}

TEST_F(Mss, BehindAVlanTagIsLoweredToo) {
  each_mode([&](const Mode& mode) {
    expect_clamped(with_tags(build(answer_of(mode, 1460)), {0x81000064}),
                   with_tags(build(answer_of(mode, most(mode))), {0x81000064}));
  });
}

TEST_F(Mss, ThatFitsIsNotTouched) {
  each_mode([&](const Mode& mode) {
    for (const unsigned mss : {0U, 536U, most(mode) - 1U, unsigned{most(mode)}}) {
      SCOPED_TRACE(mss);
      expect_untouched(build(answer_of(mode, mss)), kNotOurs);
    }
  });
}

TEST_F(Mss, OfOtherSegmentsIsNotTouched) {
  each_mode([&](const Mode& mode) {
    for (const std::uint8_t flags : std::vector<std::uint8_t>{kSyn, kAck, kRstAck}) {
      SCOPED_TRACE(int{flags});
      Segment segment = answer_of(mode, 1460);
      segment.flags = flags;
      expect_untouched(build(segment), kNotOurs);
    }
    Segment strange = answer_of(mode, 1460);
    strange.to.port++;  // no SYN of ours is waiting there
    expect_untouched(build(strange), kNotOurs);
    strange = answer_of(mode, 1460);
    strange.from.port++;  // no service
    expect_untouched(build(strange), kNotOurs);
    strange = answer_of(mode, 1460);
    strange.from = mode.hosts->stranger;
    expect_untouched(build(strange), kNotOurs);
  });
}

TEST_F(Mss, ThatIsNoneIsNotTouched) {
  each_mode([&](const Mode& mode) {
    const std::vector<std::pair<std::string, Packet>> options{
        {"none", {}},
        {"behind the end of options", {0, 2, 4, 0x22, 0x22, 0, 0, 0}},
        {"within another option", {8, 10, 2, 4, 0x22, 0x22, 2, 4, 0x22, 0x22, 1, 1}},
        {"of another length", {2, 3, 0x22, 1}},
        {"behind an option of no length", {4, 0, 2, 4, 0x22, 0x22, 1, 1}},
        {"cut by the header's end", {1, 1, 1, 2}},
        {"cut by the header's end, all but a byte", {1, 2, 4, 0x22}},
    };
    for (const auto& [description, bytes] : options) {
      SCOPED_TRACE(description);
      Segment segment = answer_of(mode, 0);
      segment.tcp_options = bytes;
      segment.payload = {4, 0x22, 0x22, 4, 0x22, 0x22};  // what a header cut short would go on with
      expect_untouched(build(segment), kNotOurs);
    }
  });
}

}  // namespace
}  // namespace petrel::test
