// SPDX-License-Identifier: MIT
#include "control/admission.hpp"

#include <algorithm>
#include <array>
#include <cmath>

namespace petrel {
namespace {

constexpr double kNsPerS = 1e9;
constexpr std::uint64_t kWindowNs = 500'000'000;
constexpr std::uint64_t kQuarters = 4;
constexpr std::uint64_t kFewOverdue = 3;      // at one backend, that are chance
constexpr double kOverduePart = 0.1;          // of what waits there
constexpr std::uint64_t kUsualTimes = 4;      // what is long for the service
constexpr double kForgetS = 10;               // over which a capacity seen before fades by e
constexpr double kFollow = 0.5;               // of the way to what it completes, each 100 ms
constexpr double kCut = 0.7;                  // of the capacity before: less is a cut
constexpr double kReached = 0.95;             // of the limit
constexpr std::uint64_t kReachedLongNs = 2'000'000'000;
constexpr double kShortenPerS = 0.5;          // how fast the part then nears the shortest one
constexpr double kNeeded = 0.5;               // of the limit: with less waiting it is not needed
constexpr std::uint64_t kLetGoNs = 300'000'000;
constexpr double kLeastEach = 2;              // in flight at each backend, whatever the law

}  // namespace

std::uint64_t Admission::overdue_ns(std::uint64_t patience_ns,
                                    std::uint64_t usual_response_ns) const {
  if (patience_ns == 0) return 0;
  const auto part =
      static_cast<std::uint64_t>(settings_.overdue_part * static_cast<double>(patience_ns));
  return std::max(part, kUsualTimes * usual_response_ns);
}

bool Admission::is_saturated(std::span<const AdmissionBackend> backends) const {
  double total = 0, overdue = 0;
  for (const AdmissionBackend& it : backends) {
    total += it.base_weight;
    const double least =
        std::max(static_cast<double>(kFewOverdue), kOverduePart * static_cast<double>(it.waiting));
    if (static_cast<double>(it.overdue) >= least) overdue += it.base_weight;
  }
  return total > 0 && overdue >= settings_.saturated_share * total;
}

void Admission::count(std::uint64_t elapsed_ns, std::uint64_t answered) {
  window_.push_back({elapsed_ns, answered});
  window_ns_ += elapsed_ns;
  while (window_.size() > 1 && window_ns_ - window_.front().elapsed_ns >= kWindowNs) {
    window_ns_ -= window_.front().elapsed_ns;
    window_.pop_front();
  }
}

double Admission::rate_per_s() const {
  std::uint64_t answered = 0;
  for (const Completed& it : window_) answered += it.answered;
  return static_cast<double>(answered) * kNsPerS /
         static_cast<double>(std::max(window_ns_, kWindowNs));
}

bool Admission::completes_steadily() const {
  if (window_ns_ < kWindowNs) return false;
  std::array<std::uint64_t, kQuarters> answered{};
  std::uint64_t age_ns = 0;
  for (auto it = window_.rbegin(); it != window_.rend(); ++it) {
    const auto quarter =
        std::min<std::uint64_t>(age_ns * kQuarters / kWindowNs, kQuarters - 1);
    answered[static_cast<std::size_t>(quarter)] += it->answered;
    age_ns += it->elapsed_ns;
  }
  return std::ranges::all_of(answered, [](std::uint64_t count) { return count > 0; });
}

// Asked for less than it can do, a service shows a least capacity: the most of late counts. Asked for
// more, it shows the true one, unless it completes nothing or has only just begun to.
void Admission::learn_capacity(std::uint64_t elapsed_ns) {
  const double rate = rate_per_s();
  const double seconds = static_cast<double>(elapsed_ns) / kNsPerS;
  decision_.completes = saturated_ns_ >= kWindowNs && completes_steadily();
  if (decision_.completes) {
    capacity_per_s_ += (rate - capacity_per_s_) * std::min(1.0, kFollow * seconds * 10);
    return;
  }
  if (saturated_ns_ == 0) capacity_per_s_ *= std::exp(-seconds / kForgetS);
  capacity_per_s_ = std::max(capacity_per_s_, rate);
  if (saturated_ns_ == 0) before_per_s_ = capacity_per_s_;
}

// In a cut the backends have what came before it to do first, so the queue is to be short. A queue that
// stays as long as it may be serves as many when it is shorter, and sooner. One that is worked off
// after a stop is left alone: who waits there still is in time.
void Admission::shorten(std::uint64_t elapsed_ns, std::uint64_t waiting) {
  if (part_ == 0) part_ = settings_.longest_part;
  const bool reached =
      static_cast<double>(waiting) >= kReached * static_cast<double>(decision_.limit);
  reached_ns_ = decision_.completes && decision_.limit > 0 && reached ? reached_ns_ + elapsed_ns : 0;
  if (decision_.completes && capacity_per_s_ < kCut * before_per_s_) {
    part_ = settings_.shortest_part;
  }
  if (reached_ns_ < kReachedLongNs) return;
  const double seconds = static_cast<double>(elapsed_ns) / kNsPerS;
  part_ = settings_.shortest_part +
          (part_ - settings_.shortest_part) * std::exp(-kShortenPerS * seconds);
}

bool Admission::lets_go(std::uint64_t elapsed_ns, std::uint64_t waiting) {
  const bool needed = static_cast<double>(waiting) > kNeeded * static_cast<double>(decision_.limit);
  quiet_ns_ = needed ? 0 : quiet_ns_ + elapsed_ns;
  return quiet_ns_ >= kLetGoNs;
}

AdmissionDecision Admission::tick(std::uint64_t elapsed_ns, std::uint64_t patience_ns,
                                  std::uint64_t usual_response_ns,
                                  std::span<const AdmissionBackend> backends) {
  std::uint64_t answered = 0, waiting = 0;
  for (const AdmissionBackend& it : backends) {
    answered += it.answered;
    waiting += it.waiting;
  }
  count(elapsed_ns, answered);
  decision_.saturated = patience_ns > 0 && is_saturated(backends);
  saturated_ns_ = decision_.saturated ? saturated_ns_ + elapsed_ns : 0;
  learn_capacity(elapsed_ns);
  decision_.capacity_per_s = capacity_per_s_;

  const bool acts = decision_.limit > 0;
  if (!settings_.enabled || patience_ns == 0 || capacity_per_s_ <= 0 ||
      (!decision_.saturated && (!acts || lets_go(elapsed_ns, waiting)))) {
    decision_.limit = 0;
    quiet_ns_ = 0;
    part_ = 0;
    return decision_;
  }
  shorten(elapsed_ns, waiting);
  const double in_time = capacity_per_s_ * static_cast<double>(patience_ns) / kNsPerS * part_;
  // What serves the usual load at its usual times is never refused.
  const double usual =
      2 * capacity_per_s_ * static_cast<double>(usual_response_ns) / kNsPerS;
  const double least = std::max(usual, kLeastEach * static_cast<double>(backends.size()));
  decision_.limit = static_cast<std::uint64_t>(std::ceil(std::max(in_time, least)));
  return decision_;
}

}  // namespace petrel
