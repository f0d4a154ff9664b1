// SPDX-License-Identifier: MIT
// Losses: what the loop did not get to see, so that every rate can be read beside it.
//
// Events that found no room in the ring buffer, events that came late or out of order, and clocks that
// stepped: CLOCK_REALTIME set by hand or by a daemon, and suspends, during which CLOCK_MONOTONIC (which
// every time in the maps is of) stands still. Pure: its owner reads the clocks and the counters.
#pragma once

#include <cstdint>

namespace petrel {

// Three clocks, read together.
struct Clocks {
  std::uint64_t monotonic_ns = 0;
  std::uint64_t realtime_ns = 0;
  std::uint64_t boottime_ns = 0;  // as monotonic, but goes on through a suspend
};

Clocks read_clocks();

class Losses {
 public:
  // An event of this time was read now, in the order of the ring buffer.
  void on_event(std::uint64_t time_ns);

  // Once a tick. Totals since the start of the data path: events and records without room.
  void on_tick(const Clocks& clocks, std::uint64_t events_lost, std::uint64_t records_lost);

  std::uint64_t events_lost() const { return events_lost_; }  // since this agent started
  std::uint64_t records_lost() const { return records_lost_; }
  // Of the last 10 s or so: lost / (lost + read), 0 to 1.
  double lost_share() const;

  // By more than kOrderNs after one that is younger: two CPUs' events may pass each other by less.
  std::uint64_t out_of_order() const { return out_of_order_; }
  std::uint64_t worst_disorder_ns() const { return worst_disorder_ns_; }
  std::uint64_t clock_steps() const { return clock_steps_; }
  std::uint64_t suspends() const { return suspends_; }

  static constexpr std::uint64_t kOrderNs = 1'000'000;
  static constexpr std::uint64_t kStepNs = 100'000'000;  // adjtime() slews by less in a tick

 private:
  std::uint64_t newest_event_ns_ = 0;
  std::uint64_t out_of_order_ = 0;
  std::uint64_t worst_disorder_ns_ = 0;

  bool known_ = false;  // there was a tick
  Clocks last_;
  std::uint64_t first_events_lost_ = 0, last_events_lost_ = 0, events_lost_ = 0;
  std::uint64_t first_records_lost_ = 0, records_lost_ = 0;
  std::uint64_t read_in_tick_ = 0;
  double recently_lost_ = 0;  // decayed counts
  double recently_read_ = 0;
  std::uint64_t clock_steps_ = 0;
  std::uint64_t suspends_ = 0;
};

}  // namespace petrel
