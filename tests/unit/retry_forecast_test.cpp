// SPDX-License-Identifier: MIT
#include "label/retry_forecast.hpp"

#include <gtest/gtest.h>

#include "bpf/odds.h"

namespace petrel {
namespace {

using namespace std::chrono_literals;

// A service whose clients repeat that part of what is refused after so long.
RetrySums habits(double share, double delay_s) {
  RetrySums sums;
  constexpr double kMany = 10000;
  const auto ticks = static_cast<std::uint32_t>(delay_s * 976562.5);
  sums.delays[bpf::CAUSE_REFUSED][bpf::retry_bucket(ticks)] = kMany * share;
  sums.retried[bpf::CAUSE_REFUSED][0] = kMany * share;
  sums.failed[bpf::CAUSE_REFUSED][0] = kMany;
  return sums;
}

RetryForecast::Failures refused(std::uint64_t count) {
  RetryForecast::Failures failures{};
  failures[bpf::CAUSE_REFUSED] = count;
  return failures;
}

TEST(RetryForecast, ForeseesTheWaveOfThoseWhoWaitInBackOff) {
  RetryForecast forecast;
  forecast.learn(habits(0.8, 2));
  EXPECT_EQ(forecast.due(1s), 0);
  forecast.tick(100ms, refused(1000));
  EXPECT_LT(forecast.due(1s), 20);       // they wait still
  EXPECT_NEAR(forecast.due(4s), 800, 20);  // of 1,000 a fifth does not come again
  for (int i = 0; i < 12; ++i) forecast.tick(100ms, refused(0));
  EXPECT_GT(forecast.due(1s), 500);
  for (int i = 0; i < 30; ++i) forecast.tick(100ms, refused(0));
  EXPECT_LT(forecast.due(4s), 20);       // they have come
}

TEST(RetryForecast, EachFailureCountsOnceWhateverTheTicks) {
  RetryForecast coarse, fine;
  for (RetryForecast* it : {&coarse, &fine}) it->learn(habits(0.5, 1));
  coarse.tick(1s, refused(100));
  for (int i = 0; i < 10; ++i) fine.tick(100ms, refused(10));
  EXPECT_NEAR(coarse.due(8s), 50, 2);
  EXPECT_NEAR(fine.due(8s), 50, 5);  // some of the first have come by now
}

TEST(RetryForecast, OfAServiceThatNothingIsKnownOfHalfIsExpected) {
  RetryForecast forecast;
  forecast.tick(100ms, refused(100));
  EXPECT_NEAR(forecast.due(8s), 50, 1);
}

TEST(RetryForecast, CausesAreToldApart) {
  RetryForecast forecast;
  forecast.learn(habits(1, 0.2));
  RetryForecast::Failures requests{};
  requests[bpf::CAUSE_REQUEST] = 100;
  forecast.tick(100ms, requests);
  EXPECT_NEAR(forecast.due(8s), 50, 1);
  forecast.tick(100ms, refused(100));
  EXPECT_NEAR(forecast.due(8s), 150, 2);
}

}  // namespace
}  // namespace petrel
