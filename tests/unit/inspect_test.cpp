// SPDX-License-Identifier: MIT
// Where a connection would go, rule by rule; what part of a ring moves; endpoints as people write
// them. That the balancer does the same is the lab's to show.
#include <arpa/inet.h>
#include <gtest/gtest.h>

#include <numeric>

#include "bpf/hash.h"
#include "inspect/placement.hpp"
#include "inspect/ring_moves.hpp"
#include "inspect/where.hpp"
#include "inspect/words.hpp"

namespace petrel::inspect {
namespace {

constexpr std::uint32_t kSlots = 1009;

// Backends 1 to 3 of service 1; every slot of the ring in force is 1's, of the neutral one 2's.
ServiceFacts service_of_three() {
  ServiceFacts facts;
  facts.service = {.service_id = 1,
                   .flags = bpf::SERVICE_READY | bpf::SERVICE_ACT,
                   .ring_offset = 0,
                   .neutral_offset = kSlots,
                   .slots = kSlots,
                   .hash_seed = 0};
  facts.in_force.assign(kSlots, 1);
  facts.neutral.assign(kSlots, 2);
  for (std::uint32_t id = 1; id <= 3; ++id) {
    BackendFacts& backend = facts.backends[id];
    backend.id = id;
    backend.name = "b" + std::to_string(id);
    backend.backend.service_id = 1;
    backend.backend.state = bpf::BACKEND_UP;
    backend.weight.base_weight = 100;
  }
  return facts;
}

bpf::connection_key some_key(std::uint16_t port = 51812) {
  bpf::connection_key key{};
  key.client = {{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 7}}};
  key.client_port_be = htons(port);
  key.service_port_be = htons(80);
  key.service_id = 1;
  return key;
}

constexpr Attempt kFirst{};
Attempt retry_after(std::uint32_t backend_id) { return {2, backend_id}; }

TEST(Placement, TheRingInForceNamesTheBackend) {
  const Placement placement = predict(service_of_three(), some_key(), kFirst, true);
  EXPECT_EQ(placement.backend_id, 1u);
  EXPECT_FALSE(placement.neutral_ring);
  const auto key = some_key();
  EXPECT_EQ(placement.slot, bpf::hash_slot(bpf::hash_flow(&key, 0, false), kSlots));
}

TEST(Placement, TheNeutralRingServesWhenTheAgentIsSilentOrTheServiceDoesNotAct) {
  ServiceFacts silent = service_of_three();
  silent.agent_silent = true;
  EXPECT_EQ(predict(silent, some_key(), kFirst, true).backend_id, 2u);
  ServiceFacts shadow = service_of_three();
  shadow.service.flags = bpf::SERVICE_READY;
  EXPECT_EQ(predict(shadow, some_key(), kFirst, true).backend_id, 2u);
}

TEST(Placement, ASlotOfADrainingBackendAsksTheNeutralRing) {
  ServiceFacts facts = service_of_three();
  facts.backends[1].backend.state = bpf::BACKEND_DRAINING;
  const Placement placement = predict(facts, some_key(), kFirst, true);
  EXPECT_FALSE(placement.slot_usable);
  EXPECT_EQ(placement.backend_id, 2u);
  ASSERT_TRUE(placement.instead);
  EXPECT_EQ(placement.instead->probes.size(), 1u);
}

TEST(Placement, QuarantineExpiresWithTheAgentsWord) {
  ServiceFacts facts = service_of_three();
  facts.backends[2].backend.state = bpf::BACKEND_QUARANTINED;
  facts.agent_silent = true;
  EXPECT_EQ(predict(facts, some_key(), kFirst, true).backend_id, 2u);
}

TEST(Placement, NobodyUsableIsNobody) {
  ServiceFacts facts = service_of_three();
  for (auto& [id, backend] : facts.backends) backend.backend.state = bpf::BACKEND_DRAINING;
  const Placement placement = predict(facts, some_key(), kFirst, true);
  EXPECT_EQ(placement.backend_id, 0u);
  EXPECT_EQ(placement.admission, Admission::kAdmitted);
  EXPECT_EQ(placement.instead->probes.size(), 16u);
}

TEST(Placement, ARetryIsSteeredOffTheBackendThatFailedIt) {
  ServiceFacts facts = service_of_three();
  facts.service.flags |= bpf::SERVICE_STEER;
  EXPECT_FALSE(predict(facts, some_key(), retry_after(3), true).steered);
  const Placement placement = predict(facts, some_key(), retry_after(1), true);
  ASSERT_TRUE(placement.steered);
  EXPECT_EQ(placement.backend_id, 2u);
  // All 16 slots of the ring in force are its own, then the neutral ring's first is another's.
  EXPECT_EQ(placement.steered->probes.size(), 17u);
  EXPECT_EQ(placement.steered->probes.front().outcome, ProbeOutcome::kAvoided);
}

TEST(Placement, AClientWithAffinityIsNotSteered) {
  ServiceFacts facts = service_of_three();
  facts.service.flags |= bpf::SERVICE_STEER | bpf::SERVICE_TWO_CHOICES | bpf::SERVICE_AFFINITY;
  const Placement placement = predict(facts, some_key(), retry_after(1), true);
  EXPECT_EQ(placement.backend_id, 1u);
  EXPECT_FALSE(placement.second);
  EXPECT_EQ(placement.hash, predict(facts, some_key(40000), kFirst, true).hash);
}

struct SecondCase {
  const char* description;
  std::int64_t first_waiting;
  std::int64_t second_waiting;
  std::uint32_t second_risk_q16;
  SecondReason reason;
};

TEST(Placement, TwoChoicesTakeTheSecondOnlyIfItIsMarkedlyBetter) {
  const SecondCase cases[] = {
      {"both idle", 0, 0, 0, SecondReason::kNotBusier},
      {"one more is not marked", 1, 0, 0, SecondReason::kNotBusier},
      {"two more", 2, 0, 0, SecondReason::kTaken},
      {"half as many again, and no more", 6, 4, 0, SecondReason::kNotBusier},
      {"more than half as many again", 7, 4, 0, SecondReason::kTaken},
      {"riskier", 9, 0, 13108, SecondReason::kRiskier},
  };
  for (const SecondCase& it : cases) {
    ServiceFacts facts = service_of_three();
    facts.backends[1].waiting.requests = it.first_waiting;
    facts.backends[2].waiting.requests = it.second_waiting;
    facts.backends[2].weight.risk_q16 = it.second_risk_q16;
    Placement placement = predict(facts, some_key(), kFirst, true);
    ASSERT_TRUE(placement.second) << it.description;
    EXPECT_EQ(placement.second->reason, it.reason) << it.description;
    EXPECT_EQ(placement.backend_id, 1u) << "without the flag it is only told: " << it.description;
    facts.service.flags |= bpf::SERVICE_TWO_CHOICES;
    placement = predict(facts, some_key(), kFirst, true);
    EXPECT_EQ(placement.backend_id, it.reason == SecondReason::kTaken ? 2u : 1u) << it.description;
  }
}

TEST(Placement, LimitsRefuseRetriesFirst) {
  ServiceFacts facts = service_of_three();
  facts.service.flags |= bpf::SERVICE_ADMIT;
  facts.waiting = {.requests = 9, .limit = 10, .retry_limit = 8, .ends_abandoned = 0, .padding = {}};
  EXPECT_EQ(predict(facts, some_key(), kFirst, true).backend_id, 1u);
  const Placement retry = predict(facts, some_key(), retry_after(3), true);
  EXPECT_EQ(retry.backend_id, 0u);
  EXPECT_EQ(retry.admission, Admission::kRetryOverLimit);
  EXPECT_EQ(predict(facts, some_key(), kFirst, false).backend_id, 1u) << "udp is not refused";
}

TEST(Placement, ABackendAtItsLimitGivesWayToAnother) {
  ServiceFacts facts = service_of_three();
  facts.service.flags |= bpf::SERVICE_ADMIT;
  facts.backends[1].waiting = {.requests = 5, .limit = 5, .retry_limit = 4, .ends_abandoned = 0, .padding = {}};
  EXPECT_EQ(predict(facts, some_key(), kFirst, true).backend_id, 2u);
  facts.backends[2].waiting = facts.backends[1].waiting;
  EXPECT_EQ(predict(facts, some_key(), kFirst, true).admission, Admission::kOverLimit);
}

TEST(Placement, AnEmptyBudgetRefusesRetriesAlone) {
  ServiceFacts facts = service_of_three();
  facts.service.flags |= bpf::SERVICE_BUDGET;
  facts.tokens = 0.5;
  EXPECT_EQ(predict(facts, some_key(), retry_after(3), true).admission, Admission::kOverBudget);
  EXPECT_EQ(predict(facts, some_key(), kFirst, true).admission, Admission::kAdmitted);
}

TEST(Placement, AMovedSynAvoidsThoseThatHadIt) {
  bpf::half_open flow{};
  flow.key = some_key();
  flow.backend_id = 1;
  EXPECT_EQ(next_backend(service_of_three(), flow).backend_id, 2u);
  flow.moved_from[0] = 2;
  EXPECT_EQ(next_backend(service_of_three(), flow).backend_id, 0u);
  flow.moved_from[0] = 0;
  flow.moves = MAX_MOVES;
  EXPECT_TRUE(next_backend(service_of_three(), flow).probes.empty());
}

TEST(Budget, FillsWithTimeUpToItsBurst) {
  bpf::budget budget{};
  budget.rate_q16 = 10 << 16;
  budget.burst_q16 = 20 << 16;
  budget.tokens_q16 = 1 << 16;
  budget.filled_ns = 1'000'000'000;
  EXPECT_DOUBLE_EQ(tokens(budget, 1'500'000'000), 6);
  EXPECT_DOUBLE_EQ(tokens(budget, 9'000'000'000), 20);
  EXPECT_DOUBLE_EQ(tokens(budget, 0), 1) << "time does not run back";
}

TEST(RingMoves, AreCountedSlotBySlot) {
  const std::vector<std::uint32_t> before = {1, 1, 2, 2};
  EXPECT_EQ(moved_share(before, before), 0);
  EXPECT_EQ(moved_share(before, std::vector<std::uint32_t>{1, 2, 2, 2}), 0.25);
}

TEST(RingMoves, OfAnotherLengthAreSampled) {
  const std::vector<std::uint32_t> one(1009, 1);
  EXPECT_EQ(moved_share(one, std::vector<std::uint32_t>(2003, 1)), 0);
  std::vector<std::uint32_t> half(2003, 1);
  std::fill(half.begin() + 1001, half.end(), 2);
  EXPECT_NEAR(moved_share(one, half), 0.5, 0.001);
}

TEST(Endpoint, IsReadInBothFamilies) {
  const auto v4 = parse_endpoint("10.0.0.7:51812");
  ASSERT_TRUE(v4);
  EXPECT_EQ(v4->second, 51812);
  EXPECT_TRUE(parse_endpoint("[2001:db8::7]:80"));
}

TEST(Endpoint, IsRefusedWithItsReason) {
  for (const char* text : {"10.0.0.7", "10.0.0.7:", "10.0.0.7:0", "10.0.0.7:65536", "host:80",
                           "2001:db8::7:80", "[10.0.0.7:80", ":80", "10.0.0.7:80x"}) {
    const auto parsed = parse_endpoint(text);
    ASSERT_FALSE(parsed) << text;
    EXPECT_EQ(parsed.error().kind(), ExitCode::kInput);
    EXPECT_NE(parsed.error().message().find(text), std::string::npos);
  }
}

TEST(Words, AFlowWithoutFlagsIsWhereTheRingPutIt) {
  EXPECT_EQ(joined(reasons_of(bpf::CONNECTION_WAITING), ","), "ring");
  EXPECT_EQ(joined(reasons_of(bpf::CONNECTION_STEERED | bpf::CONNECTION_FAILED_OVER), ","),
            "steered,failed_over");
}

}  // namespace
}  // namespace petrel::inspect
