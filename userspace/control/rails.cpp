// SPDX-License-Identifier: MIT
// The rails over a service as a whole, which come after the law of each backend.
#include <algorithm>
#include <cmath>
#include <iterator>

#include "control/weights.hpp"

namespace petrel {
namespace {

constexpr double kStillServing = 0.5;     // from this factor on, a backend counts as full capacity
constexpr double kPanicHysteresis = 0.1;  // of base capacity, more to leave panic than to enter
constexpr double kOneQ16 = 65536;

double base_sum(std::span<const BackendInput> inputs) {
  double sum = 0;
  for (const BackendInput& input : inputs) sum += input.base_weight;
  return sum;
}

std::uint32_t to_q16(double factor) {
  if (factor <= 0) return 0;
  return static_cast<std::uint32_t>(std::max(std::lround(factor * kOneQ16), 1L));
}

}  // namespace

std::string rail_names(std::uint32_t rails) {
  constexpr const char* kNames[] = {"panic",      "floor",   "quarantine", "slow_start",
                                    "growth_cap", "samples", "shared",  "capacity"};
  std::string names;
  for (std::size_t bit = 0; bit < std::size(kNames); ++bit) {
    if ((rails & (1U << bit)) == 0) continue;
    if (!names.empty()) names += ',';
    names += kNames[bit];
  }
  return names;
}

// When so much looks bad, it is more likely that the view is wrong, or that what is left would
// fall over too, than that spreading evenly makes it worse.
void WeightController::hold_panic(Inputs inputs, Decisions& decisions) {
  const double total = base_sum(inputs);
  double serving = 0;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (decisions[i].factor >= kStillServing) serving += inputs[i].base_weight;
  }
  const double limit = settings_.panic_share + (panic_ ? kPanicHysteresis : 0);
  panic_ = total > 0 && serving < total * std::min(limit, 1.0);
  if (!panic_) return;
  for (WeightDecision& decision : decisions) {
    decision.factor = 1;
    decision.reason = bpf::REASON_PANIC;
    decision.rails |= kRailPanic;
  }
}

namespace {

// Gives part of what was taken off the lowered ones back to them, so that `missing` more is in force. One
// that refuses gets nothing: that would be no relief.
void give_back(double missing, Rail rail, std::span<const BackendInput> inputs,
               std::vector<WeightDecision>& decisions) {
  double taken = 0;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (decisions[i].factor > 0) taken += inputs[i].base_weight * (1 - decisions[i].factor);
  }
  if (missing <= 0 || taken <= 0) return;
  const double part = std::min(missing / taken, 1.0);
  for (WeightDecision& decision : decisions) {
    if (decision.factor <= 0 || decision.factor >= 1) continue;
    decision.factor += part * (1 - decision.factor);
    decision.reason = bpf::REASON_CAPPED;
    decision.rails |= rail;
  }
}

double in_force_sum(std::span<const BackendInput> inputs,
                    const std::vector<WeightDecision>& decisions) {
  double sum = 0;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    sum += inputs[i].base_weight * decisions[i].factor;
  }
  return sum;
}

}  // namespace

// A share grows by base sum / sum in force. Where that passes the cap, less is moved.
void WeightController::hold_growth(Inputs inputs, Decisions& decisions) const {
  const double in_force = in_force_sum(inputs, decisions);
  give_back(base_sum(inputs) / settings_.growth_cap - in_force, kRailGrowthCap, inputs, decisions);
}

// A backend is asked for its part of the sum in force; where that is more than it can carry, the sum
// must be larger. What only base weights could carry no move can help: then none is undone.
void WeightController::hold_capacity(Inputs inputs, Decisions& decisions) const {
  double demand = 0;
  for (const BackendInput& input : inputs) demand += input.asked_per_s;
  double needed = 0;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].capacity_per_s <= 0 || decisions[i].factor < 1) continue;
    needed = std::max(needed, demand * inputs[i].base_weight / inputs[i].capacity_per_s);
  }
  needed = std::min(needed, base_sum(inputs));
  give_back(needed - in_force_sum(inputs, decisions), kRailCapacity, inputs, decisions);
}

void WeightController::publish(Decisions& decisions) {
  for (WeightDecision& decision : decisions) {
    State& state = states_[decision.backend_id];
    decision.changed = decision.factor != state.published;
    state.published = decision.factor;
    decision.factor_q16 = to_q16(decision.factor);
  }
}

}  // namespace petrel
