// SPDX-License-Identifier: MIT
// How many retries a second a service's budget lets through.
//
// A part of its first attempts of the last 10 s, and a least number: the retry budget of SRE practice
// (Beyer et al., Site Reliability Engineering, ch. 21), which bounds by how much retries multiply a
// load that the service cannot carry. Where nothing waits for long that is not so, and a retry that
// would be answered is refused for nothing; so the budget opens to a larger part while no request is
// overdue at backends of half the weight, and as long as retries are answered. It opens over a
// second, and closes at once when requests are overdue: a storm is not to be fed. What can be saved up
// is less while a wave of retries is foreseen.
// Pure: time comes in as a number.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>

namespace petrel {

struct RetryAllowanceSettings {
  double ratio = 0.2;      // of first attempts
  double min_per_s = 10;   // whatever the first attempts
  double idle_ratio = 1;   // of first attempts, with the budget open; below `ratio` it never opens
};

class RetryAllowance {
 public:
  void set(const RetryAllowanceSettings& settings) { settings_ = settings; }

  // How a retry that was let through went.
  void on_retry(bool answered);

  // `first_attempts`: made ever. `saturated`: as struct AdmissionDecision has it. `due`: retries that
  // are to come within the next second (RetryForecast).
  void tick(std::uint64_t first_attempts, bool saturated, std::chrono::nanoseconds elapsed,
            double due = 0);

  double rate_per_s() const;
  // How many may be let through at once, where `burst_s` of the rate can be saved up. While more are
  // to come than a second admits that is less, down to a tenth: clients that wait in back-off for the
  // same time come at the same time, and what was saved up for them would let them all in together.
  double burst(double burst_s) const;
  // First attempts a second over the last 10 s; over what there was so far until then. A window and no
  // running mean: what retries crowd out today still counts, and one quiet second is no quiet service.
  double first_attempts_per_s() const;
  double open() const { return open_; }  // 0: the least budget, 1: the most

 private:
  struct Attempts {
    std::chrono::nanoseconds elapsed;
    std::uint64_t first;
  };
  void count(std::uint64_t first_attempts, std::chrono::nanoseconds elapsed);
  bool are_useful() const;

  RetryAllowanceSettings settings_;
  std::deque<Attempts> attempts_;  // newest last
  std::chrono::nanoseconds attempts_elapsed_{0};
  std::uint64_t attempts_in_window_ = 0;
  std::uint64_t first_counted_ = 0;
  bool counted_ = false;
  // Decayed counts of retries.
  double answered_ = 0;
  double failed_ = 0;
  double open_ = 1;
  double due_ = 0;
};

}  // namespace petrel
