// SPDX-License-Identifier: MIT
#include "control/edge.hpp"

#include <algorithm>
#include <cmath>

namespace petrel {
namespace {

constexpr double kNsPerS = 1e9;
constexpr std::uint64_t kWindowNs = 10'000'000'000;
constexpr double kChance = 4;     // standard deviations of a count
constexpr double kForgetS = 300;  // over which what was seen of retries fades by e
constexpr double kCapacityS =
    5;  // over which what it completes is averaged: headroom is a difference
constexpr double kAnother = 0.3;   // of it, that is more than chance
constexpr double kLongPart = 0.1;  // of what clients wait: overdue, as admission has it
constexpr double kLongTimes = 4;   // the usual response time
constexpr double kRecentS = 1;
constexpr double kMoreThanCapacity = 1.1;  // answered: what was seen was a cut's capacity
constexpr double kUsualTimes = 2;  // the usual backlog, up to which there is none to speak of
constexpr double kLeastUsual = 1;

double seconds(std::uint64_t ns) {
  return static_cast<double>(ns) / kNsPerS;
}

}  // namespace

void Edge::count(const EdgeInput& input) {
  const auto add = [this](const EdgeInput& it, bool in) {
    const auto change = [in](std::uint64_t& sum, std::uint64_t by) {
      sum = in ? sum + by : sum - by;
    };
    change(sum_.elapsed_ns, it.elapsed_ns);
    change(sum_.first_attempts, it.first_attempts);
    change(sum_.retries, it.retries);
    change(sum_.refused, it.refused);
    change(sum_.answered, it.answered);
  };
  window_.push_back(input);
  add(input, true);
  while (window_.size() > 1 && sum_.elapsed_ns - window_.front().elapsed_ns >= kWindowNs) {
    add(window_.front(), false);
    window_.pop_front();
  }
  const double keep = std::exp(-seconds(input.elapsed_ns) / kForgetS);
  failures_ = failures_ * keep + static_cast<double>(input.failures + input.refused);
  retries_ = retries_ * keep + static_cast<double>(input.retries);

  const double span_s = std::max(seconds(sum_.elapsed_ns), 1.0);
  const double first = static_cast<double>(sum_.first_attempts);
  reading_.first_attempts_per_s = first / span_s;
  reading_.amplification = first > 0 ? 1 + static_cast<double>(sum_.retries) / first : 1;
  reading_.storm_amplification.reset();
  if (failures_ >= kLeastFailures) {
    const double again = std::min(retries_ / failures_, 1 - 1 / kMostAmplification);
    reading_.storm_amplification = 1 / (1 - again);
  }
}

// Some requests that hang make a service overdue, too, and say nothing of what it can do. Nor do
// answers, once most of what is worked on has been left by its client.
bool Edge::is_asked_for_more(const EdgeInput& input) const {
  const double long_s = std::max(kLongPart * seconds(input.patience_ns),
                                 kLongTimes * seconds(input.usual_response_ns));
  return input.completes && input.answered > input.left &&
         static_cast<double>(input.waiting) >= input.capacity_per_s * long_s;
}

// Since it was last asked for more: what it completed then was a cut's.
bool Edge::completes_more() const {
  double answered = 0, span_s = 0;
  for (auto it = window_.rbegin(); it != window_.rend() && span_s < kRecentS; ++it) {
    answered += static_cast<double>(it->answered);
    span_s += seconds(it->elapsed_ns);
  }
  const double most = capacity_per_s_ * span_s;
  return capacity_age_s_ >= span_s && span_s >= kRecentS &&
         answered > kMoreThanCapacity * most + kChance * std::sqrt(most);
}

void Edge::learn_capacity(const EdgeInput& input) {
  const double answered_per_s =
      static_cast<double>(sum_.answered) / std::max(seconds(sum_.elapsed_ns), 1.0);
  capacity_age_s_ += seconds(input.elapsed_ns);
  if (is_asked_for_more(input)) {
    const double elapsed_s = seconds(input.elapsed_ns);
    // Another capacity: a cut has begun, or is over.
    const double mean_per_s = completed_s_ > 0 ? completed_ / completed_s_ : 0;
    const double off = std::abs(input.capacity_per_s - mean_per_s);
    if (off > kAnother * mean_per_s) completed_ = completed_s_ = 0;
    const double keep = std::exp(-elapsed_s / kCapacityS);
    completed_ = completed_ * keep + static_cast<double>(input.answered);
    completed_s_ = completed_s_ * keep + elapsed_s;
    capacity_per_s_ = completed_ / completed_s_;
    capacity_age_s_ = 0;
  } else if (completes_more()) {
    capacity_per_s_ = 0;
  }
  reading_.capacity_at_least_per_s = std::max(answered_per_s, input.capacity_per_s);
  reading_.capacity_per_s.reset();
  reading_.capacity_age_s.reset();
  reading_.headroom.reset();
  if (capacity_per_s_ <= 0) return;
  reading_.capacity_per_s = capacity_per_s_;
  reading_.capacity_age_s = capacity_age_s_;
  const double attempts =
      static_cast<double>(sum_.first_attempts + sum_.retries) - static_cast<double>(sum_.refused);
  const double span_s = std::max(seconds(sum_.elapsed_ns), 1.0);
  reading_.headroom = 1 - attempts / span_s / capacity_per_s_;
}

void Edge::follow_backlog(const EdgeInput& input) {
  const double worked = capacity_per_s_ * seconds(input.elapsed_ns);
  const double beyond_answers = worked - static_cast<double>(input.answered);
  if (capacity_per_s_ <= 0) {
    left_ = 0;  // nothing says how fast they are worked off
  } else {
    left_ = std::max(0.0, left_ + static_cast<double>(input.left) - std::max(0.0, beyond_answers));
  }
  reading_.backlog = static_cast<double>(input.waiting) + left_;
}

std::optional<double> Edge::recovery_s(double capacity, double patience_s, double usual) const {
  const double first = reading_.first_attempts_per_s;
  double backlog = reading_.backlog, time_s = 0;
  const double edge = patience_s * capacity;
  if (backlog >= edge) {
    if (!reading_.storm_amplification) return std::nullopt;
    const double spare = capacity - *reading_.storm_amplification * first;
    if (spare <= 0) return std::nullopt;
    time_s += (backlog - edge) / spare;
    backlog = edge;
  }
  if (backlog <= usual) return time_s;
  if (capacity <= first) return std::nullopt;
  return time_s + (backlog - usual) / (capacity - first);
}

void Edge::predict(const EdgeInput& input) {
  EdgeReading& it = reading_;
  it.patience_s.reset();
  it.answer_delay_s.reset();
  it.stop_survived_s.reset();
  it.recovery_s.reset();
  it.in_storm = false;
  it.can_last = true;
  const double first = it.first_attempts_per_s;
  const double usual =
      std::max(kUsualTimes * first * seconds(input.usual_response_ns), kLeastUsual);
  if (input.patience_ns > 0) it.patience_s = seconds(input.patience_ns);
  if (!input.saturated && it.backlog <= usual) it.recovery_s = 0;
  if (!it.capacity_per_s) return;
  const double capacity = *it.capacity_per_s;
  it.answer_delay_s = it.backlog / capacity;
  if (!it.patience_s) return;
  if (it.storm_amplification) it.can_last = *it.storm_amplification * first >= capacity;
  const double left = *it.patience_s * capacity - it.backlog;
  it.in_storm = left <= 0 && it.can_last && it.storm_amplification.has_value();
  if (it.can_last && first > 0) it.stop_survived_s = std::max(left / first, 0.0);
  if (!it.recovery_s) it.recovery_s = recovery_s(capacity, *it.patience_s, usual);
}

const EdgeReading& Edge::tick(const EdgeInput& input) {
  count(input);
  learn_capacity(input);
  follow_backlog(input);
  predict(input);
  return reading_;
}

}  // namespace petrel
