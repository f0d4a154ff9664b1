// SPDX-License-Identifier: MIT
// SampledLabeller: labelled rows of as many connections as can be afforded all the time.
//
// A connection is in the sample or not, whole, by a hash of what names it: a sample of rows would
// part failures from their retries. The part sampled follows the load, so that about so many rows a
// second come of it. While it shrinks, retries of connections that have just left the sample still
// count: their rows are held. Pure; not thread-safe.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>

#include "telemetry/labeller.hpp"

namespace petrel {

class SampledLabeller {
 public:
  static constexpr double kMostRowsPerS = 2000;

  SampledLabeller(LabellerOptions options, Labeller::Sink sink,
                  double most_rows_per_s = kMostRowsPerS);

  void on_event(const bpf::event& event);
  void on_tick(std::shared_ptr<const Snapshot> snapshot, std::uint64_t now_ns);

  double share() const;  // of connections, 0 to 1
  const Labeller::Counters& counters() const { return labeller_.counters(); }

 private:
  struct Earlier {
    std::uint64_t until_ns = 0;  // a retry of what was in that sample may still come
    std::uint64_t limit = 0;
  };
  void adapt(std::uint64_t now_ns);
  std::uint64_t rows_ever() const;

  LabellerOptions options_;
  double most_rows_per_s_;
  Labeller labeller_;
  std::uint64_t limit_ = ~0ULL;       // hashes up to it are in the sample
  std::uint64_t wide_limit_ = ~0ULL;  // or were, a retry window ago
  std::deque<Earlier> earlier_;       // descending limits
  std::uint64_t adapted_ns_ = 0;
  std::uint64_t rows_then_ = 0;
};

}  // namespace petrel
