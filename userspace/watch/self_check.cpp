// SPDX-License-Identifier: MIT
#include "watch/self_check.hpp"

#include <algorithm>

#include "features/features.hpp"

namespace petrel {
namespace {

constexpr std::uint64_t kRememberedNs =
    60'000'000'000;  // far longer than an outcome or a retry takes
constexpr std::uint64_t kHourNs = 3'600'000'000'000;
constexpr double kTwoSided95 = 1.96;

}  // namespace

SelfCheck::SelfCheck() : hour_({.window_ns = kHourNs, .z = kTwoSided95}) {}

void SelfCheck::on_tick(bool weights_differ, std::uint64_t now_ns) {
  const bool differed = !differed_.empty() && differed_.back().to_ns == 0;
  if (weights_differ && !differed) differed_.push_back({now_ns, 0});
  if (!weights_differ && differed) differed_.back().to_ns = now_ns;
  while (!differed_.empty() && differed_.front().to_ns != 0 &&
         differed_.front().to_ns + kRememberedNs < now_ns) {
    differed_.pop_front();
  }
}

bool SelfCheck::counts(std::uint64_t placed_ns) const {
  return std::ranges::any_of(differed_, [&](const Interval& it) {
    return it.from_ns <= placed_ns && (it.to_ns == 0 || placed_ns < it.to_ns);
  });
}

bpf::connection_key SelfCheck::connection_of(const bpf::event& event) {
  bpf::connection_key key = event.key;
  const bool of_earlier = event.type == bpf::EVENT_RETRY || event.type == bpf::EVENT_NO_RETRY;
  if (of_earlier) key.client_port_be = event.previous_port_be;
  return key;
}

void SelfCheck::on_event(const bpf::event& event, bool in_holdout, std::uint64_t now_ns) {
  if (event.type == bpf::EVENT_RETRY || event.type == bpf::EVENT_NO_RETRY) {
    // `attempt` is of the retry; a NO_RETRY does not tell, and is taken for one of a first attempt.
    if (event.attempt > 2 || event.previous_request > 1 || !counts(event.previous_syn_ns)) return;
    for (Holdout* holdout : {&minute_, &hour_}) {
      if (event.type == bpf::EVENT_RETRY) {
        holdout->add_retry(in_holdout, now_ns);
      } else {
        holdout->take_back_retry(in_holdout, now_ns);
      }
    }
    return;
  }
  // A SYN that is moved on has not ended yet.
  if (event.type == bpf::EVENT_MOVED || !is_outcome(event)) return;
  if (event.attempt > 1 || event.request > 1 || !counts(event.syn_ns)) return;
  minute_.add_request(in_holdout, now_ns);
  hour_.add_request(in_holdout, now_ns);
}

bool SelfCheck::judge(std::uint64_t now_ns) {
  last_minute_ = minute_.measure(now_ns);
  last_hour_ = hour_.measure(now_ns);
  return minute_.judge(now_ns);
}

void SelfCheck::release() {
  minute_.release();
  hour_.release();
  last_minute_ = last_hour_ = {};
}

}  // namespace petrel
