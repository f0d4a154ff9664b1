// SPDX-License-Identifier: MIT
// ServiceLoop: one service's part of the loop: scored observations in, weights and ring moves out.
//
// Holds for each backend what the loop remembers between ticks. Computes the same in every mode;
// whether the result is published is the caller's to ask of acts(). No I/O.
#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <vector>

#include "agent/explanation.hpp"
#include "config/config.hpp"
#include "control/risk.hpp"
#include "control/weights.hpp"
#include "features/features.hpp"
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
  ProbeResult probe = ProbeResult::kUnknown;
  bool quarantined = false;        // as the data path was told
  bpf::next_hop hop{};
  bpf::backend_stats stats{};      // sums as of the last tick
  std::uint32_t slots = 0;         // of the ring in force
  std::uint64_t changed_ns = 0;    // when its factor last changed
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

  // Takes over a ring and the factors in force from an earlier agent; before the first tick.
  void adopt(std::vector<std::uint32_t> in_force, std::span<const bpf::weight> weights_by_id);

  void score(BackendLoop& backend, const Model& model, const Scored& scored);

  // Ends a tick: risk of all, decisions, and the slots that move for them.
  std::vector<RingChange> end_tick(std::uint64_t now_ns, std::chrono::nanoseconds elapsed);

  bool acts() const { return config_.mode == ServiceMode::kAct; }
  bool in_panic() const { return controller_.in_panic(); }
  const ServiceConfig& config() const { return config_; }
  std::vector<BackendLoop>& backends() { return backends_; }
  const std::vector<BackendLoop>& backends() const { return backends_; }
  BackendLoop* find(std::uint32_t backend_id);
  const std::vector<std::uint32_t>& neutral() const { return neutral_; }
  const std::vector<std::uint32_t>& in_force() const { return in_force_; }
  std::uint64_t moved_slots() const { return moved_slots_; }  // ever

 private:
  std::vector<RingMember> members(bool with_factors) const;
  std::vector<RingChange> move_ring();
  void count_slots();

  ServiceConfig config_;
  WeightController controller_;
  std::vector<BackendLoop> backends_;
  std::vector<std::uint32_t> neutral_;
  std::vector<std::uint32_t> in_force_;
  std::uint64_t moved_slots_ = 0;
};

}  // namespace petrel
