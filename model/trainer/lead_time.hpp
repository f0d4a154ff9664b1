// SPDX-License-Identifier: MIT
// Lead time: how long before a request failed its retry was predicted.
//
// The rows of one request are those of its connection and number; a handshake's are its
// connection's first request's. Of a request that waited, the first waiting row at or above the
// working point is its alarm, and the row of its outcome (an end, an answer) is what the alarm came
// before.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "telemetry/row.hpp"
#include "trainer/bootstrap.hpp"

namespace petrel {

struct AlarmCounts {
  uint64_t requests = 0;             // with a row of their outcome
  uint64_t waited = 0;               // of these, with a waiting row: who fails within 8 ms has none
  uint64_t crossed = 0;              // of these, above the working point while they waited
  Estimate share_crossed;            // of the requests
  Estimate share_crossed_of_waited;  // of those that waited
};

struct LeadTime {
  AlarmCounts retried;
  AlarmCounts others;  // these alarms are false ones
  Estimate median_ms;  // over retried requests that crossed
  Estimate p90_ms;
};

// `probabilities[i]` has one for each row of `runs[i]`.
LeadTime measure_lead_time(std::span<const Run* const> runs,
                           const std::vector<std::vector<double>>& probabilities,
                           double working_point, const RunResamples& resamples);

}  // namespace petrel
