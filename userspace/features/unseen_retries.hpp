// SPDX-License-Identifier: MIT
// How many retries no label can tell of: those of what failed on a connection that cannot be read (TLS,
// HTTP/2), where the client tries again on another one of its pool, without a SYN.
#pragma once

#include <algorithm>
#include <cstdint>

namespace petrel {

struct RetryCounts {
  uint64_t failures = 0;             // of which clients know
  uint64_t retries = 0;              // seen
  uint64_t unreadable_failures = 0;  // of `failures`: on kept connections that cannot be read
  uint64_t unreadable_retries = 0;   // of `retries`: seen all the same, by a SYN
};

// The share of all retries that are not seen, 0 to 1. Clients are taken to try again what failed
// unreadably as often as they do what failed where every retry is seen; 0 where nothing did.
inline double unseen_retry_share(const RetryCounts& counts) {
  if (counts.failures <= counts.unreadable_failures) return 0;
  const double readable = static_cast<double>(counts.failures - counts.unreadable_failures);
  const double seen_of_readable =
      static_cast<double>(counts.retries - std::min(counts.retries, counts.unreadable_retries));
  const double propensity = std::min(1.0, seen_of_readable / readable);
  const double expected = propensity * static_cast<double>(counts.unreadable_failures);
  const double unseen = std::max(0.0, expected - static_cast<double>(counts.unreadable_retries));
  return unseen > 0 ? unseen / (unseen + static_cast<double>(counts.retries)) : 0;
}

}  // namespace petrel
