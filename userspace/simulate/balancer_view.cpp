// SPDX-License-Identifier: MIT
#include "simulate/balancer_view.hpp"

namespace petrel::simulate {

ServerReport BalancerView::ask(std::uint32_t backend) const {
  const BackendState& state = cluster_->backends[backend];
  return {state.rif(), state.latencies.median_near(state.rif())};
}

// An age is that of the slot's end, as WaitingLedger has it.
void BalancerView::waiting(std::uint32_t backend, bool syns,
                           std::vector<WaitingGroup>& groups) const {
  groups.clear();
  const Pair& pair = cluster_->pair(balancer_, backend);
  const std::uint64_t current = now_ns() >> WAITING_SLOT_SHIFT;
  std::uint64_t slot_of_group = 0;
  std::uint32_t index = syns ? pair.syns.last : pair.requests.last;
  for (; index != kNobody; index = cluster_->attempts[index].previous) {
    const Attempt& attempt = cluster_->attempts[index];
    const std::uint64_t began_ns = syns ? attempt.sent_ns : attempt.request_ns;
    const std::uint64_t slot = began_ns >> WAITING_SLOT_SHIFT;
    if (current - slot >= WAITING_YOUNG_SLOTS) break;  // carried over: no longer among the groups
    if (groups.empty() || slot != slot_of_group) {
      const std::uint64_t slot_end_ns = (slot + 1) << WAITING_SLOT_SHIFT;
      groups.push_back({now_ns() > slot_end_ns ? now_ns() - slot_end_ns : 0, 0});
      slot_of_group = slot;
    }
    ++groups.back().count;
  }
}

}  // namespace petrel::simulate
