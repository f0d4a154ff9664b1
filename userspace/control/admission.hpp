// SPDX-License-Identifier: MIT
// How many requests of a service may be in flight, when it cannot answer all that it is asked in time.
//
// By Little's law (J. D. C. Little, 1961) one that joins n others at a service that completes c a
// second is answered n / c later. So n is held to a part of c times what its clients are seen to
// wait; who comes beyond that is refused at once, and those admitted are answered while their clients
// are there. Without that a queue longer than their patience serves nobody, and lasts for as long as
// they try again: Bronson et al., Metastable Failures in Distributed Systems, HotOS 2021.
//
// A limit there is only while backends of half the service's weight have requests that are overdue: one
// backend that hangs is none of admission's affair. In a stop, when nothing completes, the capacity
// of before counts, and the queue may be what it would work off just in time: clients who wait are
// served once it is over. In a cut, or an overload, the service goes on completing, and that is then its
// capacity; a limit that goes on being reached gets lower, for the same is served with less delay.
// Pure: time comes in as a number.
#pragma once

#include <cstdint>
#include <deque>
#include <span>

namespace petrel {

struct AdmissionSettings {
  bool enabled = true;
  double overdue_part = 0.1;      // of the clients' patience, after which a request is overdue
  double longest_part = 0.9;      // of it that the queue may take at first
  double shortest_part = 0.4;     // in a cut, or once that limit was reached for long
  double saturated_share = 0.5;   // of the base weight that must have overdue requests
};

// What one tick knows of a backend.
struct AdmissionBackend {
  std::uint32_t base_weight = 0;
  std::uint64_t answered = 0;  // good answers since the last tick
  std::uint64_t waiting = 0;   // SYNs and requests without an answer now
  std::uint64_t overdue = 0;   // of these, that have waited for longer than overdue_ns()
};

struct AdmissionDecision {
  std::uint64_t limit = 0;      // requests in flight; 0: none
  double capacity_per_s = 0;    // that the limit is for, or would be
  bool saturated = false;       // at this tick
  bool completes = false;       // saturated, and what it completes is its capacity
};

class Admission {
 public:
  explicit Admission(AdmissionSettings settings = {}) : settings_(settings) {}

  // The age from which a request is overdue: part of the patience, and at least four times the
  // usual response time, for a service may be slow and its clients know. 0: nothing is, for no
  // client has been seen to leave.
  std::uint64_t overdue_ns(std::uint64_t patience_ns, std::uint64_t usual_response_ns) const;

  // patience_ns: what clients wait before they leave; 0: not known, then there is no limit.
  AdmissionDecision tick(std::uint64_t elapsed_ns, std::uint64_t patience_ns,
                         std::uint64_t usual_response_ns,
                         std::span<const AdmissionBackend> backends);

  const AdmissionDecision& decision() const { return decision_; }

 private:
  struct Completed {
    std::uint64_t elapsed_ns = 0;
    std::uint64_t answered = 0;
  };
  bool is_saturated(std::span<const AdmissionBackend> backends) const;
  void count(std::uint64_t elapsed_ns, std::uint64_t answered);
  double rate_per_s() const;        // over the window
  bool completes_steadily() const;  // in each quarter of it
  void learn_capacity(std::uint64_t elapsed_ns);
  void shorten(std::uint64_t elapsed_ns, std::uint64_t waiting);
  bool lets_go(std::uint64_t elapsed_ns, std::uint64_t waiting);

  AdmissionSettings settings_;
  AdmissionDecision decision_;
  std::deque<Completed> window_;    // newest last
  std::uint64_t window_ns_ = 0;
  double capacity_per_s_ = 0;
  double before_per_s_ = 0;         // the capacity before the service was saturated
  double part_ = 0;                 // of the patience; 0: no limit is in force
  std::uint64_t reached_ns_ = 0;    // for how long on end it was
  std::uint64_t saturated_ns_ = 0;  // for how long on end
  std::uint64_t quiet_ns_ = 0;      // for how long the limit was not needed
};

}  // namespace petrel
