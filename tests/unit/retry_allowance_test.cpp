// SPDX-License-Identifier: MIT
#include "control/retry_allowance.hpp"

#include <gtest/gtest.h>

namespace petrel {
namespace {

using namespace std::chrono_literals;

// A service with so many first attempts a second; of its retries a part is answered.
struct Service {
  RetryAllowance allowance = {};
  double first_per_s = 1000;
  double retries_per_s = 0;
  double answered = 1;
  bool saturated = false;
  double first = 0;
  double good = 0, bad = 0;

  void run(std::chrono::milliseconds time) {
    for (auto passed = 0ms; passed < time; passed += 100ms) {
      first += first_per_s / 10;
      good += retries_per_s / 10 * answered;
      bad += retries_per_s / 10 * (1 - answered);
      for (; good >= 1; --good) allowance.on_retry(true);
      for (; bad >= 1; --bad) allowance.on_retry(false);
      allowance.tick(static_cast<std::uint64_t>(first), saturated, 100ms);
    }
  }
  double ratio() const { return allowance.rate_per_s() / first_per_s; }
};

TEST(RetryAllowance, IsAPartOfTheFirstAttemptsOfTenSecondsWhereRequestsWait) {
  Service service{.saturated = true};
  service.run(20s);
  EXPECT_NEAR(service.ratio(), 0.2, 0.001);
  service.first_per_s = 0;
  service.run(5s);
  EXPECT_NEAR(service.allowance.rate_per_s(), 100, 5);  // half of the window was busy
  service.run(6s);
  EXPECT_EQ(service.allowance.rate_per_s(), 10);  // the least, whatever the first attempts
}

TEST(RetryAllowance, IsAsManyAsFirstAttemptsWhileNothingWaitsAndRetriesHelp) {
  Service service{.retries_per_s = 500, .answered = 0.5};
  service.run(20s);
  EXPECT_NEAR(service.ratio(), 1, 0.01);
}

TEST(RetryAllowance, SavesUpLessWhileAWaveIsForeseen) {
  Service service;
  service.run(15s);
  RetryAllowance& allowance = service.allowance;
  EXPECT_NEAR(allowance.burst(1), 1000, 10);
  const auto foresee = [&](double due) {
    allowance.tick(static_cast<std::uint64_t>(service.first += 100), false, 100ms, due);
  };
  foresee(500);  // less than a second admits
  EXPECT_NEAR(allowance.burst(1), 1000, 10);
  foresee(4000);
  EXPECT_NEAR(allowance.burst(1), 250, 10);
  EXPECT_NEAR(allowance.rate_per_s(), 1000, 10);  // they come in, but not all at once
  foresee(1e6);
  EXPECT_NEAR(allowance.burst(1), 100, 10);
  EXPECT_NEAR(allowance.burst(0.5), 50, 5);
  foresee(0);
  EXPECT_NEAR(allowance.burst(1), 1000, 10);
}

TEST(RetryAllowance, ClosesAtOnceWhenRequestsAreOverdueAndOpensOverASecond) {
  Service service;
  service.run(15s);
  EXPECT_NEAR(service.ratio(), 1, 0.01);
  service.saturated = true;
  service.run(100ms);
  EXPECT_NEAR(service.ratio(), 0.2, 0.01);
  service.saturated = false;
  service.run(500ms);
  EXPECT_NEAR(service.ratio(), 0.6, 0.05);
  service.run(600ms);
  EXPECT_NEAR(service.ratio(), 1, 0.01);
}

TEST(RetryAllowance, ClosesWhereRetriesDoNotHelp) {
  Service service{.retries_per_s = 500, .answered = 0.05};
  service.run(15s);
  EXPECT_NEAR(service.ratio(), 0.2, 0.01);
  service.answered = 0.9;  // their cause is over
  service.run(6s);
  EXPECT_NEAR(service.ratio(), 1, 0.01);
}

TEST(RetryAllowance, AFewRetriesProveNothing) {
  Service service{.retries_per_s = 2, .answered = 0};
  service.run(15s);
  EXPECT_NEAR(service.ratio(), 1, 0.01);
}

TEST(RetryAllowance, DoesNotOpenWhereItMayNot) {
  Service service;
  service.allowance.set({.ratio = 0.3, .min_per_s = 0, .idle_ratio = 0});
  service.run(15s);
  EXPECT_NEAR(service.ratio(), 0.3, 0.01);
}

TEST(RetryAllowance, ACounterThatBeginsAnewIsNoFlood) {
  Service service;
  service.run(12s);
  service.first = 0;
  service.run(100ms);
  EXPECT_NEAR(service.allowance.first_attempts_per_s(), 990, 15);
}

}  // namespace
}  // namespace petrel
