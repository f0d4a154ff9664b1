// SPDX-License-Identifier: MIT
// Learned weights against the holdout: what they save, what harm is, and what is none.
#include "watch/holdout.hpp"

#include <gtest/gtest.h>

#include <random>

namespace petrel {
namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;

// Requests of a service, 600 a second, 1 % of them in the holdout.
class HoldoutTest : public testing::Test {
 protected:
  // Seconds of traffic with these retry rates; stops when judge() says that something has changed.
  bool run(Holdout& holdout, int seconds, double holdout_rate, double rest_rate,
           double holdout_share = 0.01) {
    std::bernoulli_distribution is_held(holdout_share);
    std::uniform_real_distribution<double> draw;
    for (int second = 0; second < seconds; ++second) {
      for (int request = 0; request < 600; ++request) {
        const bool held = is_held(random_);
        holdout.add_request(held, now_ns_);
        if (draw(random_) < (held ? holdout_rate : rest_rate)) holdout.add_retry(held, now_ns_);
        now_ns_ += kSecond / 600;
      }
      if (holdout.judge(now_ns_)) return true;
    }
    return false;
  }

  std::mt19937_64 random_{7};
  std::uint64_t now_ns_ = 1000 * kSecond;
};

TEST_F(HoldoutTest, WhatIsSavedIsMeasuredWithAnInterval) {
  Holdout holdout;
  EXPECT_FALSE(run(holdout, 60, 0.2, 0.02));
  const HoldoutMeasures measures = holdout.measure(now_ns_);
  ASSERT_TRUE(measures.known);
  EXPECT_NEAR(measures.difference, -0.18, 0.06);
  EXPECT_LT(measures.low, -0.18);
  EXPECT_GT(measures.high, -0.18);
  EXPECT_LT(measures.high, 0);
  EXPECT_GT(measures.avoided_low(), 0);
  EXPECT_GT(measures.avoided_high(), measures.avoided());
}

TEST_F(HoldoutTest, WhatAnEarlierAgentFoundGoesOn) {
  Holdout holdout;
  const std::uint64_t until_ns = now_ns_ + 100 * kSecond;
  holdout.resume(3, 4 * HoldoutSettings{}.first_rest_ns, until_ns);
  EXPECT_TRUE(holdout.is_harmed());
  EXPECT_EQ(holdout.harms(), 3u);
  EXPECT_FALSE(holdout.judge(until_ns - 1));
  EXPECT_TRUE(holdout.judge(until_ns));
  now_ns_ = until_ns;
  ASSERT_TRUE(run(holdout, 60, 0.1, 0.5));
  EXPECT_EQ(holdout.harms(), 4u);
  EXPECT_EQ(holdout.harmed_until_ns() - now_ns_, 8 * HoldoutSettings{}.first_rest_ns);

  Holdout over;
  over.resume(1, HoldoutSettings{}.first_rest_ns, 0);
  EXPECT_FALSE(over.is_harmed());
}

TEST_F(HoldoutTest, HarmIsFoundAndEndsInItsTime) {
  Holdout holdout;
  ASSERT_TRUE(run(holdout, 60, 0.1, 0.5));
  EXPECT_TRUE(holdout.is_harmed());
  EXPECT_EQ(holdout.harms(), 1u);
  EXPECT_GT(holdout.evidence().low, 0.01);
  const std::uint64_t until_ns = holdout.harmed_until_ns();
  EXPECT_EQ(until_ns - now_ns_, HoldoutSettings{}.first_rest_ns);
  EXPECT_FALSE(holdout.judge(until_ns - 1));
  EXPECT_TRUE(holdout.judge(until_ns));
  EXPECT_FALSE(holdout.is_harmed());
  // Again: twice as long.
  now_ns_ = until_ns;
  ASSERT_TRUE(run(holdout, 60, 0.1, 0.5));
  EXPECT_EQ(holdout.harmed_until_ns() - now_ns_, 2 * HoldoutSettings{}.first_rest_ns);
  holdout.release();
  EXPECT_FALSE(holdout.is_harmed());
  EXPECT_FALSE(holdout.measure(now_ns_).known);
}

TEST_F(HoldoutTest, NoDifferenceIsNoHarmInTwoHours) {
  int found = 0;
  for (const double rate : {0.0, 0.001, 0.05, 0.5}) {
    for (int half = 0; half < 1; ++half) {
      Holdout holdout;
      if (run(holdout, 1800, rate, rate)) ++found;
    }
  }
  EXPECT_EQ(found, 0);
}

// Seconds of trouble that both share: their spread must not pass for a difference.
TEST_F(HoldoutTest, TroubleThatComesInBurstsIsNoHarm) {
  int found = 0;
  for (int trial = 0; trial < 20; ++trial) {
    Holdout holdout;
    for (int second = 0; second < 300; ++second) {
      const double rate = second % 10 == 0 ? 0.9 : 0.0;
      if (run(holdout, 1, rate, rate)) ++found;
    }
  }
  EXPECT_EQ(found, 0);
}

TEST_F(HoldoutTest, TooFewRequestsAreNoVerdict) {
  Holdout holdout;
  EXPECT_FALSE(run(holdout, 5, 0.0, 1.0));  // 30 of the holdout
  EXPECT_FALSE(holdout.measure(now_ns_).known);
  Holdout none;
  EXPECT_FALSE(run(none, 60, 0.0, 1.0, 0.0));
  EXPECT_FALSE(none.measure(now_ns_).known);
}

TEST_F(HoldoutTest, WhatHasLeftTheWindowIsForgotten) {
  Holdout holdout;
  run(holdout, 60, 0.2, 0.02);
  EXPECT_FALSE(holdout.measure(now_ns_ + 61 * kSecond).known);
  EXPECT_EQ(holdout.measure(now_ns_ + 61 * kSecond).rest, 0u);
}

TEST_F(HoldoutTest, ALabelThatIsTakenBackCountsNoMore) {
  Holdout holdout;
  holdout.add_request(true, now_ns_);
  holdout.add_retry(true, now_ns_);
  holdout.take_back_retry(true, now_ns_);
  holdout.take_back_retry(true, now_ns_);
  EXPECT_EQ(holdout.measure(now_ns_).holdout_retried, 0u);
}

}  // namespace
}  // namespace petrel
