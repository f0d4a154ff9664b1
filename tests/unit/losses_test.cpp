// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include "agent/losses.hpp"

namespace petrel {
namespace {

constexpr std::uint64_t kTickNs = 100'000'000;

struct Ticks {
  Losses losses;
  Clocks clocks{1'000'000'000'000, 1'790'000'000'000'000'000, 1'000'000'000'000};
  std::uint64_t events_lost = 500;  // by an earlier agent

  Ticks() { losses.on_tick(clocks, events_lost, 0); }
  void tick(int read, std::uint64_t lost, std::int64_t step_ns = 0, std::uint64_t slept_ns = 0) {
    for (int i = 0; i < read; ++i) losses.on_event(clocks.monotonic_ns);
    clocks.monotonic_ns += kTickNs;
    clocks.boottime_ns += kTickNs + slept_ns;
    clocks.realtime_ns += kTickNs + slept_ns + static_cast<std::uint64_t>(step_ns);
    events_lost += lost;
    losses.on_tick(clocks, events_lost, 3);
  }
};

TEST(Losses, ShareIsOfWhatWasLostAmongAllThatHappened) {
  Ticks ticks;
  for (int i = 0; i < 100; ++i) ticks.tick(30, 10);
  EXPECT_NEAR(ticks.losses.lost_share(), 0.25, 1e-9);
  EXPECT_EQ(ticks.losses.events_lost(), 1000u);
  EXPECT_EQ(ticks.losses.records_lost(), 3u);
}

TEST(Losses, WhatAnEarlierAgentLostIsNotCounted) {
  Ticks ticks;
  ticks.tick(10, 0);
  EXPECT_EQ(ticks.losses.events_lost(), 0u);
  EXPECT_EQ(ticks.losses.lost_share(), 0);
}

TEST(Losses, ShareForgetsAnOldLoss) {
  Ticks ticks;
  ticks.tick(0, 100);
  EXPECT_EQ(ticks.losses.lost_share(), 1);
  for (int i = 0; i < 1000; ++i) ticks.tick(10, 0);
  EXPECT_LT(ticks.losses.lost_share(), 0.001);
  EXPECT_EQ(ticks.losses.events_lost(), 100u);
}

TEST(Losses, EventsOfTwoCpusMayPassEachOtherByALittle) {
  Losses losses;
  losses.on_event(10'000'000);
  losses.on_event(9'500'000);
  EXPECT_EQ(losses.out_of_order(), 0u);
  losses.on_event(8'000'000);
  losses.on_event(10'000'001);
  EXPECT_EQ(losses.out_of_order(), 1u);
  EXPECT_EQ(losses.worst_disorder_ns(), 2'000'000u);
}

TEST(Losses, AStepOfTheClockIsToldFromASuspendAndFromSlewing) {
  Ticks ticks;
  ticks.tick(1, 0, 50'000);
  EXPECT_EQ(ticks.losses.clock_steps(), 0u);
  ticks.tick(1, 0, 3'000'000'000);
  ticks.tick(1, 0, -3'000'000'000);
  EXPECT_EQ(ticks.losses.clock_steps(), 2u);
  EXPECT_EQ(ticks.losses.suspends(), 0u);
  ticks.tick(1, 0, 0, 60'000'000'000);
  EXPECT_EQ(ticks.losses.clock_steps(), 2u);
  EXPECT_EQ(ticks.losses.suspends(), 1u);
}

TEST(Losses, ClocksAreRead) {
  const Clocks clocks = read_clocks();
  EXPECT_GT(clocks.monotonic_ns, 0u);
  EXPECT_GE(clocks.boottime_ns, clocks.monotonic_ns);
  EXPECT_GT(clocks.realtime_ns, 1'700'000'000'000'000'000u);
}

}  // namespace
}  // namespace petrel
