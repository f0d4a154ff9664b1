// SPDX-License-Identifier: MIT
// The law of one backend. What holds over a service as a whole is in rails.cpp.
#include "control/weights.hpp"

#include <algorithm>
#include <cmath>
#include <unordered_set>

#include "control/peers.hpp"

namespace petrel {
namespace {

constexpr double kTickNs = 100e6;         // the unit of all rates below
constexpr double kLongestTicks = 10;      // an agent that slept must not act on it all at once
constexpr double kNoticeable = 0.05;      // least difference that moves a weight
constexpr double kStandardErrors = 1.5;   // that it must exceed its own noise by
constexpr double kPriorSamples = 4;       // RiskSettings: the least that the noise is taken from
constexpr double kPeersInTrouble = 0.15;  // where the gate is shut
constexpr double kShared = 0.3;           // peers' risk from which all weights go to base
constexpr double kWell = 0.1;             // own risk under which the way back is quick
constexpr double kEnoughAnswers = 5;      // and this many answers since the last bad one
constexpr double kQuickLeft = 0.9;        // of the distance to base, after a tick
constexpr double kDoublingTicks = 20;     // in silence
constexpr double kDemoted = 0.5;          // below, the case is made: no more samples are asked for
constexpr double kSnap = 0.99;            // from here it is 1
constexpr double kFlapHalfLifeS = 600;
constexpr double kMostFlaps = 16;         // beyond it waits no longer
constexpr double kLongestWaitS = 60;
constexpr double kWorthMoving = 0.02;     // of a factor: smaller changes are not worth moved slots

// A tenth of the way to base each tick.
double nearer_to_base(double factor, double ticks) {
  return 1 - (1 - factor) * std::pow(kQuickLeft, ticks);
}

// The standard error of a mean of yes-or-no outcomes: the most that noise can be.
double noise(const RiskReading& risk) {
  return std::sqrt(risk.risk * (1 - risk.risk) / (risk.samples + kPriorSamples));
}

bool has_bad_news(const RiskReading& risk, const WeightDecision& decision) {
  return risk.answered + risk.waiting > 0 && risk.fresh - decision.peers_risk > kNoticeable &&
         decision.difference > kNoticeable;
}

}  // namespace

void WeightController::adopt(std::uint32_t backend_id, double factor) {
  State state;
  state.wanted = state.held = state.published = std::clamp(factor, 0.0, 1.0);
  if (state.wanted <= 0) state.ceiling = 0;
  states_[backend_id] = state;
}

std::vector<WeightDecision> WeightController::tick(std::uint64_t now_ns, Inputs inputs) {
  const double elapsed_ns =
      last_ns_ == 0 ? kTickNs : static_cast<double>(now_ns - std::min(now_ns, last_ns_));
  const double ticks = std::min(elapsed_ns / kTickNs, kLongestTicks);
  last_ns_ = now_ns;
  forget_absent(inputs);

  // By what the law wants, not by what is in force: in panic all are in force, and would all be
  // each other's peers.
  std::vector<WeightedRisk> risks;
  risks.reserve(inputs.size());
  for (const BackendInput& input : inputs) {
    const State& state = states_[input.backend_id];
    risks.push_back({input.risk.risk, input.base_weight * std::min(state.wanted, state.ceiling)});
  }
  const std::vector<double> peers = peers_risks(risks);

  Decisions decisions(inputs.size());
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    WeightDecision& decision = decisions[i];
    decision.backend_id = inputs[i].backend_id;
    decision.peers_risk = peers[i];
    decision.difference = inputs[i].risk.risk - peers[i];
    decision.gate = std::max(0.0, 1 - peers[i] / kPeersInTrouble);
    decide(inputs[i], ticks, states_[inputs[i].backend_id], decision);
  }
  hold_panic(inputs, decisions);
  hold_growth(inputs, decisions);
  hold_capacity(inputs, decisions);
  publish(decisions);
  return decisions;
}

void WeightController::forget_absent(Inputs inputs) {
  std::unordered_set<std::uint32_t> present;
  for (const BackendInput& input : inputs) present.insert(input.backend_id);
  std::erase_if(states_, [&](const auto& entry) { return !present.contains(entry.first); });
}

void WeightController::decide(const BackendInput& input, double ticks, State& state,
                              WeightDecision& decision) {
  state.flaps *= std::exp2(-ticks * kTickNs / 1e9 / kFlapHalfLifeS);
  if (is_out(input, ticks, state)) {
    quarantine(input, ticks, state, decision);
    return;
  }
  if (decision.peers_risk > kShared) {
    state.wanted = nearer_to_base(state.wanted, ticks);
    decision.rails |= kRailShared;
    // A backend that is well itself is at base for no other reason than that.
    if (input.risk.risk > kShared || state.wanted < kSnap) decision.reason = bpf::REASON_SHARED;
  } else if (!push_down(input.risk, ticks, state, decision)) {
    climb(input.risk, ticks, state, decision);
  }

  if (state.wanted <= settings_.floor) {
    state.wanted = settings_.floor;
    decision.rails |= kRailFloor;
    decision.reason = bpf::REASON_FLOOR;
  } else if (state.wanted >= kSnap) {
    state.wanted = 1;
  }
  decision.wanted = decision.factor = state.wanted;
  hold_slow_start(ticks, state, decision);
  hold_small_changes(state, decision);
}

bool WeightController::push_down(const RiskReading& risk, double ticks, State& state,
                                 WeightDecision& decision) {
  // The newest evidence must agree: a burst that is over, or old evidence in silence, moves
  // nothing.
  if (!has_bad_news(risk, decision)) return false;
  decision.reason = state.wanted < 1 ? bpf::REASON_RISK : bpf::REASON_BASE;
  if (state.wanted > kDemoted) {
    if (risk.samples < settings_.min_samples) {
      decision.rails |= kRailSamples;
      decision.reason = bpf::REASON_SAMPLES;
      return true;
    }
    if (decision.difference - kStandardErrors * noise(risk) <= kNoticeable) return true;
  }
  state.good_answers = 0;
  if (decision.gate <= 0) return true;
  const double from = std::min(state.wanted, std::max(state.ceiling, settings_.floor));
  state.wanted = from * std::exp(-settings_.gain * decision.difference * decision.gate * ticks);
  decision.reason = bpf::REASON_RISK;
  return true;
}

void WeightController::climb(const RiskReading& risk, double ticks, State& state,
                             WeightDecision& decision) {
  state.good_answers += static_cast<double>(risk.answered);
  if (state.wanted >= 1) return;
  decision.reason = bpf::REASON_RECOVERING;
  const double quick = nearer_to_base(state.wanted, ticks);
  if (risk.risk < kWell && state.good_answers >= kEnoughAnswers) {
    state.wanted = quick;
    return;
  }
  // Silence proves nothing, but without some traffic nothing can ever be proved.
  state.wanted = std::min(quick, state.wanted * std::exp2(ticks / kDoublingTicks));
}

// Once out, only answers bring it back: not having asked is no answer. The first time the first one
// does; one that has gone out again and again since is believed the later.
bool WeightController::is_out(const BackendInput& input, double ticks, State& state) const {
  if (input.probe == ProbeResult::kRefuses || input.probe == ProbeResult::kSilent) return true;
  if (state.ceiling > 0) return false;
  if (input.probe != ProbeResult::kAnswers) return true;
  const double wait_s =
      std::min(std::exp2(std::max(std::round(state.flaps) - 1, 0.0)) - 1, kLongestWaitS);
  return state.answering_s + ticks * kTickNs / 1e9 <= wait_s;
}

void WeightController::quarantine(const BackendInput& input, double ticks, State& state,
                                  WeightDecision& decision) {
  if (state.ceiling > 0) state.flaps = std::min(state.flaps + 1, kMostFlaps);
  const bool answers = input.probe == ProbeResult::kAnswers;
  state.answering_s = answers ? state.answering_s + ticks * kTickNs / 1e9 : 0;
  state.ceiling = state.held = 0;
  state.wanted = 1;  // what it will climb to once it answers, under the slow start's ceiling
  state.good_answers = 0;
  decision.wanted = decision.factor = 0;
  decision.rails |= kRailQuarantine;
  decision.reason = bpf::REASON_QUARANTINE;
}

void WeightController::hold_slow_start(double ticks, State& state, WeightDecision& decision) {
  if (state.ceiling >= 1) return;
  state.ceiling = std::min(1.0, state.ceiling + settings_.slow_start_per_s * ticks * kTickNs / 1e9);
  const double limit = std::max(state.ceiling, settings_.floor);
  if (decision.factor <= limit) return;
  decision.factor = limit;
  decision.rails |= kRailSlowStart;
  decision.reason = bpf::REASON_RECOVERING;
}

void WeightController::hold_small_changes(State& state, WeightDecision& decision) const {
  const bool at_an_end = decision.factor >= 1 || decision.factor <= settings_.floor;
  if (at_an_end || std::abs(decision.factor - state.held) >= kWorthMoving * state.held) {
    state.held = decision.factor;
  }
  decision.factor = state.held;
}

}  // namespace petrel
