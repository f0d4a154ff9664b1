// SPDX-License-Identifier: MIT
// What of the agent's doing goes to the decision log: each change, once.
#include <fmt/format.h>

#include <boost/json.hpp>
#include <cmath>
#include <utility>

#include "agent/agent.hpp"
#include "agent/report.hpp"

namespace petrel {
namespace {

constexpr std::size_t kTopFeatures = 3;
constexpr double kBudgetStep = 0.2;                         // a part by which a rate has changed
constexpr std::uint64_t kBudgetPeriodNs = 10'000'000'000;   // and the least time between two
constexpr std::uint64_t kRefusingForNs = 1'000'000'000;     // without a refusal: it is over

std::string model_text(const Model& model) {
  return model.name + " v" + std::to_string(model.version) + " (" + model_checksum(model) + ")";
}

std::vector<DecisionFeature> top_features(const BackendLoop& backend, const Model& model) {
  std::vector<DecisionFeature> out;
  for (const Contribution& push : backend.explanation.pushes(model)) {
    if (out.size() == kTopFeatures || push.log_odds_q16 == 0) break;
    out.push_back({std::string(push.feature), push.log_odds_q16 / 65536.0});
  }
  return out;
}

double share(std::uint32_t factor_q16) { return factor_q16 / 65536.0; }

}  // namespace

void Agent::log_decision(Decision decision) {
  decision.time_ns = static_cast<std::int64_t>(read_clocks().realtime_ns);
  decision.tick = facts_.ticks;
  if (decision.model.empty()) decision.model = model_text_;
  log_->add(std::move(decision));
}

void Agent::follow_model_text() {
  std::string text = model_text(model_);
  if (text == model_text_) return;
  const std::string before = std::exchange(model_text_, std::move(text));
  if (before.empty()) return;
  log_decision({.kind = DecisionKind::kModel, .before = before, .after = model_text_});
}

// Weights in force, and those that control would have where it may not.
void Agent::log_backend(const ServiceLoop& service, const BackendLoop& backend) {
  const WeightInForce in_force = service.in_force_weight(backend);
  const LoggedBackend now{in_force.factor_q16, backend.decision.factor_q16, backend.state};
  const auto [found, fresh] = logged_backends_.try_emplace(backend.config.id, now);
  LoggedBackend& before = found->second;
  if (fresh || now == before) return;
  Decision it{.service = service.config().name, .backend = backend.config.name};
  if (now.state != before.state) {
    it.kind = DecisionKind::kState;
    it.before = std::string(state_name(before.state));
    it.after = std::string(state_name(now.state));
    it.reason = reason_name(in_force.reason);
    log_decision(it);
  }
  it.kind = DecisionKind::kWeight;
  const bool computed_only = !backend.drains() && (!service.acts() || service.order() != ServiceOrder::kNone);
  if (now.factor_q16 != before.factor_q16) {
    it.before = share(before.factor_q16);
    it.after = share(now.factor_q16);
    it.reason = reason_name(in_force.reason);
  } else if (now.decided_q16 != before.decided_q16 && computed_only) {
    it.before = share(before.decided_q16);
    it.after = share(now.decided_q16);
    it.reason = reason_name(backend.decision.reason);
    it.in_force = false;
  } else {
    before = now;
    return;
  }
  it.rails = rail_names(backend.decision.rails);
  it.features = top_features(backend, model_);
  log_decision(std::move(it));
  before = now;
}

// What holds for a service as a whole.
void Agent::log_service(const ServiceLoop& service) {
  const ServiceConfig& config = service.config();
  const LoggedService now{service.in_panic(), service.held(), config.mode, config.budget};
  const auto [found, fresh] = logged_services_.try_emplace(config.id, now);
  LoggedService& before = found->second;
  if (fresh) return;
  const auto say = [&](DecisionKind kind, DecisionValue was, DecisionValue is, std::string reason) {
    log_decision({.kind = kind,
                  .service = config.name,
                  .before = std::move(was),
                  .after = std::move(is),
                  .reason = std::move(reason)});
  };
  const auto on = [](bool value) { return std::string(value ? "on" : "off"); };
  if (now.panic != before.panic) say(DecisionKind::kPanic, on(before.panic), on(now.panic), "panic");
  if (now.held != before.held) {
    const auto held = [](bool value) {
      return std::string(value ? "configured weights" : "follows the model");
    };
    say(DecisionKind::kHold, held(before.held), held(now.held),
        now.held ? "model drifted" : "model believed");
  }
  if (now.mode != before.mode) {
    say(DecisionKind::kMode, std::string(to_string(before.mode)), std::string(to_string(now.mode)),
        "configured");
  }
  if (!(now.budget == before.budget)) {
    const auto text = [](const BudgetConfig& it) {
      return std::string(it.enabled ? "" : "off, ") + std::to_string(it.ratio) + " of first attempts, at least " +
             std::to_string(it.min_per_s) + "/s, " + std::to_string(it.burst_s) + " s";
    };
    say(DecisionKind::kBudget, text(before.budget), text(now.budget), "configured");
  }
  before = now;
}

// The budget's rate follows first attempts all the time: said where it has changed by a fifth; and
// when it begins and ends to refuse.
void Agent::log_budget(const ServiceLoop& service, double rate_per_s, std::uint64_t now_ns) {
  if (!service.config().budget.enabled) return;
  LoggedBudget& before = logged_budgets_[service.config().id];
  const std::uint64_t shed = service_stats_[service.config().id].shed_retries;
  Decision it{.kind = DecisionKind::kBudget, .service = service.config().name};
  it.in_force = service.config().acts(service.config().modes.budget);
  if (before.logged_ns == 0) {
    before = {rate_per_s, shed, now_ns, 0};
    return;
  }
  if (shed > before.shed_retries) {
    if (before.refused_ns == 0) {
      it.before = std::string("open");
      it.after = std::string("refusing");
      it.reason = "beyond the budget";
      log_decision(it);
    }
    before.refused_ns = now_ns;
    before.shed_retries = shed;
  } else if (before.refused_ns != 0 && now_ns - before.refused_ns > kRefusingForNs) {
    before.refused_ns = 0;
    it.before = std::string("refusing");
    it.after = std::string("open");
    it.reason = "within the budget";
    log_decision(it);
  }
  const bool changed = std::abs(rate_per_s - before.rate_per_s) > kBudgetStep * before.rate_per_s;
  if (!changed || now_ns - before.logged_ns < kBudgetPeriodNs) return;
  it.before = before.rate_per_s;
  it.after = rate_per_s;
  it.reason = "first attempts";
  log_decision(std::move(it));
  before.rate_per_s = rate_per_s;
  before.logged_ns = now_ns;
}

void Agent::log_override(const Override& it, const std::string& event, const std::string& note) {
  Decision decision{.kind = DecisionKind::kOverride, .service = it.service, .backend = it.backend};
  std::string what(to_string(it.kind));
  if (it.kind == OverrideKind::kWeight) {
    what += " " + fmt::format("{:g}", it.percent) + " %";
  }
  const bool begins = event == "ordered";
  decision.before = begins ? DecisionValue{} : DecisionValue{what};
  decision.after = begins ? DecisionValue{what} : DecisionValue{};
  decision.reason = event;
  decision.note = note;
  log_decision(std::move(decision));
}

}  // namespace petrel
