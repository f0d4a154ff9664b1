// SPDX-License-Identifier: MIT
// ShadowTally: what one service's weights would have changed, had they been in force, from its
// labels.
//
// In shadow each flow is placed by configured weights, and it is known how likely it would have
// gone to its backend by the computed ones: w = computed share / configured share. So it is w times
// as likely there, and a retry of a flow there counts w times in what would have been (inverse
// propensity weighting, Horvitz and Thompson 1952). Saved is the sum of 1 - w over retried flows;
// below 0 where traffic would have gone to backends that fail. Not in it: that backends slow down
// under what they would have been given, and what the other actuators would do. Flows are first
// attempts, as in watch/self_check.hpp, by the weights at their placement. Intervals are a
// bootstrap over parts of time, for flows of one part share its trouble. Pure: time comes in as a
// number; on the loop's thread.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <unordered_map>

#include "bpf/types.h"
#include "trainer/bootstrap.hpp"

namespace petrel {

// A backend's share by computed weights as a multiple of the one in force.
struct ShareRatio {
  std::uint32_t backend_id = 0;
  double ratio = 1;
};

struct ShadowFigures {
  double covers_s = 0;  // how long the counts reach back, at most what was asked
  std::uint64_t flows = 0;
  double moved_flows = 0;     // that would have gone elsewhere
  std::uint64_t retried = 0;  // flows
  double retried_left = 0;    // of these: on backends that they would not have been given
  Estimate saved;             // retries; no interval of fewer than 5 parts with flows
  std::size_t parts = 0;
};

class ShadowTally {
 public:
  static constexpr std::uint64_t kFinePartNs = 10'000'000'000;
  static constexpr std::uint64_t kCoarsePartNs = 300'000'000'000;
  static constexpr std::uint64_t kFineNs = 600'000'000'000;     // parts older than that are coarse
  static constexpr std::uint64_t kKeptNs = 86'400'000'000'000;  // and longer ago nothing is known

  // Each tick, of each backend; those that are not named have what they have.
  void on_tick(std::span<const ShareRatio> ratios, std::uint64_t now_ns);
  void on_event(const bpf::event& event);
  ShadowFigures figures(std::uint64_t since_ns, std::uint64_t now_ns) const;

 private:
  struct Part {
    std::uint64_t from_ns = 0;
    std::uint64_t flows = 0;
    std::uint64_t retried = 0;
    double moved_flows = 0;
    double retried_left = 0;
    double saved = 0;

    void add(const Part& other);
  };
  struct Change {
    std::uint64_t from_ns = 0;
    double ratio = 1;
  };
  double ratio_at(std::uint32_t backend_id, std::uint64_t placed_ns) const;
  Part& part_at(std::uint64_t now_ns);
  void forget(std::uint64_t now_ns);

  std::deque<Part> fine_;                                         // ascending
  std::deque<Part> coarse_;                                       // the same, all before
  std::unordered_map<std::uint32_t, std::deque<Change>> ratios_;  // ascending
  std::uint64_t begun_ns_ = 0;
  std::uint64_t now_ns_ = 0;
};

}  // namespace petrel
