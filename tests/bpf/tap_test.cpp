// SPDX-License-Identifier: MIT
// The tap's records: each packet that is wanted as it came and as it left, with what was decided.
#include <bpf/libbpf.h>
#include <gtest/gtest.h>
#include <sched.h>

#include <algorithm>
#include <cstring>

#include "tests/bpf/conversation.hpp"
#include "tests/bpf/path_fixture.hpp"

namespace petrel::test {
namespace {

constexpr std::size_t kTapBytes = 2048;  // TAP_BYTES of tap.bpf.h

struct Record {
  bpf::tap_header header;
  Packet bytes;
};

// The kernel rounds a record up to 8 bytes: what follows the packet's bytes is not the packet's.
void keep_record(void* records, int, void* data, std::uint32_t) {
  Record record;
  std::memcpy(&record.header, data, sizeof(record.header));
  const auto* bytes = static_cast<const std::uint8_t*>(data) + sizeof(record.header);
  record.bytes.assign(bytes, bytes + std::min<std::size_t>(record.header.packet_bytes, kTapBytes));
  static_cast<std::vector<Record>*>(records)->push_back(record);
}

class Taps : public PathTest {
 protected:
  explicit Taps(bool on = true) : PathTest({.tap_on = on}) {}
  ~Taps() override { perf_buffer__free(buffer_); }

  void SetUp() override {
    PathTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    buffer_ = perf_buffer__new(lb.taps_fd(), 64, keep_record, nullptr, &records_, nullptr);
    ASSERT_NE(buffer_, nullptr);
    lb.set_tap({});
  }

  std::vector<Record> records() {
    EXPECT_GE(perf_buffer__consume(buffer_), 0);
    return std::exchange(records_, {});
  }

  // One packet's two records.
  void expect_pair(const Packet& in, const Outcome& out, bpf::verdict verdict, std::uint32_t notes,
                   std::uint16_t service_id, std::uint32_t backend_id) {
    const auto pair = records();
    ASSERT_EQ(pair.size(), 2U);
    const auto& [came, as_it_came] = pair[0];
    const auto& [left, as_it_left] = pair[1];
    EXPECT_EQ(came.sequence, left.sequence);
    EXPECT_NE(came.sequence, 0U);
    EXPECT_LE(came.time_ns, left.time_ns);
    EXPECT_EQ(came.ifindex, kOurIfindex);
    // hop_to(): who is sent on says in its destination's last byte where to.
    EXPECT_EQ(left.ifindex,
              out.action == XDP_REDIRECT ? kHopIfindex + out.packet.at(5) : kOurIfindex);
    EXPECT_EQ(came.packet_bytes, in.size());
    EXPECT_EQ(left.packet_bytes, out.packet.size());
    EXPECT_EQ(hex(as_it_came), hex(first_bytes(in, std::min(in.size(), kTapBytes))));
    EXPECT_EQ(hex(as_it_left),
              hex(first_bytes(out.packet, std::min(out.packet.size(), kTapBytes))));
    EXPECT_EQ(came.leaving, 0);
    EXPECT_EQ(left.leaving, 1);
    EXPECT_EQ(left.action, out.action);
    EXPECT_EQ(came.verdict, bpf::VERDICTS) << "nothing is decided yet";
    EXPECT_EQ(came.notes, 0U);
    EXPECT_EQ(came.service_id, 0);
    EXPECT_EQ(came.backend_id, 0U);
    EXPECT_EQ(left.verdict, verdict);
    EXPECT_EQ(left.notes, notes);
    EXPECT_EQ(left.service_id, service_id);
    EXPECT_EQ(left.backend_id, backend_id);
  }

 private:
  perf_buffer* buffer_ = nullptr;
  std::vector<Record> records_;
};

std::uint32_t note(int verdict) { return 1U << (verdict - bpf::FIRST_NOTE); }

bpf::tap_wish only(const bpf::address& client, std::uint32_t bits) { return {client, bits, 0}; }

TEST_F(Taps, GiveAPacketAsItCameAndAsItLeft) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    const auto& h = *hosts;
    const auto expect = [&](const Packet& in, bpf::verdict verdict, std::uint32_t notes,
                            std::uint16_t service, std::uint32_t backend) {
      const Outcome out = lb.run(in);
      expect_pair(in, out, verdict, notes, service, backend);
    };
    expect(build({.from = h.client, .to = h.vip, .flags = kSyn}), bpf::VERDICT_FORWARDED,
           note(bpf::VERDICT_MISS_SYN), h.service, h.b1);
    expect(build({.from = h.backend(h.b1), .to = h.client, .flags = kSynAck, .seq = 9,
                  .ack = 1001}),
           bpf::VERDICT_RETURNED, 0, h.service, h.b1);
    expect(build({.from = h.client, .to = h.vip, .seq = 1001, .ack = 10, .payload = "GET"}),
           bpf::VERDICT_FORWARDED, 0, h.service, h.b1);
    expect(build({.from = h.client, .to = h.stranger}), bpf::VERDICT_NOT_OURS, 0, 0, 0);
    expect(build({.from = h.client, .to = at_port(h.vip, 81)}), bpf::VERDICT_NO_SERVICE, 0, 0, 0);
    expect(frame(fragments(tcp_datagram({.from = h.client, .to = h.vip, .seq = 1004, .ack = 10,
                                         .payload = std::string(900, 'f')}), 5, 400)[0]),
           bpf::VERDICT_FORWARDED, note(bpf::VERDICT_FRAGMENT_FIRST), h.service, h.b1);
  }
}

TEST_F(Taps, GiveAPacketThatWasRefusedWithTheAnswerToIt) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    const auto& h = *hosts;
    lb.run(build({.from = h.client, .to = h.vip, .flags = kSyn}));  // b1's
    records();
    const Packet late = build({.from = h.backend(h.b2), .to = h.client, .flags = kSynAck, .seq = 9,
                               .ack = 1001});
    const Outcome out = lb.run(late);
    EXPECT_EQ(out.action, XDP_TX);
    expect_pair(late, out, bpf::VERDICT_LATE_BACKEND, 0, h.service, h.b2);
  }
}

// What changes length: longer by the tunnel's header, shorter as an answer.
TEST_F(Taps, GiveAnEncapsulatedPacketWhole) {
  const Endpoint& client = v4().client;
  serve({.vip = udp_vip(v4()), .id = v4().other_service, .flags = bpf::SERVICE_DSR,
         .backends = {{v4().b4, v4().backend(v4().b4)}}, .mtu = 1500});
  const auto expect = [&](std::size_t bytes, bpf::verdict verdict, std::uint32_t notes) {
    const Packet in = frame(udp_datagram(client, udp_vip(v4()), std::string(bytes, 'p')));
    const Outcome out = lb.run(in);
    EXPECT_NE(out.packet.size(), in.size());
    expect_pair(in, out, verdict, notes, v4().other_service, v4().b4);
  };
  expect(100, bpf::VERDICT_FORWARDED, note(bpf::VERDICT_MISS_SYN));
  expect(1452, bpf::VERDICT_FORWARDED, 0);
  expect(1453, bpf::VERDICT_TOO_BIG, 0);
}

TEST_F(Taps, GiveNoMoreOfAPacketThanItsFirstBytes) {
  const Packet in = frame(udp_datagram(v4().client, v4().stranger, std::string(3000, 'l')));
  expect_pair(in, lb.run(in), bpf::VERDICT_NOT_OURS, 0, 0, 0);
}

TEST_F(Taps, NumberPacketsOneByOne) {
  cpu_set_t before, one;
  CPU_ZERO(&one);
  CPU_SET(sched_getcpu(), &one);  // each CPU has numbers of its own
  ASSERT_EQ(sched_getaffinity(0, sizeof(before), &before), 0);
  ASSERT_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
  std::vector<std::uint32_t> numbers;
  for (int i = 0; i < 3; ++i) {
    lb.run(build({.from = v4().client, .to = v4().stranger}));
    for (const Record& record : records()) numbers.push_back(record.header.sequence);
  }
  sched_setaffinity(0, sizeof(before), &before);
  ASSERT_EQ(numbers.size(), 6U);
  const std::uint32_t first = numbers.front();
  EXPECT_EQ(numbers, (std::vector<std::uint32_t>{first, first, first + 1, first + 1, first + 2,
                                                 first + 2}));
}

TEST_F(Taps, KeepToTheClientThatIsWanted) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    const auto& h = *hosts;
    lb.set_tap(only(h.client.address, 128));
    lb.run(build({.from = h.client, .to = h.vip, .flags = kSyn}));
    EXPECT_EQ(records().size(), 2U);
    lb.run(build({.from = h.backend(h.b1), .to = h.client, .flags = kSynAck, .ack = 1001}));
    EXPECT_EQ(records().size(), 2U) << "replies are the client's too";
    lb.run(build({.from = h.other_client, .to = h.vip, .flags = kSyn}));
    EXPECT_EQ(records().size(), 0U);
    lb.run(build({.from = h.client, .to = h.vip}));
    EXPECT_EQ(records().size(), 2U);
  }
  // All but its last bit, which tells .10 from .11; and a packet that cannot be read is nobody's.
  lb.set_tap(only(v4().client.address, 127));
  lb.run(build({.from = v4().other_client, .to = v4().vip}));
  EXPECT_EQ(records().size(), 2U);
  lb.run(build({.from = v4().stranger, .to = v4().vip}));
  EXPECT_EQ(records().size(), 0U);
  lb.run(build({.from = v6().client, .to = v6().vip}));
  EXPECT_EQ(records().size(), 0U);
  lb.run(first_bytes(build({.from = v4().client, .to = v4().vip}), 20));
  EXPECT_EQ(records().size(), 0U);
}

TEST_F(Taps, TakeASampleWhereOneIsWanted) {
  const auto taken_of = [&](std::uint32_t sample, int packets) {
    lb.set_tap({.client = {}, .client_prefix_bits = 0, .sample = sample});
    std::size_t taken = 0;
    for (int i = 0; i < packets; ++i) {
      lb.run(build({.from = v4().client, .to = v4().stranger}));
      taken += records().size();
    }
    return taken / 2;
  };
  EXPECT_EQ(taken_of(0, 20), 20U);
  EXPECT_EQ(taken_of(1, 20), 20U);
  // 400 of one in four: 100, give or take 8.7; these bounds are missed once in 10^8 runs.
  const std::size_t quarter = taken_of(4, 400);
  EXPECT_GT(quarter, 50U);
  EXPECT_LT(quarter, 150U);
}

struct NoTaps : Taps {
  NoTaps() : Taps(false) {}
};

TEST_F(NoTaps, GiveNothing) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    Conversation(lb, *hosts, hosts->client.port).open().request().answer();
    lb.run(build({.from = hosts->client, .to = hosts->stranger}));
  }
  EXPECT_EQ(records().size(), 0U);
}

}  // namespace
}  // namespace petrel::test
