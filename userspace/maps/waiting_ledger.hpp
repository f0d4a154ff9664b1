// SPDX-License-Identifier: MIT
// WaitingLedger: the ages of a backend's unanswered requests, from the slots in which they began.
//
// The data path adds to a slot when a request begins and subtracts from the same slot when it ends;
// slots are used again every WAITING_SLOTS * 2^WAITING_SLOT_SHIFT ns (8.6 s). What a slot still
// holds when it is about to be used again is carried over: noted as its offset and as an old
// request. The data path counts ends of such old ones in waited_out. Pure; one ledger for each of
// a backend's two arrays.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "bpf/types.h"

namespace petrel {

struct WaitingGroup {
  std::uint64_t age_ns = 0;  // of its youngest; the slot is 16.8 ms wide
  std::uint64_t count = 0;
};

class WaitingLedger {
 public:
  // `slots`: the array summed over CPUs. Call at least once a second.
  void update(std::uint64_t now_ns, std::span<const std::int32_t, WAITING_SLOTS> slots);

  // The sweep ended one on the data path's behalf, which will never subtract it.
  void give_back(std::uint64_t start_ns);

  // What an audit that began at begun_ns did not find in the tables of flows (`seen`, by slot) and the
  // slots hold all the same is no longer counted. `slots` as in update(), read after the audit.
  // Returns how many those are.
  std::uint64_t heal(std::uint64_t begun_ns, std::span<const std::int32_t, WAITING_SLOTS> slots,
                     std::span<const std::uint32_t, WAITING_SLOTS> seen);

  // False while slots may hold what began before the first update and is older than it looks: for a
  // lap, unless there was nothing.
  bool is_settled() const { return !found_some_ || last_tick_ - first_tick_ >= WAITING_SLOTS; }

  // As of the last update: by age, youngest first; those carried over are not among them.
  const std::vector<WaitingGroup>& groups() const { return groups_; }
  std::uint64_t total() const { return total_; }  // of groups()
  std::int64_t carried() const { return carried_; }  // ever carried over

 private:
  std::array<std::int32_t, WAITING_SLOTS> offset_{};
  std::vector<WaitingGroup> groups_;
  std::uint64_t total_ = 0;
  std::int64_t carried_ = 0;
  std::uint64_t last_tick_ = 0;  // slot number (not index) of the last update; 0: none
  std::uint64_t first_tick_ = 0;  // of the first one
  bool found_some_ = false;       // which found slots in use
};

}  // namespace petrel
