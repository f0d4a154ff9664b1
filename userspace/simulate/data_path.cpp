// SPDX-License-Identifier: MIT
#include "simulate/data_path.hpp"

#include <algorithm>

#include "bpf/hash.h"

namespace petrel::simulate {
namespace {

// Ids on a ring count from 1; 0 is nobody, and so is what comes of it here.
std::uint32_t slot_of(std::span<const std::uint32_t> ring, std::uint64_t hash) {
  return ring[bpf::hash_slot(hash, static_cast<std::uint32_t>(ring.size()))] - 1;
}

bool is_over(std::int64_t requests, std::uint64_t limit, std::uint64_t retry_limit, bool retry) {
  const std::uint64_t most = retry && retry_limit != 0 ? retry_limit : limit;
  return most != 0 && requests >= static_cast<std::int64_t>(most);
}

}  // namespace

bool ClientShares::is_unfair(std::uint32_t client_hash, std::uint64_t now_ns, double rate_per_s) {
  const std::uint64_t second = now_ns >> 30;
  place_ = bpf::hash_again(client_hash, static_cast<std::uint32_t>(second >> 3)) & (BUDGET_SHARES - 1);
  Share& share = shares_[place_];
  if (second_ != second) {
    sharers_before_ = second_ + 1 == second ? sharers_ : 0;
    sharers_ = 0;
    second_ = second;
  }
  if (share.second != second) {
    share = {second, 0};
    ++sharers_;
  }
  const std::uint32_t sharers = std::max(sharers_, sharers_before_);
  return rate_per_s > 0 && sharers > 1 && share.spent > 0 &&
         2 * (share.spent + 1.0) * sharers > 3 * rate_per_s;
}

bool RetryBudget::spend(std::uint32_t client_hash, std::uint64_t now_ns) {
  const std::uint64_t elapsed_ns = filled_ns_ == 0 ? 0 : now_ns - filled_ns_;
  tokens_ = std::min(tokens_ + static_cast<double>(elapsed_ns) * 1e-9 * rate_per_s_, burst_);
  filled_ns_ = now_ns;
  const bool unfair =
      shares_.is_unfair(client_hash, now_ns, rate_per_s_) && 2 * tokens_ < burst_;
  if (tokens_ < 1 || unfair) return false;
  tokens_ -= 1;
  shares_.take();
  return true;
}

DataPath::DataPath(BalancerView view, std::uint32_t flags)
    : view_(view), flags_(flags), entries_(view.backends()) {}

void DataPath::set_rings(std::span<const std::uint32_t> in_force,
                         std::span<const std::uint32_t> neutral) {
  in_force_ = in_force;
  neutral_ = neutral;
}

bool DataPath::at_limit(std::uint32_t backend, bool retry) const {
  if (backend >= entries_.size()) return false;
  const Entry& entry = entries_[backend];
  return is_over(view_.inflight(backend), entry.limit, entry.retry_limit, retry);
}

std::uint32_t DataPath::probe_ring(const Wanted& wanted, std::uint64_t hash) const {
  for (std::uint32_t i = 1; i <= kPlaceTries; ++i) {
    const std::uint32_t backend = slot_of(wanted.ring, bpf::hash_again(hash, i));
    if (std::ranges::find(wanted.avoid, backend) != std::end(wanted.avoid)) continue;
    if (wanted.below_limit && at_limit(backend, wanted.retry)) continue;
    if (usable(backend)) return backend;
  }
  return kNobody;
}

std::uint32_t DataPath::other_backend(Wanted wanted, std::uint64_t hash) const {
  wanted.ring = has(bpf::SERVICE_ACT) ? in_force_ : neutral_;
  const std::uint32_t other = probe_ring(wanted, hash);
  if (other != kNobody || !has(bpf::SERVICE_ACT)) return other;
  wanted.ring = neutral_;
  return probe_ring(wanted, hash);
}

std::uint32_t DataPath::second_choice(std::uint32_t first, std::uint64_t hash) const {
  std::uint32_t second = first;
  for (std::uint32_t i = 0; i < kSecondDraws && second == first; ++i) {
    second = slot_of(neutral_, bpf::hash_again(hash, 0x5bd1e995 + i));
  }
  if (second == first || !usable(second)) return first;
  const Entry& a = entries_[first];
  const Entry& b = entries_[second];
  if (b.risk_q16 > a.risk_q16 + kSecondRiskQ16) return first;
  if (2 * std::uint64_t{b.factor_q16} < a.factor_q16) return first;
  const auto a_waiting = static_cast<std::uint64_t>(view_.inflight(first));
  const auto b_waiting = static_cast<std::uint64_t>(view_.inflight(second));
  if (a_waiting < b_waiting + 2) return first;
  return 2 * a_waiting * b.base_weight > 3 * b_waiting * a.base_weight ? second : first;
}

std::uint32_t DataPath::choose(const Flow& flow) const {
  std::uint32_t backend = slot_of(has(bpf::SERVICE_ACT) ? in_force_ : neutral_, flow.hash);
  if (!usable(backend)) backend = probe_ring({.ring = neutral_}, flow.hash);
  if (backend == kNobody) return kNobody;
  if (has(bpf::SERVICE_STEER) && flow.previous == backend) {
    const std::uint32_t other = other_backend({.avoid = {backend, kNobody, kNobody}}, flow.hash);
    if (other != kNobody) return other;
  }
  if (!has(bpf::SERVICE_TWO_CHOICES)) return backend;
  const std::uint32_t chosen = second_choice(backend, flow.hash);
  return chosen == flow.previous ? backend : chosen;
}

bool DataPath::admit(const Flow& flow) {
  const bool retry = flow.attempt > 1;
  const std::int64_t waiting = view_.inflight();
  if (has(bpf::SERVICE_ADMIT)) {
    if (is_over(waiting, limits_.all, limits_.retries, retry)) return false;
    if (limits_.all != 0 && 4 * waiting > 3 * static_cast<std::int64_t>(limits_.all)) {
      if (admissions_.is_unfair(flow.client_hash, view_.now_ns(), shared_per_s_)) return false;
      admissions_.take();
    }
  }
  return !retry || !has(bpf::SERVICE_BUDGET) || budget_.spend(flow.client_hash, view_.now_ns());
}

Placement DataPath::place(const Flow& flow) {
  const bool retry = flow.attempt > 1;
  if (!admit(flow)) return {};
  const std::uint32_t backend = choose(flow);
  if (backend == kNobody || !has(bpf::SERVICE_ADMIT) || !at_limit(backend, retry)) {
    return {backend};
  }
  return {other_backend({.avoid = {backend, kNobody, kNobody}, .below_limit = true, .retry = retry},
                        flow.hash)};
}

std::uint32_t DataPath::move_syn(const StuckSyn& syn) const {
  if (syn.moves >= MAX_MOVES) return kNobody;
  if (syn.refused && (!has(bpf::SERVICE_MASK) || syn.masked >= MAX_MASKED)) return kNobody;
  if (!syn.refused && (!has(bpf::SERVICE_FAILOVER) || syn.waited_ns < kFailoverAfterNs)) {
    return kNobody;
  }
  return other_backend({.avoid = {syn.backend, syn.moved_from[0], syn.moved_from[1]}}, syn.hash);
}

}  // namespace petrel::simulate
