// SPDX-License-Identifier: MIT
#include "label/retry_fit.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <numeric>

namespace petrel {
namespace {

using Buckets = std::array<double, RETRY_BUCKETS>;

constexpr double kTicksPer1000S = 976562500.0;
constexpr double kTicksPerMs = 976.5625;
constexpr double kOne = 256;  // a whole request, as the map counts them

// A prior is worth so many requests.
constexpr double kDelayPrior = 6;
constexpr double kPooledPrior = 8;
constexpr double kRetriedPrior = 8, kNotRetriedPrior = 2;
constexpr double kGapPrior = 1;
constexpr double kUsualGapPriorMs = 8000, kUsualGapPrior = 20;
constexpr double kHostGapPriorMs = 4000, kHostGapPrior = 2;
constexpr double kSamePrior = 4, kComparedPrior = 16;
constexpr double kMostSameFactor = 64;

// No client gives a SYN up sooner, and hardly one repeats anything sooner than its answer comes back.
constexpr double kSoonestGiveUpMs = 140;
constexpr double kSoonGiveUpMs = 450;  // few do: the SYN itself comes again after a second only
constexpr double kSoon = 0.3;
constexpr double kSoonestRetryMs = 0.2;
constexpr double kTooSoon = 0.02;  // of the prior's density

// Requests that follow each other sooner are of one burst, and say nothing of how often bursts come.
constexpr double kBurstMs = 20;

// Beyond so many the older half counts half.
constexpr double kMostFailures = 2000;
constexpr double kMostGaps = 20000;
constexpr double kMostCompared = 20000;
constexpr double kMostOthers = 2000;

// A histogram's neighbours share: delays do not know where buckets end.
Buckets smoothed(const Buckets& counts) {
  Buckets out{};
  for (std::size_t i = 0; i < counts.size(); ++i) {
    out[i] += 0.6 * counts[i];
    out[i > 0 ? i - 1 : i] += 0.2 * counts[i];
    out[i + 1 < counts.size() ? i + 1 : i] += 0.2 * counts[i];
  }
  return out;
}

double end_ms(std::uint32_t bucket) {
  return (bucket_begin_ticks(bucket) + bucket_width_ticks(bucket)) / kTicksPerMs;
}

Buckets delay_prior(std::size_t cause) {
  const double soonest = cause == bpf::CAUSE_HANDSHAKE ? kSoonestGiveUpMs : kSoonestRetryMs;
  Buckets prior{};
  for (std::uint32_t i = 0; i < prior.size(); ++i)
    prior[i] = end_ms(i) <= soonest                                           ? kTooSoon
               : cause == bpf::CAUSE_HANDSHAKE && end_ms(i) <= kSoonGiveUpMs ? kSoon
                                                                              : 1;
  const double sum = std::accumulate(prior.begin(), prior.end(), 0.0);
  for (double& part : prior) part *= kDelayPrior / sum;
  return prior;
}

// A client that has heard of its failure waits the same, whatever has failed.
Buckets pooled_prior(const RetrySums& sums) {
  Buckets pooled{};
  double sum = 0;
  for (std::size_t i = 0; i < pooled.size(); ++i) {
    pooled[i] = sums.delays[bpf::CAUSE_REFUSED][i] + sums.delays[bpf::CAUSE_REQUEST][i];
    sum += pooled[i];
  }
  if (sum > kPooledPrior)
    for (double& part : pooled) part *= kPooledPrior / sum;
  return pooled;
}

std::uint32_t to_rate(double per_tick) {
  return static_cast<std::uint32_t>(std::clamp(per_tick * kTicksPer1000S, 0.0, 4e9));
}

// Density over what is left of the distribution in the middle of the bucket, where a `share` of all
// comes at all.
std::uint32_t hazard(const Buckets& counts, std::uint32_t bucket, double before, double sum,
                     double share) {
  const double density = counts[bucket] / sum / bucket_width_ticks(bucket);
  const double passed = (before + counts[bucket] / 2) / sum;
  return to_rate(share * density / std::max(0.01, 1 - share * passed));
}

void fade(RetrySums& sums) {
  for (std::size_t cause = 0; cause < sums.failed.size(); ++cause) {
    const auto& failed = sums.failed[cause];
    if (std::accumulate(failed.begin(), failed.end(), 0.0) < kMostFailures) continue;
    for (double& count : sums.delays[cause]) count /= 2;
    for (double& count : sums.retried[cause]) count /= 2;
    for (double& count : sums.failed[cause]) count /= 2;
  }
  if (std::accumulate(sums.gaps.begin(), sums.gaps.end(), 0.0) > kMostGaps)
    for (double& count : sums.gaps) count /= 2;
  if (sums.others > kMostOthers) {
    sums.others /= 2;
    sums.watched_ms /= 2;
  }
  if (sums.compared_requests > kMostCompared) {
    sums.compared_requests /= 2;
    sums.same_requests /= 2;
  }
}

}  // namespace

double bucket_begin_ticks(std::uint32_t bucket) {
  if (bucket == 0) return 0;
  const std::uint32_t octave = RETRY_FIRST_OCTAVE + (bucket - 1) / 4;
  return std::ldexp(1 + (bucket - 1) % 4 / 4.0, static_cast<int>(octave));
}

double bucket_width_ticks(std::uint32_t bucket) {
  if (bucket == 0) return 1 << RETRY_FIRST_OCTAVE;
  return std::ldexp(0.25, static_cast<int>(RETRY_FIRST_OCTAVE + (bucket - 1) / 4));
}

bpf::retry_odds fit_retry_odds(const RetrySums& sums) {
  bpf::retry_odds odds{};
  const Buckets pooled = smoothed(pooled_prior(sums));
  for (std::uint32_t cause = 0; cause < bpf::RETRY_CAUSES; ++cause) {
    Buckets delays = smoothed(sums.delays[cause]);
    const Buckets prior = delay_prior(cause);
    for (std::size_t i = 0; i < delays.size(); ++i) delays[i] += prior[i];
    if (cause != bpf::CAUSE_HANDSHAKE)
      for (std::size_t i = 0; i < delays.size(); ++i) delays[i] += pooled[i];
    const double sum = std::accumulate(delays.begin(), delays.end(), 0.0);
    for (std::uint32_t attempt = 0; attempt < RETRY_ATTEMPTS; ++attempt) {
      const double retried = sums.retried[cause][attempt];
      const double failed = std::max(sums.failed[cause][attempt], retried);
      const double share =
          (retried + kRetriedPrior) / (failed + kRetriedPrior + kNotRetriedPrior);
      double before = 0;
      for (std::uint32_t bucket = 0; bucket < RETRY_BUCKETS; ++bucket) {
        odds.retry_hazard[bpf::hazard_index(cause, attempt, bucket)] =
            hazard(delays, bucket, before, sum, share);
        before += delays[bucket];
      }
    }
  }
  Buckets gaps = sums.gaps;
  for (double& count : gaps) count += kGapPrior / RETRY_BUCKETS;
  gaps.back() += kUsualGapPrior; // most clients are alone until told otherwise
  const double sum = std::accumulate(gaps.begin(), gaps.end(), 0.0);
  double before = 0, apart = 0, apart_ticks = 0;
  for (std::uint32_t bucket = 0; bucket < RETRY_BUCKETS; ++bucket) {
    const double middle = bucket_begin_ticks(bucket) + bucket_width_ticks(bucket) / 2;
    if (middle < kBurstMs * kTicksPerMs) {
      odds.burst_hazard[bucket] = hazard(gaps, bucket, before, sum, 1);
    } else {
      apart += sums.gaps[bucket];
      apart_ticks += sums.gaps[bucket] * middle;
    }
    before += gaps[bucket];
  }
  odds.usual_gap = static_cast<std::uint32_t>(
      (apart_ticks + kUsualGapPrior * kUsualGapPriorMs * kTicksPerMs) / (apart + kUsualGapPrior));
  odds.host_gap = static_cast<std::uint32_t>((sums.watched_ms + kHostGapPrior * kHostGapPriorMs) *
                                             kTicksPerMs / (sums.others + kHostGapPrior));
  const double factor =
      (sums.compared_requests + kComparedPrior) / (sums.same_requests + kSamePrior);
  odds.same_factor = static_cast<std::uint32_t>(std::clamp(factor, 1.0, kMostSameFactor) *
                                                (1 << ODDS_SAME_SHIFT));
  return odds;
}

// How long hosts have been watched for other requests since the last time: each failure for its window.
void RetryFit::watch(const bpf::retry_counts& total, std::uint64_t now_ns) {
  std::uint64_t young = 0;
  for (const std::size_t cause : {bpf::CAUSE_REFUSED, bpf::CAUSE_REQUEST})
    for (std::size_t i = 0; i < RETRY_ATTEMPTS; ++i)
      young += total.failed[cause][i] - std::min(total.failed[cause][i], last_.failed[cause][i]);
  if (watched_at_ns_ != 0)
    sums_.watched_ms += static_cast<double>(young) / kOne *
                        static_cast<double>(now_ns - watched_at_ns_) / 1e6;
  watched_at_ns_ = now_ns;
}

bpf::retry_odds RetryFit::update(const bpf::retry_counts& total, std::uint64_t now_ns) {
  // A map that is new counts from zero again.
  if (total.compared_requests < last_.compared_requests) {
    last_ = {};
    young_.clear();
  }
  const auto add = [](double& sum, std::uint64_t now, std::uint64_t before, double unit) {
    if (now > before) sum += static_cast<double>(now - before) / unit;
  };
  for (std::size_t cause = 0; cause < bpf::RETRY_CAUSES; ++cause) {
    for (std::size_t i = 0; i < RETRY_BUCKETS; ++i)
      add(sums_.delays[cause][i], total.delays[cause][i], last_.delays[cause][i], kOne);
    for (std::size_t i = 0; i < RETRY_ATTEMPTS; ++i)
      add(sums_.retried[cause][i], total.retried[cause][i], last_.retried[cause][i], kOne);
  }
  add(sums_.others, total.others, last_.others, kOne);
  for (std::size_t i = 0; i < RETRY_BUCKETS; ++i)
    add(sums_.gaps[i], total.gaps[i], last_.gaps[i], 1);
  add(sums_.same_requests, total.same_requests, last_.same_requests, 1);
  add(sums_.compared_requests, total.compared_requests, last_.compared_requests, 1);

  std::uint64_t failed[bpf::RETRY_CAUSES][RETRY_ATTEMPTS];
  std::memcpy(failed, last_.failed, sizeof(failed));
  last_ = total;
  std::memcpy(last_.failed, failed, sizeof(failed));
  young_.push_back({now_ns, {}});
  std::memcpy(young_.back().failed, total.failed, sizeof(failed));
  while (!young_.empty() &&
         young_.front().time_ns + static_cast<std::uint64_t>(retry_window_.count()) <= now_ns) {
    for (std::size_t cause = 0; cause < bpf::RETRY_CAUSES; ++cause)
      for (std::size_t i = 0; i < RETRY_ATTEMPTS; ++i)
        add(sums_.failed[cause][i], young_.front().failed[cause][i], last_.failed[cause][i], kOne);
    std::memcpy(last_.failed, young_.front().failed, sizeof(failed));
    young_.pop_front();
  }
  watch(total, now_ns);
  fade(sums_);
  return fit_retry_odds(sums_);
}

}  // namespace petrel
