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

constexpr std::uint64_t kYoungestScoredNs = 8'000'000;  // the first waiting point of training

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
  }
  advance_features(now_ns);
  return {};
}

void Agent::on_event(const bpf::event& event) {
  ++facts_.events;
  if (event.type == bpf::EVENT_RETRY) {
    ++facts_.retries_seen;
  } else if (is_outcome(event)) {
    const Observation observation = observe(event);
    const FeatureVector features = features_.compute(observation);
    const std::uint32_t probability = probability_q16(model_, features);
    const std::uint32_t service_index = event.key.service_id - 1u;
    if (service_index < services_.size()) {
      ServiceLoop& service = services_[service_index];
      if (BackendLoop* backend = service.find(event.backend_id)) {
        service.score(*backend, model_, {&features, probability, 1, false});
      }
    }
    facts_.retries_predicted += probability / 65536.0;
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
  if (!changes.empty()) tables_->publish(service.config(), changes);
  for (BackendLoop& backend : service.backends()) {
    bpf::weight weight{};
    backend.config.name.copy(weight.backend, sizeof(weight.backend) - 1);
    weight.base_weight = backend.config.weight;
    weight.risk_q16 = backend.reading.risk_q16;
    weight.changed_ns = backend.changed_ns;
    weight.factor_q16 = service.acts() ? backend.decision.factor_q16 : 65536;
    weight.reason = service.acts() ? backend.decision.reason : bpf::REASON_NEUTRAL;
    if (auto written = tables_->write_weight(backend.config.id, weight); !written) {
      failure_ = written.error();
    }
    const bool quarantined = service.acts() && backend.decision.factor == 0;
    if (quarantined == backend.quarantined) continue;
    backend.quarantined = quarantined;
    write_backend(service, backend);
  }
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
