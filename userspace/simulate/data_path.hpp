// SPDX-License-Identifier: MIT
// DataPath: the decisions of the balancer's XDP program, on one service, without a kernel.
//
// What place.bpf.h, admit.bpf.h and client.bpf.h decide at a SYN, in their order and by their
// names; hashes are the kernel's own (hash.h). Not here: the tables of flows, which never fill up,
// and the odds of a retry label: the simulation says which connection repeats which.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "bpf/enums.h"
#include "simulate/policy.hpp"

namespace petrel::simulate {

// As in place.bpf.h, client.bpf.h and the agent's defaults; a test holds them to those files.
inline constexpr std::uint32_t kPlaceTries = 16;
inline constexpr std::uint32_t kSecondRiskQ16 = 13107;
inline constexpr std::uint32_t kSecondDraws = 4;
inline constexpr std::uint64_t kFailoverAfterNs = 150'000'000;

// What clients have had of a second, by shares as in admit.bpf.h.
class ClientShares {
 public:
  // Whether one more is beyond the client's share of so many a second and half of it, where several ask.
  bool is_unfair(std::uint32_t client_hash, std::uint64_t now_ns, double rate_per_s);
  void take() { ++shares_[place_].spent; }  // for whom is_unfair() was asked

 private:
  struct Share {
    std::uint64_t second = 0;
    std::uint32_t spent = 0;
  };
  std::array<Share, BUDGET_SHARES> shares_{};
  std::size_t place_ = 0;
  std::uint64_t second_ = 0;
  std::uint32_t sharers_ = 0, sharers_before_ = 0;
};

// A token bucket for retries: struct budget.
class RetryBudget {
 public:
  void set(double rate_per_s, double burst) {
    rate_per_s_ = rate_per_s;
    burst_ = burst;
  }
  bool spend(std::uint32_t client_hash, std::uint64_t now_ns);

 private:
  ClientShares shares_;
  double rate_per_s_ = 0;
  double burst_ = 0;
  double tokens_ = 0;
  std::uint64_t filled_ns_ = 0;
};

class DataPath {
 public:
  // Of one backend, as the agent writes it; ids are those of rings: backend + 1.
  struct Entry {
    std::uint32_t base_weight = 100;
    std::uint32_t risk_q16 = 0;
    std::uint32_t factor_q16 = 65536;  // of the base weight, in force
    bpf::backend_state state = bpf::BACKEND_UP;
    std::uint64_t limit = 0;  // requests in flight; 0: none
    std::uint64_t retry_limit = 0;
  };

  // `flags`: enum service_flag.
  DataPath(BalancerView view, std::uint32_t flags);

  // The tables, which their owner may change at any time.
  void set_rings(std::span<const std::uint32_t> in_force, std::span<const std::uint32_t> neutral);
  Entry& entry(std::uint32_t backend) { return entries_[backend]; }
  RetryBudget& budget() { return budget_; }
  InflightLimits& limits() { return limits_; }
  const InflightLimits& limits() const { return limits_; }
  // What clients share near the limit; 0: nothing is shared.
  void set_shared_rate(double per_s) { shared_per_s_ = per_s; }

  Placement place(const Flow& flow);
  std::uint32_t move_syn(const StuckSyn& syn) const;

 private:
  struct Wanted {
    std::span<const std::uint32_t> ring = {};
    std::uint32_t avoid[3] = {kNobody, kNobody, kNobody};
    bool below_limit = false;
    bool retry = false;
  };

  bool has(bpf::service_flag flag) const { return (flags_ & flag) != 0; }
  bool usable(std::uint32_t backend) const {
    return backend < entries_.size() && entries_[backend].state == bpf::BACKEND_UP;
  }
  bool at_limit(std::uint32_t backend, bool retry) const;
  std::uint32_t probe_ring(const Wanted& wanted, std::uint64_t hash) const;
  std::uint32_t other_backend(Wanted wanted, std::uint64_t hash) const;
  std::uint32_t second_choice(std::uint32_t first, std::uint64_t hash) const;
  std::uint32_t choose(const Flow& flow) const;
  bool admit(const Flow& flow);

  BalancerView view_;
  std::uint32_t flags_;
  std::vector<Entry> entries_;
  std::span<const std::uint32_t> in_force_;
  std::span<const std::uint32_t> neutral_;
  RetryBudget budget_;
  InflightLimits limits_;
  ClientShares admissions_;
  double shared_per_s_ = 0;
};

}  // namespace petrel::simulate
