// SPDX-License-Identifier: MIT
// RetryForecast: how many retries are still to come of what has failed.
//
// A client that waits in back-off is seen by nobody; but how many of the failures are repeated, and
// after what time, was learned of those before (RetryFit). So each failure stands for the part of a
// retry that is to be expected of it between its age now and its age then.
// Pure: time comes in as a number.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <deque>

#include "label/retry_fit.hpp"

namespace petrel {

class RetryForecast {
 public:
  using Failures = std::array<std::uint64_t, bpf::RETRY_CAUSES>;

  RetryForecast() { learn({}); }

  // Without any, what is to be expected of a service that nothing is known of.
  void learn(const RetrySums& sums);

  // Failures since the last tick, by enum retry_cause.
  void tick(std::chrono::nanoseconds elapsed, const Failures& failures);

  // Retries to be expected from now to so much later.
  double due(std::chrono::nanoseconds ahead) const;

 private:
  struct Group {
    std::chrono::nanoseconds time;  // as of elapsed_
    Failures failures;
  };
  // Part of a cause's failures that are repeated within that time.
  double repeated(std::size_t cause, std::chrono::nanoseconds age) const;

  std::chrono::nanoseconds elapsed_{0};
  std::deque<Group> groups_;  // newest last
  // Part of a cause's failures that are repeated before the bucket's begin; one more for the end.
  std::array<std::array<double, RETRY_BUCKETS + 1>, bpf::RETRY_CAUSES> before_{};
};

}  // namespace petrel
