// SPDX-License-Identifier: MIT
// How near a service is to a storm that sustains itself, and when a backlog will be gone.
//
// A fluid model, after N. Bronson et al., Metastable Failures in Distributed Systems (HotOS 2021).
// r first attempts a second come to backends that complete C a second; B requests are theirs to do;
// clients wait p.
// - What comes now is answered in B / C. While that is under p, retries add nothing: what remains
// is gone in
//   B / (C - r).
// - From B = p C on, what is worked on has been left by its client. Each attempt fails, and a
// failure is
//   followed by a retry with probability q: m = 1 / (1 - q) attempts for each first one. If m r >=
//   C they come as fast as they are worked off, and it lasts: the edge. Else it is under p C again
//   after (B - p C) / (C - m r).
// - A stop of all backends for T leaves r T: the service survives T = (p C - B) / r from now; a cut
// to c by
//   itself p C / (r - c), which `petrel simulate --boundary` finds 0.8 to 1.0 times (retries that
//   come before its end; docs/simulator.md).
// B is what waits, and what backends may still work on though its client has left: each that leaves
// unanswered adds one, and while they are saturated what they complete beyond answers takes one
// off. C is what a saturated service was seen to complete, or nothing is known of it: a service
// that is asked for less than it can do shows a lower bound only. Pure: time comes in as a number.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>

namespace petrel {

// What one tick knows of a service; counts since the last tick.
struct EdgeInput {
  std::uint64_t elapsed_ns = 0;
  std::uint64_t first_attempts = 0;
  std::uint64_t retries = 0;
  std::uint64_t failures = 0;     // of whatever kind
  std::uint64_t refused = 0;      // attempts, by us: they fail, and no backend has to do with them
  std::uint64_t answered = 0;     // well
  std::uint64_t left = 0;         // clients that left unanswered
  std::uint64_t waiting = 0;      // SYNs and requests without an answer now
  std::uint64_t patience_ns = 0;  // what clients wait; 0: not known
  std::uint64_t usual_response_ns = 0;
  bool saturated = false;  // AdmissionDecision
  bool completes = false;
  double capacity_per_s = 0;
};

// Nothing: not known.
struct EdgeReading {
  double first_attempts_per_s = 0;  // over the last 10 s, as all that follows
  double amplification = 1;         // attempts for each first one
  std::optional<double>
      storm_amplification;               // m: if each attempt failed; at most kMostAmplification
  std::optional<double> capacity_per_s;  // C
  std::optional<double> capacity_age_s;  // since it was last seen
  double capacity_at_least_per_s = 0;    // completed of late
  std::optional<double> headroom;  // of the capacity, that attempts leave; below 0: they are more
  double backlog = 0;              // B
  std::optional<double> patience_s;
  std::optional<double> answer_delay_s;   // B / C
  bool can_last = true;                   // m r >= C: there is an edge; true where not known
  std::optional<double> stop_survived_s;  // the longest one from now on; needs can_last
  bool in_storm = false;                  // beyond the edge: it will last
  // Until the backlog is what it usually is; 0: it is. Nothing where not known, or in_storm.
  std::optional<double> recovery_s;
};

class Edge {
 public:
  static constexpr double kMostAmplification = 10;
  static constexpr double kLeastFailures =
      20;  // that say how often a failure is followed by a retry

  const EdgeReading& tick(const EdgeInput& input);
  const EdgeReading& reading() const { return reading_; }

 private:
  void count(const EdgeInput& input);
  void learn_capacity(const EdgeInput& input);
  bool is_asked_for_more(const EdgeInput& input) const;
  bool completes_more() const;
  void follow_backlog(const EdgeInput& input);
  void predict(const EdgeInput& input);
  std::optional<double> recovery_s(double capacity, double patience_s, double usual) const;

  EdgeReading reading_;
  std::deque<EdgeInput> window_;  // newest last
  EdgeInput sum_;                 // of it
  double failures_ = 0;           // decayed over minutes
  double retries_ = 0;
  double completed_ = 0;       // while saturated, over completed_s_ of late
  double completed_s_ = 0;
  double capacity_per_s_ = 0;  // 0: not known
  double capacity_age_s_ = 0;
  double left_ = 0;  // of the backlog: whose clients have left
};

}  // namespace petrel
