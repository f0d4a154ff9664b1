// SPDX-License-Identifier: MIT
// How long the agent's sweep leaves a half-open entry alone. Pure.
#pragma once

#include <cstdint>

#include "bpf/types.h"

namespace petrel {

// An unanswered SYN is given up by the sweep when it would leave its waiting slot's span.
inline constexpr std::uint64_t kHandshakeExpiryNs =
    (std::uint64_t{WAITING_YOUNG_SLOTS} << WAITING_SLOT_SHIFT) - 500'000'000;

// A half-open flow that waits for nothing has its client's silence only: a UDP client that asked
// once, a spoofed SYN that was answered.
inline constexpr std::uint64_t kHalfOpenIdleNs = 60'000'000'000;

// `now_ns`: when the sweep began. Entries are made while it runs, so one may be younger than that.
inline bool is_overdue(const bpf::half_open& flow, std::uint64_t now_ns) {
  const bool waits = (flow.flags & bpf::CONNECTION_WAITING_SYN) != 0;
  return flow.sent_ns + (waits ? kHandshakeExpiryNs : kHalfOpenIdleNs) < now_ns;
}

}  // namespace petrel
