// SPDX-License-Identifier: MIT
// WaitingAudit: which unanswered requests and SYNs the tables of flows still know of.
//
// A flow that is evicted from `connections` takes its end with it: nothing gives back what its
// request took from waiting[] and inflight. An audit goes over the tables, which may take a while,
// and then reads waiting[]: a slot that began before the audit and holds more than was seen has
// leaked the difference. What ends meanwhile can hide a leak until the next audit, but never makes
// one up: it was seen, or had given back by then. Pure.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "bpf/types.h"
#include "maps/waiting_ledger.hpp"

namespace petrel {

class WaitingAudit {
 public:
  // Of one of a backend's two arrays.
  struct Seen {
    std::array<std::uint32_t, WAITING_SLOTS> slots{};  // by the slot in which they began
    std::uint64_t old = 0;  // of these: so old that they may have left the slots when waiting[] is read
  };

  WaitingAudit(std::uint64_t begun_ns, std::size_t backend_ids);

  void see(const bpf::connection& connection);
  void see(const bpf::half_open& flow);

  const Seen& requests(std::uint32_t backend_id) const { return requests_.at(backend_id); }
  const Seen& syns(std::uint32_t backend_id) const { return syns_.at(backend_id); }
  std::uint64_t begun_ns() const { return begun_ns_; }
  std::uint64_t open() const { return open_; }      // entries of `connections` that have not ended
  std::uint64_t closed() const { return closed_; }  // those that have

 private:
  void count(std::vector<Seen>& of, std::uint32_t backend_id, std::uint64_t start_ns);

  std::uint64_t begun_ns_;
  std::vector<Seen> requests_;
  std::vector<Seen> syns_;
  std::uint64_t open_ = 0;
  std::uint64_t closed_ = 0;
};

// What waits longer than the slots remember: carried over by the ledgers, given back as waited_out.
class OldWaits {
 public:
  // How many have leaked since the last call. `carried`: of both ledgers; `waited_out`: the backend's
  // counter; `seen`: both arrays' Seen::old. The first call says 0: what was before is not known.
  std::uint64_t leaked(std::int64_t carried, std::uint64_t waited_out, std::uint64_t seen);

 private:
  bool known_ = false;
  std::int64_t settled_ = 0;
};

// What one backend's waits have leaked since the last audit.
struct Leaks {
  std::uint64_t evicted = 0;  // requests whose flow `connections` has no longer
  std::uint64_t syns = 0;     // no SYN should: an entry of half_open gives back what it took

  std::uint64_t total() const { return evicted + syns; }
};

// The ledgers of one backend; those of SYNs only where its flows are in half_open.
struct WaitingLedgers {
  WaitingLedger& requests;
  WaitingLedger* syns;
  OldWaits& old;
};

// Corrects the ledgers by an audit that is over. `stats`: the backend's sums, read after it.
Leaks heal(const WaitingAudit& audit, std::uint32_t backend_id, const bpf::backend_stats& stats,
           WaitingLedgers ledgers);

}  // namespace petrel
