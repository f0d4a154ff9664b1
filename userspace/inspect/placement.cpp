// SPDX-License-Identifier: MIT
#include "inspect/placement.hpp"

#include <algorithm>
#include <array>

#include "bpf/hash.h"

namespace petrel::inspect {
namespace {

// As bpf/place.bpf.h has them, which C++ cannot include.
constexpr std::uint32_t kPlaceTries = 16;
constexpr std::uint32_t kSecondRiskQ16 = 13107;
constexpr std::uint32_t kSecondHash = 0x5bd1e995;
constexpr std::uint32_t kSecondDraws = 4;

struct Wanted {
  std::array<std::uint32_t, 3> avoid{};
  bool quarantined_too = false;
  bool below_limit = false;
  bool retry = false;  // the limit for retries, where it has one
};

bool usable(const ServiceFacts& service, std::uint32_t backend_id, bool quarantined_too) {
  const BackendFacts* backend = service.find(backend_id);
  if (backend == nullptr) return false;
  const auto state = backend->backend.state;
  return state == bpf::BACKEND_UP || (quarantined_too && state == bpf::BACKEND_QUARANTINED);
}

bool is_over(const bpf::inflight& waiting, bool retry) {
  const std::uint64_t limit =
      retry && waiting.retry_limit != 0 ? waiting.retry_limit : waiting.limit;
  return limit != 0 && waiting.requests >= static_cast<std::int64_t>(limit);
}

std::uint32_t in_slot(const std::vector<std::uint32_t>& ring, std::uint32_t slot) {
  return slot < ring.size() ? ring[slot] : 0;
}

ProbeOutcome judge(const ServiceFacts& service, std::uint32_t id, const Wanted& wanted) {
  if (std::ranges::find(wanted.avoid, id) != wanted.avoid.end()) return ProbeOutcome::kAvoided;
  const BackendFacts* backend = service.find(id);
  if (wanted.below_limit && backend != nullptr && is_over(backend->waiting, wanted.retry)) {
    return ProbeOutcome::kAtLimit;
  }
  return usable(service, id, wanted.quarantined_too) ? ProbeOutcome::kTaken
                                                     : ProbeOutcome::kUnusable;
}

// probe_ring(): adds what it asks to `search`.
void probe_ring(const ServiceFacts& service, bool neutral_ring, const Wanted& wanted,
                std::uint64_t hash, Search& search) {
  const auto& ring = neutral_ring ? service.neutral : service.in_force;
  for (std::uint32_t i = 1; i <= kPlaceTries && search.backend_id == 0; ++i) {
    Probe probe;
    probe.slot = bpf::hash_slot(bpf::hash_again(hash, i), service.service.slots);
    probe.neutral_ring = neutral_ring;
    probe.backend_id = in_slot(ring, probe.slot);
    probe.outcome = judge(service, probe.backend_id, wanted);
    if (probe.outcome == ProbeOutcome::kTaken) search.backend_id = probe.backend_id;
    search.probes.push_back(probe);
  }
}

// other_backend(): the ring in force first, where there is one.
Search other_backend(const ServiceFacts& service, const Wanted& wanted, std::uint64_t hash) {
  Search search;
  if (service.has(bpf::SERVICE_ACT)) probe_ring(service, false, wanted, hash, search);
  if (search.backend_id == 0) probe_ring(service, true, wanted, hash, search);
  return search;
}

std::uint64_t requests(const BackendFacts& backend) {
  return backend.waiting.requests > 0 ? static_cast<std::uint64_t>(backend.waiting.requests) : 0;
}

SecondReason compare(const ServiceFacts& service, std::uint32_t first_id, std::uint32_t second_id) {
  if (second_id == first_id) return SecondReason::kSame;
  if (!usable(service, second_id, false)) return SecondReason::kUnusable;
  const BackendFacts* first = service.find(first_id);
  const BackendFacts* second = service.find(second_id);
  if (first == nullptr) return SecondReason::kUnusable;
  if (second->weight.risk_q16 > first->weight.risk_q16 + kSecondRiskQ16) {
    return SecondReason::kRiskier;
  }
  if (2 * std::uint64_t{second->weight.factor_q16} < first->weight.factor_q16) {
    return SecondReason::kDemoted;
  }
  const std::uint64_t a = requests(*first);
  const std::uint64_t b = requests(*second);
  const bool marked = a >= b + 2 && 2 * a * second->weight.base_weight >
                                        3 * b * first->weight.base_weight;
  return marked ? SecondReason::kTaken : SecondReason::kNotBusier;
}

SecondChoice second_choice(const ServiceFacts& service, std::uint32_t first_id, std::uint64_t hash,
                           const Attempt& attempt) {
  SecondChoice second;
  second.backend_id = first_id;
  for (std::uint32_t i = 0; i < kSecondDraws && second.backend_id == first_id; ++i) {
    second.slot = bpf::hash_slot(bpf::hash_again(hash, kSecondHash + i), service.service.slots);
    second.backend_id = in_slot(service.neutral, second.slot);
  }
  second.reason = compare(service, first_id, second.backend_id);
  if (second.reason == SecondReason::kTaken && second.backend_id == attempt.previous_backend_id) {
    second.reason = SecondReason::kFailedIt;
  }
  return second;
}

// Steering and two choices, which act while the agent lives and the service has no affinity.
void choose(const ServiceFacts& service, const Attempt& attempt, Placement& placement) {
  if (service.has(bpf::SERVICE_STEER) && attempt.previous_backend_id == placement.backend_id) {
    placement.steered = other_backend(service, {.avoid = {placement.backend_id}}, placement.hash);
    if (placement.steered->backend_id != 0) {
      placement.backend_id = placement.steered->backend_id;
      return;
    }
  }
  placement.second = second_choice(service, placement.backend_id, placement.hash, attempt);
  placement.second_counts = service.has(bpf::SERVICE_TWO_CHOICES);
  if (placement.second_counts && placement.second->reason == SecondReason::kTaken) {
    placement.backend_id = placement.second->backend_id;
  }
}

Admission over_limit(bool retry) {
  return retry ? Admission::kRetryOverLimit : Admission::kOverLimit;
}

// What the service as a whole says, before its backends are asked.
Admission admit(const ServiceFacts& service, bool retry) {
  if (service.has(bpf::SERVICE_ADMIT) && is_over(service.waiting, retry)) return over_limit(retry);
  const bool spends = retry && service.has(bpf::SERVICE_BUDGET);
  return spends && service.tokens < 1 ? Admission::kOverBudget : Admission::kAdmitted;
}

void admit_to_backend(const ServiceFacts& service, bool retry, Placement& placement) {
  const BackendFacts* backend = service.find(placement.backend_id);
  if (backend == nullptr || !is_over(backend->waiting, retry)) return;
  placement.below_limit = other_backend(
      service, {.avoid = {backend->id}, .below_limit = true, .retry = retry}, placement.hash);
  placement.backend_id = placement.below_limit->backend_id;
  if (placement.backend_id == 0) placement.admission = over_limit(retry);
}

}  // namespace

const BackendFacts* ServiceFacts::find(std::uint32_t backend_id) const {
  const auto found = backends.find(backend_id);
  return found == backends.end() ? nullptr : &found->second;
}

Placement predict(const ServiceFacts& service, const bpf::connection_key& key,
                  const Attempt& attempt, bool tcp) {
  Placement placement;
  const bool silent = service.agent_silent;
  placement.hash =
      bpf::hash_flow(&key, service.service.hash_seed, service.has(bpf::SERVICE_AFFINITY));
  placement.neutral_ring = silent || !service.has(bpf::SERVICE_ACT);
  placement.slot = bpf::hash_slot(placement.hash, service.service.slots);
  placement.slot_backend_id =
      in_slot(placement.neutral_ring ? service.neutral : service.in_force, placement.slot);
  placement.slot_usable = usable(service, placement.slot_backend_id, silent);
  placement.backend_id = placement.slot_backend_id;
  if (!placement.slot_usable) {
    placement.instead.emplace();
    probe_ring(service, true, {.quarantined_too = silent}, placement.hash, *placement.instead);
    placement.backend_id = placement.instead->backend_id;
  }
  if (silent) return placement;
  const bool retry = attempt.number > 1;
  if (tcp) placement.admission = admit(service, retry);
  if (placement.backend_id != 0 && !service.has(bpf::SERVICE_AFFINITY)) {
    choose(service, attempt, placement);
  }
  if (placement.admission != Admission::kAdmitted) {
    placement.backend_id = 0;
  } else if (tcp && service.has(bpf::SERVICE_ADMIT)) {
    admit_to_backend(service, retry, placement);
  }
  return placement;
}

Search next_backend(const ServiceFacts& service, const bpf::half_open& flow) {
  if (flow.moves >= MAX_MOVES) return {};
  const std::uint64_t hash =
      bpf::hash_flow(&flow.key, service.service.hash_seed, service.has(bpf::SERVICE_AFFINITY));
  return other_backend(service,
                       {.avoid = {flow.backend_id, flow.moved_from[0], flow.moved_from[1]},
                        .quarantined_too = service.agent_silent},
                       hash);
}

}  // namespace petrel::inspect
