// SPDX-License-Identifier: MIT
// AdmissionLimit: the agent's own admission (control/admission.hpp) in a simulated balancer.
#pragma once

#include "control/admission.hpp"
#include "simulate/policy.hpp"

namespace petrel::simulate {

class AdmissionLimit : public InflightLimit {
 public:
  InflightLimits tick(const InflightFacts& facts) override {
    const std::uint64_t limit = admission_
                                    .tick(facts.elapsed_ns, facts.known_patience_ns,
                                          facts.usual_response_ns, facts.backends)
                                    .limit;
    return {limit, limit == 0 ? 0 : std::max<std::uint64_t>(1, limit * 4 / 5)};
  }
  std::uint64_t overdue_ns(std::uint64_t patience_ns, std::uint64_t usual_ns) const override {
    return admission_.overdue_ns(patience_ns, usual_ns);
  }

  double capacity_per_s() const { return admission_.decision().capacity_per_s; }
  bool saturated() const override { return admission_.decision().saturated; }

 private:
  Admission admission_;
};

}  // namespace petrel::simulate
