// SPDX-License-Identifier: MIT
#include "agent/losses.hpp"

#include <algorithm>
#include <cmath>
#include <ctime>

namespace petrel {
namespace {

constexpr double kTimeConstantNs = 10e9;

std::uint64_t read_clock(clockid_t clock) {
  std::timespec now{};
  ::clock_gettime(clock, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
         static_cast<std::uint64_t>(now.tv_nsec);
}

// How far `to` moved against monotonic time, either way.
std::uint64_t drift_ns(std::uint64_t from, std::uint64_t to, std::uint64_t elapsed_ns) {
  const std::uint64_t expected = from + elapsed_ns;
  return to > expected ? to - expected : expected - to;
}

}  // namespace

Clocks read_clocks() {
  return {read_clock(CLOCK_MONOTONIC), read_clock(CLOCK_REALTIME), read_clock(CLOCK_BOOTTIME)};
}

void Losses::on_event(std::uint64_t time_ns) {
  ++read_in_tick_;
  if (time_ns + kOrderNs < newest_event_ns_) {
    ++out_of_order_;
    worst_disorder_ns_ = std::max(worst_disorder_ns_, newest_event_ns_ - time_ns);
  }
  newest_event_ns_ = std::max(newest_event_ns_, time_ns);
}

void Losses::on_tick(const Clocks& clocks, std::uint64_t events_lost, std::uint64_t records_lost) {
  if (!known_) {
    first_events_lost_ = last_events_lost_ = events_lost;
    first_records_lost_ = records_lost;
  } else {
    const std::uint64_t elapsed_ns = clocks.monotonic_ns - last_.monotonic_ns;
    const bool slept = drift_ns(last_.boottime_ns, clocks.boottime_ns, elapsed_ns) > kStepNs;
    if (slept) {
      ++suspends_;  // moves CLOCK_REALTIME as well
    } else if (drift_ns(last_.realtime_ns, clocks.realtime_ns, elapsed_ns) > kStepNs) {
      ++clock_steps_;
    }
    const double kept = std::exp(-static_cast<double>(elapsed_ns) / kTimeConstantNs);
    recently_lost_ = recently_lost_ * kept + static_cast<double>(events_lost - last_events_lost_);
    recently_read_ = recently_read_ * kept + static_cast<double>(read_in_tick_);
  }
  known_ = true;
  last_ = clocks;
  read_in_tick_ = 0;
  last_events_lost_ = events_lost;
  events_lost_ = events_lost - first_events_lost_;
  records_lost_ = records_lost - first_records_lost_;
}

double Losses::lost_share() const {
  const double all = recently_lost_ + recently_read_;
  return all > 0 ? recently_lost_ / all : 0;
}

}  // namespace petrel
