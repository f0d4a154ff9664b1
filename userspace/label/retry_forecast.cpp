// SPDX-License-Identifier: MIT
#include "label/retry_forecast.hpp"

#include <algorithm>
#include <limits>
#include <numeric>

#include "bpf/odds.h"

namespace petrel {
namespace {

constexpr std::chrono::seconds kWindow{8};  // hardly anybody waits for longer
constexpr double kTicksPerS = 976562.5;
// What is taken of a service that nothing is known of, worth so many requests.
constexpr double kRetriedPrior = 4, kNotRetriedPrior = 4;
constexpr double kDelayPrior = 4;
constexpr double kUsualDelayS = 0.5;

double ticks(std::chrono::nanoseconds time) {
  return std::chrono::duration<double>(time).count() * kTicksPerS;
}

}  // namespace

void RetryForecast::learn(const RetrySums& sums) {
  for (std::size_t cause = 0; cause < bpf::RETRY_CAUSES; ++cause) {
    std::array<double, RETRY_BUCKETS> delays = sums.delays[cause];
    delays[bpf::retry_bucket(static_cast<std::uint32_t>(kUsualDelayS * kTicksPerS))] += kDelayPrior;
    const auto sum_of = [](const auto& counts) {
      return std::accumulate(counts.begin(), counts.end(), 0.0);
    };
    const double retried = sum_of(sums.retried[cause]);
    const double failed = std::max(sum_of(sums.failed[cause]), retried);
    const double share = (retried + kRetriedPrior) / (failed + kRetriedPrior + kNotRetriedPrior);
    const double sum = sum_of(delays);
    before_[cause][0] = 0;
    for (std::size_t i = 0; i < RETRY_BUCKETS; ++i) {
      before_[cause][i + 1] = before_[cause][i] + share * delays[i] / sum;
    }
  }
}

void RetryForecast::tick(std::chrono::nanoseconds elapsed, const Failures& failures) {
  elapsed_ += elapsed;
  if (std::ranges::any_of(failures, [](std::uint64_t count) { return count > 0; })) {
    groups_.push_back({elapsed_, failures});
  }
  while (!groups_.empty() && elapsed_ - groups_.front().time > kWindow) groups_.pop_front();
}

double RetryForecast::repeated(std::size_t cause, std::chrono::nanoseconds age) const {
  const double at = std::min(ticks(age), double{std::numeric_limits<std::uint32_t>::max()});
  const std::uint32_t bucket = bpf::retry_bucket(static_cast<std::uint32_t>(at));
  const double part =
      std::clamp((at - bucket_begin_ticks(bucket)) / bucket_width_ticks(bucket), 0.0, 1.0);
  const auto& before = before_[cause];
  return before[bucket] + part * (before[bucket + 1] - before[bucket]);
}

double RetryForecast::due(std::chrono::nanoseconds ahead) const {
  double due = 0;
  for (const Group& group : groups_) {
    const std::chrono::nanoseconds age = elapsed_ - group.time;
    for (std::size_t cause = 0; cause < bpf::RETRY_CAUSES; ++cause) {
      if (group.failures[cause] == 0) continue;
      due += static_cast<double>(group.failures[cause]) *
             (repeated(cause, age + ahead) - repeated(cause, age));
    }
  }
  return due;
}

}  // namespace petrel
