// SPDX-License-Identifier: MIT
// One tick of the agent: what was sensed since the last one becomes weights.
//
// Events are observed as of the last tick's snapshot, then folded into the features: live scoring
// and training see the same.
#include <algorithm>

#include "agent/agent.hpp"
#include "agent/capture_stream.hpp"
#include "base/clock.hpp"

namespace petrel {
namespace {

constexpr double kBudgetSmoothingS = 2.0;
constexpr std::uint64_t kYoungestScoredNs = 8'000'000;  // the first waiting point of training

bpf::backend_state state_of(const ServiceLoop& service, const BackendLoop& backend,
                            std::uint64_t now_ns) {
  if (backend.is_past_deadline(now_ns)) return bpf::BACKEND_REMOVED;
  if (backend.drains()) return bpf::BACKEND_DRAINING;
  const bool quarantined = service.acts() && backend.decision.factor == 0;
  return quarantined ? bpf::BACKEND_QUARANTINED : bpf::BACKEND_UP;
}

}  // namespace

Result<void> Agent::tick(std::uint64_t now_ns, std::chrono::nanoseconds elapsed) {
  tables_->beat(now_ns);
  if (auto drained = events_->drain(); !drained) return drained.error();

  auto backend_sums = backend_reader_->read();
  if (!backend_sums) return backend_sums.error().within("backend_stats");
  auto service_sums = service_reader_->read();
  if (!service_sums) return service_sums.error().within("service_stats");
  auto verdict_sums = verdict_reader_->read();
  if (!verdict_sums) return verdict_sums.error().within("verdicts");
  service_stats_ = **service_sums;
  verdicts_ = **verdict_sums;
  count_losses();

  for (ServiceLoop& service : services_) {
    for (BackendLoop& backend : service.backends()) {
      backend.stats = (**backend_sums)[backend.config.id];
      backend.waiting_syn.update(now_ns, backend.stats.waiting_syn);
      backend.waiting.update(now_ns, backend.stats.waiting);
      score_waiting(service, backend, Point::kWaitingSyn, backend.waiting_syn);
      score_waiting(service, backend, Point::kWaitingResponse, backend.waiting);
    }
    const std::vector<RingChange> changes = service.end_tick(now_ns, elapsed);
    write_decisions(service, changes);
    if (service.is_leaving()) continue;
    count_first_attempts(service, elapsed);
    if (auto written = write_budget(service); !written) return written.error();
  }
  advance_features(now_ns);
  check_tap();
  return {};
}

void Agent::on_event(const bpf::event& event) {
  ++facts_.events;
  losses_.on_event(event.time_ns);
  if (event.type == bpf::EVENT_RETRY) {
    ++facts_.retries_seen;
  } else if (is_outcome(event)) {
    const Observation observation = observe(event);
    const FeatureVector features = features_.compute(observation);
    const std::uint32_t probability = probability_q16(model_, features);
    if (ServiceLoop* service = find_service(event.key.service_id)) {
      if (BackendLoop* backend = service->find(event.backend_id)) {
        service->score(*backend, model_, {&features, probability, 1, false});
      }
    }
    // A SYN that was moved on fails nobody: no retry is to come.
    if (event.type != bpf::EVENT_MOVED) facts_.retries_predicted += probability / 65536.0;
  }
  features_.on_event(event);
  for (const auto& capture : captures_) capture->labeller.on_event(event);
}

void Agent::score_waiting(ServiceLoop& service, BackendLoop& backend, Point point,
                          const WaitingLedger& ledger) {
  for (const WaitingGroup& group : ledger.groups()) {
    if (group.age_ns < kYoungestScoredNs) continue;
    Observation observation;
    observation.point = point;
    observation.backend_id = backend.config.id;
    observation.service_id = service.config().id;
    observation.elapsed_ns = group.age_ns;
    const FeatureVector features = features_.compute(observation);
    service.score(backend, model_,
                  {&features, probability_q16(model_, features), group.count, true});
  }
}

void Agent::write_decisions(ServiceLoop& service, std::span<const RingChange> changes) {
  if (!changes.empty()) tables_->publish(service.config().id, changes);
  const std::uint64_t now_ns = monotonic_ns();
  for (BackendLoop& backend : service.backends()) {
    bpf::weight weight{};
    backend.config.name.copy(weight.backend, sizeof(weight.backend) - 1);
    weight.base_weight = backend.leaving ? 0 : backend.config.weight;
    weight.drained_ns = backend.drained_ns;
    weight.risk_q16 = backend.reading.risk_q16;
    weight.changed_ns = backend.changed_ns;
    // Draining is an order, not a conclusion: it is in force in each mode.
    const bool in_force = service.acts() || backend.drains();
    weight.factor_q16 = in_force ? backend.decision.factor_q16 : 65536;
    weight.reason = in_force ? backend.decision.reason : bpf::REASON_NEUTRAL;
    if (auto written = tables_->write_weight(backend.config.id, weight); !written) {
      failure_ = written.error();
    }
    const bpf::backend_state state = state_of(service, backend, now_ns);
    if (state == backend.state) continue;
    backend.state = state;
    write_backend(service, backend);
  }
}

void Agent::count_losses() {
  std::uint64_t events = 0, records = 0;
  for (std::size_t i = 0; i < verdicts_.size(); i += bpf::VERDICTS) {
    events += verdicts_[i + bpf::VERDICT_EVENT_LOST];
    records += verdicts_[i + bpf::VERDICT_RECORD_LOST];
  }
  losses_.on_tick(read_clocks(), events, records);
  features_.set_lost_share(losses_.lost_share());
}

// First attempts a second, smoothed over about two seconds: the budget follows them.
void Agent::count_first_attempts(const ServiceLoop& service, std::chrono::nanoseconds elapsed) {
  const bpf::service_stats& stats = service_stats_[service.config().id];
  FirstAttempts& seen = first_attempts_[service.config().id];
  const double seconds = std::chrono::duration<double>(elapsed).count();
  if (seconds <= 0) return;
  const double per_s =
      seen.known ? static_cast<double>(stats.first_attempts - seen.count) / seconds : 0.0;
  seen.per_s += (per_s - seen.per_s) * std::min(1.0, seconds / kBudgetSmoothingS);
  seen.count = stats.first_attempts;
  seen.known = true;
}

Result<void> Agent::write_budget(const ServiceLoop& service) {
  const BudgetConfig& budget = service.config().budget;
  const double rate =
      std::max(budget.min_per_s, budget.ratio * first_attempts_per_s(service.config().id));
  return tables_->write_budget(service.config().id, rate, rate * budget.burst_s);
}

double Agent::first_attempts_per_s(std::uint32_t service_id) const {
  const auto found = first_attempts_.find(service_id);
  return found == first_attempts_.end() ? 0 : found->second.per_s;
}

void Agent::advance_features(std::uint64_t now_ns) {
  std::vector<BackendWaiting> waiting;
  for (const ServiceLoop& service : services_) {
    for (const BackendLoop& backend : service.backends()) {
      waiting.push_back({backend.config.id, service.config().id,
                         static_cast<std::uint32_t>(backend.waiting_syn.total() +
                                                    backend.waiting.total())});
    }
  }
  features_.on_tick(now_ns, waiting);
  std::erase_if(captures_, [](const auto& capture) { return capture->abandoned(); });
  for (const auto& capture : captures_) capture->labeller.on_tick(features_.snapshot(), now_ns);
}

}  // namespace petrel
