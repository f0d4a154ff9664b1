// SPDX-License-Identifier: MIT
// RetryFit: from what a service's requests have taught of retries to the rates by which the balancer
// labels them.
//
// The balancer counts each request under every failure that it may answer, by how likely it does
// (an expectation step), and this turns the counts into rates (a maximisation step): an online EM
// (Cappé and Moulines, 2009) for a mixture of retries and of all other requests. Of each cause and
// attempt number: the share of failures that are repeated, and the hazard of their delay, from a
// histogram of quarter octaves with a prior that is worth a handful of retries. Old counts fade, so
// that clients with another retry policy are learned within some thousand failures.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <deque>

#include "bpf/odds.h"
#include "bpf/types.h"

namespace petrel {

// The part of bpf::retry_counts that is fitted; fractions are whole requests here.
struct RetrySums {
  std::array<std::array<double, RETRY_BUCKETS>, bpf::RETRY_CAUSES> delays{};
  std::array<std::array<double, RETRY_ATTEMPTS>, bpf::RETRY_CAUSES> retried{};
  // Those alone whose retry would have come by now: of younger ones nothing is known.
  std::array<std::array<double, RETRY_ATTEMPTS>, bpf::RETRY_CAUSES> failed{};
  std::array<double, RETRY_BUCKETS> gaps{};
  double others = 0;      // requests that were no retries, of hosts that had failed within the window
  double watched_ms = 0;  // how long those hosts were watched: each failure for its window
  double same_requests = 0;
  double compared_requests = 0;
};

// Rates for these sums; of none: what is to be expected of a service that nothing is known of.
bpf::retry_odds fit_retry_odds(const RetrySums& sums);

// Lower end of a bucket, and its width, in ticks of 1.024 us.
double bucket_begin_ticks(std::uint32_t bucket);
double bucket_width_ticks(std::uint32_t bucket);

class RetryFit {
 public:
  explicit RetryFit(std::chrono::nanoseconds retry_window = std::chrono::seconds(5))
      : retry_window_(retry_window) {}

  // `total` is what the map holds now, summed over the CPUs: it only grows, but where the map is new.
  bpf::retry_odds update(const bpf::retry_counts& total, std::uint64_t now_ns);

  const RetrySums& sums() const { return sums_; }

 private:
  void watch(const bpf::retry_counts& total, std::uint64_t now_ns);

  struct Young {
    std::uint64_t time_ns;
    std::uint64_t failed[bpf::RETRY_CAUSES][RETRY_ATTEMPTS];
  };

  std::chrono::nanoseconds retry_window_;
  bpf::retry_counts last_{};
  std::uint64_t watched_at_ns_ = 0;  // 0: never
  std::deque<Young> young_;  // failures that may yet be repeated, as counted then
  RetrySums sums_;
};

}  // namespace petrel
