// SPDX-License-Identifier: MIT
// The risk of one backend: how likely a request to it is to be retried, from scored observations.
//
// Two time scales make one window. While traffic is dense it is what was scored lately (half-life
// 300 ms); where that holds fewer samples than `history_samples` it is filled up with the mean of
// the last ones seen, however long ago: silence is not taken for health. Requests that wait now
// count in full at each tick and leave no trace. Few samples are shrunk toward the service's mean.
#pragma once

#include <chrono>
#include <cstdint>

namespace petrel {

struct RiskSettings {
  std::chrono::nanoseconds half_life{std::chrono::milliseconds{300}};
  double history_samples = 16;  // the window never shrinks under this many, once they were seen
  double prior_samples = 4;     // how many samples the service's mean counts for
};

// Sums that add up over the backends of a service.
struct RiskSum {
  double risk = 0;     // summed probabilities
  double samples = 0;  // how many they are

  RiskSum& operator+=(const RiskSum& other) {
    risk += other.risk;
    samples += other.samples;
    return *this;
  }
  double mean() const { return samples > 0 ? risk / samples : 0; }
};

// What one tick knows of a backend. Risks are probabilities, 0 to 1.
struct RiskReading {
  double risk = 0;             // the whole window, shrunk: what the controller acts on
  std::uint32_t risk_q16 = 0;  // the same for the weights map
  double low = 0;              // of risk: 95 % interval (Wilson, JASA 1927), as of outcomes
  double high = 1;
  double samples = 0;          // in the window, waiting requests included
  double fast = 0;             // decayed mean alone, unshrunk; 0 without samples
  double slow = 0;             // mean of the last history_samples, unshrunk, no decay in time
  std::uint64_t answered = 0;  // scored events in this tick
  std::uint64_t waiting = 0;   // requests waiting at this tick
  // Mean risk of the newest: of these two together, and where they are fewer than 10 of what came
  // shortly before, too. 0 without any.
  double fresh = 0;
};

class BackendRisk {
 public:
  explicit BackendRisk(RiskSettings settings = {}) : settings_(settings) {}

  // One scored event (an answer, an end) since the last tick. 65536 = certain; more is cut.
  void add(std::uint32_t probability_q16) { add(probability_q16, 1); }
  // `count` events of the same score.
  void add(std::uint32_t probability_q16, std::uint64_t count);

  // `count` requests wait now, each this likely to be retried. Call between the events of a tick
  // and end_tick(), for each age group; forgotten with the next tick's first call.
  void add_waiting(std::uint64_t count, std::uint32_t probability_q16);

  // Ends a tick that took `elapsed`: decays what was there before and takes up what was added.
  void end_tick(std::chrono::nanoseconds elapsed);

  // Of the last ended tick. Sum over the service's backends, then ask each for its reading().
  RiskSum sum() const;
  RiskReading reading(double service_mean) const;

  // What outlasts a tick, for base/state.hpp; between two ticks.
  template <class Fields>
  void archive(Fields& fields) {
    fields("risk_fast", fast_.risk);
    fields("risk_fast_samples", fast_.samples);
    fields("risk_slow", slow_);
    fields("risk_slow_samples", slow_samples_);
    fields("risk_tick", tick_.risk);
    fields("risk_tick_samples", tick_.samples);
    fields("risk_newest", newest_.risk);
    fields("risk_newest_samples", newest_.samples);
    fields("risk_waiting", waiting_.risk);
    fields("risk_waiting_samples", waiting_.samples);
  }

 private:
  // How much of the history fills the window up.
  double history_weight() const;

  RiskSettings settings_;
  RiskSum added_;           // events of the tick that is open
  RiskSum adding_waiting_;  // waiting requests of the tick that is open
  RiskSum fast_;            // decayed, last tick included
  RiskSum tick_;            // events of the last ended tick
  RiskSum newest_;          // the same, with some of those before where they are few
  RiskSum waiting_;         // waiting at the last ended tick
  double slow_ = 0;
  double slow_samples_ = 0;  // up to history_samples
};

}  // namespace petrel
