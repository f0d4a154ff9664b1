// SPDX-License-Identifier: MIT
#include "control/hedge_law.hpp"

#include <gtest/gtest.h>

namespace petrel {
namespace {

using namespace std::chrono_literals;

TEST(HedgeLaw, WaitsFourTimesTheUsualConnectTimeAndTwentyMilliseconds) {
  const HedgeLaw law;
  EXPECT_EQ(law.wait_ns(1'000'000), 20'000'000U);
  EXPECT_EQ(law.wait_ns(30'000'000), 120'000'000U);
  EXPECT_EQ(law.wait_ns(0), 0U);  // not known
}

int spent(HedgeLaw& law) {
  int count = 0;
  while (law.spend()) ++count;
  return count;
}

TEST(HedgeLaw, AllowsATwentiethOfSyns) {
  HedgeLaw law;
  law.tick(0, 100ms);
  int hedged = 0;
  std::uint64_t syns = 0;
  for (int i = 0; i < 600; ++i) {
    law.tick(syns += 100, 100ms);
    hedged += spent(law);
  }
  EXPECT_NEAR(hedged, 0.05 * 60'000, 2);
}

TEST(HedgeLaw, SavesUpTenSecondsAndNoMore) {
  HedgeLaw law;
  std::uint64_t syns = 0;
  for (int i = 0; i < 6000; ++i) law.tick(syns += 100, 100ms);
  EXPECT_NEAR(spent(law), 0.05 * 10'000, 5);
  for (int i = 0; i < 6000; ++i) law.tick(syns, 100ms);  // ten quiet minutes
  EXPECT_LE(spent(law), 1);
}

TEST(HedgeLaw, ACounterThatBeginsAnewEarnsNothing) {
  HedgeLaw law;
  law.tick(1000, 100ms);
  law.tick(0, 100ms);
  EXPECT_EQ(spent(law), 0);
}

}  // namespace
}  // namespace petrel
