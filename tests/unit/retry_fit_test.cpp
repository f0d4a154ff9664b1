// SPDX-License-Identifier: MIT
// What counts of retries become: the rates by which the balancer labels them.
#include "label/retry_fit.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>

namespace petrel {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kWhole = 256;
constexpr double kTicksPerMs = 976.5625;

std::uint32_t bucket_of_ms(double ms) {
  return bpf::retry_bucket(static_cast<std::uint32_t>(ms * kTicksPerMs));
}

// Of a first attempt, in requests a second.
double hazard_per_s(const bpf::retry_odds& odds, std::uint32_t cause, double ms,
                    std::uint32_t attempt = 0) {
  return odds.retry_hazard[bpf::hazard_index(cause, attempt, bucket_of_ms(ms))] / 1000.0;
}

std::uint64_t at(std::chrono::nanoseconds time) { return static_cast<std::uint64_t>(time.count()); }

TEST(RetryBuckets, CoverAllDelaysInOrder) {
  EXPECT_EQ(bpf::retry_bucket(0), 0U);
  EXPECT_EQ(bpf::retry_bucket(31), 0U);
  EXPECT_EQ(bpf::retry_bucket(32), 1U);
  EXPECT_EQ(bpf::retry_bucket(~0U), RETRY_BUCKETS - 1);
  for (std::uint32_t bucket = 0; bucket < RETRY_BUCKETS; ++bucket) {
    const auto begin = static_cast<std::uint32_t>(bucket_begin_ticks(bucket));
    const auto end = begin + static_cast<std::uint32_t>(bucket_width_ticks(bucket));
    EXPECT_EQ(bpf::retry_bucket(begin), bucket);
    EXPECT_EQ(bpf::retry_bucket(end - 1), bucket);
    EXPECT_EQ(bpf::retry_bucket(end), std::min<std::uint32_t>(bucket + 1, RETRY_BUCKETS - 1));
  }
}

TEST(RetryFit, OfAServiceThatNothingIsKnownOfTakesASoonConnectionForARetry) {
  const bpf::retry_odds odds = fit_retry_odds({});
  const double others = 1.0 / (odds.usual_gap / kTicksPerMs / 1000);
  EXPECT_GT(hazard_per_s(odds, bpf::CAUSE_REFUSED, 100), others);
  EXPECT_GT(hazard_per_s(odds, bpf::CAUSE_REQUEST, 500), others);
  EXPECT_LT(hazard_per_s(odds, bpf::CAUSE_REQUEST, 4900), others);
  // Nobody has given a SYN up by then.
  EXPECT_LT(hazard_per_s(odds, bpf::CAUSE_HANDSHAKE, 50), others);
  EXPECT_GT(hazard_per_s(odds, bpf::CAUSE_HANDSHAKE, 1000), others);
}

TEST(RetryFit, LearnsWhenClientsTryAgain) {
  bpf::retry_counts counts{};
  counts.failed[bpf::CAUSE_REQUEST][0] = 100 * kWhole;
  counts.retried[bpf::CAUSE_REQUEST][0] = 90 * kWhole;
  counts.delays[bpf::CAUSE_REQUEST][bucket_of_ms(250)] = 90 * kWhole;
  RetryFit fit;
  fit.update(counts, at(1s));
  const bpf::retry_odds odds = fit.update(counts, at(7s));
  // 60 % of 0.9 in a bucket of 33 ms or so, of what is left by then.
  EXPECT_GT(hazard_per_s(odds, bpf::CAUSE_REQUEST, 250), 10);
  EXPECT_LT(hazard_per_s(odds, bpf::CAUSE_REQUEST, 100), 0.5);
  EXPECT_LT(hazard_per_s(odds, bpf::CAUSE_REQUEST, 1000), 0.2);
  // Who waits 250 ms after an answer waits so after a refusal, as far as is known; but a SYN's delay is
  // its timeout's as well.
  EXPECT_GT(hazard_per_s(odds, bpf::CAUSE_REFUSED, 250), 3 * hazard_per_s(odds, bpf::CAUSE_REFUSED, 100));
  EXPECT_LT(hazard_per_s(odds, bpf::CAUSE_HANDSHAKE, 250), 1);
}

TEST(RetryFit, LearnsAfterWhichAttemptClientsGiveUp) {
  bpf::retry_counts counts{};
  for (const std::uint32_t attempt : {0U, 1U, 2U}) {
    counts.failed[bpf::CAUSE_REQUEST][attempt] = 200 * kWhole;
    counts.retried[bpf::CAUSE_REQUEST][attempt] = attempt < 2 ? 190 * kWhole : 0;
  }
  counts.delays[bpf::CAUSE_REQUEST][bucket_of_ms(100)] = 380 * kWhole;
  RetryFit fit;
  fit.update(counts, at(1s));
  const bpf::retry_odds odds = fit.update(counts, at(7s));
  EXPECT_GT(hazard_per_s(odds, bpf::CAUSE_REQUEST, 100, 1),
            10 * hazard_per_s(odds, bpf::CAUSE_REQUEST, 100, 2));
}

// Of failures whose retry may yet come nobody knows that they were given up.
TEST(RetryFit, DoesNotTakeYoungFailuresForGivenUpOnes) {
  bpf::retry_counts counts{};
  RetryFit fit;
  counts.failed[bpf::CAUSE_REFUSED][0] = 1000 * kWhole;
  const bpf::retry_odds young = fit.update(counts, at(1s));
  EXPECT_EQ(hazard_per_s(young, bpf::CAUSE_REFUSED, 100),
            hazard_per_s(fit_retry_odds({}), bpf::CAUSE_REFUSED, 100));
  const bpf::retry_odds old = fit.update(counts, at(7s));
  EXPECT_LT(hazard_per_s(old, bpf::CAUSE_REFUSED, 100),
            hazard_per_s(young, bpf::CAUSE_REFUSED, 100) / 10);
}

TEST(RetryFit, FollowsClientsThatChangeTheirWays) {
  bpf::retry_counts counts{};
  RetryFit fit;
  bpf::retry_odds odds{};
  for (int second = 0; second < 60; ++second) {
    const double ms = second < 30 ? 50 : 800;
    counts.failed[bpf::CAUSE_REQUEST][0] += 300 * kWhole;
    counts.retried[bpf::CAUSE_REQUEST][0] += 290 * kWhole;
    counts.delays[bpf::CAUSE_REQUEST][bucket_of_ms(ms)] += 290 * kWhole;
    odds = fit.update(counts, at(std::chrono::seconds(second)));
  }
  EXPECT_GT(hazard_per_s(odds, bpf::CAUSE_REQUEST, 800),
            hazard_per_s(odds, bpf::CAUSE_REQUEST, 50) / 2);
}

TEST(RetryFit, KnowsTheGapsBetweenPagesFromThoseWithinOne) {
  bpf::retry_counts counts{};
  counts.gaps[bucket_of_ms(0.1)] = 4000;
  counts.gaps[bucket_of_ms(3000)] = 2000;
  const bpf::retry_odds odds = RetryFit().update(counts, at(1s));
  EXPECT_NEAR(odds.usual_gap / kTicksPerMs, 3000, 500);
  EXPECT_GT(odds.burst_hazard[bucket_of_ms(0.1)], 1'000'000U);  // 1,000 a second
  EXPECT_LT(odds.burst_hazard[bucket_of_ms(5)], 1000U);
  EXPECT_EQ(odds.burst_hazard[bucket_of_ms(100)], 0U);
}

TEST(RetryFit, KnowsHowMuchASameRequestTells) {
  bpf::retry_counts counts{};
  counts.compared_requests = 10000;
  counts.same_requests = 500;
  EXPECT_NEAR(RetryFit().update(counts, at(1s)).same_factor / 16.0, 20, 1);
  counts.same_requests = 10000;  // all ask for the same
  EXPECT_NEAR(RetryFit().update(counts, at(1s)).same_factor / 16.0, 1, 0.1);
}

TEST(RetryFit, KnowsHowOftenAHostThatHasFailedAsksForMore) {
  // 100 failures, each watched for its 5 s, in which its host asks for two other things.
  bpf::retry_counts counts{};
  counts.failed[bpf::CAUSE_REFUSED][0] = 100 * kWhole;
  counts.others = 200 * kWhole;
  RetryFit fit;
  fit.update(counts, at(1s));
  for (auto now = 1200ms; now < 7s; now += 200ms) fit.update(counts, at(now));
  const double gap_ms = fit.update(counts, at(7s)).host_gap / kTicksPerMs;
  EXPECT_NEAR(gap_ms, 2500, 100);
  EXPECT_NEAR(fit.update(counts, at(60s)).host_gap / kTicksPerMs, gap_ms, 1);  // all is over
}

TEST(RetryFit, BeginsAgainWithANewMap) {
  bpf::retry_counts counts{};
  counts.compared_requests = 1000;
  counts.delays[bpf::CAUSE_REQUEST][bucket_of_ms(100)] = 1000 * kWhole;
  RetryFit fit;
  fit.update(counts, at(1s));
  const double learned = fit.sums().delays[bpf::CAUSE_REQUEST][bucket_of_ms(100)];
  fit.update({}, at(2s));
  EXPECT_EQ(fit.sums().delays[bpf::CAUSE_REQUEST][bucket_of_ms(100)], learned);
  bpf::retry_counts few{};
  few.delays[bpf::CAUSE_REQUEST][bucket_of_ms(100)] = kWhole;
  fit.update(few, at(3s));
  EXPECT_EQ(fit.sums().delays[bpf::CAUSE_REQUEST][bucket_of_ms(100)], learned + 1);
}

}  // namespace
}  // namespace petrel
