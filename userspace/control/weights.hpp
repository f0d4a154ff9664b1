// SPDX-License-Identifier: MIT
// From risk to weights: one controller for each service, one call for each tick.
//
// The law. d = a backend's risk less that of its peers: the others that are at most half as risky,
// by their weights, for that is where its traffic would go (all others where there are none). The
// weight falls by exp(-gain * d * gate) each 100 ms, while d stands out of the noise by more than
// 0.05 and the newest evidence agrees; gate = 1 - peers' risk / 0.15 closes as the peers get into
// trouble themselves. The way back is quick on evidence, and a doubling each 2 s in silence. The
// rails (WeightSettings) come last and hold whatever the law wants. Pure: time comes in as a
// number.
//
// A backend that refuses or never answers goes to weight 0 until its probes are answered, and returns
// by a slow start. What a backend has shown that it can carry bounds what is moved to it (capacity.hpp):
// the rest stays where it is, in part. One that flaps must have been answering for 2^n - 1 s first, n being how often
// it went out before, lately; 60 s at most.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "bpf/types.h"
#include "control/risk.hpp"

namespace petrel {

// The section [control] of the configuration.
struct WeightSettings {
  double gain = 6.0;               // from 3 on: the quicker the fewer retries
  double floor = 0.002;            // least factor of a backend that answers at all
  double panic_share = 0.5;        // less of the base capacity than this left: spread evenly
  double growth_cap = 2.0;         // a share may grow to this many times its base share
  double slow_start_per_s = 0.1;   // of the base weight, on return from weight 0
  std::uint32_t min_samples = 10;  // fewer in the window: no first move down on them
};

// What the agent's own connect() probes say. Only these two take a backend to weight 0.
enum class ProbeResult : std::uint8_t {
  kUnknown,  // not probed
  kAnswers,
  kRefuses,
  kSilent,  // never answers
};

struct BackendInput {
  std::uint32_t backend_id = 0;
  std::uint32_t base_weight = 0;  // as configured or set by hand; 0: drained
  RiskReading risk;
  ProbeResult probe = ProbeResult::kUnknown;
  double asked_per_s = 0;     // requests, now
  double capacity_per_s = 0;  // that it can carry; 0: not known
};

// Which rails held a weight: bits of WeightDecision::rails.
enum Rail : std::uint32_t {
  kRailPanic = 1 << 0,
  kRailFloor = 1 << 1,
  kRailQuarantine = 1 << 2,
  kRailSlowStart = 1 << 3,
  kRailGrowthCap = 1 << 4,
  kRailSamples = 1 << 5,
  kRailShared = 1 << 6,
  kRailCapacity = 1 << 7,
};

// "panic,floor"; "" for none.
std::string rail_names(std::uint32_t rails);

struct WeightDecision {
  std::uint32_t backend_id = 0;
  double factor = 1;  // weight in force as a part of the base, 0 to 1
  std::uint32_t factor_q16 = 65536;
  bpf::weight_reason reason = bpf::REASON_BASE;
  std::uint32_t rails = 0;  // enum Rail
  bool changed = false;     // factor differs from the last tick's
  // Why, for the decision log and `petrel explain`:
  double wanted = 1;  // what the law alone asks for
  double peers_risk = 0;
  double difference = 0;  // d
  double gate = 1;
};

class WeightController {
 public:
  explicit WeightController(WeightSettings settings = {}) : settings_(settings) {}

  // Takes up a weight that is already in force (an agent's restart); before the first tick.
  void adopt(std::uint32_t backend_id, double factor);

  // One decision for each input, in the inputs' order. Backends that are no longer among the inputs
  // are forgotten. A tick longer than 1 s counts as 1 s; the first counts as 100 ms.
  std::vector<WeightDecision> tick(std::uint64_t now_ns, std::span<const BackendInput> inputs);

  bool in_panic() const { return panic_; }

  // What outlasts a tick, for base/state.hpp: of the whole, and of each backend.
  template <class Fields>
  void archive(Fields& fields) {
    fields("control_last_ns", last_ns_);
    fields("control_panic", panic_);
  }
  template <class Fields>
  void archive_backend(Fields& fields, std::uint32_t backend_id) {
    bool known = states_.contains(backend_id);
    fields("control_known", known);
    State none;
    State& state = known ? states_[backend_id] : none;
    fields("control_wanted", state.wanted);
    fields("control_held", state.held);
    fields("control_published", state.published);
    fields("control_ceiling", state.ceiling);
    fields("control_good_answers", state.good_answers);
    fields("control_flaps", state.flaps);
    fields("control_answering_s", state.answering_s);
  }

 private:
  struct State {
    double wanted = 1;        // the law's factor, which goes on under a rail
    double held = 1;          // the same without changes too small to be worth a slot
    double published = 1;     // the factor in force, rails included
    double ceiling = 1;       // slow start: under 1 since the backend was at weight 0
    double good_answers = 0;  // answered since the last bad evidence
    double flaps = 0;         // times that it went to weight 0, halved each 10 minutes
    double answering_s = 0;   // at weight 0: for how long its probes have been answered on end
  };
  using Inputs = std::span<const BackendInput>;
  using Decisions = std::vector<WeightDecision>;

  void forget_absent(Inputs inputs);
  // The law for one backend; `ticks` is the elapsed time in units of 100 ms.
  void decide(const BackendInput& input, double ticks, State& state, WeightDecision& decision);
  bool push_down(const RiskReading& risk, double ticks, State& state, WeightDecision& decision);
  void climb(const RiskReading& risk, double ticks, State& state, WeightDecision& decision);
  void quarantine(const BackendInput& input, double ticks, State& state, WeightDecision& decision);
  bool is_out(const BackendInput& input, double ticks, State& state) const;
  void hold_slow_start(double ticks, State& state, WeightDecision& decision);
  void hold_small_changes(State& state, WeightDecision& decision) const;
  // The rails over the service as a whole.
  void hold_panic(Inputs inputs, Decisions& decisions);
  void hold_growth(Inputs inputs, Decisions& decisions) const;
  void hold_capacity(Inputs inputs, Decisions& decisions) const;
  void publish(Decisions& decisions);

  WeightSettings settings_;
  std::unordered_map<std::uint32_t, State> states_;
  std::uint64_t last_ns_ = 0;  // 0: no tick yet
  bool panic_ = false;
};

}  // namespace petrel
