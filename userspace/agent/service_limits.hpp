// SPDX-License-Identifier: MIT
// ServiceLimits: from what one service's counters say at each tick to what may be asked of it: the rate
// of its retry budget and the limit on its requests in flight.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>

#include "bpf/types.h"
#include "control/admission.hpp"
#include "loop/service_loop.hpp"

namespace petrel {

class ServiceLimits {
 public:
  // patience_ns: what its clients wait; 0: not known.
  void tick(const ServiceLoop& service, const bpf::service_stats& stats,
            std::chrono::nanoseconds elapsed, std::uint64_t patience_ns,
            std::uint64_t usual_response_ns);

  // First attempts a second over the last 10 s; over what there was so far until then. A window and no
  // running mean: what retries crowd out today still counts, and one quiet second is no quiet service.
  double first_attempts_per_s() const;

  const AdmissionDecision& admission() const { return admission_.decision(); }

 private:
  struct Attempts {
    std::chrono::nanoseconds elapsed;
    std::uint64_t first;
  };
  void count_first_attempts(std::uint64_t first, std::chrono::nanoseconds elapsed);
  std::uint64_t answered_since_last(const BackendLoop& backend);

  Admission admission_;
  std::deque<Attempts> attempts_;  // newest last
  std::chrono::nanoseconds attempts_elapsed_{0};
  std::uint64_t attempts_in_window_ = 0;
  std::uint64_t first_counted_ = 0;
  bool counted_ = false;
  std::map<std::uint32_t, std::uint64_t> answered_;  // good answers ever, by backend id
};

}  // namespace petrel
