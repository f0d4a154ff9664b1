// SPDX-License-Identifier: MIT
// petrel_hedge: the SYN that its frame names leaves for another backend, as its client sent it; and a
// client's FIN before its answer is made a RST while admission says so.
#include <gtest/gtest.h>

#include <cstring>

#include "tests/bpf/conversation.hpp"
#include "tests/bpf/path_fixture.hpp"

namespace petrel::test {
namespace {

constexpr std::uint32_t kFailover =
    bpf::SERVICE_READY | bpf::SERVICE_ACT | bpf::SERVICE_FAILOVER;

struct Hedge : PathTest {
  void SetUp() override {
    PathTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    for (const Hosts* hosts : {&v4(), &v6()}) {
      lb.set_service(*hosts, kFailover);
      lb.fill_neutral(hosts->service, {hosts->b2});
    }
  }

  Outcome hedge(const bpf::connection_key& key, std::uint64_t syn_ns) {
    const bpf::hedge_wish wish{.key = key, .syn_ns = syn_ns};
    Packet frame(128);
    std::memcpy(frame.data() + HEDGE_WISH_OFFSET, &wish, sizeof(wish));
    return lb.run_hedge(frame);
  }
};

TEST_F(Hedge, SendsTheClientsSynToAnotherBackend) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    const Segment syn{.from = hosts->client, .to = hosts->vip, .flags = kSyn, .seq = 4000000000,
                      .tcp_options = {2, 4, 5, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7}};
    lb.run(build(syn));
    Conversation conversation(lb, *hosts, hosts->client.port);
    const auto before = lb.half_open(conversation.key()).value();
    const Outcome sent = hedge(conversation.key(), before.syn_ns);
    EXPECT_EQ(sent.action, XDP_REDIRECT);
    Segment resent = syn;
    resent.plain = true;  // its identification and flow label are not kept
    EXPECT_EQ(sent.packet,
              sent_on(resent, syn.from, hosts->backend(hosts->b2), hop_to(hosts->b2)));
    EXPECT_EQ(lb.verdicts_of(hosts->service)[bpf::VERDICT_HEDGED], 1U);
    const auto after = lb.half_open(conversation.key()).value();
    EXPECT_EQ(after.backend_id, hosts->b2);
    EXPECT_EQ(after.moves, 1);
    EXPECT_EQ(lb.waiting_syn(hosts->b1), 0);
    EXPECT_EQ(lb.waiting_syn(hosts->b2), 1);
    EXPECT_EQ(lb.service_inflight(hosts->service), 1);
    // Once for each flow.
    EXPECT_EQ(hedge(conversation.key(), before.syn_ns).action, XDP_DROP);
    EXPECT_EQ(lb.half_open(conversation.key())->backend_id, hosts->b2);
  }
}

TEST_F(Hedge, CompletesWithTheNewBackendAndSwallowsTheLateAnswer) {
  const Hosts& h = v4();
  Conversation conversation(lb, h, h.client.port);
  conversation.syn();
  const auto flow = lb.half_open(conversation.key()).value();
  hedge(conversation.key(), flow.syn_ns);
  const Segment late{.from = h.backend(h.b1), .to = h.client, .flags = kSynAck, .seq = 1,
                     .ack = flow.syn_seq + 1};
  const Outcome swallowed = lb.run(build(late));
  EXPECT_NE(swallowed.action, XDP_REDIRECT);  // answered with a RST, not handed to the client
  conversation.accept().request().answer();
  EXPECT_TRUE(conversation.is_established());
  EXPECT_EQ(conversation.backend_id(), h.b2);
  EXPECT_EQ(lb.backend_stats(h.b1).established, 0U);
  EXPECT_EQ(lb.backend_stats(h.b2).answers, 1U);
}

TEST_F(Hedge, LeavesAloneWhatDoesNotWaitAnyMore) {
  const Hosts& h = v4();
  Conversation answered(lb, h, 40001);
  answered.syn().syn_ack();
  const auto flow = lb.half_open(answered.key()).value();
  EXPECT_EQ(hedge(answered.key(), flow.syn_ns).action, XDP_DROP);
  EXPECT_EQ(lb.half_open(answered.key())->backend_id, h.b1);
  Conversation other(lb, h, 40002);
  other.syn();
  const auto waits = lb.half_open(other.key()).value();
  EXPECT_EQ(hedge(other.key(), waits.syn_ns + 1).action, XDP_DROP);  // another SYN of that port
  bpf::connection_key unknown = other.key();
  unknown.client_port_be = 1;
  EXPECT_EQ(hedge(unknown, waits.syn_ns).action, XDP_DROP);
  EXPECT_EQ(lb.verdicts()[bpf::VERDICT_HEDGED], 0U);
}

TEST_F(Hedge, NeedsTheServiceToAllowIt) {
  const Hosts& h = v4();
  lb.set_service(h, bpf::SERVICE_READY | bpf::SERVICE_ACT);
  Conversation conversation(lb, h, 40001);
  conversation.syn();
  const auto flow = lb.half_open(conversation.key()).value();
  EXPECT_EQ(hedge(conversation.key(), flow.syn_ns).action, XDP_DROP);
  lb.set_service(h, kFailover);
  lb.set_control({0, 1, 0, 0, 0, 0});  // a silent agent
  EXPECT_EQ(hedge(conversation.key(), flow.syn_ns).action, XDP_DROP);
  EXPECT_EQ(lb.half_open(conversation.key())->backend_id, h.b1);
}

TEST_F(Hedge, AFrameThatIsTooShortIsDropped) {
  EXPECT_EQ(lb.run_hedge(Packet(HEDGE_WISH_OFFSET + sizeof(bpf::hedge_wish) - 1)).action, XDP_DROP);
}

// --- clients that have left ---------------------------------------------------------------------

struct EndAbandoned : Hedge {
  void end_abandoned(const Hosts& hosts, bool ends) {
    lb.set_ends_abandoned(hosts.service, ends);
  }
};

TEST_F(EndAbandoned, TheFinOfWhoLeftUnansweredIsMadeAReset) {
  for (const Hosts* hosts : {&v4(), &v6()}) {
    SCOPED_TRACE(hosts->family);
    end_abandoned(*hosts, true);
    Conversation conversation(lb, *hosts, hosts->client.port);
    conversation.open().request();
    const Segment fin = conversation.next_of_client(kFin | kAck);
    Segment reset = fin;
    reset.flags = kRstAck;
    const Outcome sent = conversation.from_client(kFin | kAck);
    EXPECT_EQ(sent.action, XDP_REDIRECT);
    EXPECT_EQ(sent.packet,
              sent_on(reset, fin.from, hosts->backend(hosts->b1), hop_to(hosts->b1)));
    EXPECT_EQ(lb.verdicts_of(hosts->service)[bpf::VERDICT_ENDED_ABANDONED], 1U);
    EXPECT_EQ(conversation.entry().failure, bpf::FAILURE_ABANDONED);
    EXPECT_EQ(lb.service_inflight(hosts->service), 0);
    // Sent again it passes as it is: the backend's own RST then ends the client's side, too.
    EXPECT_EQ(conversation.repeat_client().packet,
              sent_on(fin, fin.from, hosts->backend(hosts->b1), hop_to(hosts->b1)));
  }
}

TEST_F(EndAbandoned, OtherFinsPassAsTheyAre) {
  const Hosts& h = v4();
  const auto passes = [&](Conversation& conversation) {
    const Segment fin = conversation.next_of_client(kFin | kAck);
    return conversation.from_client(kFin | kAck).packet ==
           sent_on(fin, fin.from, h.backend(h.b1), hop_to(h.b1));
  };
  end_abandoned(h, true);
  Conversation answered(lb, h, 40001);
  answered.open().request().answer();
  EXPECT_TRUE(passes(answered));
  Conversation idle(lb, h, 40002);
  idle.open();
  EXPECT_TRUE(passes(idle));
  end_abandoned(h, false);
  Conversation unlimited(lb, h, 40003);
  unlimited.open().request();
  EXPECT_TRUE(passes(unlimited));
  end_abandoned(h, true);
  Conversation silent(lb, h, 40004);
  silent.open().request();
  lb.set_control({0, 1, 0, 0, 0, 0});
  EXPECT_TRUE(passes(silent));
  EXPECT_EQ(lb.verdicts()[bpf::VERDICT_ENDED_ABANDONED], 0U);
}

}  // namespace
}  // namespace petrel::test
