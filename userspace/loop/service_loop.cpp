// SPDX-License-Identifier: MIT
#include "loop/service_loop.hpp"

#include <algorithm>
#include <unordered_map>

#include "bpf/hash.h"

namespace petrel {
namespace {

// Of a learned capacity: at the whole of it the queue that taught it would stay.
constexpr double kPartToUse = 0.9;

bool same_settings(const WeightSettings& left, const WeightSettings& right) {
  return left.gain == right.gain && left.floor == right.floor &&
         left.panic_share == right.panic_share && left.growth_cap == right.growth_cap &&
         left.slow_start_per_s == right.slow_start_per_s && left.min_samples == right.min_samples;
}

// Slots that name none of them go to others in any case.
WeightDecision drained_decision(std::uint32_t backend_id) {
  WeightDecision decision;
  decision.backend_id = backend_id;
  decision.factor = decision.wanted = 0;
  decision.factor_q16 = 0;
  decision.reason = bpf::REASON_DRAINING;
  return decision;
}

// A product of parts; what is above 0 stays so.
std::uint32_t part_of(std::uint32_t left_q16, std::uint32_t right_q16) {
  if (left_q16 == 0 || right_q16 == 0) return 0;
  const std::uint64_t product = std::uint64_t{left_q16} * right_q16 / kWholeWeight;
  return static_cast<std::uint32_t>(std::max<std::uint64_t>(product, 1));
}

}  // namespace

ServiceLoop::ServiceLoop(const ServiceConfig& config, const WeightSettings& settings)
    : config_(config), controller_(settings), settings_(settings) {
  for (const BackendConfig& backend : config_.backends) {
    backends_.emplace_back();
    backends_.back().config = backend;
    backends_.back().decision.backend_id = backend.id;
  }
  build_neutral_ring(ring_slots(backends_.size()));
  in_force_ = neutral_;
  count_slots();
}

ServiceLoop ServiceLoop::leaving(const ServiceConfig& config) {
  ServiceConfig without = config;
  without.backends.clear();
  ServiceLoop loop(without, {});
  loop.leaving_ = true;
  return loop;
}

void ServiceLoop::add_leaving(const BackendConfig& backend) {
  BackendLoop& added = backends_.emplace_back();
  added.config = backend;
  added.leaving = true;
  added.decision = drained_decision(backend.id);
}

void ServiceLoop::forget(std::uint32_t backend_id) {
  std::erase_if(backends_,
                [&](const BackendLoop& backend) { return backend.config.id == backend_id; });
}

void ServiceLoop::inherit(ServiceLoop& earlier) {
  for (BackendLoop& backend : backends_) {
    BackendLoop* had = earlier.find(backend.config.id);
    if (had == nullptr) continue;
    BackendLoop kept = std::move(*had);
    kept.config = backend.config;
    kept.leaving = backend.leaving;
    kept.drained_ns = backend.drained_ns;
    backend = std::move(kept);
  }
  if (same_settings(settings_, earlier.settings_)) {
    controller_ = std::move(earlier.controller_);
  } else {
    for (const BackendLoop& backend : backends_) {
      if (!backend.drains()) controller_.adopt(backend.config.id, backend.decision.factor);
    }
  }
  if (earlier.in_force_.size() == in_force_.size()) in_force_ = std::move(earlier.in_force_);
  moved_slots_ = earlier.moved_slots_;
  order_ = earlier.order_;
  harmed_ = earlier.harmed_;
}

void ServiceLoop::settle() {
  for (BackendLoop& backend : backends_) {
    const bool was_drained = backend.decision.reason == bpf::REASON_DRAINING;
    if (backend.drains()) {
      backend.decision = drained_decision(backend.config.id);
    } else if (was_drained) {
      backend.decision = {};
      backend.decision.backend_id = backend.config.id;
    }
  }
  build_neutral_ring(static_cast<std::uint32_t>(neutral_.size()));
  move_ring();
  count_slots();
}

ServiceConfig ServiceLoop::config_in_use() const {
  ServiceConfig config = config_;
  config.backends.clear();
  for (const BackendLoop& backend : backends_) config.backends.push_back(backend.config);
  return config;
}

void ServiceLoop::adopt(std::vector<std::uint32_t> in_force,
                        std::span<const bpf::weight> weights_by_id) {
  if (in_force.size() == neutral_.size()) in_force_ = std::move(in_force);
  for (BackendLoop& backend : backends_) {
    if (backend.config.id >= weights_by_id.size()) continue;
    const bpf::weight& weight = weights_by_id[backend.config.id];
    if (weight.base_weight == 0 || weight.drained_ns != 0) continue;  // it says nothing
    // Of what was in force the part by hand is known apart, or its time is over.
    std::uint64_t control_q16 = kWholeWeight;
    if (weight.reason != kReasonByHand && backend.hand_q16 > 0) {
      control_q16 = std::min<std::uint64_t>(
          std::uint64_t{weight.factor_q16} * kWholeWeight / backend.hand_q16, kWholeWeight);
    }
    backend.decision.factor_q16 = static_cast<std::uint32_t>(control_q16);
    backend.decision.factor = static_cast<double>(control_q16) / kWholeWeight;
    controller_.adopt(backend.config.id, backend.decision.factor);
  }
  count_slots();
}

BackendLoop* ServiceLoop::find(std::uint32_t backend_id) {
  // Ids mostly follow one another, and each event asks: no search over thousands then.
  if (!backends_.empty()) {
    const std::size_t place = backend_id - backends_.front().config.id;  // wraps below the first
    if (place < backends_.size() && backends_[place].config.id == backend_id) {
      return &backends_[place];
    }
  }
  const auto found = std::ranges::find_if(
      backends_, [&](const BackendLoop& backend) { return backend.config.id == backend_id; });
  return found == backends_.end() ? nullptr : &*found;
}

void ServiceLoop::score(BackendLoop& backend, const Model& model, const Scored& scored) {
  if (scored.waiting) {
    backend.risk.add_waiting(scored.count, scored.probability_q16);
  } else {
    backend.risk.add(scored.probability_q16, scored.count);
  }
  backend.explanation.add(model, *scored.features, static_cast<double>(scored.count));
}

void ServiceLoop::set_order(ServiceOrder order) {
  if (order == ServiceOrder::kFreeze && order_ != order) {
    for (BackendLoop& backend : backends_) backend.frozen_q16 = control_q16(backend);
  }
  order_ = order;
}

// Control's part of a weight in force.
std::uint32_t ServiceLoop::control_q16(const BackendLoop& backend) const {
  const bool frozen = order_ == ServiceOrder::kFreeze && config_.mode == ServiceMode::kAct;
  if (frozen) return backend.frozen_q16;
  return acts() ? backend.decision.factor_q16 : kWholeWeight;
}

WeightInForce ServiceLoop::in_force_weight(const BackendLoop& backend) const {
  // Draining is an order, not a conclusion: it is in force in each mode.
  if (backend.drains()) return {0, bpf::REASON_DRAINING};
  WeightInForce out{part_of(backend.hand_q16, control_q16(backend)), bpf::REASON_NEUTRAL};
  const bool by_hand = backend.hand_q16 != kWholeWeight;
  if (order_ == ServiceOrder::kFreeze) {
    out.reason = kReasonFrozen;
  } else if (harmed_ && config_.mode == ServiceMode::kAct) {
    out.reason = kReasonHarm;
  } else if (acts() && backend.decision.reason != bpf::REASON_BASE) {
    out.reason = backend.decision.reason;
  } else if (by_hand) {
    out.reason = kReasonByHand;
  } else if (acts()) {
    out.reason = bpf::REASON_BASE;
  }
  return out;
}

// Of the ring in force, or of the neutral one: which serves in each mode but `act`, and without an
// agent, so that what is set by hand counts there, too.
std::vector<RingMember> ServiceLoop::members(bool in_force) const {
  std::vector<RingMember> out;
  for (const BackendLoop& backend : backends_) {
    if (backend.drains() || backend.leaving) continue;
    const std::uint64_t factor_q16 =
        in_force ? in_force_weight(backend).factor_q16 : backend.hand_q16;
    out.push_back({backend.config.id, ring_seed(backend.config.address, backend.config.port),
                   backend.config.weight * factor_q16});
  }
  return out;
}

void ServiceLoop::build_neutral_ring(std::uint32_t slots) {
  neutral_ = build_neutral(members(false), slots);
  holdout_ = choose_holdout(neutral_, config_.is_balanced() ? config_.holdout : 0);
}

bool ServiceLoop::in_holdout(const bpf::connection_key& key) const {
  if (holdout_.empty()) return false;
  const bool by_client = config_.affinity == Affinity::kClient;
  const std::uint64_t hash = bpf::hash_flow(&key, kRingHashSeed, by_client);
  return holdout_[bpf::hash_slot(hash, static_cast<std::uint32_t>(holdout_.size()))] != 0;
}

void ServiceLoop::count_slots() {
  std::unordered_map<std::uint32_t, std::uint32_t> counts;
  for (const std::uint32_t backend_id : in_force_) ++counts[backend_id];
  for (BackendLoop& backend : backends_) backend.slots = counts[backend.config.id];
}

std::vector<RingChange> ServiceLoop::move_ring() {
  std::vector<RingChange> changes = reweigh(in_force_, neutral_, members(true), holdout_);
  for (const RingChange& change : changes) in_force_[change.slot] = change.backend_id;
  moved_slots_ += changes.size();
  if (!changes.empty()) count_slots();
  return changes;
}

std::vector<RingChange> ServiceLoop::end_tick(std::uint64_t now_ns,
                                              std::chrono::nanoseconds elapsed) {
  RiskSum service;
  for (BackendLoop& backend : backends_) {
    backend.risk.end_tick(elapsed);
    backend.explanation.decay(elapsed);
    service += backend.risk.sum();
  }
  const bool by_hand = std::ranges::any_of(
      backends_, [](const BackendLoop& backend) { return backend.hand_q16 != kWholeWeight; });
  std::vector<BackendInput> inputs;
  for (BackendLoop& backend : backends_) {
    backend.reading = backend.risk.reading(service.mean());
    if (backend.drains()) continue;
    // Control asks for proportions only; a weight of 65535 by a part of 65536 is still 32 bits.
    const std::uint32_t base_weight = backend.config.weight * (by_hand ? backend.hand_q16 : 1);
    BackendInput& input = inputs.emplace_back();
    input = {backend.config.id, base_weight, backend.reading, backend.probe};
    if (!config_.capacity_guard) continue;
    input.asked_per_s = backend.capacity.asked_per_s();
    input.capacity_per_s = backend.config.capacity_per_s > 0
                               ? backend.config.capacity_per_s
                               : kPartToUse * backend.capacity.capacity_per_s();
  }
  if (inputs.empty()) return {};
  const std::vector<WeightDecision> decisions = controller_.tick(now_ns, inputs);
  bool changed = false;
  auto decision = decisions.begin();
  for (BackendLoop& backend : backends_) {
    if (backend.drains()) continue;
    if (decision->changed) backend.changed_ns = now_ns;
    changed |= decision->changed;
    backend.decision = *decision++;
  }
  // A healthy ring is left alone; one that is off its neutral form is brought on its way each tick.
  if (!changed && in_force_ == neutral_) return {};
  return move_ring();
}

}  // namespace petrel
