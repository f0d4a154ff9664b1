// SPDX-License-Identifier: MIT
// The online self-check in a running agent: which service's learned weights do harm, and what
// follows.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>

#include "agent/agent.hpp"

namespace petrel {
namespace {

constexpr std::uint64_t kJudgePeriodNs = 1'000'000'000;

bool has_holdout(const ServiceLoop& service) {
  return !service.is_leaving() && service.config().is_balanced() && service.config().holdout > 0;
}

double percent(std::uint64_t part, std::uint64_t of) {
  return of == 0 ? 0 : 100 * static_cast<double>(part) / static_cast<double>(of);
}

std::string harm_text(const SelfCheck& check, std::uint64_t now_ns) {
  const HoldoutMeasures& found = check.minute().evidence();
  const std::uint64_t until_ns = check.minute().harmed_until_ns();
  return fmt::format(
      "retried: {:.1f} % of {} requests placed by learned weights, {:.1f} % of {} that were not; "
      "configured weights for {:.0f} s",
      percent(found.rest_retried, found.rest), found.rest,
      percent(found.holdout_retried, found.holdout), found.holdout,
      static_cast<double>(until_ns - std::min(now_ns, until_ns)) / 1e9);
}

}  // namespace

const SelfCheck* Agent::self_check(std::uint32_t service_id) const {
  const auto found = self_checks_.find(service_id);
  return found == self_checks_.end() ? nullptr : &found->second;
}

void Agent::observe_for_self_check(const bpf::event& event) {
  if (const auto tally = shadow_tallies_.find(event.key.service_id);
      tally != shadow_tallies_.end()) {
    tally->second.on_event(event);
  }
  const auto check = self_checks_.find(event.key.service_id);
  if (check == self_checks_.end() || check->second.is_idle()) return;
  const ServiceLoop* service = find_service(event.key.service_id);
  if (service == nullptr) return;
  check->second.on_event(event, service->in_holdout(SelfCheck::connection_of(event)), tick_ns_);
}

// Each tick. A person's order for all weights is that person's to judge.
void Agent::follow_self_checks(std::uint64_t now_ns) {
  const bool due = now_ns - self_checked_ns_ >= kJudgePeriodNs;
  if (due) self_checked_ns_ = now_ns;
  for (ServiceLoop& service : services_) {
    const std::uint32_t id = service.config().id;
    follow_shadow(service, now_ns);
    if (!has_holdout(service)) {
      if (service.harmed()) release_self_check(service, "no holdout any more");
      self_checks_.erase(id);
      continue;
    }
    SelfCheck& check = self_checks_[id];
    check.on_tick(service.weights_differ() && service.order() == ServiceOrder::kNone, now_ns);
    if (!due || !check.judge(now_ns)) continue;
    put_harm_in_force(service, check.is_harmed() ? harm_text(check, now_ns) : "its time is over");
  }
  if (!due) return;
  const auto is_gone = [&](const auto& it) { return find_service(it.first) == nullptr; };
  std::erase_if(self_checks_, is_gone);
  std::erase_if(shadow_tallies_, is_gone);
}

void Agent::put_harm_in_force(ServiceLoop& service, const std::string& note) {
  const bool harmed = self_checks_[service.config().id].is_harmed();
  const std::string& name = service.config().name;
  if (harmed) {
    spdlog::warn("{}: learned weights do harm: {}", name, note);
  } else {
    spdlog::info("{}: learned weights act again: {}", name, note);
  }
  log_decision({.kind = DecisionKind::kSelfCheck,
                .service = name,
                .before = std::string(harmed ? "learned weights" : "configured weights"),
                .after = std::string(harmed ? "configured weights" : "learned weights"),
                .reason = harmed ? "harm" : "released",
                .note = note});
  service.set_harmed(harmed);
  service.settle();
  ask_checkpoints();
  write_decisions(service, {});
  tables_->write_rings(service.config().id, service.neutral(), service.in_force());
}

// False: nothing was to be lifted.
bool Agent::release_self_check(ServiceLoop& service, const std::string& note) {
  if (!service.harmed()) return false;
  self_checks_[service.config().id].release();
  put_harm_in_force(service, note);
  return true;
}

}  // namespace petrel
