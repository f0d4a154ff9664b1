// SPDX-License-Identifier: MIT
// ServiceLoop: one service's part of the loop: scored observations in, weights and ring moves out.
//
// Holds for each backend what the loop remembers between ticks. Computes the same in every mode;
// whether the result is published is the caller's to ask of acts(): not while the loop is held, for its
// model is not to be believed. A backend that drains, by order or
// because the configuration has it no longer, has no slots and no part in the law. What a person has
// ordered of weights is in force in every mode (loop/order.hpp). No I/O.
#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <vector>

#include "base/state.hpp"
#include "config/config.hpp"
#include "control/capacity.hpp"
#include "control/risk.hpp"
#include "control/weights.hpp"
#include "features/features.hpp"
#include "loop/explanation.hpp"
#include "loop/order.hpp"
#include "maps/waiting_audit.hpp"
#include "maps/waiting_ledger.hpp"
#include "ring/ring.hpp"

namespace petrel {

struct BackendLoop {
  BackendConfig config;
  BackendRisk risk;
  Capacity capacity;
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
  std::uint32_t hand_q16 = kWholeWeight;    // set by hand, as a part of the configured weight
  std::uint32_t frozen_q16 = kWholeWeight;  // what control had in force as its service was frozen
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

  bool acts() const {
    return config_.mode == ServiceMode::kAct && !held_ && !harmed_ &&
           order_ != ServiceOrder::kNeutral;
  }
  // What is in force of a backend's weight, and why: orders, control, or neither.
  WeightInForce in_force_weight(const BackendLoop& backend) const;
  // A person's order for all weights. Freezing keeps what is in force now. Then settle().
  void set_order(ServiceOrder order);
  ServiceOrder order() const { return order_; }
  // A weight by hand, as a part of the configured one: what control then starts from. Then settle().
  void set_hand(BackendLoop& backend, std::uint32_t hand_q16) { backend.hand_q16 = hand_q16; }
  // Held: as if its mode were neutral. Then settle().
  void hold(bool held) { held_ = held; }
  bool held() const { return held_; }
  // Its weights were found to do harm: the same, with a reason of its own. Then settle().
  void set_harmed(bool harmed) { harmed_ = harmed; }
  bool harmed() const { return harmed_; }
  // Some flows are placed otherwise than by configured weights, or those by hand, because of what was
  // learned.
  bool weights_differ() const { return acts() && in_force_ != neutral_; }
  // A flow whose slot is left as in the neutral ring: what the others are judged by.
  bool in_holdout(const bpf::connection_key& key) const;
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
  std::uint32_t control_q16(const BackendLoop& backend) const;
  void save_orders(StateOut& out, const std::string& name) const;
  void load_orders(StateIn& in, const std::string& name);
  void build_neutral_ring(std::uint32_t slots);
  std::vector<RingMember> members(bool in_force) const;
  std::vector<RingChange> move_ring();
  void count_slots();

  ServiceConfig config_;
  WeightController controller_;
  std::vector<BackendLoop> backends_;
  std::vector<std::uint32_t> neutral_;
  std::vector<std::uint32_t> in_force_;
  std::vector<std::uint8_t> holdout_;  // by slot; empty: none
  std::uint64_t moved_slots_ = 0;
  WeightSettings settings_;
  bool leaving_ = false;
  bool held_ = false;
  bool harmed_ = false;
  ServiceOrder order_ = ServiceOrder::kNone;
};

}  // namespace petrel
