// SPDX-License-Identifier: MIT
#include "features/feature_state.hpp"

#include <algorithm>
#include <cmath>

#include "features/decay.hpp"

namespace petrel {
namespace {

constexpr uint64_t kFailureTimeConstantMs = 3'000;
// Outcomes that count as good before any is seen: one early failure is no failing backend.
constexpr uint64_t kPriorOutcomesQ16 = 4 * Q16_ONE;
// Failures that count as some other backend's: with none seen nobody has a part in the trouble.
constexpr uint64_t kPriorTroubleQ16 = 1 * Q16_ONE;
constexpr uint64_t kDayNs = 86'400ULL * 1'000'000'000ULL;

// Failed outcomes per outcome, of decayed counts; in Q16.
int32_t share_q16(uint64_t failures_q16, uint64_t outcomes_q16) {
  return static_cast<int32_t>(failures_q16 * Q16_ONE / (outcomes_q16 + kPriorOutcomesQ16));
}

// sin(2 pi * part / whole) in Q16, by Bhaskara I's formula: less than 0.002 off, and integers only.
int32_t sine_q16(uint64_t part, uint64_t whole) {
  const uint64_t half = whole / 2;
  const uint64_t within = part % half;
  // 16 x (pi - x) / (5 pi^2 - 4 x (pi - x)), with pi as 2^16.
  const uint64_t x = (within << 16) / half;
  const uint64_t bow = x * (65536 - x);
  const auto value = static_cast<int32_t>(
      (16 * bow << 16) / (uint64_t{5} * 65536 * 65536 - 4 * bow));
  return part % whole < half ? value : -value;
}

}  // namespace

FeatureState::FeatureState() : snapshot_(std::make_shared<const Snapshot>()) {}

void FeatureState::on_event(const bpf::event& event) {
  Backend* const backend_seen = backend(event.backend_id);
  Service* const service_seen = service(event.key.service_id);
  if (service_seen == nullptr) return;
  service_seen->usual.on_event(event);
  if (backend_seen == nullptr || !is_outcome(event)) return;

  newest_event_ns_ = std::max<uint64_t>(newest_event_ns_, event.time_ns);
  backend_seen->service_id = event.key.service_id;
  count(event, *backend_seen);
  if (event.type != bpf::EVENT_ANSWER) return;
  backend_seen->last_answer_ns = std::max<uint64_t>(backend_seen->last_answer_ns, event.time_ns);
  if (event.failure == bpf::FAILURE_NONE) {
    backend_seen->response_log2.add(bpf::log2_q16(event.waited_ns));
  }
}

uint64_t FeatureState::known_patience_ns(uint32_t service_id) const {
  if (service_id >= services_.size()) return 0;
  const std::optional<int32_t> known = services_[service_id].usual.known_patience_log2_q16();
  return known ? static_cast<uint64_t>(std::exp2(*known / 65536.0)) : 0;
}

void FeatureState::count(const bpf::event& event, Backend& backend) {
  backend.outcomes_q16 += Q16_ONE;
  if (event.failure == bpf::FAILURE_NONE) return;
  backend.failures_q16 += Q16_ONE;
  switch (event.failure) {
    case bpf::FAILURE_REFUSED:
    case bpf::FAILURE_HANDSHAKE_TIMEOUT:
      backend.connect_failures_q16 += Q16_ONE;
      break;
    case bpf::FAILURE_RESET:
    case bpf::FAILURE_EMPTY:
      backend.resets_q16 += Q16_ONE;
      break;
    case bpf::FAILURE_OVERLOAD:
    case bpf::FAILURE_SERVER_ERROR:
      backend.errors_q16 += Q16_ONE;
      break;
    default:  // abandoned: what is left
      break;
  }
}

void FeatureState::on_tick(uint64_t now_ns, std::span<const BackendWaiting> waiting) {
  const uint64_t elapsed_ns =
      last_tick_ns_ == 0 || now_ns < last_tick_ns_ ? 0 : now_ns - last_tick_ns_;
  last_tick_ns_ = now_ns;
  decay(elapsed_ns);
  take_waiting(now_ns, waiting);
  for (Backend& each : backends_) {
    each.waiting_log2.tick(elapsed_ns);
    each.response_log2.tick(elapsed_ns);
  }
  for (Service& each : services_) each.usual.tick(elapsed_ns);
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
    found->other_zone = entry.other_zone;
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
    for (uint64_t* const count : {&each.outcomes_q16, &each.failures_q16,
                                  &each.connect_failures_q16, &each.resets_q16, &each.errors_q16}) {
      *count = decayed(*count, elapsed_ms, kFailureTimeConstantMs);
    }
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

BackendView FeatureState::view_of(const Backend& backend, uint64_t now_ns) const {
  BackendView view{};
  const uint64_t heard_ns = std::max(backend.silent_since_ns, backend.last_answer_ns);
  view.waiting_excess_q16 =
      bpf::log2_q16(uint64_t{backend.waiting} + 1) - backend.waiting_log2.value_q16();
  view.usual_response_log2_q16 =
      backend.response_log2.is_known() ? backend.response_log2.value_q16() : 0;
  view.silence_ns = backend.waiting > 0 && heard_ns < now_ns ? now_ns - heard_ns : 0;
  view.failure_share_q16 = share_q16(backend.failures_q16, backend.outcomes_q16);
  view.connect_failure_share_q16 = share_q16(backend.connect_failures_q16, backend.outcomes_q16);
  view.reset_share_q16 = share_q16(backend.resets_q16, backend.outcomes_q16);
  view.error_share_q16 = share_q16(backend.errors_q16, backend.outcomes_q16);
  view.other_zone = backend.other_zone ? 1 : 0;
  if (backend.service_id == 0) return view;
  const Service& owner = services_[backend.service_id];
  view.others_failure_share_q16 = share_q16(owner.failures_q16 - backend.failures_q16,
                                            owner.outcomes_q16 - backend.outcomes_q16);
  view.trouble_share_q16 = static_cast<int32_t>(backend.failures_q16 * Q16_ONE /
                                                (owner.failures_q16 + kPriorTroubleQ16));
  return view;
}

void FeatureState::publish(uint64_t now_ns) {
  auto next = std::make_shared<Snapshot>();
  // An event may be read before the tick whose clock was read before it: the later time counts.
  next->time_ns = std::max(now_ns, newest_event_ns_);
  next->lost_share_q16 = lost_share_q16_;
  const uint64_t of_day_ns =
      wall_offset_ns_ == 0 ? 0 : (now_ns + static_cast<uint64_t>(wall_offset_ns_)) % kDayNs;
  for (const Service& each : services_) {
    ServiceView& view = next->services.emplace_back(each.usual.view());
    view.day_sine_q16 = sine_q16(of_day_ns, kDayNs);
    view.day_cosine_q16 = sine_q16(of_day_ns + kDayNs / 4, kDayNs);
  }
  for (const Backend& each : backends_) next->backends.push_back(view_of(each, now_ns));
  snapshot_ = std::move(next);
}

}  // namespace petrel
