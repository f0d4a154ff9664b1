// SPDX-License-Identifier: MIT
#include "control/capacity.hpp"

#include <algorithm>
#include <cmath>

namespace petrel {
namespace {

constexpr double kMeanS = 1;
constexpr double kFewPerS = 5;          // answers, of which no capacity is told
constexpr double kFewWaiting = 5;       // that are chance
constexpr double kBend = 3;             // times its usual response time
constexpr double kFailing = 0.15;       // risk from which it tells of its trouble, not of its capacity
constexpr double kFullLongS = 0.3;      // before it is believed
constexpr double kFollowPerS = 5;       // of the way to what it answers
constexpr double kGrowPerS = 0.03;
constexpr double kForgotten = 3;        // times what it is asked: no limit any more
constexpr double kShorterPerS = 0.5;    // how its usual time follows a shorter one,
constexpr double kLongerPerS = 0.005;   // and a longer one

}  // namespace

// Both in the mean and now: the mean goes on for a while after the queue has gone.
bool Capacity::fills(double waiting, double risk) const {
  const double least = std::max(kFewWaiting, kBend * usual_s_ * answered_per_s_);
  return risk < kFailing && usual_s_ > 0 && std::min(waiting, waiting_) > least;
}

void Capacity::learn(double seconds) {
  if (full_s_ >= kFullLongS) {
    if (capacity_per_s_ == 0) capacity_per_s_ = answered_per_s_;
    capacity_per_s_ += (answered_per_s_ - capacity_per_s_) * std::min(1.0, kFollowPerS * seconds);
    return;
  }
  if (full_s_ > 0 || capacity_per_s_ == 0) return;
  capacity_per_s_ = std::max(capacity_per_s_ * std::exp(kGrowPerS * seconds), answered_per_s_);
  if (capacity_per_s_ > kForgotten * asked_per_s_) capacity_per_s_ = 0;
}

void Capacity::tick(std::uint64_t waiting, double risk, std::chrono::nanoseconds elapsed) {
  const double seconds = std::chrono::duration<double>(elapsed).count();
  if (seconds <= 0) return;
  const double part = std::min(1.0, seconds / kMeanS);
  const auto answered = static_cast<double>(answered_);
  const auto asked = static_cast<double>(answered_ + failed_);
  answered_ = failed_ = 0;
  answered_per_s_ += (answered / seconds - answered_per_s_) * part;
  asked_per_s_ += (asked / seconds - asked_per_s_) * part;
  waiting_ += (static_cast<double>(waiting) - waiting_) * part;
  if (answered_per_s_ < kFewPerS) {
    full_s_ = 0;
    return;
  }
  const double response_s = waiting_ / answered_per_s_;
  full_s_ = fills(static_cast<double>(waiting), risk) ? full_s_ + seconds : 0;
  learn(seconds);
  if (full_s_ > 0 || risk >= kFailing) return;
  const double per_s = response_s < usual_s_ ? kShorterPerS : kLongerPerS;
  if (usual_s_ == 0) usual_s_ = response_s;
  usual_s_ += (response_s - usual_s_) * std::min(1.0, per_s * seconds);
}

}  // namespace petrel
