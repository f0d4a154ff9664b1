// SPDX-License-Identifier: MIT
// The catalogue of policies.
#include <algorithm>

#include "simulate/admission_limit.hpp"
#include "simulate/little_limit.hpp"
#include "simulate/policy.hpp"
#include "simulate/reference_policy.hpp"
#include "simulate/ring_policy.hpp"

namespace petrel::simulate {
namespace {

constexpr PolicyInfo kPolicies[] = {
    {"static", "the ring by configured weights: a balancer that only hashes", false},
    {"round-robin", "turns", false},
    {"threshold", "5 failures within 1 s take a backend out for 5 s", false},
    {"two-choices", "static, and a second choice where the first is busy", false},
    {"petrel-weights", "petrel without two choices", true},
    {"petrel-unguarded", "petrel-weights, whatever the other backends can carry", true},
    {"petrel-shadow", "petrel's loop, of which nothing is put in force", true},
    {"petrel", "petrel as it is installed, in mode act", true},
    {"petrel-budget", "petrel without admission: of what limits only the retry budget", true},
    {"petrel-little", "petrel, with the trial's limit on requests in flight in admission's place",
     true},
    {"two-random", "two at random, the one with fewer in flight (Mitzenmacher 2001)", false},
    {"peak-ewma", "two at random by latency peaks and requests in flight (Finagle, Linkerd)",
     false},
    {"outlier", "turns, with outlier ejection at Envoy's defaults", false},
    {"prequal", "probed latency and requests in flight, hot and cold (NSDI 2024)", false},
};

// What a service does unless its configuration says otherwise, but two choices.
constexpr std::uint32_t kInstalled = bpf::SERVICE_STEER | bpf::SERVICE_FAILOVER |
                                     bpf::SERVICE_MASK | bpf::SERVICE_BUDGET | bpf::SERVICE_ADMIT;

}  // namespace

std::span<const PolicyInfo> policies() {
  return kPolicies;
}

const PolicyInfo* find_policy(std::string_view name) {
  const auto* found = std::ranges::find(kPolicies, name, &PolicyInfo::name);
  return found == std::end(kPolicies) ? nullptr : found;
}

PolicyMaker make_policy_maker(std::string_view name, const Scenario& scenario,
                              const PolicySettings& settings) {
  constexpr std::uint32_t kAll = kInstalled | bpf::SERVICE_TWO_CHOICES;
  if (name == "round-robin") return make_round_robin();
  if (name == "threshold") return make_threshold_policies(scenario);
  if (name == "two-choices") return make_ring_policies(scenario, bpf::SERVICE_TWO_CHOICES);
  if (name == "petrel-weights") {
    return make_petrel_policies(scenario, settings, {ServiceMode::kAct, kInstalled});
  }
  if (name == "petrel-unguarded") {
    return make_petrel_policies(scenario, settings,
                                {.flags = kInstalled, .capacity_guard = false});
  }
  if (name == "petrel-shadow") {
    return make_petrel_policies(scenario, settings, {ServiceMode::kShadow, kAll});
  }
  if (name == "petrel-budget") {
    return make_petrel_policies(scenario, settings, {ServiceMode::kAct, kAll});
  }
  PolicySettings with = settings;
  if (name == "petrel") {
    if (!with.inflight_limit) {
      with.inflight_limit = [] { return std::make_unique<AdmissionLimit>(); };
    }
    with.end_abandoned = true;
    return make_petrel_policies(scenario, with, {ServiceMode::kAct, kAll});
  }
  if (name == "petrel-little") {
    if (!with.inflight_limit) with.inflight_limit = [] { return std::make_unique<LittleLimit>(); };
    return make_petrel_policies(scenario, with, {ServiceMode::kAct, kAll});
  }
  if (name == "two-random") return make_two_random();
  if (name == "peak-ewma") return make_peak_ewma();
  if (name == "outlier") return make_outlier_ejection();
  if (name == "prequal") return make_prequal();
  return make_ring_policies(scenario, 0);
}

}  // namespace petrel::simulate
