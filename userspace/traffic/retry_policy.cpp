// SPDX-License-Identifier: MIT
#include "traffic/retry_policy.hpp"

#include <algorithm>
#include <cmath>
#include <string>

namespace petrel::traffic {

Result<RetryKind> parse_retry_kind(std::string_view name) {
  if (name == "none") return RetryKind::kNone;
  if (name == "immediate") return RetryKind::kImmediate;
  if (name == "fixed") return RetryKind::kFixed;
  if (name == "exponential") return RetryKind::kExponential;
  return Error(ExitCode::kUsage,
               "expected none, immediate, fixed or exponential, found '" + std::string(name) + "'");
}

std::optional<std::chrono::nanoseconds> RetryPolicy::delay_after(int attempts_made,
                                                                 double uniform) const {
  using std::chrono::nanoseconds;
  if (attempts_made >= max_attempts) return std::nullopt;
  switch (kind) {
    case RetryKind::kNone:
      return std::nullopt;
    case RetryKind::kImmediate:
      return nanoseconds(0);
    case RetryKind::kFixed:
      return nanoseconds(delay);
    case RetryKind::kExponential:
      break;
  }
  // In double: 2^n of a late attempt would overflow an integer long before the cap is applied.
  const double grown_ms = static_cast<double>(delay.count()) * std::exp2(attempts_made - 1);
  const double bound_ms = std::min(static_cast<double>(cap.count()), grown_ms);
  return nanoseconds(static_cast<std::int64_t>(uniform * bound_ms * 1e6));
}

}  // namespace petrel::traffic
