// SPDX-License-Identifier: MIT
// Which SYNs without an answer are sent to a second backend, and how many at most.
//
// After J. Dean and L. A. Barroso, The Tail at Scale, CACM 2013: what has waited for longer than nearly
// all do is asked for once more elsewhere, which costs little while it is rare. It is kept rare: a
// token for each of so many SYNs. Pure: time comes in as a number.
#pragma once

#include <chrono>
#include <cstdint>

namespace petrel {

struct HedgeSettings {
  double usual_times = 4;                  // of the usual connect time,
  std::uint64_t least_wait_ns = 20'000'000;  // and at least this
  double share = 0.05;                     // of SYNs
  double saved_s = 10;                     // of whose tokens can be saved up
};

class HedgeLaw {
 public:
  explicit HedgeLaw(HedgeSettings settings = {}) : settings_(settings) {}

  // How long a SYN waits before it is hedged. 0: not known, then none is.
  std::uint64_t wait_ns(std::uint64_t usual_connect_ns) const;

  // `syns`: of the service, ever.
  void tick(std::uint64_t syns, std::chrono::nanoseconds elapsed);
  // Takes one token; false: there is none.
  bool spend();
  double tokens() const { return tokens_; }

 private:
  HedgeSettings settings_;
  double syns_per_s_ = 0;  // mean over saved_s
  double tokens_ = 0;
  std::uint64_t counted_ = 0;
  bool has_counted_ = false;
};

}  // namespace petrel
