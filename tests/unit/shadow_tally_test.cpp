// SPDX-License-Identifier: MIT
// What weights in shadow would have saved, against what they do save where they are in force.
#include "watch/shadow_tally.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace petrel {
namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;
constexpr std::uint64_t kTick = kSecond / 10;

bpf::event answer(std::uint32_t backend_id, std::uint64_t syn_ns) {
  bpf::event event{};
  event.type = bpf::EVENT_ANSWER;
  event.backend_id = backend_id;
  event.syn_ns = syn_ns;
  event.request = 1;
  event.attempt = 1;
  return event;
}

bpf::event retry(std::uint32_t backend_id, std::uint64_t syn_ns,
                 std::uint8_t type = bpf::EVENT_RETRY) {
  bpf::event event{};
  event.type = type;
  event.previous_backend_id = backend_id;
  event.previous_syn_ns = syn_ns;
  event.previous_request = 1;
  event.attempt = 2;
  return event;
}

// Weights of backends 1 to 4 as parts of equal shares.
std::vector<ShareRatio> ratios_of(const std::vector<double>& factors) {
  double sum = 0;
  for (const double factor : factors) sum += factor;
  std::vector<ShareRatio> out;
  for (std::uint32_t i = 0; i < factors.size(); ++i) {
    out.push_back({i + 1, factors[i] * static_cast<double>(factors.size()) / sum});
  }
  return out;
}

// Backends 1 to 4, 100 flows a second; such a part of those at backend 1 is retried.
class World {
 public:
  World(std::uint64_t seed, double bad, std::vector<double> factors)
      : random_(seed), bad_(bad), factors_(std::move(factors)) {}

  // Placed by `weights`; returns how many were retried.
  int run(ShadowTally& tally, const std::vector<double>& weights, int seconds) {
    std::discrete_distribution<std::uint32_t> pick(weights.begin(), weights.end());
    std::bernoulli_distribution fails(bad_);
    int retried = 0;
    for (int tick = 0; tick < 10 * seconds; ++tick) {
      now_ns_ += kTick;
      tally.on_tick(ratios_of(factors_), now_ns_);
      for (int i = 0; i < 10; ++i) {
        const std::uint32_t backend = pick(random_) + 1;
        tally.on_event(answer(backend, now_ns_));
        if (backend != 1 || !fails(random_)) continue;
        tally.on_event(retry(backend, now_ns_));
        ++retried;
      }
    }
    return retried;
  }
  std::uint64_t now_ns() const { return now_ns_; }

 private:
  std::mt19937_64 random_;
  double bad_;
  std::vector<double> factors_;
  std::uint64_t now_ns_ = 1000 * kSecond;
};

TEST(ShadowTallyTest, WhatIsSaidToBeSavedIsWhatTheSameWeightsSaveInForce) {
  const std::vector<double> even(4, 1), moved = {0.1, 1, 1, 1};
  World shadow(1, 0.5, moved), acting(2, 0.5, moved);
  ShadowTally tally, unused;
  const int retried = shadow.run(tally, even, 200);
  const int in_force = acting.run(unused, moved, 200);
  const ShadowFigures it = tally.figures(0, shadow.now_ns());
  EXPECT_EQ(it.flows, 20000u);
  EXPECT_EQ(it.retried, static_cast<std::uint64_t>(retried));
  EXPECT_NEAR(it.saved.value, retried - in_force, 0.1 * retried);
  ASSERT_TRUE(it.saved.has_interval());
  EXPECT_LT(it.saved.low, it.saved.value);
  EXPECT_GT(it.saved.high, it.saved.value);
  EXPECT_GT(it.saved.low, 0);
  // Of b1's quarter all but 0.1 / 3.1.
  EXPECT_NEAR(it.moved_flows, 20000 * (0.25 - 0.1 / 3.1), 500);
  EXPECT_NEAR(it.retried_left, it.saved.value, 1);
  EXPECT_NEAR(it.covers_s, 200, 1);
}

TEST(ShadowTallyTest, WeightsThatWouldDoHarmSaveLessThanNothing) {
  World world(3, 0.5, {1, 0.1, 0.1, 0.1});
  ShadowTally tally;
  world.run(tally, {1, 1, 1, 1}, 100);
  const ShadowFigures it = tally.figures(0, world.now_ns());
  EXPECT_LT(it.saved.high, 0);
  EXPECT_EQ(it.retried_left, 0);
  EXPECT_GT(it.moved_flows, 0);
}

TEST(ShadowTallyTest, WithoutAnyChangeNothingIsSaved) {
  World world(4, 0.5, {1, 1, 1, 1});
  ShadowTally tally;
  world.run(tally, {1, 1, 1, 1}, 100);
  const ShadowFigures it = tally.figures(0, world.now_ns());
  EXPECT_EQ(it.moved_flows, 0);
  EXPECT_EQ(it.saved.value, 0);
  EXPECT_GT(it.retried, 0u);
}

// An interval that holds the truth about as often as it says.
TEST(ShadowTallyTest, ItsIntervalHoldsTheTruth) {
  const std::vector<double> moved = {0.1, 1, 1, 1};
  int held = 0;
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    World world(100 + seed, 0.5, moved);
    ShadowTally tally;
    world.run(tally, {1, 1, 1, 1}, 120);
    const double truth = 12000 * 0.5 * (0.25 - 0.1 / 3.1);
    const ShadowFigures it = tally.figures(0, world.now_ns());
    if (it.saved.low <= truth && truth <= it.saved.high) ++held;
  }
  EXPECT_GE(held, 33);
}

TEST(ShadowTallyTest, AFlowCountsByTheWeightsAtItsPlacement) {
  ShadowTally tally;
  tally.on_tick(ratios_of({1, 1, 1, 1}), 100 * kSecond);
  tally.on_tick(ratios_of({0, 1, 1, 1}), 110 * kSecond);
  tally.on_event(retry(1, 109 * kSecond));  // before: it would have gone there
  EXPECT_EQ(tally.figures(0, 110 * kSecond).saved.value, 0);
  tally.on_event(retry(1, 110 * kSecond));
  EXPECT_EQ(tally.figures(0, 110 * kSecond).saved.value, 1);
  tally.on_event(retry(1, 110 * kSecond, bpf::EVENT_NO_RETRY));
  const ShadowFigures it = tally.figures(0, 110 * kSecond);
  EXPECT_EQ(it.saved.value, 0);
  EXPECT_EQ(it.retried, 1u);
}

TEST(ShadowTallyTest, OnlyFirstAttemptsCount) {
  ShadowTally tally;
  tally.on_tick(ratios_of({0, 1, 1, 1}), 100 * kSecond);
  bpf::event second = answer(1, 100 * kSecond);
  second.attempt = 2;
  tally.on_event(second);
  bpf::event later = answer(1, 100 * kSecond);
  later.request = 2;
  tally.on_event(later);
  bpf::event third = retry(1, 100 * kSecond);
  third.attempt = 3;
  tally.on_event(third);
  const ShadowFigures it = tally.figures(0, 101 * kSecond);
  EXPECT_EQ(it.flows, 0u);
  EXPECT_EQ(it.retried, 0u);
}

TEST(ShadowTallyTest, WhatIsAskedOfIsARecentTimeAndADayIsKept) {
  ShadowTally tally;
  const auto ratios = ratios_of({0, 1, 1, 1});
  constexpr std::uint64_t kHour = 3600 * kSecond;
  for (std::uint64_t minute = 1; minute <= 26 * 60; ++minute) {
    const std::uint64_t now_ns = kHour + minute * 60 * kSecond;
    tally.on_tick(ratios, now_ns);
    tally.on_event(answer(1, now_ns));
  }
  const std::uint64_t now_ns = kHour + 26 * kHour;
  EXPECT_NEAR(static_cast<double>(tally.figures(0, now_ns).flows), 24 * 60, 6);
  EXPECT_NEAR(static_cast<double>(tally.figures(now_ns - 2 * kHour, now_ns).flows), 120, 6);
  EXPECT_NEAR(static_cast<double>(tally.figures(now_ns - 300 * kSecond, now_ns).flows), 6, 1);
}

}  // namespace
}  // namespace petrel
