// SPDX-License-Identifier: MIT
#include "watch/shadow_tally.hpp"

#include <algorithm>
#include <vector>

#include "features/features.hpp"

namespace petrel {
namespace {

constexpr std::uint64_t kRememberedNs = 60'000'000'000;  // ratios; far longer than a retry takes
constexpr std::size_t kLeastParts = 5;
constexpr std::size_t kResamples = 1000;
constexpr std::uint64_t kSeed = 1;

double left(double ratio) {
  return std::max(0.0, 1 - ratio);
}

}  // namespace

void ShadowTally::Part::add(const Part& other) {
  flows += other.flows;
  retried += other.retried;
  moved_flows += other.moved_flows;
  retried_left += other.retried_left;
  saved += other.saved;
}

void ShadowTally::on_tick(std::span<const ShareRatio> ratios, std::uint64_t now_ns) {
  if (begun_ns_ == 0) begun_ns_ = now_ns;
  now_ns_ = now_ns;
  for (const ShareRatio& it : ratios) {
    std::deque<Change>& changes = ratios_[it.backend_id];
    if ((changes.empty() ? 1.0 : changes.back().ratio) != it.ratio) {
      changes.push_back({now_ns, it.ratio});
    }
    // The last one before that time still holds at it.
    while (changes.size() > 1 && changes[1].from_ns + kRememberedNs < now_ns) changes.pop_front();
  }
  forget(now_ns);
}

double ShadowTally::ratio_at(std::uint32_t backend_id, std::uint64_t placed_ns) const {
  const auto found = ratios_.find(backend_id);
  if (found == ratios_.end()) return 1;
  double ratio = 1;
  for (const Change& change : found->second) {
    if (change.from_ns > placed_ns) break;
    ratio = change.ratio;
  }
  return ratio;
}

void ShadowTally::forget(std::uint64_t now_ns) {
  while (!fine_.empty() && fine_.front().from_ns + kFineNs < now_ns) {
    const Part& old = fine_.front();
    const std::uint64_t from_ns = old.from_ns / kCoarsePartNs * kCoarsePartNs;
    if (coarse_.empty() || coarse_.back().from_ns != from_ns)
      coarse_.push_back({.from_ns = from_ns});
    coarse_.back().add(old);
    fine_.pop_front();
  }
  while (!coarse_.empty() && coarse_.front().from_ns + kKeptNs < now_ns) coarse_.pop_front();
}

ShadowTally::Part& ShadowTally::part_at(std::uint64_t now_ns) {
  const std::uint64_t from_ns = now_ns / kFinePartNs * kFinePartNs;
  if (fine_.empty() || fine_.back().from_ns != from_ns) fine_.push_back({.from_ns = from_ns});
  return fine_.back();
}

void ShadowTally::on_event(const bpf::event& event) {
  if (begun_ns_ == 0) return;
  if (event.type == bpf::EVENT_RETRY || event.type == bpf::EVENT_NO_RETRY) {
    if (event.attempt > 2 || event.previous_request > 1) return;
    const double ratio = ratio_at(event.previous_backend_id, event.previous_syn_ns);
    Part& part = part_at(now_ns_);
    const bool is_retry = event.type == bpf::EVENT_RETRY;
    if (!is_retry && part.retried == 0) return;
    const double sign = is_retry ? 1 : -1;
    if (is_retry) {
      ++part.retried;
    } else {
      --part.retried;
    }
    part.retried_left += sign * left(ratio);
    part.saved += sign * (1 - ratio);
    return;
  }
  if (event.type == bpf::EVENT_MOVED || !is_outcome(event)) return;
  if (event.attempt > 1 || event.request > 1) return;
  Part& part = part_at(now_ns_);
  ++part.flows;
  part.moved_flows += left(ratio_at(event.backend_id, event.syn_ns));
}

ShadowFigures ShadowTally::figures(std::uint64_t since_ns, std::uint64_t now_ns) const {
  std::vector<const Part*> parts;
  for (const Part& part : coarse_) {
    if (part.from_ns >= since_ns) parts.push_back(&part);
  }
  for (const Part& part : fine_) {
    if (part.from_ns + kFinePartNs > since_ns) parts.push_back(&part);
  }
  ShadowFigures out;
  out.parts = parts.size();
  const std::uint64_t from_ns = std::max(since_ns, begun_ns_);
  if (begun_ns_ != 0 && from_ns < now_ns)
    out.covers_s = static_cast<double>(now_ns - from_ns) / 1e9;
  Part sum;
  for (const Part* part : parts) sum.add(*part);
  out.flows = sum.flows;
  out.retried = sum.retried;
  out.moved_flows = std::max(sum.moved_flows, 0.0);
  out.retried_left = std::max(sum.retried_left, 0.0);
  std::vector<double> resampled;
  if (parts.size() >= kLeastParts) {
    const RunResamples draws(parts.size(), kResamples, kSeed);
    for (std::size_t i = 0; i < draws.count(); ++i) {
      const auto weights = draws.weights(i);
      double saved = 0;
      for (std::size_t p = 0; p < parts.size(); ++p) saved += weights[p] * parts[p]->saved;
      resampled.push_back(saved);
    }
  }
  out.saved = estimate(sum.saved, std::move(resampled), parts.size());
  return out;
}

}  // namespace petrel
