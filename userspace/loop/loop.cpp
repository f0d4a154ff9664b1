// SPDX-License-Identifier: MIT
#include "loop/loop.hpp"

#include <algorithm>

#include "score/score.hpp"

namespace petrel {
namespace {

constexpr std::uint64_t kYoungestScoredNs = 8'000'000;  // the first waiting point of training

std::uint64_t total(std::span<const WaitingGroup> groups) {
  std::uint64_t sum = 0;
  for (const WaitingGroup& group : groups) sum += group.count;
  return sum;
}

}  // namespace

void Loop::set_model(Model model, std::uint32_t kernel_generation) {
  model_ = std::move(model);
  scoring_ = make_scoring_model(model_, kernel_generation);
  kernel_generation_ = kernel_generation;
}

std::uint32_t Loop::score(const bpf::event& event, const FeatureVector& features) const {
  if (kernel_generation_ != 0 && event.score_model == (kernel_generation_ & 0xffff)) {
    return std::min<std::uint32_t>(event.score_q16, Q16_ONE);
  }
  return probability_q16(scoring_, features);
}

std::optional<std::uint32_t> Loop::on_event(const bpf::event& event) {
  std::optional<std::uint32_t> probability;
  if (event.type != bpf::EVENT_RETRY && is_outcome(event)) {
    const FeatureVector features = features_.compute(observe(event));
    probability = score(event, features);
    if (ServiceLoop* service = find_service(event.key.service_id)) {
      if (BackendLoop* backend = service->find(event.backend_id)) {
        service->score(*backend, model_, {&features, *probability, 1, false});
        backend->capacity.on_outcome(event.failure == bpf::FAILURE_NONE);
      }
    }
  }
  features_.on_event(event);
  return probability;
}

void Loop::tick(std::uint64_t now_ns, std::chrono::nanoseconds elapsed, const InputsOf& inputs_of,
                const Decided& decided) {
  std::vector<BackendWaiting> waiting;
  for (ServiceLoop& service : services_) {
    for (BackendLoop& backend : service.backends()) {
      const BackendTick inputs = inputs_of(service, backend);
      backend.probe = inputs.probe;
      score_waiting(service, backend, Point::kWaitingSyn, inputs.waiting_syn);
      score_waiting(service, backend, Point::kWaitingResponse, inputs.waiting);
      const std::uint64_t waits = total(inputs.waiting_syn) + total(inputs.waiting);
      backend.capacity.tick(waits, backend.reading.risk, elapsed);
      waiting.push_back({backend.config.id, service.config().id, static_cast<std::uint32_t>(waits),
                         backend.config.other_zone});
    }
    decided(service, service.end_tick(now_ns, elapsed));
  }
  features_.on_tick(now_ns, waiting);
}

void Loop::score_waiting(ServiceLoop& service, BackendLoop& backend, Point point,
                         std::span<const WaitingGroup> groups) {
  for (const WaitingGroup& group : groups) {
    if (group.age_ns < kYoungestScoredNs) continue;
    Observation observation;
    observation.point = point;
    observation.backend_id = backend.config.id;
    observation.service_id = service.config().id;
    observation.elapsed_ns = group.age_ns;
    const FeatureVector features = features_.compute(observation);
    service.score(backend, model_,
                  {&features, probability_q16(scoring_, features), group.count, true});
  }
}

void Loop::hold(bool held) {
  held_ = held;
  for (ServiceLoop& service : services_) {
    const bool changes = service.held() != held;
    service.hold(held);
    if (changes) service.settle();
  }
}

ServiceLoop* Loop::find_service(std::uint32_t service_id) {
  const auto found = std::ranges::find_if(
      services_, [&](const ServiceLoop& service) { return service.config().id == service_id; });
  return found == services_.end() ? nullptr : &*found;
}

}  // namespace petrel
