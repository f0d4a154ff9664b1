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
                                    "growth_cap", "samples", "shared"};
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

// A share grows by base sum / sum in force. Where that passes the cap, what was taken off the
// lowered ones is given back in part. One that refuses gets nothing: that would be no relief.
void WeightController::hold_growth(Inputs inputs, Decisions& decisions) const {
  const double total = base_sum(inputs);
  double in_force = 0;
  double taken = 0;  // that can be given back
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    in_force += inputs[i].base_weight * decisions[i].factor;
    if (decisions[i].factor > 0) taken += inputs[i].base_weight * (1 - decisions[i].factor);
  }
  const double missing = total / settings_.growth_cap - in_force;
  if (missing <= 0 || taken <= 0) return;
  const double part = std::min(missing / taken, 1.0);
  for (WeightDecision& decision : decisions) {
    if (decision.factor <= 0 || decision.factor >= 1) continue;
    decision.factor += part * (1 - decision.factor);
    decision.reason = bpf::REASON_CAPPED;
    decision.rails |= kRailGrowthCap;
  }
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
