// SPDX-License-Identifier: MIT
// Half-open and established flows live apart: what a flood costs, what the client's ACK promotes, and
// what becomes of flows when either table is full.
#include <gtest/gtest.h>

#include "tests/bpf/conversation.hpp"

namespace petrel::test {
namespace {

constexpr std::uint32_t kHalfOpenFlows = 1024;  // of the program's smallest table

// The n-th of many clients; none of them is in hosts.hpp.
Endpoint flooder(const Hosts& hosts, std::uint32_t n) {
  Endpoint client = hosts.client;
  client.address.bytes[12] = 10;
  for (int i = 0; i < 3; ++i) {
    client.address.bytes[15 - i] = static_cast<std::uint8_t>(n >> (8 * i));
  }
  return client;
}

struct HalfOpen : BalancerTest {
  using BalancerTest::BalancerTest;

  void flood(const Hosts& hosts, std::uint32_t count) {
    for (std::uint32_t i = 0; i < count; ++i) {
      const Segment syn{.from = flooder(hosts, sent_++), .to = hosts.vip, .flags = kSyn};
      ASSERT_EQ(lb.run(build(syn)).action, XDP_REDIRECT);
    }
  }

  // What waits, by every count of it, is exactly what the table says.
  void expect_exact_counts(const Hosts& hosts) {
    std::map<std::uint32_t, std::int64_t> waiting;
    for (const bpf::half_open& flow : lb.half_open_flows()) {
      if (flow.key.service_id != hosts.service) continue;
      EXPECT_EQ(flow.flags & bpf::HALF_OPEN_BUSY, 0U);
      if (flow.flags & bpf::CONNECTION_WAITING_SYN) ++waiting[flow.backend_id];
    }
    std::int64_t sum = 0;
    for (const std::uint32_t id : {hosts.b1, hosts.b2, hosts.b3}) {
      EXPECT_EQ(lb.waiting_syn(id), waiting[id]) << "backend " << id;
      EXPECT_EQ(lb.inflight(id), waiting[id]) << "backend " << id;
      sum += waiting[id];
    }
    EXPECT_EQ(lb.service_inflight(hosts.service), sum);
  }

  std::uint64_t count(bpf::verdict verdict) { return lb.verdicts()[verdict]; }

 private:
  std::uint32_t sent_ = 0;
};

TEST_F(HalfOpen, AFloodEvictsNoEstablishedFlow) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    std::vector<Conversation> established;
    for (std::uint16_t port = 40001; port <= 40200; ++port) {
      established.emplace_back(lb, *hosts, port).open();
    }
    // Where a flow goes that has lost its entry.
    lb.fill_ring(hosts->service, {hosts->b2, hosts->b3});
    for (const std::uint32_t times : {2U, 10U}) {
      SCOPED_TRACE(std::to_string(times) + " times the table's size");
      const auto evicted = count(bpf::VERDICT_HALF_OPEN_EVICTED);
      const std::size_t before = lb.half_open_flows().size();
      flood(*hosts, times * kHalfOpenFlows);
      const std::size_t after = lb.half_open_flows().size();
      EXPECT_LE(after, kHalfOpenFlows);
      EXPECT_EQ(count(bpf::VERDICT_HALF_OPEN_EVICTED) - evicted,
                before + times * kHalfOpenFlows - after);
      expect_exact_counts(*hosts);
    }
    for (Conversation& conversation : established) {
      ASSERT_TRUE(conversation.is_established());
      ASSERT_EQ(conversation.from_client(kAck).packet[5], hosts->b1);  // the hop's last byte
    }
    EXPECT_EQ(count(bpf::VERDICT_ADOPTED), 0U);
    EXPECT_EQ(count(bpf::VERDICT_TABLE_FULL), 0U);
  }
}

TEST_F(HalfOpen, CountsStayExactWhenWhatIsLeftOfAFloodEnds) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    lb.fill_ring(hosts->service, {hosts->b1, hosts->b2, hosts->b3});
    flood(*hosts, 2 * kHalfOpenFlows);
    for (const bpf::half_open& flow : lb.half_open_flows()) {
      if (flow.key.service_id != hosts->service) continue;
      const Segment refusal{.from = hosts->backend(flow.backend_id),
                            .to = {flow.key.client, hosts->client.port}, .flags = kRstAck,
                            .ack = flow.syn_seq + 1};
      lb.run(build(refusal));
    }
    expect_exact_counts(*hosts);
    EXPECT_EQ(lb.service_inflight(hosts->service), 0);
  }
}

TEST_F(HalfOpen, AnEvictedClientsAckStillReachesABackend) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    Conversation conversation(lb, *hosts, 40001);
    conversation.syn().syn_ack();
    for (int i = 0; i < 20 && conversation.is_half_open(); ++i) flood(*hosts, kHalfOpenFlows);
    ASSERT_FALSE(conversation.is_tracked());
    const auto adopted = count(bpf::VERDICT_ADOPTED);
    const Outcome ack = conversation.from_client(kAck);
    EXPECT_EQ(ack.action, XDP_REDIRECT);
    EXPECT_EQ(ack.packet[5], hosts->b1);  // by the ring, as its SYN was
    EXPECT_EQ(count(bpf::VERDICT_ADOPTED), adopted + 1);
    EXPECT_FALSE(conversation.is_established());
    conversation.request().answer();  // the backend knows it
    EXPECT_TRUE(conversation.is_established());
    expect_exact_counts(*hosts);
  }
}

// --- promotion ----------------------------------------------------------------------------------

struct Ack {
  std::string description;
  std::uint8_t flags;
  std::int64_t acked;  // beyond the SYN-ACK
  std::string payload;
  bool promotes;
};

TEST_F(HalfOpen, TheClientsAckOfTheSynAckEstablishesAFlowAndNothingElseDoes) {
  const std::vector<Ack> acks{
      {"its ACK", kAck, 0, "", true},
      {"its ACK with data", kAck | kPsh, 0, "data", true},
      {"its ACK with FIN", kFinAck, 0, "", true},
      {"an ACK of data too", kAck, 1000, "", true},
      {"an ACK of less", kAck, -1, "", false},
      {"an ACK of the other half of the numbers", kAck, 0x80000000, "", false},
      {"an ACK of more than a window", kAck, 65536, "", false},
      {"no ACK", kPsh, 0, "data", false},
      {"FIN without an ACK", kFin, 0, "", false},
  };
  for (const Hosts* hosts : {&v4(), &v6()}) {
    std::uint16_t port = 40000;
    for (const Ack& test : acks) {
      SCOPED_TRACE(hosts->family + " " + test.description);
      Conversation conversation(lb, *hosts, ++port);
      conversation.syn().syn_ack();
      EXPECT_FALSE(conversation.is_established());
      Segment segment = conversation.next_of_client(test.flags, test.payload);
      segment.ack += static_cast<std::uint32_t>(test.acked);
      const Outcome out = lb.run(build(segment));
      EXPECT_EQ(out.action, XDP_REDIRECT);  // its backend will say what is wrong
      EXPECT_EQ(out.packet[5], hosts->b1);
      EXPECT_EQ(conversation.is_established(), test.promotes);
      EXPECT_EQ(conversation.is_half_open(), !test.promotes);
    }
  }
}

TEST_F(HalfOpen, AnAckBeforeTheSynAckEstablishesNothing) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    Conversation conversation(lb, *hosts, 40001);
    conversation.syn();
    for (const std::uint32_t ack : {0U, 1U, 0x7fffffffU, 0xffffffffU}) {
      Segment segment = conversation.next_of_client(kAck);
      segment.ack = ack;
      lb.run(build(segment));
      EXPECT_FALSE(conversation.is_established());
    }
    EXPECT_EQ(lb.inflight(hosts->b1), 1);
  }
}

// As of a backend with SYN cookies: the client's ACK is of the last.
TEST_F(HalfOpen, TheAckOfARepeatedSynAckWithAnotherNumberEstablishesAFlow) {
  Conversation conversation(lb, v4(), 40001);
  conversation.syn().syn_ack();
  Segment again = conversation.next_of_backend(kSynAck);
  again.seq += 1000000;
  lb.run(build(again));
  Segment ack = conversation.next_of_client(kAck);
  ack.ack = again.seq + 1;
  lb.run(build(ack));
  EXPECT_TRUE(conversation.is_established());
  EXPECT_EQ(lb.backend_stats(v4().b1).established, 1U);
}

// --- a full table of established flows ----------------------------------------------------------

constexpr std::uint16_t kConnections = 256;

struct SmallTable : HalfOpen {
  SmallTable() : HalfOpen({.max_connections = kConnections}) {}
};

TEST_F(SmallTable, AtTwiceItsSizeForwardsEveryPacketAndCountsMissesApart) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    const auto before = lb.verdicts();
    std::vector<Conversation> flows;
    for (std::uint16_t i = 0; i < 2 * kConnections; ++i) {
      flows.emplace_back(lb, *hosts, static_cast<std::uint16_t>(20000 + i)).open();
    }
    std::uint64_t missing = 0;
    for (int round = 0; round < 3; ++round) {
      for (Conversation& flow : flows) {
        if (!flow.is_established()) ++missing;
        const Outcome request = flow.from_client(kAck | kPsh, "data");
        ASSERT_EQ(request.action, XDP_REDIRECT);
        ASSERT_EQ(request.packet[5], hosts->b1);
        flow.answer();
        ASSERT_TRUE(flow.is_established());
      }
    }
    const VerdictGrowth grown = growth(before, lb.verdicts());
    EXPECT_GE(missing, kConnections);
    EXPECT_EQ(grown.at(bpf::VERDICT_MISS_SYN), flows.size());
    EXPECT_EQ(grown.at(bpf::VERDICT_ADOPTED), missing);
    EXPECT_EQ(grown.at(bpf::VERDICT_FORWARDED), flows.size() * (2 + 3));  // SYN, ACK, data
    EXPECT_EQ(grown.at(bpf::VERDICT_KERNEL_ROUTED), flows.size() * (1 + 3));  // SYN-ACK, answers
    EXPECT_EQ(grown.size(), 4U);  // and nothing else: nothing dropped, no table full
  }
}

}  // namespace
}  // namespace petrel::test
