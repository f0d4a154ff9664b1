// SPDX-License-Identifier: MIT
#include "features/feature_state.hpp"

#include <algorithm>

#include "bpf/fixed_point.h"

namespace petrel {
namespace {

constexpr uint64_t kFailureTimeConstantMs = 3'000;
// Outcomes that count as good before any is seen: one early failure is no failing backend.
constexpr uint64_t kPriorOutcomesQ16 = 4 * Q16_ONE;

// Failed outcomes per outcome, of decayed counts; in Q16.
int32_t share_q16(uint64_t failures_q16, uint64_t outcomes_q16) {
  return static_cast<int32_t>(failures_q16 * Q16_ONE / (outcomes_q16 + kPriorOutcomesQ16));
}

uint64_t decayed(uint64_t count_q16, uint64_t elapsed_ms) {
  const uint64_t part_ms = std::min(elapsed_ms, kFailureTimeConstantMs);
  return count_q16 - count_q16 * part_ms / kFailureTimeConstantMs;
}

}  // namespace

FeatureState::Service::Service()
    : response_log2(Snapshot().unknown_service.usual_response_log2_q16),
      connect_log2(Snapshot().unknown_service.usual_connect_log2_q16) {}

FeatureState::FeatureState() : snapshot_(std::make_shared<const Snapshot>()) {}

void FeatureState::on_event(const bpf::event& event) {
  Backend* const backend_seen = backend(event.backend_id);
  Service* const service_seen = service(event.key.service_id);
  if (backend_seen == nullptr || service_seen == nullptr) return;
  if (!is_outcome(event)) return;

  newest_event_ns_ = std::max<uint64_t>(newest_event_ns_, event.time_ns);
  backend_seen->service_id = event.key.service_id;
  backend_seen->outcomes_q16 += Q16_ONE;
  if (event.failure != bpf::FAILURE_NONE) backend_seen->failures_q16 += Q16_ONE;
  if (event.type != bpf::EVENT_ANSWER) return;

  backend_seen->last_answer_ns = std::max<uint64_t>(backend_seen->last_answer_ns, event.time_ns);
  // Errors are often quick and timeouts slow: neither tells how long an answer takes.
  if (event.failure != bpf::FAILURE_NONE) return;
  service_seen->response_log2.add(bpf::log2_q16(event.waited_ns));
  if (event.request == 1 && event.connect_ns > 0) {
    service_seen->connect_log2.add(bpf::log2_q16(event.connect_ns));
  }
}

void FeatureState::on_tick(uint64_t now_ns, std::span<const BackendWaiting> waiting) {
  const uint64_t elapsed_ns =
      last_tick_ns_ == 0 || now_ns < last_tick_ns_ ? 0 : now_ns - last_tick_ns_;
  last_tick_ns_ = now_ns;
  decay(elapsed_ns);
  take_waiting(now_ns, waiting);
  for (Backend& each : backends_) each.waiting_log2.tick(elapsed_ns);
  for (Service& each : services_) {
    each.response_log2.tick(elapsed_ns);
    each.connect_log2.tick(elapsed_ns);
  }
  sum_services();
  publish(now_ns);
}

FeatureVector FeatureState::compute(const Observation& observation) const {
  return petrel::compute(*snapshot_, observation);
}

void FeatureState::forget_backend(uint32_t backend_id) {
  if (backend_id < backends_.size()) backends_[backend_id] = Backend();
}

FeatureState::Backend* FeatureState::backend(uint32_t backend_id) {
  if (backend_id == 0 || backend_id >= MAX_BACKENDS) return nullptr;
  if (backend_id >= backends_.size()) backends_.resize(backend_id + 1);
  return &backends_[backend_id];
}

FeatureState::Service* FeatureState::service(uint32_t service_id) {
  if (service_id == 0 || service_id >= MAX_SERVICES) return nullptr;
  if (service_id >= services_.size()) services_.resize(service_id + 1);
  return &services_[service_id];
}

void FeatureState::take_waiting(uint64_t now_ns, std::span<const BackendWaiting> waiting) {
  std::vector<bool> named(backends_.size());
  for (const BackendWaiting& entry : waiting) {
    Backend* const found = backend(entry.backend_id);
    if (found == nullptr || service(entry.service_id) == nullptr) continue;
    found->service_id = entry.service_id;
    // Silence begins when something waits at a backend where nothing did.
    if (found->waiting == 0 && entry.waiting > 0) found->silent_since_ns = now_ns;
    found->waiting = entry.waiting;
    found->waiting_log2.add(bpf::log2_q16(uint64_t{entry.waiting} + 1));
    named.resize(backends_.size());
    named[entry.backend_id] = true;
  }
  for (size_t id = 0; id < backends_.size(); id++) {
    if (!named[id]) backends_[id].waiting = 0;
  }
}

void FeatureState::decay(uint64_t elapsed_ns) {
  const uint64_t elapsed_ms = elapsed_ns / 1'000'000;
  for (Backend& each : backends_) {
    each.failures_q16 = decayed(each.failures_q16, elapsed_ms);
    each.outcomes_q16 = decayed(each.outcomes_q16, elapsed_ms);
  }
}

// Only once the tick has said whose each backend is: publish() takes a backend's part off again.
void FeatureState::sum_services() {
  for (Service& each : services_) each.failures_q16 = each.outcomes_q16 = 0;
  for (const Backend& each : backends_) {
    Service* const owner = service(each.service_id);
    if (owner == nullptr) continue;
    owner->failures_q16 += each.failures_q16;
    owner->outcomes_q16 += each.outcomes_q16;
  }
}

void FeatureState::publish(uint64_t now_ns) {
  auto next = std::make_shared<Snapshot>();
  // An event may be read before the tick whose clock was read before it: the later time counts.
  next->time_ns = std::max(now_ns, newest_event_ns_);
  next->lost_share_q16 = lost_share_q16_;
  next->backends.resize(backends_.size());
  next->services.resize(services_.size());
  for (size_t id = 0; id < services_.size(); id++) {
    next->services[id] = {.usual_response_log2_q16 = services_[id].response_log2.value_q16(),
                          .usual_connect_log2_q16 = services_[id].connect_log2.value_q16()};
  }
  for (size_t id = 0; id < backends_.size(); id++) {
    const Backend& from = backends_[id];
    BackendView& view = next->backends[id];
    const uint64_t heard_ns = std::max(from.silent_since_ns, from.last_answer_ns);
    view.waiting_excess_q16 =
        bpf::log2_q16(uint64_t{from.waiting} + 1) - from.waiting_log2.value_q16();
    view.silence_ns = from.waiting > 0 && heard_ns < now_ns ? now_ns - heard_ns : 0;
    view.failure_share_q16 = share_q16(from.failures_q16, from.outcomes_q16);
    if (from.service_id == 0) continue;
    const Service& owner = services_[from.service_id];
    view.others_failure_share_q16 =
        share_q16(owner.failures_q16 - from.failures_q16, owner.outcomes_q16 - from.outcomes_q16);
  }
  snapshot_ = std::move(next);
}

}  // namespace petrel
