// SPDX-License-Identifier: MIT
// What a backend has shown that it can carry: the load at which its response time bends.
//
// By Little's law (J. D. C. Little, 1961) what waits there, over what it answers a second, is how long
// an answer takes; while it has room that is its own usual time whatever it is asked. Where it is three
// times that, the backend is full, and what it answers then is its capacity. While it is not full the
// capacity grows again by some percent a second, so that what was learned in an incident is tried again
// after it: as TCP finds the capacity of a path (V. Jacobson, Congestion Avoidance and Control, 1988).
// A backend that fails what it is asked tells nothing of its capacity. Pure.
#pragma once

#include <chrono>
#include <cstdint>

namespace petrel {

class Capacity {
 public:
  // A request ended, answered well or not.
  void on_outcome(bool answered) { ++(answered ? answered_ : failed_); }

  // Ends a tick. `waiting`: requests and SYNs without an answer; `risk`: 0 to 1, of the backend.
  void tick(std::uint64_t waiting, double risk, std::chrono::nanoseconds elapsed);

  double asked_per_s() const { return asked_per_s_; }
  // 0: not known, for it has not been full lately.
  double capacity_per_s() const { return capacity_per_s_; }
  bool is_full() const { return full_s_ > 0; }

  template <class Fields>
  void archive(Fields& fields) {
    fields("capacity_answered", answered_);
    fields("capacity_failed", failed_);
    fields("capacity_answered_per_s", answered_per_s_);
    fields("capacity_asked_per_s", asked_per_s_);
    fields("capacity_waiting", waiting_);
    fields("capacity_usual_s", usual_s_);
    fields("capacity_full_s", full_s_);
    fields("capacity_per_s", capacity_per_s_);
  }

 private:
  bool fills(double waiting, double risk) const;
  void learn(double seconds);

  std::uint64_t answered_ = 0;  // in this tick
  std::uint64_t failed_ = 0;
  double answered_per_s_ = 0;   // means over a second
  double asked_per_s_ = 0;
  double waiting_ = 0;
  double usual_s_ = 0;          // its response time while it has room; 0: not known
  double full_s_ = 0;           // for how long on end it has been full
  double capacity_per_s_ = 0;
};

}  // namespace petrel
