// SPDX-License-Identifier: MIT
// LittleLimit: the admission of the design's trial: no more in flight than what is completed now
// can answer within a part of what clients wait.
//
// What admission (AdmissionLimit) is held against. It takes that one's place in
// PolicySettings::inflight_limit.
#pragma once

#include "simulate/policy.hpp"

namespace petrel::simulate {

class LittleLimit : public InflightLimit {
 public:
  // Seconds of throughput that may be in flight; 0: a third of what clients are seen to wait.
  explicit LittleLimit(double seconds = 0) : seconds_(seconds) {}

  InflightLimits tick(const InflightFacts& facts) override;

 private:
  double seconds_;
  double per_s_ = 0;  // answers, smoothed over about a second
  double usual_ = 0;  // in flight while nobody leaves
  double seen_s_ = 0;
};

}  // namespace petrel::simulate
