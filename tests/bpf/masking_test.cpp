// SPDX-License-Identifier: MIT
// Refusal masking: the RST that answers a SYN is held back, and out comes the client's own SYN,
// addressed to another backend.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/bpf/conversation.hpp"
#include "tests/bpf/path_fixture.hpp"

namespace petrel::test {
namespace {

constexpr std::uint32_t kMask = bpf::SERVICE_READY | bpf::SERVICE_ACT | bpf::SERVICE_MASK;
constexpr std::uint8_t kEce = 0x40, kCwr = 0x80;
const VerdictGrowth kMasked{{bpf::VERDICT_REFUSAL_MASKED, 1}};
const VerdictGrowth kReturned{{bpf::VERDICT_RETURNED, 1}};

// Options as stacks send them: MSS, SACK permitted, timestamps, window scale; then more of no use.
std::vector<std::uint8_t> options(std::size_t bytes) {
  std::vector<std::uint8_t> all{2, 4, 5, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7};
  for (std::uint8_t i = 0; all.size() < 40; ++i) all.push_back(static_cast<std::uint8_t>(0x80 + i));
  all.resize(bytes);
  return all;
}

// The ring in force names b1 alone, so each SYN begins there; the neutral one b2, where it goes next.
struct Masking : PathTest {
  void SetUp() override {
    PathTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    for (const Hosts* hosts : {&v4(), &v6()}) {
      lb.set_service(*hosts, kMask);
      lb.fill_neutral(hosts->service, {hosts->b2});
    }
  }

  // A client's SYN, which has gone to b1.
  Segment sent_syn(const Hosts& hosts, std::size_t options_bytes = 20) {
    Segment syn{.from = hosts.client, .to = hosts.vip, .flags = kSyn, .seq = 0xfffffffe};
    syn.tcp_options = options(options_bytes);
    lb.run(build(syn));
    return syn;
  }
};

Segment refusal_of(const Segment& syn, const Endpoint& backend) {
  return {.from = backend, .to = syn.from, .flags = kRstAck, .seq = 0, .ack = syn.seq + 1,
          .window = 0};
}

// The SYN as it is made anew.
Packet resent(Segment syn, const Hosts& hosts, std::uint32_t backend_id) {
  syn.plain = true;
  return sent_on(syn, syn.from, hosts.backend(backend_id), hop_to(backend_id));
}

// The refusal as its client gets it.
Packet passed_on(const Segment& refusal, const Hosts& hosts) {
  return sent_on(refusal, hosts.vip, refusal.to, kClientHop);
}

TEST_F(Masking, SendsTheClientsOwnSynToAnotherBackend) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    Endpoint client = hosts->client;
    for (const std::size_t options_bytes : {0U, 4U, 20U, 32U}) {
      for (const std::size_t padding : {0U, 6U, 200U}) {
        for (const int ecn : {0, kEce | kCwr}) {
          SCOPED_TRACE(hosts->family + ", " + std::to_string(options_bytes) + " bytes of options, " +
                       std::to_string(padding) + " of padding, " + std::to_string(ecn));
          ++client.port;
          Segment syn{.from = client, .to = hosts->vip, .seq = 0x01020304, .ttl = 57,
                      .window = 0x7210, .tos = 0xb9};
          syn.flags = static_cast<std::uint8_t>(kSyn | ecn);
          syn.tcp_options = options(options_bytes);
          lb.run(build(syn));
          Segment refusal = refusal_of(syn, hosts->backend(hosts->b1));
          refusal.trailer_bytes = padding;
          expect_sent(build(refusal), resent(syn, *hosts, hosts->b2), kMasked);
        }
      }
    }
  }
}

TEST_F(Masking, CompletesTheHandshakeAndLaterSegmentsFlowBothWays) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    Conversation conversation(lb, *hosts, hosts->client.port);
    conversation.syn().backend_rst();
    EXPECT_EQ(conversation.backend_id(), hosts->b2);
    const Segment synack = conversation.next_of_backend(kSynAck);
    EXPECT_EQ(conversation.from_backend(kSynAck).packet,
              sent_on(synack, hosts->vip, hosts->client, kClientHop));
    const Segment ack = conversation.next_of_client(kAck);
    EXPECT_EQ(conversation.from_client(kAck).packet,
              sent_on(ack, ack.from, hosts->backend(hosts->b2), hop_to(hosts->b2)));
    ASSERT_TRUE(conversation.is_established());
    const Segment request = conversation.next_of_client(kAck, "request");
    EXPECT_EQ(conversation.from_client(kAck, "request").packet,
              sent_on(request, request.from, hosts->backend(hosts->b2), hop_to(hosts->b2)));
    const Segment answer = conversation.next_of_backend(kAck, "answer");
    EXPECT_EQ(conversation.from_backend(kAck, "answer").packet,
              sent_on(answer, hosts->vip, hosts->client, kClientHop));
    EXPECT_EQ(conversation.entry().moves, 1);
    EXPECT_TRUE(conversation.entry().flags & bpf::CONNECTION_MASKED);
  }
}

TEST_F(Masking, BlamesTheBackendAndHidesTheFailureFromTheClientsLabel) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    Conversation conversation(lb, *hosts, 40001);
    conversation.syn().backend_rst();
    const auto left = lb.backend_stats(hosts->b1), taken = lb.backend_stats(hosts->b2);
    EXPECT_EQ(left.masked, 1U);
    EXPECT_EQ(left.refused, 1U);
    EXPECT_EQ(left.closes, 0U);
    EXPECT_EQ(taken.connections, 1U);
    EXPECT_EQ(lb.waiting_syn(hosts->b1), 0);
    EXPECT_EQ(lb.waiting_syn(hosts->b2), 1);
    EXPECT_EQ(lb.inflight(hosts->b1), 0);
    EXPECT_EQ(lb.service_inflight(hosts->service), 1);
    EXPECT_EQ(lb.service_stats(hosts->service).failures[bpf::FAILURE_REFUSED], 0U);
    EXPECT_EQ(lb.clients(), 0U);
    conversation.syn_ack();
    Conversation next(lb, *hosts, 40002);
    next.syn();
    EXPECT_EQ(next.entry().attempt, 1);
    const auto events = lb.events();
    ASSERT_EQ(events.size(), 1U);
    EXPECT_EQ(events[0].type, bpf::EVENT_MOVED);
    EXPECT_EQ(events[0].backend_id, hosts->b1);
    EXPECT_EQ(events[0].failure, bpf::FAILURE_REFUSED);
  }
}

TEST_F(Masking, AnswersWhatTheRefusingBackendStillSaysWithAReset) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    const Segment syn = sent_syn(*hosts);
    lb.run(build(refusal_of(syn, hosts->backend(hosts->b1))));
    Segment late = refusal_of(syn, hosts->backend(hosts->b1));
    late.flags = kSynAck;
    expect_answered(build(late), reset_of(late), {{bpf::VERDICT_LATE_BACKEND, 1}});
    late.flags = kRstAck;  // its refusal again: neither answered nor the client's to hear
    EXPECT_EQ(lb.run(build(late)).action, XDP_DROP);
  }
}

TEST_F(Masking, HoldsBackNoMoreThanItMayThenTheClientIsTold) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    lb.join(*hosts, hosts->b4);
    lb.fill_neutral(hosts->service, {hosts->b1, hosts->b2, hosts->b3, hosts->b4});
    const Segment syn = sent_syn(*hosts);
    std::vector<std::uint32_t> refused;
    for (int i = 0; i < MAX_MASKED; ++i) {
      const std::uint32_t from = lb.half_open_flows().at(0).backend_id;
      EXPECT_EQ(std::ranges::count(refused, from), 0);
      refused.push_back(from);
      const Outcome out = lb.run(build(refusal_of(syn, hosts->backend(from))));
      const std::uint32_t to = lb.half_open_flows().at(0).backend_id;
      EXPECT_EQ(out.packet, resent(syn, *hosts, to));
    }
    const Segment last = refusal_of(syn, hosts->backend(lb.half_open_flows().at(0).backend_id));
    expect_sent(build(last), passed_on(last, *hosts), kReturned);
    EXPECT_TRUE(lb.half_open_flows().empty());
    EXPECT_EQ(lb.service_stats(hosts->service).failures[bpf::FAILURE_REFUSED], 1U);
    EXPECT_EQ(lb.service_inflight(hosts->service), 0);
  }
}

TEST_F(Masking, DoesNotHoldBackWhatItCannotSendAgain) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    for (const bool payload : {false, true}) {
      SCOPED_TRACE(hosts->family + (payload ? " payload in the SYN" : " 36 bytes of options"));
      Segment syn{.from = hosts->client, .to = hosts->vip, .flags = kSyn};
      syn.tcp_options = options(payload ? 20 : 36);
      if (payload) syn.payload = "fast open";
      lb.run(build(syn));
      Segment refusal = refusal_of(syn, hosts->backend(hosts->b1));
      refusal.ack += static_cast<std::uint32_t>(syn.payload.size());
      expect_sent(build(refusal), passed_on(refusal, *hosts), kReturned);
      EXPECT_TRUE(lb.half_open_flows().empty());
      EXPECT_EQ(lb.inflight(hosts->b1), 0);
    }
  }
}

// The new SYN would lack the tag that the way to its backend may need.
TEST_F(Masking, DoesNotHoldBackATaggedRefusal) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    const Segment refusal = refusal_of(sent_syn(*hosts), hosts->backend(hosts->b1));
    expect_sent(with_tags(build(refusal), {0x81000005}),
                with_tags(passed_on(refusal, *hosts), {0x81000005}), kReturned);
  }
}

TEST_F(Masking, DoesNotHoldBackARstThatDoesNotAnswerTheSyn) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    const Segment syn = sent_syn(*hosts);
    for (const std::uint32_t off : {-1U, 1U, 1000U, 0x80000000U}) {
      Segment stray = refusal_of(syn, hosts->backend(hosts->b1));
      stray.ack += off;
      expect_sent(build(stray), passed_on(stray, *hosts), kReturned);
    }
    Segment blind = refusal_of(syn, hosts->backend(hosts->b1));
    blind.flags = kRst;
    expect_sent(build(blind), passed_on(blind, *hosts), kReturned);
    EXPECT_EQ(lb.inflight(hosts->b1), 1);  // the SYN still waits
    const Segment refusal = refusal_of(syn, hosts->backend(hosts->b1));
    expect_sent(build(refusal), resent(syn, *hosts, hosts->b2), kMasked);
  }
}

TEST_F(Masking, DoesNotHoldBackTheRstOfAnAnsweredFlow) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    Conversation conversation(lb, *hosts, hosts->client.port);
    conversation.syn().syn_ack();
    const Segment reset = conversation.next_of_backend(kRstAck);
    expect_sent(build(reset), passed_on(reset, *hosts), kReturned);
    EXPECT_FALSE(conversation.is_tracked());
  }
}

TEST_F(Masking, DoesNotActWithoutTheFlagOrAnotherBackend) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    lb.set_state(hosts->b2, bpf::BACKEND_QUARANTINED);
    Segment refusal = refusal_of(sent_syn(*hosts), hosts->backend(hosts->b1));
    expect_sent(build(refusal), passed_on(refusal, *hosts), kReturned);
    lb.set_state(hosts->b2, bpf::BACKEND_UP);
    lb.set_service(*hosts, kMask & ~bpf::SERVICE_MASK);
    refusal = refusal_of(sent_syn(*hosts), hosts->backend(hosts->b1));
    expect_sent(build(refusal), passed_on(refusal, *hosts), kReturned);
    EXPECT_EQ(lb.backend_stats(hosts->b1).masked, 0U);
    EXPECT_EQ(lb.service_stats(hosts->service).failures[bpf::FAILURE_REFUSED], 2U);
  }
}

TEST_F(Masking, LeavesTheNewSynToTheKernelWhenNoHopIsKnown) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    lb.set_hop(hosts->b2, {});
    Segment syn = sent_syn(*hosts);
    const Outcome out = lb.run(build(refusal_of(syn, hosts->backend(hosts->b1))));
    EXPECT_EQ(out.action, XDP_PASS);
    syn.plain = true;
    syn.ttl--;
    syn.to = hosts->backend(hosts->b2);
    EXPECT_EQ(out.packet, build(syn));  // from and to the Ethernet addresses of the refusal
  }
}

}  // namespace
}  // namespace petrel::test
