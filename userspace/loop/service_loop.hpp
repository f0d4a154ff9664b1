// SPDX-License-Identifier: MIT
// ServiceLoop: one service's part of the loop: scored observations in, weights and ring moves out.
//
// Holds for each backend what the loop remembers between ticks. Computes the same in every mode;
// whether the result is published is the caller's to ask of acts(): not while the loop is held, for its
// model is not to be believed. A backend that drains, by order or
// because the configuration has it no longer, has no slots and no part in the law. No I/O.
#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <vector>

#include "base/state.hpp"
#include "config/config.hpp"
#include "control/risk.hpp"
#include "control/weights.hpp"
#include "features/features.hpp"
#include "loop/explanation.hpp"
#include "maps/waiting_audit.hpp"
#include "maps/waiting_ledger.hpp"
#include "ring/ring.hpp"

namespace petrel {

struct BackendLoop {
  BackendConfig config;
  BackendRisk risk;
  RiskReading reading;
  WeightDecision decision;
  Explanation explanation;
  WaitingLedger waiting_syn;
  WaitingLedger waiting;
  OldWaits old_waits;
  std::uint64_t waits_leaked = 0;  // found by audits, ever
  ProbeResult probe = ProbeResult::kUnknown;
  bpf::backend_state state = bpf::BACKEND_UNUSED;  // as the data path was told
  std::uint64_t drained_ns = 0;    // when its flows are reset or moved; 0: it does not drain
  bool leaving = false;            // the configuration has it no longer
  std::uint64_t connections = 0;   // that have not ended; counted while it drains
  bpf::next_hop hop{};
  std::uint32_t mtu_bytes = 0;     // of the way to it; 0: not known
  bpf::backend_stats stats{};      // sums as of the last tick
  std::uint32_t slots = 0;         // of the ring in force
  std::uint64_t changed_ns = 0;    // when its factor last changed

  bool drains() const { return drained_ns != 0; }
  bool is_past_deadline(std::uint64_t now_ns) const { return drains() && drained_ns <= now_ns; }
};

// One scored observation, or several alike.
struct Scored {
  const FeatureVector* features;
  std::uint32_t probability_q16;
  std::uint64_t count = 1;
  bool waiting = false;
};

class ServiceLoop {
 public:
  ServiceLoop(const ServiceConfig& config, const WeightSettings& settings);

  // A service that the configuration has no longer: it keeps its flows only.
  static ServiceLoop leaving(const ServiceConfig& config);

  // A backend that the configuration has no longer.
  void add_leaving(const BackendConfig& backend);
  void forget(std::uint32_t backend_id);  // such a one, whose flows have ended

  // Takes over a ring and the factors in force from an earlier agent; before the first tick.
  void adopt(std::vector<std::uint32_t> in_force, std::span<const bpf::weight> weights_by_id);
  // All that the loop of the same service knew before a reload, of backends with the same ids.
  void inherit(ServiceLoop& earlier);

  // Sets when a backend's flows are reset or moved; 0: it takes new ones again. Then settle().
  void set_drain(BackendLoop& backend, std::uint64_t drained_ns) { backend.drained_ns = drained_ns; }
  // Both rings follow who takes part, the one in force by the least moves.
  void settle();

  void score(BackendLoop& backend, const Model& model, const Scored& scored);

  // Ends a tick: risk of all, decisions, and the slots that move for them.
  std::vector<RingChange> end_tick(std::uint64_t now_ns, std::chrono::nanoseconds elapsed);

  bool acts() const { return config_.mode == ServiceMode::kAct && !held_; }
  // Held: as if its mode were neutral. Then settle().
  void hold(bool held) { held_ = held; }
  bool held() const { return held_; }
  bool in_panic() const { return controller_.in_panic(); }
  bool is_leaving() const { return leaving_; }
  const ServiceConfig& config() const { return config_; }
  // With the backends that are leaving: who may still have flows.
  ServiceConfig config_in_use() const;
  BudgetConfig& budget() { return config_.budget; }
  std::vector<BackendLoop>& backends() { return backends_; }
  const std::vector<BackendLoop>& backends() const { return backends_; }
  BackendLoop* find(std::uint32_t backend_id);
  const std::vector<std::uint32_t>& neutral() const { return neutral_; }
  const std::vector<std::uint32_t>& in_force() const { return in_force_; }
  std::uint64_t moved_slots() const { return moved_slots_; }  // ever

  // All that decides; loop_state.cpp.
  void save(StateOut& out, const std::string& name);
  static ServiceLoop load(StateIn& in, const std::string& name);

 private:
  template <class State>
  void archive(State& state, const std::string& name);  // of what is there already
  void save_ring(StateOut& out, const std::string& name) const;
  void load_ring(StateIn& in, const std::string& name);
  std::vector<RingMember> members(bool with_factors) const;
  std::vector<RingChange> move_ring();
  void count_slots();

  ServiceConfig config_;
  WeightController controller_;
  std::vector<BackendLoop> backends_;
  std::vector<std::uint32_t> neutral_;
  std::vector<std::uint32_t> in_force_;
  std::uint64_t moved_slots_ = 0;
  WeightSettings settings_;
  bool leaving_ = false;
  bool held_ = false;
};

}  // namespace petrel
