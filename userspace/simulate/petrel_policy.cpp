// SPDX-License-Identifier: MIT
// petrel in the simulator: the agent's Loop, fed as the agent feeds it, above a simulated data
// path.
#include <algorithm>
#include <array>
#include <utility>

#include "bpf/odds.h"
#include "control/retry_allowance.hpp"
#include "label/retry_forecast.hpp"
#include "loop/loop.hpp"
#include "simulate/admission_limit.hpp"
#include "simulate/ring_policy.hpp"

namespace petrel::simulate {
namespace {

constexpr std::uint64_t kSecondNs = 1'000'000'000;
constexpr std::uint64_t kProbePatienceNs = 500'000'000;  // of the agent's prober
constexpr std::uint32_t kRequestBytes = 200;
constexpr double kNsPerS = 1e9;

bool is_suspicious(const BackendLoop& backend) {
  return !backend.drains() && (backend.decision.factor < 0.5 || backend.reading.risk > 0.3);
}

// A million of these a second are made: everything that does not vary is set once.
bpf::event event_template() {
  bpf::event event{};
  event.key.service_id = 1;
  event.request = 1;
  event.method = bpf::METHOD_GET;
  event.request_bytes = kRequestBytes;
  event.state = bpf::CONNECTION_ESTABLISHED;
  event.confidence = 255;
  return event;
}

class PetrelPolicy : public Policy {
 public:
  PetrelPolicy(BalancerView view, Random random, Loop loop, const PolicySettings& settings,
               PetrelSettings petrel)
      : view_(view),
        random_(random),
        loop_(std::move(loop)),
        acts_(petrel.mode == ServiceMode::kAct),
        path_(view, acts_ ? petrel.flags | bpf::SERVICE_ACT : 0),
        event_(event_template()),
        probes_(view.backends()),
        next_probe_ns_(view.now_ns() + probe_delay_ns()),
        ends_abandoned_(settings.end_abandoned && acts_) {
    if (acts_ && settings.inflight_limit) limit_ = settings.inflight_limit();
    facts_.backends.resize(view_.backends());
    set_budget();
    follow_rings();
  }

  Placement place(const Flow& flow) override {
    if (flow.attempt <= 1) {
      ++first_attempts_;
      ++facts_.first_attempts;
    }
    const Placement placement = path_.place(flow);
    if (placement.backend == kNobody) {
      ++facts_.refused;
      note_failure(bpf::FAILURE_REFUSED, flow.attempt);
    }
    return placement;
  }
  std::uint32_t move_syn(const StuckSyn& syn) override { return path_.move_syn(syn); }
  // As the agent has it: while a limit is in force.
  bool ends_abandoned() const override {
    return ends_abandoned_ && path_.limits().all != 0;
  }

  void on_seen(const Seen& seen) override {
    event_.type = static_cast<std::uint8_t>(seen.type);
    event_.time_ns = seen.time_ns;
    event_.syn_ns = seen.syn_ns;
    event_.connect_ns = seen.connect_ns;
    event_.waited_ns = seen.waited_ns;
    event_.backend_id = seen.backend + 1;
    event_.failure = static_cast<std::uint8_t>(seen.failure);
    event_.attempt = static_cast<std::uint8_t>(std::min(seen.attempt, 255U));
    event_.syn_repeats = static_cast<std::uint8_t>(seen.syn_repeats);
    event_.status = seen.failure == bpf::FAILURE_SERVER_ERROR ? 503
                    : seen.type == bpf::EVENT_ANSWER          ? 200
                                                              : 0;
    loop_.on_event(event_);
    count_retry(seen);
    if (seen.type == bpf::EVENT_ANSWER && seen.failure == bpf::FAILURE_NONE) {
      ++facts_.answered;
      ++facts_.backends[seen.backend].answered;
    }
    if (seen.failure == bpf::FAILURE_ABANDONED) ++facts_.abandoned;
    if (seen.failure != bpf::FAILURE_NONE && seen.type != bpf::EVENT_MOVED) {
      ++facts_.failures;
      note_failure(seen.failure, seen.attempt);
    }
  }

  void on_retry(const Flow& flow) override {
    ++facts_.retries;
    const std::uint32_t cause = bpf::retry_cause(static_cast<std::uint8_t>(flow.failure));
    const std::uint64_t ticks = (view_.now_ns() - flow.failed_ns) >> 10;
    retry_sums_.delays[cause][bpf::retry_bucket(static_cast<std::uint32_t>(ticks))] += 1;
    retry_sums_.retried[cause][attempt_index(flow.attempt - 1)] += 1;
    bpf::event event = event_;
    event.type = bpf::EVENT_RETRY;
    event.time_ns = view_.now_ns();
    event.attempt = static_cast<std::uint8_t>(std::min(flow.attempt, 255U));
    event.previous_backend_id = flow.previous == kNobody ? 0 : flow.previous + 1;
    loop_.on_event(event);
  }

  void tick() override {
    const std::uint64_t elapsed_ns = last_tick_ns_ == 0 ? kTickNs : view_.now_ns() - last_tick_ns_;
    last_tick_ns_ = view_.now_ns();
    take_probes();
    loop_.tick(
        view_.now_ns(), std::chrono::nanoseconds(elapsed_ns),
        [this](const ServiceLoop&, const BackendLoop& backend) { return inputs_of(backend); },
        [this](ServiceLoop& loop, std::span<const RingChange>) { write_decisions(loop); });
    limit_inflight(elapsed_ns);
    const BudgetConfig& budget = service().budget();
    retries_.set({budget.ratio, budget.min_per_s, budget.idle_ratio});
    const std::chrono::nanoseconds elapsed(elapsed_ns);
    forecast_.tick(elapsed, std::exchange(failures_, {}));
    retries_.tick(first_attempts_, judge_.saturated(), elapsed, forecast_.due(std::chrono::seconds(1)));
    set_budget();
    if ((since_learning_ns_ += elapsed_ns) >= kSecondNs) {
      since_learning_ns_ = 0;
      forecast_.learn(retry_sums_);
    }
  }

  void drain(std::uint32_t backend, bool drained) override {
    BackendLoop* found = service().find(backend + 1);
    service().set_drain(*found, drained ? view_.now_ns() + 3600 * kSecondNs : 0);
    service().settle();
    follow_rings();
    path_.entry(backend).state = drained ? bpf::BACKEND_DRAINING : bpf::BACKEND_UP;
  }

  std::uint64_t moved_slots() const override { return acts_ ? service().moved_slots() : 0; }
  std::uint64_t slots() const override { return service().in_force().size(); }
  double factor(std::uint32_t backend) const override {
    return acts_ ? service().backends()[backend].decision.factor : 1;
  }

 private:
  static constexpr std::uint64_t kTickNs = 100'000'000;

  static std::uint32_t attempt_index(std::uint32_t attempt) {
    return bpf::retry_attempt(static_cast<std::uint8_t>(std::min(attempt, 255U)));
  }
  void note_failure(bpf::failure_kind failure, std::uint32_t attempt) {
    const std::uint32_t cause = bpf::retry_cause(static_cast<std::uint8_t>(failure));
    ++failures_[cause];
    retry_sums_.failed[cause][attempt_index(attempt)] += 1;
  }

  ServiceLoop& service() { return loop_.services().front(); }
  const ServiceLoop& service() const { return loop_.services().front(); }
  void follow_rings() { path_.set_rings(service().in_force(), service().neutral()); }
  std::uint64_t probe_delay_ns() { return 800'000'000 + random_.below(400'000'001); }

  BackendTick inputs_of(const BackendLoop& backend) {
    const std::uint32_t index = backend.config.id - 1;
    view_.waiting(index, true, waiting_syn_);
    view_.waiting(index, false, waiting_);
    for (const auto* groups : {&waiting_syn_, &waiting_}) {
      if (groups->empty()) continue;
      facts_.oldest_ns = std::max(facts_.oldest_ns, groups->back().age_ns);
    }
    count_overdue(backend, facts_.backends[index]);
    return {probes_[index].result, waiting_syn_, waiting_};
  }

  void count_overdue(const BackendLoop& backend, AdmissionBackend& it) const {
    it.base_weight = backend.drains() ? 0 : backend.config.weight;
    it.waiting = it.overdue = 0;
    for (const auto* groups : {&waiting_syn_, &waiting_}) {
      for (const WaitingGroup& group : *groups) {
        it.waiting += group.count;
        if (group.age_ns > overdue_ns_) it.overdue += group.count;
      }
    }
  }

  void write_decisions(ServiceLoop& loop) {
    if (!acts_) return;
    for (const BackendLoop& backend : loop.backends()) {
      DataPath::Entry& entry = path_.entry(backend.config.id - 1);
      entry.base_weight = backend.config.weight;
      entry.risk_q16 = backend.reading.risk_q16;
      entry.factor_q16 = loop.in_force_weight(backend).factor_q16;
      if (backend.drains()) continue;
      entry.state = backend.decision.factor == 0 ? bpf::BACKEND_QUARANTINED : bpf::BACKEND_UP;
    }
  }

  // As the agent's ServiceLimits.
  void count_retry(const Seen& seen) {
    if (seen.attempt <= 1) return;
    const bool answers = seen.type == bpf::EVENT_ANSWER;
    if (!answers && (seen.type != bpf::EVENT_END || seen.failure == bpf::FAILURE_NONE)) return;
    if (seen.failure == bpf::FAILURE_REFUSED) return;
    retries_.on_retry(seen.failure == bpf::FAILURE_NONE);
  }

  // Each second, with jitter, those in which anything is amiss. Silence takes its time to be known.
  void take_probes() {
    const bool due = view_.now_ns() >= next_probe_ns_;
    if (due) next_probe_ns_ = view_.now_ns() + probe_delay_ns();
    for (const BackendLoop& backend : service().backends()) {
      Probe& probe = probes_[backend.config.id - 1];
      if (probe.silent_from_ns != 0 && probe.silent_from_ns <= view_.now_ns()) {
        probe = {ProbeResult::kSilent, 0};
      }
      if (!due) continue;
      if (!is_suspicious(backend)) {
        probe = {};
        continue;
      }
      const ProbeResult result = view_.connect(backend.config.id - 1);
      if (result == ProbeResult::kSilent) {
        probe.silent_from_ns = view_.now_ns() + kProbePatienceNs;
      } else {
        probe = {result, 0};
      }
    }
  }

  void set_budget() {
    path_.budget().set(retries_.rate_per_s(), retries_.burst(service().budget().burst_s));
  }

  void limit_inflight(std::uint64_t elapsed_ns) {
    const ServiceView seen = loop_.features().snapshot()->service(service().config().id);
    facts_.now_ns = view_.now_ns();
    facts_.elapsed_ns = elapsed_ns;
    facts_.waiting = static_cast<std::uint64_t>(view_.inflight());
    facts_.usual_response_ns = std::uint64_t{1} << (seen.usual_response_log2_q16 >> 16);
    facts_.patience_ns = std::uint64_t{1} << (seen.patience_log2_q16 >> 16);
    facts_.known_patience_ns = loop_.features().known_patience_ns(service().config().id);
    judge_.tick(facts_);
    overdue_ns_ = judge_.overdue_ns(facts_.known_patience_ns, facts_.usual_response_ns);
    if (limit_ != nullptr) path_.limits() = limit_->tick(facts_);
    path_.set_shared_rate(path_.limits().all == 0 ? 0 : judge_.capacity_per_s());
    std::vector<AdmissionBackend> backends = std::move(facts_.backends);
    for (AdmissionBackend& it : backends) it = {};
    facts_ = {};
    facts_.backends = std::move(backends);
  }

  struct Probe {
    ProbeResult result = ProbeResult::kUnknown;
    std::uint64_t silent_from_ns = 0;  // when it will be known; 0: nothing is asked
  };

  BalancerView view_;
  Random random_;
  Loop loop_;
  bool acts_;
  DataPath path_;
  bpf::event event_;
  std::vector<Probe> probes_;
  std::uint64_t next_probe_ns_;
  bool ends_abandoned_;
  AdmissionLimit judge_;  // of whether the service is saturated, by whatever it is limited
  std::unique_ptr<InflightLimit> limit_;
  RetryAllowance retries_;
  // The agent learns of retries by RetryFit; here it is known which are.
  RetrySums retry_sums_;
  RetryForecast forecast_;
  RetryForecast::Failures failures_{};  // since the last tick
  std::uint64_t since_learning_ns_ = 0;
  InflightFacts facts_;
  std::uint64_t overdue_ns_ = 0;
  std::vector<WaitingGroup> waiting_syn_, waiting_;  // of the backend at hand
  std::uint64_t first_attempts_ = 0;
  std::uint64_t last_tick_ns_ = 0;
};

}  // namespace

PolicyMaker make_petrel_policies(const Scenario& scenario, const PolicySettings& settings,
                                 PetrelSettings petrel) {
  // Made once and copied: a large ring takes longer to fill than to copy.
  ServiceConfig service = simulated_service(scenario, petrel.mode);
  service.capacity_guard = petrel.capacity_guard;
  const auto prototype = std::make_shared<ServiceLoop>(service, settings.control);
  return [prototype, settings, petrel](BalancerView view, Random random) {
    Loop loop(*settings.model);
    loop.services().push_back(*prototype);
    return std::make_unique<PetrelPolicy>(view, random, std::move(loop), settings, petrel);
  };
}

}  // namespace petrel::simulate
