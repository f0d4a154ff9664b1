// SPDX-License-Identifier: MIT
#include "control/retry_allowance.hpp"

#include <algorithm>
#include <cmath>

namespace petrel {
namespace {

constexpr std::chrono::seconds kWindow{10};
constexpr double kForgetS = 2;       // over which what retries came to fades by e
constexpr double kFewRetries = 10;   // of which nothing is concluded
constexpr double kUseful = 0.25;     // of retries answered: more than a storm's
constexpr double kMovePerS = 1;      // of the way from closed to open
constexpr double kLeastBurst = 0.1;  // of what can be saved up at other times

}  // namespace

void RetryAllowance::on_retry(bool answered) { (answered ? answered_ : failed_) += 1; }

bool RetryAllowance::are_useful() const {
  const double known = answered_ + failed_;
  return known < kFewRetries || answered_ >= kUseful * known;
}

void RetryAllowance::count(std::uint64_t first_attempts, std::chrono::nanoseconds elapsed) {
  const std::uint64_t more =
      counted_ && first_attempts > first_counted_ ? first_attempts - first_counted_ : 0;
  const bool begins = !counted_;
  first_counted_ = first_attempts;
  counted_ = true;
  if (begins || elapsed.count() <= 0) return;
  attempts_.push_back({elapsed, more});
  attempts_elapsed_ += elapsed;
  attempts_in_window_ += more;
  while (attempts_.size() > 1 && attempts_elapsed_ - attempts_.front().elapsed >= kWindow) {
    attempts_elapsed_ -= attempts_.front().elapsed;
    attempts_in_window_ -= attempts_.front().first;
    attempts_.pop_front();
  }
}

void RetryAllowance::tick(std::uint64_t first_attempts, bool saturated,
                          std::chrono::nanoseconds elapsed, double due) {
  count(first_attempts, elapsed);
  due_ = due;
  const double seconds = std::max(std::chrono::duration<double>(elapsed).count(), 0.0);
  const double kept = std::exp(-seconds / kForgetS);
  answered_ *= kept;
  failed_ *= kept;
  const double step = kMovePerS * seconds;
  if (saturated) {
    open_ = 0;
  } else {
    open_ = std::clamp(open_ + (are_useful() ? step : -step), 0.0, 1.0);
  }
}

double RetryAllowance::first_attempts_per_s() const {
  const double seconds = std::chrono::duration<double>(attempts_elapsed_).count();
  // A service that has just begun has no rate yet: its first second counts as a whole one.
  return static_cast<double>(attempts_in_window_) / std::max(seconds, 1.0);
}

double RetryAllowance::rate_per_s() const {
  const double more = std::max(settings_.idle_ratio - settings_.ratio, 0.0);
  const double ratio = settings_.ratio + more * open_;
  return std::max(settings_.min_per_s, ratio * first_attempts_per_s());
}

double RetryAllowance::burst(double burst_s) const {
  const double rate = rate_per_s();
  const double part = due_ > rate ? std::max(rate / due_, kLeastBurst) : 1;
  return std::max(rate * burst_s * part, 1.0);
}

}  // namespace petrel
