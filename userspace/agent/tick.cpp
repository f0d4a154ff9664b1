// SPDX-License-Identifier: MIT
// One tick of the agent: what was sensed since the last one becomes weights.
//
// Events are observed as of the last tick's snapshot, then folded into the features: live scoring
// and training see the same.
#include <algorithm>
#include <cmath>

#include "agent/agent.hpp"
#include "agent/capture_stream.hpp"
#include "base/clock.hpp"

namespace petrel {
namespace {

constexpr std::chrono::milliseconds kLearningPeriod{200};
constexpr std::int64_t kWallClockStepNs = 1'000'000'000;

bpf::backend_state state_of(const ServiceLoop& service, const BackendLoop& backend,
                            std::uint64_t now_ns) {
  if (backend.is_past_deadline(now_ns)) return bpf::BACKEND_REMOVED;
  if (backend.drains()) return bpf::BACKEND_DRAINING;
  const bool quarantined = service.in_force_weight(backend).factor_q16 == 0;
  return quarantined ? bpf::BACKEND_QUARANTINED : bpf::BACKEND_UP;
}

}  // namespace

Result<void> Agent::tick(std::uint64_t now_ns, std::chrono::nanoseconds elapsed) {
  tick_ns_ = now_ns;
  tables_->beat(now_ns);
  follow_wall_clock();
  expire_overrides();
  if (life_->on_tick(features_.snapshot(), now_ns)) follow_model_state();
  begin_captures();
  if (auto drained = events_->drain(); !drained) return drained.error();
  if (auto read = read_counts(now_ns); !read) return read;

  Result<void> done;
  MoveHash moves;
  loop_.tick(
      now_ns, elapsed,
      [](const ServiceLoop&, const BackendLoop& backend) {
        return BackendTick{backend.probe, backend.waiting_syn.groups(), backend.waiting.groups()};
      },
      [&](ServiceLoop& service, std::span<const RingChange> changes) {
        moves.add(service.config().id, changes);
        write_decisions(service, changes);
        if (service.is_leaving()) return;
        if (auto updated = update_limits(service, elapsed); !updated) done = updated;
        if (auto written = write_budget(service); !written) done = written;
      });
  if (!done) return done;
  hedge_syns(elapsed);
  follow_self_checks(now_ns);
  write_views();
  since_learning_ += elapsed;
  if (since_learning_ >= kLearningPeriod) {
    if (auto learned = learn_retries(); !learned) return learned;
  }
  end_captures(now_ns, elapsed, moves);
  check_tap();
  return {};
}

// Kept as it is unless the clock is set: a replay tells the time of day by it.
void Agent::follow_wall_clock() {
  const Clocks clocks = read_clocks();
  const auto offset_ns = static_cast<std::int64_t>(clocks.realtime_ns - clocks.monotonic_ns);
  const std::int64_t off_by_ns = offset_ns - features_.wall_offset_ns();
  if (off_by_ns > -kWallClockStepNs && off_by_ns < kWallClockStepNs) return;
  features_.set_wall_offset(offset_ns);
  ask_checkpoints();
}

// What the kernel scores by until the next tick.
void Agent::write_views() {
  if (!kernel_score_) return;
  const auto snapshot = features_.snapshot();
  kernel_score_->write_views(snapshot->backends, snapshot->services, snapshot->unknown_service);
}

Result<void> Agent::read_counts(std::uint64_t now_ns) {
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
    }
  }
  return {};
}

void Agent::on_event(const bpf::event& event) {
  ++facts_.events;
  losses_.on_event(event.time_ns);
  ++events_in_tick_;
  if (event.type == bpf::EVENT_RETRY) ++facts_.retries_seen;
  if (event.type == bpf::EVENT_NO_RETRY && facts_.retries_seen > 0) --facts_.retries_seen;
  life_->on_event(event);
  if (const auto limits = limits_.find(event.key.service_id); limits != limits_.end()) {
    limits->second.on_event(event);
  }
  observe_for_self_check(event);
  const auto probability_q16 = loop_.on_event(event);
  // A SYN that was moved on fails nobody: no retry is to come.
  if (probability_q16 && event.type != bpf::EVENT_MOVED) {
    facts_.retries_predicted += *probability_q16 / 65536.0;
  }
  for (const auto& capture : captures_) capture->on_event(facts_.ticks, event);
}

void Agent::write_decisions(ServiceLoop& service, std::span<const RingChange> changes) {
  if (!changes.empty()) tables_->publish(service.config().id, changes);
  const std::uint64_t now_ns = monotonic_ns();
  for (BackendLoop& backend : service.backends()) {
    bpf::weight weight{};
    backend.config.name.copy(weight.backend, sizeof(weight.backend) - 1);
    weight.base_weight = backend.leaving ? 0 : backend.config.weight;
    weight.drained_ns = backend.drained_ns;
    // Held, or harmful: two choices must not go by it either.
    const bool believed = !service.held() && !service.harmed();
    weight.risk_q16 = believed ? backend.reading.risk_q16 : 0;
    weight.changed_ns = backend.changed_ns;
    const WeightInForce in_force = service.in_force_weight(backend);
    weight.factor_q16 = in_force.factor_q16;
    weight.reason = in_force.reason;
    if (auto written = tables_->write_weight(backend.config.id, weight); !written) {
      failure_ = written.error();
    }
    const bpf::backend_state state = state_of(service, backend, now_ns);
    if (state != backend.state) {
      backend.state = state;
      write_backend(service, backend);
    }
    log_backend(service, backend);
  }
  log_service(service);
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

Result<void> Agent::update_limits(const ServiceLoop& service, std::chrono::nanoseconds elapsed) {
  const std::uint32_t id = service.config().id;
  ServiceLimits& limits = limits_[id];
  const std::int32_t usual_log2_q16 = features_.snapshot()->service(id).usual_response_log2_q16;
  limits.tick(service, service_stats_[id], elapsed, features_.known_patience_ns(id),
              static_cast<std::uint64_t>(std::exp2(usual_log2_q16 / 65536.0)));
  const ServiceConfig& config = service.config();
  const bool in_force = config.admission && config.acts(config.modes.admission) && !service.held();
  tables_->write_limit(config, in_force ? limits.admission().limit : 0);
  // A limit set by hand is shared, too, where admission is on.
  const bool shared = in_force && (limits.admission().limit > 0 || config.max_inflight > 0);
  return tables_->write_shared_rate(id, shared ? limits.admission().capacity_per_s : 0);
}

// From what requests have taught of retries so far to the odds by which they are told.
Result<void> Agent::learn_retries() {
  since_learning_ = {};
  auto counts = retry_reader_->read();
  if (!counts) return counts.error().within("retry_counts");
  for (const ServiceLoop& service : services_) {
    const std::uint32_t id = service.config().id;
    RetryFit& fit = retry_fits_.try_emplace(id, config_.agent.retry_window).first->second;
    const bpf::retry_odds odds = fit.update((**counts)[id], monotonic_ns());
    limits_[id].learn_retries(fit.sums());
    if (auto written = tables_->write_retry_odds(id, odds); !written) return written;
  }
  return {};
}

Result<void> Agent::write_budget(const ServiceLoop& service) {
  const std::uint32_t id = service.config().id;
  ServiceLimits& limits = limits_[id];
  limits.set_budget(service.config().budget);
  const double rate = limits.retries().rate_per_s();
  log_budget(service, rate, monotonic_ns());
  return tables_->write_budget(id, rate, limits.retries().burst(service.config().budget.burst_s));
}

RetryAllowance Agent::retries(std::uint32_t service_id) const {
  const auto found = limits_.find(service_id);
  return found == limits_.end() ? RetryAllowance() : found->second.retries();
}

double Agent::retries_due(std::uint32_t service_id) const {
  const auto found = limits_.find(service_id);
  return found == limits_.end() ? 0 : found->second.retries_due();
}

EdgeReading Agent::edge(std::uint32_t service_id) const {
  const auto found = limits_.find(service_id);
  return found == limits_.end() ? EdgeReading() : found->second.edge();
}

AdmissionDecision Agent::admission(std::uint32_t service_id) const {
  const auto found = limits_.find(service_id);
  return found == limits_.end() ? AdmissionDecision() : found->second.admission();
}

}  // namespace petrel
