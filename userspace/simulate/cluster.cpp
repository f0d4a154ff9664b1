// SPDX-License-Identifier: MIT
#include "simulate/cluster.hpp"

#include <algorithm>

namespace petrel::simulate {

void LatencyByRif::add(std::uint32_t rif, double latency_ns) {
  if (levels_.empty()) levels_.resize(kLevels);
  Level& level = levels_[std::min(rif, kLevels - 1)];
  level.latencies[level.count++ % kKept] = latency_ns;
}

double LatencyByRif::median_near(std::uint32_t rif) const {
  if (levels_.empty()) return 0;
  const std::uint32_t wanted = std::min(rif, kLevels - 1);
  for (std::uint32_t distance = 0; distance < kLevels; ++distance) {
    for (const std::uint32_t at : {wanted - distance, wanted + distance}) {
      if (at >= kLevels || levels_[at].count == 0) continue;  // wrapped below 0, too
      std::array<double, kKept> sorted = levels_[at].latencies;
      const std::uint32_t count = std::min(levels_[at].count, kKept);
      std::nth_element(sorted.begin(), sorted.begin() + count / 2, sorted.begin() + count);
      return sorted[count / 2];
    }
  }
  return 0;
}

std::uint32_t Cluster::take_attempt() {
  if (free_attempts.empty()) {
    attempts.emplace_back();
    return static_cast<std::uint32_t>(attempts.size() - 1);
  }
  const std::uint32_t index = free_attempts.back();
  free_attempts.pop_back();
  const std::uint32_t generation = attempts[index].generation;
  attempts[index] = Attempt();
  attempts[index].generation = generation;
  return index;
}

void Cluster::free_attempt(std::uint32_t index) {
  attempts[index].phase = Phase::kFree;
  ++attempts[index].generation;
  free_attempts.push_back(index);
}

// Those that wait enter in order of time, so that a list is sorted by age.
void Cluster::list(std::uint32_t index, bool as_syn) {
  Attempt& attempt = attempts[index];
  Pair& of = pair(attempt.balancer, attempt.backend);
  WaitList& wait = as_syn ? of.syns : of.requests;
  attempt.listed = true;
  attempt.listed_as_syn = as_syn;
  attempt.next = kNobody;
  attempt.previous = wait.last;
  if (wait.last == kNobody) {
    wait.first = index;
  } else {
    attempts[wait.last].next = index;
  }
  wait.last = index;
}

void Cluster::unlist(std::uint32_t index) {
  Attempt& attempt = attempts[index];
  if (!attempt.listed) return;
  attempt.listed = false;
  Pair& of = pair(attempt.balancer, attempt.backend);
  WaitList& wait = attempt.listed_as_syn ? of.syns : of.requests;
  (attempt.previous == kNobody ? wait.first : attempts[attempt.previous].next) = attempt.next;
  (attempt.next == kNobody ? wait.last : attempts[attempt.next].previous) = attempt.previous;
}

}  // namespace petrel::simulate
