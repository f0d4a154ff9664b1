// SPDX-License-Identifier: MIT
// The distance to a storm that sustains itself: what is known of it, and the sums by hand.
#include "control/edge.hpp"

#include <gtest/gtest.h>

namespace petrel {
namespace {

constexpr std::uint64_t kTickNs = 100'000'000;
constexpr std::uint64_t kPatienceNs = 3'000'000'000;
constexpr std::uint64_t kUsualNs = 20'000'000;

// 540 first attempts a second, all of them answered.
EdgeInput healthy() {
  return {.elapsed_ns = kTickNs,
          .first_attempts = 54,
          .answered = 54,
          .waiting = 10,
          .patience_ns = kPatienceNs,
          .usual_response_ns = kUsualNs};
}

// Asked for more than the 600 a second that it completes.
EdgeInput saturated(std::uint64_t waiting) {
  EdgeInput input = healthy();
  input.answered = 60;
  input.waiting = waiting;
  input.saturated = input.completes = true;
  input.capacity_per_s = 600;
  return input;
}

// So often a failure was followed by a retry.
void teach_retries(Edge& edge, std::uint64_t failures, std::uint64_t retries) {
  EdgeInput input = healthy();
  input.failures = failures;
  input.retries = retries;
  edge.tick(input);
}

EdgeReading run(Edge& edge, const EdgeInput& input, int ticks) {
  for (int i = 0; i < ticks; ++i) edge.tick(input);
  return edge.reading();
}

TEST(EdgeTest, AServiceThatWasNeverSaturatedIsNotGuessedAt) {
  Edge edge;
  const EdgeReading it = run(edge, healthy(), 200);
  EXPECT_NEAR(it.first_attempts_per_s, 540, 1);
  EXPECT_EQ(it.amplification, 1);
  EXPECT_FALSE(it.capacity_per_s);
  EXPECT_FALSE(it.headroom);
  EXPECT_FALSE(it.stop_survived_s);
  EXPECT_FALSE(it.storm_amplification);
  EXPECT_NEAR(it.capacity_at_least_per_s, 540, 1);
  EXPECT_EQ(it.recovery_s, 0);
  EXPECT_FALSE(it.in_storm);
}

TEST(EdgeTest, AmplificationIsAttemptsForEachFirstOneOfTenSeconds) {
  Edge edge;
  EdgeInput input = healthy();
  input.retries = 27;
  EXPECT_NEAR(run(edge, input, 150).amplification, 1.5, 0.001);
  run(edge, healthy(), 50);
  EXPECT_NEAR(edge.reading().amplification, 1.25, 0.01);
  EXPECT_NEAR(run(edge, healthy(), 51).amplification, 1, 0.001);
}

TEST(EdgeTest, ABacklogIsGoneInItsPartOfWhatIsLeftOfTheCapacity) {
  Edge edge;
  teach_retries(edge, 1000, 800);
  const EdgeReading it = run(edge, saturated(840), 150);
  ASSERT_TRUE(it.capacity_per_s && it.headroom && it.recovery_s && it.stop_survived_s);
  EXPECT_NEAR(*it.headroom, 0.1, 0.001);
  EXPECT_NEAR(*it.answer_delay_s, 1.4, 0.001);
  const double usual = 2 * 540 * 0.02;
  EXPECT_NEAR(*it.recovery_s, (840 - usual) / (600 - 540), 0.01);
  EXPECT_NEAR(*it.storm_amplification, 5, 0.001);
  EXPECT_TRUE(it.can_last);
  EXPECT_NEAR(*it.stop_survived_s, (3 * 600 - 840) / 540.0, 0.01);
  EXPECT_FALSE(it.in_storm);
}

TEST(EdgeTest, BeyondPatienceItLastsUnlessRetriesAreFew) {
  Edge storm;
  teach_retries(storm, 1000, 800);
  const EdgeReading lasts = run(storm, saturated(2000), 150);
  EXPECT_TRUE(lasts.in_storm);
  EXPECT_EQ(lasts.stop_survived_s, 0);
  EXPECT_FALSE(lasts.recovery_s);
  // 0.05 retries for a failure: 568 attempts a second at most.
  Edge ends;
  teach_retries(ends, 1000, 50);
  const EdgeReading over = run(ends, saturated(2000), 150);
  EXPECT_FALSE(over.in_storm);
  EXPECT_FALSE(over.can_last);
  EXPECT_FALSE(over.stop_survived_s);
  ASSERT_TRUE(over.recovery_s);
  EXPECT_NEAR(*over.recovery_s, 200 / (600 - 540 / 0.95) + (1800 - 21.6) / 60, 0.1);
  // And with as many as one can serve, first attempts alone, it is never over.
  EdgeInput full = saturated(900);
  full.first_attempts = 61;
  EXPECT_FALSE(run(ends, full, 150).recovery_s);
}

TEST(EdgeTest, WhatClientsHaveLeftIsStillToBeWorkedOff) {
  Edge edge;
  run(edge, saturated(840), 20);
  EdgeInput left = saturated(0);
  left.left = 600;
  left.answered = 0;  // it works on what has been left
  edge.tick(left);
  EXPECT_NEAR(edge.reading().backlog, 600 - 60, 0.001);
  left.left = 0;
  run(edge, left, 4);
  EXPECT_NEAR(edge.reading().backlog, 600 - 300, 0.001);
  run(edge, left, 6);
  EXPECT_NEAR(edge.reading().backlog, 0, 0.001);
}

TEST(EdgeTest, TheCapacityOfACutIsNotTakenForTheServices) {
  Edge edge;
  EdgeInput cut = saturated(100);
  cut.answered = 12;
  cut.capacity_per_s = 120;
  EXPECT_NEAR(*run(edge, cut, 30).capacity_per_s, 120, 0.001);
  EXPECT_LT(*edge.reading().headroom, 0);
  EXPECT_FALSE(run(edge, healthy(), 12).capacity_per_s);
}

TEST(EdgeTest, ThatSomeRequestsHangIsNoCapacity) {
  Edge edge;
  EXPECT_FALSE(run(edge, saturated(100), 30).capacity_per_s) << "a sixth of a second's";
  EXPECT_TRUE(run(edge, saturated(200), 30).capacity_per_s);
}

TEST(EdgeTest, WhatIsRefusedIsNoLoadAndAFailureAllTheSame) {
  Edge edge;
  EdgeInput input = saturated(840);
  input.retries = 30;
  input.refused = 30;
  const EdgeReading it = run(edge, input, 150);
  EXPECT_NEAR(*it.headroom, 0.1, 0.001);
  EXPECT_NEAR(it.amplification, 1 + 30.0 / 54, 0.001);
  EXPECT_NEAR(*it.storm_amplification, Edge::kMostAmplification,
              1e-6);  // each one is followed by a retry
}

TEST(EdgeTest, ItsAgeIsSaid) {
  Edge edge;
  run(edge, saturated(200), 1);
  EXPECT_EQ(edge.reading().capacity_age_s, 0);
  EXPECT_NEAR(*run(edge, healthy(), 50).capacity_age_s, 5, 0.001);
  EdgeInput unknown = healthy();
  unknown.patience_ns = 0;
  EXPECT_FALSE(run(edge, unknown, 1).stop_survived_s) << "of clients that were never seen to leave";
}

}  // namespace
}  // namespace petrel
