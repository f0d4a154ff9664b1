// SPDX-License-Identifier: MIT
// Risk from scored events, the law and the rails of the weights, and the loop over a small service.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "control/peers.hpp"
#include "control/risk.hpp"
#include "control/weights.hpp"
#include "control_model.hpp"

namespace petrel {
namespace {

using std::chrono::milliseconds;

constexpr std::uint32_t kBad = 60000;
constexpr std::uint64_t kTickNs = 100'000'000;

// --- risk -------------------------------------------------------------------------------------

// 50 of 100 with no prior: Wilson's interval is 0.404 to 0.596. The more samples, the narrower.
TEST(Risk, TheIntervalIsWilsons) {
  BackendRisk risk({.history_samples = 100, .prior_samples = 0});
  risk.add(0, 50);
  risk.add(65536, 50);
  risk.end_tick(std::chrono::milliseconds(100));
  const RiskReading reading = risk.reading(0);
  EXPECT_NEAR(reading.risk, 0.5, 1e-9);
  EXPECT_NEAR(reading.low, 0.4038, 1e-4);
  EXPECT_NEAR(reading.high, 0.5962, 1e-4);
  BackendRisk few({.history_samples = 100, .prior_samples = 0});
  few.add(0, 5);
  few.end_tick(std::chrono::milliseconds(100));
  EXPECT_NEAR(few.reading(0).low, 0, 1e-9);
  EXPECT_GT(few.reading(0).high, 0.4);
  EXPECT_EQ(BackendRisk({.prior_samples = 0}).reading(0).high, 1) << "nothing known";
}

TEST(Risk, HalfIsForgottenInAHalfLife) {
  BackendRisk risk;
  risk.add(65536, 100);
  risk.end_tick(milliseconds(100));
  risk.add(0, 100);
  risk.end_tick(milliseconds(300));
  EXPECT_NEAR(risk.reading(0).fast, 1.0 / 3, 1e-9);  // 50 of 150
  EXPECT_NEAR(risk.reading(0).samples, 150, 1e-9);
}

TEST(Risk, FewSamplesAreShrunkTowardTheService) {
  BackendRisk risk;
  risk.add(65536);
  risk.end_tick(milliseconds(100));
  EXPECT_NEAR(risk.reading(0.1).risk, (1 + 4 * 0.1) / 5, 1e-9);
  BackendRisk unseen;
  unseen.end_tick(milliseconds(100));
  EXPECT_DOUBLE_EQ(unseen.reading(0.1).risk, 0.1);
  EXPECT_DOUBLE_EQ(unseen.reading(0.1).samples, 0);
}

TEST(Risk, ManySamplesSpeakForThemselves) {
  BackendRisk risk;
  risk.add(65536, 1000);
  risk.end_tick(milliseconds(100));
  EXPECT_GT(risk.reading(0.0).risk, 0.99);
  EXPECT_GT(risk.reading(0.0).risk_q16, 64880U);
}

TEST(Risk, SilenceIsNotHealth) {
  BackendRisk risk;
  risk.add(kBad, 50);
  risk.end_tick(milliseconds(100));
  const double before = risk.reading(0).risk;
  for (int i = 0; i < 600; ++i) risk.end_tick(milliseconds(100));
  EXPECT_GT(risk.reading(0).risk, before * 0.8);
  EXPECT_EQ(risk.reading(0).answered, 0U);
}

TEST(Risk, GoodAnswersAre) {
  BackendRisk risk;
  risk.add(kBad, 50);
  risk.end_tick(milliseconds(100));
  for (int i = 0; i < 40; ++i) {
    risk.add(655);
    risk.end_tick(milliseconds(1000));
  }
  EXPECT_LT(risk.reading(0).risk, 0.1);
}

TEST(Risk, WaitingRequestsCountOnceAndLeaveNoTrace) {
  BackendRisk risk;
  risk.add_waiting(30, kBad);
  risk.end_tick(milliseconds(100));
  EXPECT_GT(risk.reading(0).risk, 0.7);
  EXPECT_EQ(risk.reading(0).waiting, 30U);
  risk.add_waiting(30, kBad);
  risk.end_tick(milliseconds(100));
  EXPECT_DOUBLE_EQ(risk.reading(0).samples, 30);
  risk.end_tick(milliseconds(100));
  EXPECT_DOUBLE_EQ(risk.reading(0).samples, 0);
  EXPECT_DOUBLE_EQ(risk.reading(0).risk, 0);
}

TEST(Risk, FreshIsOfThisTickWhereItHasEnough) {
  BackendRisk risk;
  risk.add(65536, 40);
  risk.end_tick(milliseconds(100));
  EXPECT_DOUBLE_EQ(risk.reading(0).fresh, 1);
  risk.add(0, 10);
  risk.add_waiting(10, 32768);
  risk.end_tick(milliseconds(100));
  EXPECT_DOUBLE_EQ(risk.reading(0).fresh, 0.25);
  EXPECT_EQ(risk.reading(0).answered, 10U);
}

// Of three requests one that fails or none is chance: those shortly before count too.
TEST(Risk, FreshIsOfTheLastTenWhereATickHasFew) {
  BackendRisk risk;
  risk.add(65536, 10);
  risk.end_tick(milliseconds(100));
  risk.add(0, 2);
  risk.end_tick(milliseconds(100));
  EXPECT_NEAR(risk.reading(0).fresh, 0.8, 0.01);
  for (int i = 0; i < 10; ++i) risk.end_tick(milliseconds(100));
  risk.add(0, 2);
  risk.end_tick(milliseconds(100));
  EXPECT_LT(risk.reading(0).fresh, 0.25);  // what is a second old is no news
  EXPECT_EQ(risk.reading(0).answered, 2U);
}

TEST(Risk, ScoresOverOneAreCut) {
  BackendRisk risk;
  risk.add(4000000000U, 1000000);
  risk.add_waiting(5, 4000000000U);
  risk.end_tick(milliseconds(0));
  EXPECT_LE(risk.reading(5).risk, 1.0);
  EXPECT_LE(risk.reading(5).risk_q16, 65536U);
}

// --- peers ------------------------------------------------------------------------------------

TEST(Peers, AreTheClearlyBetterOnes) {
  const std::vector<WeightedRisk> rack{{0.9, 1}, {0.8, 1}, {0.7, 1}, {0.01, 1}, {0.03, 3}};
  const auto peers = peers_risks(rack);
  for (int i = 0; i < 3; ++i) EXPECT_NEAR(peers[i], 0.025, 1e-9);
  EXPECT_NEAR(peers[4], 0.01, 1e-9);
}

TEST(Peers, AreAllOthersWhereNoneIs) {
  const auto peers = peers_risks(std::vector<WeightedRisk>{{0.9, 1}, {0.8, 1}, {0.7, 2}});
  EXPECT_NEAR(peers[0], (0.8 + 2 * 0.7) / 3, 1e-9);
  EXPECT_NEAR(peers[2], 0.85, 1e-9);
}

TEST(Peers, AreNotThoseWithoutWeight) {
  EXPECT_DOUBLE_EQ(peers_risks(std::vector<WeightedRisk>{{0.9, 1}, {0.0, 0}})[0], 0.9);
  EXPECT_DOUBLE_EQ(peers_risks(std::vector<WeightedRisk>{{0.7, 3}})[0], 0.7);
  EXPECT_DOUBLE_EQ(peers_risks(std::vector<WeightedRisk>{{0.0, 1}, {0.4, 1}})[0], 0.4);
}

// --- the law and the rails, one tick at a time ---------------------------------------------------

// `count` backends of base weight 100, all well and busy.
std::vector<BackendInput> well(std::uint32_t count) {
  std::vector<BackendInput> inputs;
  for (std::uint32_t id = 1; id <= count; ++id) {
    BackendInput input;
    input.backend_id = id;
    input.base_weight = 100;
    input.risk.risk = input.risk.fresh = input.risk.fast = input.risk.slow = 0.01;
    input.risk.samples = 50;
    input.risk.answered = 10;
    inputs.push_back(input);
  }
  return inputs;
}

void make_bad(BackendInput& input, double risk = 0.9) {
  input.risk.risk = input.risk.fresh = input.risk.fast = input.risk.slow = risk;
}

void make_silent(BackendInput& input) {
  input.risk.answered = 0;
  input.risk.waiting = 0;
  input.risk.fresh = 0;
}

class Loop {
 public:
  explicit Loop(WeightSettings settings = {}) : controller(settings) {}

  const std::vector<WeightDecision>& tick(const std::vector<BackendInput>& inputs, int times = 1,
                                          std::uint64_t elapsed_ns = kTickNs) {
    for (int i = 0; i < times; ++i) {
      now_ns_ += elapsed_ns;
      decisions_ = controller.tick(now_ns_, inputs);
    }
    return decisions_;
  }

  WeightController controller;

 private:
  std::uint64_t now_ns_ = kTickNs;
  std::vector<WeightDecision> decisions_;
};

TEST(Weights, WellBackendsStayAtBase) {
  Loop loop;
  for (const WeightDecision& decision : loop.tick(well(4), 100)) {
    EXPECT_EQ(decision.factor_q16, 65536U);
    EXPECT_EQ(decision.reason, bpf::REASON_BASE);
    EXPECT_EQ(decision.rails, 0U);
    EXPECT_FALSE(decision.changed);
  }
}

TEST(Weights, ClearEvidenceTakesUnderATenthInThreeTicks) {
  Loop loop;
  auto inputs = well(5);
  make_bad(inputs[2]);
  const auto& decisions = loop.tick(inputs, 3);
  EXPECT_LT(decisions[2].factor, 0.1);
  EXPECT_TRUE(decisions[2].reason == bpf::REASON_RISK || decisions[2].reason == bpf::REASON_FLOOR);
  EXPECT_NEAR(decisions[2].peers_risk, 0.01, 1e-9);
  EXPECT_DOUBLE_EQ(decisions[0].factor, 1);
}

TEST(Weights, ASmallDifferenceMovesNothing) {
  Loop loop;
  auto inputs = well(5);
  make_bad(inputs[2], 0.055);
  EXPECT_DOUBLE_EQ(loop.tick(inputs, 50)[2].factor, 1);
}

TEST(Weights, ADifferenceWithinItsNoiseMovesNothing) {
  Loop loop;
  auto inputs = well(5);
  make_bad(inputs[2], 0.15);
  inputs[2].risk.samples = 16;
  EXPECT_DOUBLE_EQ(loop.tick(inputs, 50)[2].factor, 1);
  // The same in many samples is no noise.
  inputs[2].risk.samples = 200;
  EXPECT_LT(loop.tick(inputs, 50)[2].factor, 0.1);
}

TEST(Weights, LongTicksMoveAsMuchAsTheShortOnesTheyReplace) {
  auto inputs = well(5);
  make_bad(inputs[2], 0.18);
  inputs[2].risk.samples = 1000;
  Loop hundred, ten;
  const double slow = hundred.tick(inputs, 4)[2].wanted;
  const double fast = ten.tick(inputs, 40, kTickNs / 10)[2].wanted;
  // The first tick of each counts as 100 ms.
  EXPECT_NEAR(std::log(fast), std::log(slow) / 4 * 4.9, 0.01);
}

TEST(Weights, ALongSleepCountsAsASecond) {
  auto inputs = well(5);
  Loop loop;
  loop.tick(inputs);
  make_bad(inputs[2], 0.09);
  inputs[2].risk.samples = 1000;
  const double after = loop.tick(inputs, 1, 3600 * 10 * kTickNs)[2].wanted;
  EXPECT_GT(after, std::exp(-6 * 0.09 * 10));
}

TEST(Weights, OldEvidenceInSilencePushesNoFurther) {
  Loop loop;
  auto inputs = well(5);
  make_bad(inputs[2], 0.9);
  inputs[2].risk.samples = 16;
  make_silent(inputs[2]);
  EXPECT_DOUBLE_EQ(loop.tick(inputs, 20)[2].factor, 1);
}

TEST(Weights, BackendsInTroubleGetNoMoreTraffic) {
  Loop loop;
  auto inputs = well(3);
  make_bad(inputs[0], 0.28);
  make_bad(inputs[1], 0.17);
  make_bad(inputs[2], 0.17);
  for (BackendInput& input : inputs) input.risk.samples = 1000;
  const auto& decisions = loop.tick(inputs, 50);
  EXPECT_DOUBLE_EQ(decisions[0].factor, 1);
  EXPECT_DOUBLE_EQ(decisions[0].gate, 0);
}

TEST(Weights, ARackThatFailsTogetherIsStillMovedOffs) {
  Loop loop;
  auto inputs = well(10);
  for (int i = 0; i < 3; ++i) make_bad(inputs[i], 0.8 + 0.05 * i);
  const auto& decisions = loop.tick(inputs, 3);
  for (int i = 0; i < 3; ++i) EXPECT_LT(decisions[i].factor, 0.1);
  EXPECT_DOUBLE_EQ(decisions[5].factor, 1);
}

TEST(Weights, SharedTroubleBringsAllBackToBase) {
  Loop loop;
  auto inputs = well(3);
  make_bad(inputs[0]);
  ASSERT_LT(loop.tick(inputs, 5)[0].factor, 0.05);
  for (BackendInput& input : inputs) make_bad(input);
  const auto& decisions = loop.tick(inputs, 60);
  for (const WeightDecision& decision : decisions) {
    EXPECT_DOUBLE_EQ(decision.factor, 1);
    EXPECT_EQ(decision.reason, bpf::REASON_SHARED);
    EXPECT_TRUE(decision.rails & kRailShared);
  }
}

TEST(Weights, FloorHoldsABackendThatAnswersBadly) {
  Loop loop;
  auto inputs = well(5);
  make_bad(inputs[2]);
  const auto& decision = loop.tick(inputs, 100)[2];
  EXPECT_DOUBLE_EQ(decision.factor, 0.002);
  EXPECT_EQ(decision.factor_q16, 131U);
  EXPECT_EQ(decision.reason, bpf::REASON_FLOOR);
  EXPECT_TRUE(decision.rails & kRailFloor);
}

TEST(Weights, OnlyRefusalOrSilenceTakesToZero) {
  for (const ProbeResult probe : {ProbeResult::kUnknown, ProbeResult::kAnswers}) {
    Loop loop;
    auto inputs = well(5);
    make_bad(inputs[2], 1.0);
    inputs[2].probe = probe;
    EXPECT_GT(loop.tick(inputs, 100)[2].factor, 0);
  }
  for (const ProbeResult probe : {ProbeResult::kRefuses, ProbeResult::kSilent}) {
    Loop loop;
    auto inputs = well(5);
    inputs[2].probe = probe;
    const auto& decision = loop.tick(inputs)[2];
    EXPECT_EQ(decision.factor_q16, 0U);
    EXPECT_EQ(decision.reason, bpf::REASON_QUARANTINE);
    EXPECT_EQ(decision.rails, kRailQuarantine);
  }
}

TEST(Weights, FromZeroOnlyAnAnswerLeads) {
  Loop loop;
  auto inputs = well(5);
  inputs[2].probe = ProbeResult::kRefuses;
  loop.tick(inputs);
  inputs[2].probe = ProbeResult::kUnknown;
  EXPECT_DOUBLE_EQ(loop.tick(inputs, 50)[2].factor, 0);
  inputs[2].probe = ProbeResult::kAnswers;
  EXPECT_GT(loop.tick(inputs)[2].factor, 0);
}

// How many ticks of 100 ms after its first answer the third backend has weight again.
int ticks_until_back(Loop& loop, std::vector<BackendInput>& inputs) {
  inputs[2].probe = ProbeResult::kRefuses;
  loop.tick(inputs);
  inputs[2].probe = ProbeResult::kAnswers;
  int ticks = 1;
  while (loop.tick(inputs)[2].factor <= 0 && ticks < 2000) ++ticks;
  return ticks;
}

TEST(Weights, OneThatFlapsWaitsLongerEachTimeUpToAMinute) {
  Loop loop;
  auto inputs = well(5);
  for (const int expected : {1, 11, 31, 71, 151}) {
    EXPECT_NEAR(ticks_until_back(loop, inputs), expected, 2);
  }
  int longest = 0;
  for (int i = 0; i < 12; ++i) longest = std::max(longest, ticks_until_back(loop, inputs));
  EXPECT_NEAR(longest, 601, 2);
  loop.tick(inputs, 36000);  // an hour in health, and it is believed at once
  EXPECT_LE(ticks_until_back(loop, inputs), 2);
}

TEST(Weights, AnAnswerBetweenRefusalsIsNoHealth) {
  Loop loop;
  auto inputs = well(5);
  for (int i = 0; i < 5; ++i) ticks_until_back(loop, inputs);
  inputs[2].probe = ProbeResult::kRefuses;
  loop.tick(inputs);
  for (int i = 0; i < 50; ++i) {  // it waits for longer than these 10 s
    inputs[2].probe = i % 10 == 9 ? ProbeResult::kRefuses : ProbeResult::kAnswers;
    EXPECT_EQ(loop.tick(inputs, 10)[2].factor, 0) << i;
  }
}

TEST(Weights, SlowStartIsATenthASecond) {
  Loop loop;
  auto inputs = well(5);
  inputs[2].probe = ProbeResult::kSilent;
  loop.tick(inputs, 10);
  inputs[2].probe = ProbeResult::kAnswers;
  EXPECT_NEAR(loop.tick(inputs, 10)[2].factor, 0.1, 0.011);
  inputs[2].probe = ProbeResult::kUnknown;
  const auto& halfway = loop.tick(inputs, 40)[2];
  EXPECT_NEAR(halfway.factor, 0.5, 0.02);
  EXPECT_EQ(halfway.reason, bpf::REASON_RECOVERING);
  EXPECT_TRUE(halfway.rails & kRailSlowStart);
  const auto& done = loop.tick(inputs, 51)[2];
  EXPECT_DOUBLE_EQ(done.factor, 1);
  EXPECT_EQ(done.rails, 0U);
}

TEST(Weights, SlowStartDoesNotProtectFromBadEvidence) {
  Loop loop;
  auto inputs = well(5);
  inputs[2].probe = ProbeResult::kRefuses;
  loop.tick(inputs);
  inputs[2].probe = ProbeResult::kAnswers;
  loop.tick(inputs, 30);
  make_bad(inputs[2]);
  EXPECT_LT(loop.tick(inputs, 2)[2].factor, 0.03);
}

TEST(Weights, RecoveryOnEvidenceIsQuick) {
  Loop loop;
  auto inputs = well(5);
  make_bad(inputs[2]);
  loop.tick(inputs, 10);
  inputs = well(5);
  const auto& soon = loop.tick(inputs, 8)[2];
  EXPECT_GT(soon.factor, 0.5);
  EXPECT_EQ(soon.reason, bpf::REASON_RECOVERING);
  const auto& later = loop.tick(inputs, 45)[2];
  EXPECT_DOUBLE_EQ(later.factor, 1);
  EXPECT_EQ(later.reason, bpf::REASON_BASE);
}

TEST(Weights, RecoveryInSilenceDoublesEachTwoSeconds) {
  Loop loop;
  auto inputs = well(5);
  make_bad(inputs[2]);
  loop.tick(inputs, 10);
  make_silent(inputs[2]);
  EXPECT_NEAR(loop.tick(inputs, 20)[2].factor, 0.004, 0.0002);
  EXPECT_NEAR(loop.tick(inputs, 40)[2].factor, 0.016, 0.0007);
  // A low risk without answers, as of a window that has emptied, is silence too.
  inputs[2].risk.risk = 0.01;
  EXPECT_LT(loop.tick(inputs, 2)[2].factor, 0.02);
}

TEST(Weights, TheFirstBadEvidenceEndsRecovery) {
  Loop loop;
  auto inputs = well(5);
  make_bad(inputs[2]);
  loop.tick(inputs, 10);
  make_silent(inputs[2]);
  ASSERT_GT(loop.tick(inputs, 100)[2].factor, 0.05);
  // One request, waiting for long: fewer than the samples for a first move, but this is no first.
  inputs[2].risk.samples = 5;
  inputs[2].risk.waiting = 1;
  inputs[2].risk.fresh = 0.9;
  EXPECT_LT(loop.tick(inputs)[2].factor, 0.01);
}

TEST(Weights, FewSamplesDoNotLowerAWeight) {
  Loop loop;
  auto inputs = well(5);
  make_bad(inputs[2]);
  inputs[2].risk.samples = 9;
  const auto& held = loop.tick(inputs, 20)[2];
  EXPECT_DOUBLE_EQ(held.factor, 1);
  EXPECT_EQ(held.reason, bpf::REASON_SAMPLES);
  EXPECT_EQ(held.rails, kRailSamples);
  inputs[2].risk.samples = 10;
  EXPECT_LT(loop.tick(inputs, 5)[2].factor, 0.1);
}

TEST(Weights, PanicSpreadsEvenlyAndOnlyThen) {
  Loop loop;
  auto inputs = well(10);
  for (int i = 0; i < 5; ++i) make_bad(inputs[i]);
  EXPECT_LT(loop.tick(inputs, 10)[0].factor, 0.1) << "half is left: no panic";
  EXPECT_FALSE(loop.controller.in_panic());
  make_bad(inputs[5]);
  const auto& decisions = loop.tick(inputs, 10);
  EXPECT_TRUE(loop.controller.in_panic());
  for (const WeightDecision& decision : decisions) {
    EXPECT_DOUBLE_EQ(decision.factor, 1);
    EXPECT_EQ(decision.reason, bpf::REASON_PANIC);
    EXPECT_TRUE(decision.rails & kRailPanic);
  }
}

TEST(Weights, PanicGoesByCapacityNotByCount) {
  Loop loop;
  auto inputs = well(4);
  inputs[0].base_weight = 1000;
  make_bad(inputs[0]);
  loop.tick(inputs, 10);
  EXPECT_TRUE(loop.controller.in_panic());
}

TEST(Weights, PanicEndsWithHysteresis) {
  Loop loop;
  auto inputs = well(20);
  for (int i = 0; i < 11; ++i) make_bad(inputs[i]);
  loop.tick(inputs, 10);
  ASSERT_TRUE(loop.controller.in_panic());
  const auto good = well(20);
  inputs[0] = good[0];  // 50 % well: enough not to enter, too little to leave
  loop.tick(inputs, 60);
  EXPECT_TRUE(loop.controller.in_panic());
  inputs[1] = good[1];
  inputs[2] = good[2];  // 60 %
  loop.tick(inputs, 60);
  EXPECT_FALSE(loop.controller.in_panic());
  EXPECT_LT(loop.tick(inputs)[5].factor, 0.1);
}

TEST(Weights, AllRefusingIsPanicToo) {
  Loop loop;
  auto inputs = well(3);
  for (BackendInput& input : inputs) input.probe = ProbeResult::kRefuses;
  for (const WeightDecision& decision : loop.tick(inputs)) EXPECT_DOUBLE_EQ(decision.factor, 1);
  Loop single;
  inputs.resize(1);
  EXPECT_DOUBLE_EQ(single.tick(inputs)[0].factor, 1);
}

double growth(const std::vector<WeightDecision>& decisions, std::size_t backend) {
  double sum = 0;
  for (const WeightDecision& decision : decisions) sum += decision.factor;
  return decisions[backend].factor / sum * static_cast<double>(decisions.size());
}

TEST(Weights, AShareGrowsToTheCapAndNoFurther) {
  WeightSettings settings;
  settings.growth_cap = 1.5;
  Loop loop(settings);
  auto inputs = well(4);
  make_bad(inputs[0]);
  const auto& one = loop.tick(inputs, 20);
  EXPECT_NEAR(growth(one, 3), 4 / 3.0, 0.01);
  EXPECT_EQ(one[0].reason, bpf::REASON_FLOOR) << "below the cap: not held by it";
  make_bad(inputs[1]);
  const auto& two = loop.tick(inputs, 20);
  EXPECT_NEAR(growth(two, 3), 1.5, 1e-6);
  EXPECT_EQ(two[0].reason, bpf::REASON_CAPPED);
  EXPECT_TRUE(two[0].rails & kRailGrowthCap);
  EXPECT_FALSE(two[0].changed) << "a held weight does not churn";
}

TEST(Weights, TheCapGivesNothingToABackendThatRefuses) {
  WeightSettings settings;
  settings.growth_cap = 1.5;
  Loop loop(settings);
  auto inputs = well(4);
  make_bad(inputs[0]);
  inputs[1].probe = ProbeResult::kRefuses;
  const auto& decisions = loop.tick(inputs, 20);
  EXPECT_DOUBLE_EQ(decisions[1].factor, 0);
  EXPECT_GT(decisions[0].factor, 0.5);
}

TEST(Weights, OneOfTwoMayTakeAll) {
  Loop loop;
  auto inputs = well(2);
  make_bad(inputs[0]);
  EXPECT_DOUBLE_EQ(loop.tick(inputs, 20)[0].factor, 0.002);
}

TEST(Weights, ALoneBackendStaysWhateverItDoes) {
  Loop loop;
  auto inputs = well(1);
  make_bad(inputs[0]);
  EXPECT_DOUBLE_EQ(loop.tick(inputs, 20)[0].factor, 1);
}

TEST(Weights, SmallChangesAreNotPublished) {
  Loop loop;
  auto inputs = well(5);
  make_bad(inputs[2]);
  loop.tick(inputs, 10);
  make_silent(inputs[2]);
  int changes = 0;
  double last = loop.tick(inputs)[2].factor;
  for (int i = 0; i < 200; ++i) {
    const WeightDecision decision = loop.tick(inputs, 1, kTickNs / 10)[2];
    if (!decision.changed) continue;
    ++changes;
    EXPECT_GE(std::abs(decision.factor - last), 0.02 * last);
    last = decision.factor;
  }
  EXPECT_GT(changes, 20);  // a doubling is 35 steps of 2 %
  EXPECT_LT(changes, 40);
}

TEST(Weights, AdoptedWeightsGoOnWhereTheyWere) {
  Loop loop;
  loop.controller.adopt(1, 0.002);
  loop.controller.adopt(2, 0);
  auto inputs = well(5);
  make_silent(inputs[0]);
  const auto& decisions = loop.tick(inputs);
  EXPECT_LT(decisions[0].factor, 0.0022);
  EXPECT_DOUBLE_EQ(decisions[1].factor, 0);
  EXPECT_DOUBLE_EQ(decisions[2].factor, 1);
}

TEST(Weights, BackendsMayComeAndGo) {
  Loop loop;
  auto inputs = well(5);
  make_bad(inputs[4]);
  loop.tick(inputs, 10);
  EXPECT_EQ(loop.tick(well(4)).size(), 4U);
  EXPECT_EQ(loop.tick({}).size(), 0U);
  EXPECT_DOUBLE_EQ(loop.tick(well(5))[4].factor, 1) << "forgotten with its removal";
}

TEST(Weights, ADrainedBackendIsNoLostCapacity) {
  Loop loop;
  auto inputs = well(4);
  for (int i = 0; i < 3; ++i) inputs[i].base_weight = 0;
  loop.tick(inputs, 5);
  EXPECT_FALSE(loop.controller.in_panic());
}

TEST(Weights, WhateverComesInTheRailsHold) {
  std::mt19937 random(5);
  std::uniform_real_distribution<double> unit(0, 1);
  Loop loop;
  auto inputs = well(12);
  for (int tick = 0; tick < 20000; ++tick) {
    BackendInput& input = inputs[random() % inputs.size()];
    make_bad(input, random() % 3 == 0 ? unit(random) : 0.01);
    input.risk.samples = 100 * unit(random);
    input.risk.answered = random() % 20;
    input.probe = static_cast<ProbeResult>(random() % 8 == 0 ? random() % 4 : 0);
    const auto& decisions = loop.tick(inputs, 1, random() % (2 * kTickNs));
    double sum = 0;
    bool refused = false;
    for (const WeightDecision& decision : decisions) {
      ASSERT_TRUE(decision.factor == 0 || (decision.factor >= 0.002 && decision.factor <= 1));
      ASSERT_EQ(decision.factor == 0, decision.reason == bpf::REASON_QUARANTINE);
      if (loop.controller.in_panic()) {
        ASSERT_EQ(decision.factor, 1);
      }
      refused = refused || decision.factor == 0;
      sum += decision.factor;
    }
    if (!refused) {
      ASSERT_GE(sum / 12, 0.5 - 1e-9) << "a share beyond twice its base";
    }
  }
}

TEST(Weights, RailsHaveNames) {
  EXPECT_EQ(rail_names(0), "");
  EXPECT_EQ(rail_names(kRailPanic | kRailFloor), "panic,floor");
  EXPECT_EQ(rail_names(kRailShared), "shared");
}

// --- the closed loop ----------------------------------------------------------------------------

TEST(ClosedLoop, AHangIsSeenBeforeItsClientsGiveUp) {
  ServiceModel model(5, 500);
  model.run(50);
  model.backends[1].hangs = true;
  model.run(10);
  EXPECT_LT(model.factor(1), 0.1);
  EXPECT_EQ(model.failed, 0) << "moved before the first client ran out of patience";
  model.run(100);
  EXPECT_LT(model.factor(1), 0.05);
  for (const std::size_t other : {0U, 2U, 3U, 4U}) EXPECT_DOUBLE_EQ(model.factor(other), 1);
}

TEST(ClosedLoop, AHungBackendThatIsBackServesAgain) {
  ServiceModel model(5, 500);
  model.run(50);
  model.backends[1].hangs = true;
  model.run(100);
  model.backends[1].hangs = false;
  int ticks = 0;
  while (model.factor(1) < 0.9 && ticks < 600) {
    model.tick();
    ++ticks;
  }
  EXPECT_LT(ticks, 200);
  model.run(100);
  EXPECT_DOUBLE_EQ(model.factor(1), 1);
}

TEST(ClosedLoop, AHangAtLowTrafficIsSeenToo) {
  ServiceModel model(4, 8);  // two requests a second for each
  model.run(300);
  model.backends[1].hangs = true;
  model.run(80);
  EXPECT_LT(model.factor(1), 0.2);
}

TEST(ClosedLoop, HalfErrorsAreMovedOff) {
  ServiceModel model(5, 500);
  model.run(50);
  model.backends[3].error_share = 0.5;
  model.run(10);
  EXPECT_LT(model.factor(3), 0.1);
  double sum = 0;
  for (int i = 0; i < 300; ++i) {
    model.tick();
    sum += model.factor(3);
  }
  EXPECT_LT(sum / 300, 0.05);
}

TEST(ClosedLoop, WhenAllAreBadNobodyIsMoved) {
  ServiceModel model(5, 500);
  model.run(50);
  for (ModelBackend& backend : model.backends) backend.error_share = 0.5;
  for (int i = 0; i < 300; ++i) {
    model.tick();
    for (std::size_t backend = 0; backend < 5; ++backend)
      ASSERT_GT(model.factor(backend), 0.9) << i;
  }
}

TEST(ClosedLoop, FlappingStaysMostlyOff) {
  ServiceModel model(5, 500);
  model.run(50);
  const double before = model.failed;
  for (int cycle = 0; cycle < 30; ++cycle) {
    model.backends[2].error_share = 1;
    model.run(10);
    model.backends[2].error_share = 0;
    model.run(10);
  }
  // Static weights would fail half of a fifth of 60 s x 500/s = 3000.
  EXPECT_LT(model.failed - before, 1500);
}

TEST(ClosedLoop, ARackFailsAndReturns) {
  ServiceModel model(10, 1000);
  model.run(50);
  for (int i = 0; i < 4; ++i) model.backends[i].hangs = true;
  model.run(30);
  for (int i = 0; i < 4; ++i) EXPECT_LT(model.factor(i), 0.1);
  for (int i = 0; i < 4; ++i) model.backends[i].hangs = false;
  model.run(300);
  for (const WeightDecision& decision : model.decisions) EXPECT_DOUBLE_EQ(decision.factor, 1);
}

class HealthyHour : public testing::TestWithParam<double> {};

TEST_P(HealthyHour, BarelyChangesAWeight) {
  ServiceModel model(5, GetParam());
  for (ModelBackend& backend : model.backends) backend.error_share = 0.01;
  double lost = 0;
  for (int i = 0; i < 36000; ++i) {
    model.tick();
    for (std::size_t backend = 0; backend < 5; ++backend) lost += 1 - model.factor(backend);
  }
  EXPECT_LT(lost / (36000 * 5), 0.001) << "of capacity taken off healthy backends";
  EXPECT_LE(model.changes, 10U);
}

INSTANTIATE_TEST_SUITE_P(Rates, HealthyHour, testing::Values(10, 100, 500));

}  // namespace
}  // namespace petrel
