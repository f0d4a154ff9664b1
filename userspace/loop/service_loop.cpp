// SPDX-License-Identifier: MIT
#include "loop/service_loop.hpp"

#include <algorithm>
#include <unordered_map>

namespace petrel {
namespace {

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

}  // namespace

ServiceLoop::ServiceLoop(const ServiceConfig& config, const WeightSettings& settings)
    : config_(config), controller_(settings), settings_(settings) {
  for (const BackendConfig& backend : config_.backends) {
    backends_.emplace_back();
    backends_.back().config = backend;
    backends_.back().decision.backend_id = backend.id;
  }
  neutral_ = build_neutral(members(false), ring_slots(backends_.size()));
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
  neutral_ = build_neutral(members(false), static_cast<std::uint32_t>(neutral_.size()));
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
    backend.decision.factor_q16 = weight.factor_q16;
    backend.decision.factor = static_cast<double>(weight.factor_q16) / 65536;
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

std::vector<RingMember> ServiceLoop::members(bool with_factors) const {
  std::vector<RingMember> out;
  for (const BackendLoop& backend : backends_) {
    if (backend.drains() || backend.leaving) continue;
    const std::uint64_t factor_q16 = with_factors ? backend.decision.factor_q16 : 65536;
    out.push_back({backend.config.id, ring_seed(backend.config.address, backend.config.port),
                   backend.config.weight * factor_q16});
  }
  return out;
}

void ServiceLoop::count_slots() {
  std::unordered_map<std::uint32_t, std::uint32_t> counts;
  for (const std::uint32_t backend_id : in_force_) ++counts[backend_id];
  for (BackendLoop& backend : backends_) backend.slots = counts[backend.config.id];
}

std::vector<RingChange> ServiceLoop::move_ring() {
  std::vector<RingChange> changes = reweigh(in_force_, neutral_, members(acts()));
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
  std::vector<BackendInput> inputs;
  for (BackendLoop& backend : backends_) {
    backend.reading = backend.risk.reading(service.mean());
    if (backend.drains()) continue;
    inputs.push_back({backend.config.id, backend.config.weight, backend.reading, backend.probe});
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
