// SPDX-License-Identifier: MIT
// What is to happen, in order of time; what is due at the same time, in the order in which it was
// asked for.
//
// A 4-ary heap for what comes after any delay, and a line for each delay that is always the same:
// what enters it last comes out last, so that nothing has to be sorted. Most events of a run are
// timeouts that never come true, and those lie in a line.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

namespace petrel::simulate {

struct Event {
  std::uint64_t time_ns = 0;
  std::uint64_t order = 0;    // of all events that were ever asked for
  std::uint32_t subject = 0;  // index of an attempt, request, balancer or fault: as `kind` has it
  std::uint32_t generation = 0;  // of the subject, where its place is used again
  std::uint8_t kind = 0;

  bool before(const Event& other) const {
    return time_ns != other.time_ns ? time_ns < other.time_ns : order < other.order;
  }
};

class EventHeap {
 public:
  bool empty() const { return events_.empty(); }
  const Event& front() const { return events_.front(); }

  void push(const Event& event) {
    std::size_t at = events_.size();
    events_.push_back(event);
    while (at > 0) {
      const std::size_t parent = (at - 1) / kArity;
      if (!event.before(events_[parent])) break;
      events_[at] = events_[parent];
      at = parent;
    }
    events_[at] = event;
  }

  void pop() {
    const Event last = events_.back();
    events_.pop_back();
    if (events_.empty()) return;
    std::size_t at = 0;
    for (;;) {
      const std::size_t first = at * kArity + 1;
      if (first >= events_.size()) break;
      const std::size_t end = first + kArity < events_.size() ? first + kArity : events_.size();
      std::size_t least = first;
      for (std::size_t child = first + 1; child < end; ++child) {
        if (events_[child].before(events_[least])) least = child;
      }
      if (!events_[least].before(last)) break;
      events_[at] = events_[least];
      at = least;
    }
    events_[at] = last;
  }

 private:
  static constexpr std::size_t kArity =
      4;  // half as deep as a binary one; a node is two cache lines
  std::vector<Event> events_;
};

// Events that all come the same time after they were asked for.
class DelayLine {
 public:
  explicit DelayLine(std::uint64_t delay_ns) : delay_ns_(delay_ns) {}

  bool empty() const { return events_.empty(); }
  const Event& front() const { return events_.front(); }
  void pop() { events_.pop_front(); }
  // `event.time_ns` is now; it comes out with when it is due.
  void push(Event event) {
    event.time_ns += delay_ns_;
    events_.push_back(event);
  }

 private:
  std::uint64_t delay_ns_;
  std::deque<Event> events_;
};

}  // namespace petrel::simulate
