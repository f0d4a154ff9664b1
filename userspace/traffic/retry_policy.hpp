// SPDX-License-Identifier: MIT
// RetryPolicy: whether and when a client tries again after a failed attempt.
#pragma once

#include <chrono>
#include <optional>
#include <string_view>

#include "base/error.hpp"

namespace petrel::traffic {

enum class RetryKind { kNone, kImmediate, kFixed, kExponential };

// "none", "immediate", "fixed" or "exponential".
Result<RetryKind> parse_retry_kind(std::string_view name);

struct RetryPolicy {
  RetryKind kind = RetryKind::kNone;
  std::chrono::milliseconds delay{100};  // fixed: the delay; exponential: the base
  std::chrono::milliseconds cap{5000};   // exponential: no delay is longer
  int max_attempts = 4;                  // the first one included

  // How long to wait before the next attempt, or nothing when the client gives up.
  // attempts_made counts from 1; uniform is a draw from [0, 1), the only randomness used.
  // Exponential has "full jitter": uniform in [0, min(cap, delay * 2^(attempts_made - 1))).
  std::optional<std::chrono::nanoseconds> delay_after(int attempts_made, double uniform) const;
};

}  // namespace petrel::traffic
