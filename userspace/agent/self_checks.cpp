// SPDX-License-Identifier: MIT
// The online self-check in a running agent: which service's learned weights do harm, and what
// follows.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>

#include "agent/agent.hpp"
#include "agent/harms.hpp"
#include "agent/offload.hpp"
#include "agent/state_file.hpp"

namespace petrel {

namespace asio = boost::asio;

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
  spawn(keep_harms(), "harms");
}

std::string Agent::harms_path() const { return config_.agent.state_dir + "/harms.json"; }

// Before the tables are written: what did harm is not in force for a moment.
void Agent::resume_harms() {
  const auto harms = read_harms(harms_path());
  if (!harms) {
    spdlog::warn("{}: no harm that was found before is heeded", harms.error().message());
    return;
  }
  const Clocks now = read_clocks();
  for (const Harm& it : *harms) {
    for (ServiceLoop& service : services_) {
      if (service.config().name != it.service || !has_holdout(service)) continue;
      const std::int64_t left_ns = it.until_ns - static_cast<std::int64_t>(now.realtime_ns);
      // A clock that was set back does not make it longer than it was.
      const std::uint64_t rest_ns =
          left_ns <= 0 ? 0 : std::min(static_cast<std::uint64_t>(left_ns), it.rest_ns);
      self_checks_[service.config().id].resume(it.found, it.rest_ns,
                                               rest_ns == 0 ? 0 : now.monotonic_ns + rest_ns);
      if (rest_ns == 0) continue;
      spdlog::warn("{}: learned weights did harm before this start: configured weights for {:.0f} s more",
                   it.service, static_cast<double>(rest_ns) / 1e9);
      service.set_harmed(true);
      service.settle();
    }
  }
}

asio::awaitable<void> Agent::keep_harms() {
  const Clocks now = read_clocks();
  std::vector<Harm> harms;
  for (const ServiceLoop& service : services_) {
    const SelfCheck* check = self_check(service.config().id);
    if (check == nullptr || check->minute().harms() == 0) continue;
    const std::uint64_t until_ns = check->minute().harmed_until_ns();
    const std::uint64_t left_ns = until_ns > now.monotonic_ns ? until_ns - now.monotonic_ns : 0;
    harms.push_back({service.config().name, static_cast<std::int64_t>(now.realtime_ns + left_ns),
                     check->minute().rest_ns(), check->minute().harms()});
  }
  const std::string path = harms_path(), text = harms_text(harms);
  // By reference: both wait here, too.
  auto kept = co_await run_beside(
      loader_, [&to = path, &what = text] { return write_file_whole(to, what); });
  if (!kept) spdlog::warn("keep the harms: {}", kept.error().message());
}

// False: nothing was to be lifted.
bool Agent::release_self_check(ServiceLoop& service, const std::string& note) {
  if (!service.harmed()) return false;
  self_checks_[service.config().id].release();
  put_harm_in_force(service, note);
  return true;
}

}  // namespace petrel
