// SPDX-License-Identifier: MIT
#include "agent/service_loop.hpp"

#include <algorithm>

namespace petrel {

ServiceLoop::ServiceLoop(const ServiceConfig& config, const WeightSettings& settings)
    : config_(config), controller_(settings) {
  for (const BackendConfig& backend : config_.backends) {
    backends_.emplace_back();
    backends_.back().config = backend;
    backends_.back().decision.backend_id = backend.id;
  }
  neutral_ = build_neutral(members(false), ring_slots(backends_.size()));
  in_force_ = neutral_;
  count_slots();
}

void ServiceLoop::adopt(std::vector<std::uint32_t> in_force,
                        std::span<const bpf::weight> weights_by_id) {
  if (in_force.size() == neutral_.size()) in_force_ = std::move(in_force);
  for (const BackendLoop& backend : backends_) {
    if (backend.config.id >= weights_by_id.size()) continue;
    const bpf::weight& weight = weights_by_id[backend.config.id];
    if (weight.base_weight == 0) continue;  // never written
    controller_.adopt(backend.config.id, static_cast<double>(weight.factor_q16) / 65536);
  }
  count_slots();
}

BackendLoop* ServiceLoop::find(std::uint32_t backend_id) {
  // Ids are given in the file's order: those of one service are consecutive.
  const std::uint32_t first = backends_.front().config.id;
  if (backend_id < first || backend_id - first >= backends_.size()) return nullptr;
  return &backends_[backend_id - first];
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
    const std::uint64_t factor_q16 = with_factors ? backend.decision.factor_q16 : 65536;
    out.push_back({backend.config.id, ring_seed(backend.config.address, backend.config.port),
                   backend.config.weight * factor_q16});
  }
  return out;
}

void ServiceLoop::count_slots() {
  for (BackendLoop& backend : backends_) {
    backend.slots = static_cast<std::uint32_t>(
        std::count(in_force_.begin(), in_force_.end(), backend.config.id));
  }
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
    inputs.push_back({backend.config.id, backend.config.weight, backend.reading, backend.probe});
  }
  const std::vector<WeightDecision> decisions = controller_.tick(now_ns, inputs);
  bool changed = false;
  for (std::size_t i = 0; i < backends_.size(); ++i) {
    backends_[i].decision = decisions[i];
    if (decisions[i].changed) backends_[i].changed_ns = now_ns;
    changed |= decisions[i].changed;
  }
  // A healthy ring is left alone; one that is off its neutral form is brought on its way each tick.
  if (!changed && in_force_ == neutral_) return {};
  return move_ring();
}

}  // namespace petrel
