// SPDX-License-Identifier: MIT
// SelfCheck: one service's learned weights against its holdout, from events and ticks.
//
// What counts is the first attempt of a request, as the first one of its connection: weights place
// connections, later requests of one go where it is, and retries are steered. It counts if it was
// placed while the weights differed from the configured ones, with its first retry, however late
// that comes. Two windows: a minute, by which harm is judged (watch/holdout.hpp), and an hour, by
// which it is told what was saved, at 95 %. Pure: time comes in as a number; on the loop's thread.
#pragma once

#include <cstdint>
#include <deque>

#include "bpf/types.h"
#include "watch/holdout.hpp"

namespace petrel {

class SelfCheck {
 public:
  SelfCheck();

  // Each tick: whether flows are placed by learned weights from now on.
  void on_tick(bool weights_differ, std::uint64_t now_ns);

  // Nothing that is still to end was placed by learned weights: events say nothing.
  bool is_idle() const { return differed_.empty(); }
  // An event that tells of a first request's outcome, or of its retry; of which group
  // `connection_of()` is, is the caller's to say.
  void on_event(const bpf::event& event, bool in_holdout, std::uint64_t now_ns);
  // The connection that an event tells of: of a RETRY and a NO_RETRY the one that failed.
  static bpf::connection_key connection_of(const bpf::event& event);

  // Each second or so. True where is_harmed() has changed.
  bool judge(std::uint64_t now_ns);
  bool is_harmed() const { return minute_.is_harmed(); }
  const Holdout& minute() const { return minute_; }
  // As of the last judge().
  const HoldoutMeasures& last_minute() const { return last_minute_; }
  const HoldoutMeasures& last_hour() const { return last_hour_; }
  // By hand: let them act again, and count anew.
  void release();
  // As of Holdout.
  void resume(std::uint64_t harms, std::uint64_t rest_ns, std::uint64_t until_ns) {
    minute_.resume(harms, rest_ns, until_ns);
  }

 private:
  struct Interval {
    std::uint64_t from_ns = 0;
    std::uint64_t to_ns = 0;  // 0: it goes on
  };
  bool counts(std::uint64_t placed_ns) const;

  Holdout minute_;
  Holdout hour_;
  HoldoutMeasures last_minute_;
  HoldoutMeasures last_hour_;
  std::deque<Interval> differed_;  // newest last; of the last minute
};

}  // namespace petrel
