// SPDX-License-Identifier: MIT
// ServiceLimits: from what one service's counters say at each tick to what may be asked of it: the rate
// of its retry budget and the limit on its requests in flight.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>

#include "bpf/types.h"
#include "control/admission.hpp"
#include "control/edge.hpp"
#include "control/retry_allowance.hpp"
#include "label/retry_forecast.hpp"
#include "loop/service_loop.hpp"

namespace petrel {

class ServiceLimits {
 public:
  // patience_ns: what its clients wait; 0: not known.
  void tick(const ServiceLoop& service, const bpf::service_stats& stats,
            std::chrono::nanoseconds elapsed, std::uint64_t patience_ns,
            std::uint64_t usual_response_ns);

  // From what its requests have taught: how many retries are to come is told by it.
  void learn_retries(const RetrySums& sums) { forecast_.learn(sums); }

  // Any of the service's.
  void on_event(const bpf::event& event);

  void set_budget(const BudgetConfig& budget) {
    allowance_.set({budget.ratio, budget.min_per_s, budget.idle_ratio});
  }
  const RetryAllowance& retries() const { return allowance_; }
  // Retries that are to come within the next second, of what has failed.
  double retries_due() const { return forecast_.due(std::chrono::seconds(1)); }
  const AdmissionDecision& admission() const { return admission_.decision(); }
  const EdgeReading& edge() const { return edge_.reading(); }

 private:
  std::uint64_t answered_since_last(const BackendLoop& backend);
  void follow_edge(const bpf::service_stats& stats, const bpf::service_stats& before,
                   EdgeInput input);
  void follow_failures(const bpf::service_stats& stats, const bpf::service_stats& before,
                       std::chrono::nanoseconds elapsed);

  Admission admission_;
  RetryAllowance allowance_;
  RetryForecast forecast_;
  Edge edge_;
  std::optional<bpf::service_stats> before_;  // as of the last tick
  std::map<std::uint32_t, std::uint64_t> answered_;  // good answers ever, by backend id
};

}  // namespace petrel
