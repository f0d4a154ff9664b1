// SPDX-License-Identifier: MIT
// Packets longer than a page, which the kernel hands over in several buffers (Linux 5.18): what XDP
// sees of them is the first 3 KB or so, and what leaves must be the whole, or an answer and no more.
#include <gtest/gtest.h>

#include "tests/bpf/conversation.hpp"
#include "tests/bpf/dsr_fixture.hpp"

namespace petrel::test {
namespace {

constexpr std::uint16_t kJumboMtu = 9000;

struct MultiBuffer : DsrTest {
  void SetUp() override {
    DsrTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    if (!lb.takes_fragments()) {
      GTEST_SKIP() << "SKIPPED, nothing was tested: before Linux 5.18 XDP has one buffer a packet";
    }
  }

  static std::string text(std::size_t bytes) {
    std::string made(bytes, ' ');
    for (std::size_t i = 0; i < bytes; ++i) made[i] = static_cast<char>(i * 13 + i / 256);
    return made;
  }

  static Ip datagram_of(const Mode& mode, std::size_t bytes) {
    const Endpoint& client = mode.hosts->client;
    return {.from = client.address, .to = mode.udp().address,
            .payload = udp(client, mode.udp(), text(bytes - mode.inner_bytes() - kUdpBytes))};
  }
};

TEST_F(MultiBuffer, SegmentsAreForwardedWholeInBothDirections) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    Endpoint client = hosts->client;
    for (const std::size_t bytes : {3000, 4000, 8191, 8900, 30001}) {
      SCOPED_TRACE(hosts->family + " " + std::to_string(bytes));
      client.port++;
      Conversation(lb, *hosts, client, hosts->vip, hosts->service).open();
      const Segment there{.from = client, .to = hosts->vip, .payload = text(bytes)};
      const Outcome out = lb.run(build(there));
      EXPECT_EQ(out.action, XDP_REDIRECT);
      EXPECT_EQ(checksum_error(out.packet), "");
      EXPECT_TRUE(out.packet ==
                  sent_on(there, client, hosts->backend(hosts->b1), hop_to(hosts->b1)));
      const Segment back{.from = hosts->backend(hosts->b1), .to = client, .payload = text(bytes)};
      const Outcome answer = lb.run(build(back));
      EXPECT_EQ(checksum_error(answer.packet), "");
      ASSERT_EQ(answer.packet.size(), build(back).size());
    }
  }
}

TEST_F(MultiBuffer, RequestsAndAnswersAreStillRead) {
  Conversation conversation(lb, v4(), 40001);
  conversation.open();
  conversation.from_client(kAck | kPsh, "GET / HTTP/1.1\r\n\r\n");
  conversation.from_backend(kAck | kPsh, "HTTP/1.1 503 No\r\n\r\n" + text(8000));
  EXPECT_EQ(conversation.entry().status, 503);
  EXPECT_EQ(conversation.entry().bytes_out, 8000U + 19);
}

TEST_F(MultiBuffer, DatagramsAreEncapsulatedWhole) {
  each_mode(kJumboMtu, [&](const Mode& mode) {
    lb.run(frame(ip(datagram_of(mode, 100))));  // the flow is known
    expect_encapsulated(mode, datagram_of(mode, kJumboMtu - mode.outer_bytes()), true,
                        {{bpf::VERDICT_FORWARDED, 1}});
  });
}

TEST_F(MultiBuffer, TooBigIsAnsweredWithTheQuoteAlone) {
  each_mode(kJumboMtu, [&](const Mode& mode) {
    lb.run(frame(ip(datagram_of(mode, 100))));
    const Outcome out = lb.run(frame(ip(datagram_of(mode, kJumboMtu))));
    const std::size_t quoted = mode.inner_v6() ? 1232 : 512;
    EXPECT_EQ(out.packet.size(), kEthernetBytes + mode.inner_bytes() + 8 + quoted);
  });
}

TEST_F(MultiBuffer, AResetIsAsShortAsAnyOther) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    lb.set_service(*hosts, bpf::SERVICE_READY | bpf::SERVICE_ACT | bpf::SERVICE_RESET_GONE);
    Conversation conversation(lb, *hosts, 40001);
    conversation.open().request();
    lb.set_state(hosts->b1, bpf::BACKEND_REMOVED);
    const Segment data = conversation.next_of_client(kAck | kPsh, text(8900));
    expect_answered(build(data), reset_of(data), {{bpf::VERDICT_GONE_RESET, 1}});
  }
}

TEST_F(MultiBuffer, LengthsBeyondTheLastBufferAreNotBelieved) {
  Packet lies = build({.from = v4().client, .to = v4().vip, .flags = kSyn, .payload = text(8000)});
  store_be16(lies, kEthernetBytes + 2, static_cast<std::uint16_t>(lies.size()));
  expect_untouched(lies, {{bpf::VERDICT_MALFORMED, 1}});
}

}  // namespace
}  // namespace petrel::test
