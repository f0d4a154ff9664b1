// SPDX-License-Identifier: MIT
#include "features/usual.hpp"

#include <algorithm>

#include "bpf/fixed_point.h"

namespace petrel {
namespace {

constexpr uint32_t kLearningSamples = 64;
constexpr int64_t kLargestPullQ16 = Q16_ONE;
constexpr int64_t kTimeConstantMs = 30'000;
constexpr uint64_t kLongestTickMs = 1'000;  // after a pause, one tick moves no further than this

}  // namespace

void Usual::add(int32_t sample_q16) {
  const int64_t difference = static_cast<int64_t>(sample_q16) - value_q16_;
  if (learned_ < kLearningSamples) {
    // Running mean; the divisor is what makes it quick at first and slow at the end.
    learned_++;
    value_q16_ += static_cast<int32_t>(difference / (learned_ + prior_samples_));
    return;
  }
  pull_q16_ += std::clamp(difference, -kLargestPullQ16, kLargestPullQ16);
  pulls_++;
}

void Usual::tick(uint64_t elapsed_ns) {
  if (pulls_ == 0) return;
  const int64_t elapsed_ms = static_cast<int64_t>(std::min(elapsed_ns / 1'000'000, kLongestTickMs));
  const int64_t mean_pull_q16 = pull_q16_ / pulls_;
  value_q16_ += static_cast<int32_t>(mean_pull_q16 * elapsed_ms / kTimeConstantMs);
  pull_q16_ = 0;
  pulls_ = 0;
}

}  // namespace petrel
