// SPDX-License-Identifier: MIT
// When a half-open entry is swept, and that one made while the sweep runs is not.
#include "maps/half_open_age.hpp"

#include <gtest/gtest.h>

namespace petrel {
namespace {

constexpr std::uint64_t kNow = 1'000'000'000'000;

bpf::half_open sent(std::uint64_t sent_ns, std::uint32_t flags) {
  bpf::half_open flow{};
  flow.sent_ns = sent_ns;
  flow.flags = flags;
  return flow;
}

TEST(HalfOpenAge, ASynIsOverdueBeforeItsSlotIsUsedAgain) {
  const auto syn = bpf::CONNECTION_WAITING_SYN;
  EXPECT_FALSE(is_overdue(sent(kNow - kHandshakeExpiryNs, syn), kNow));
  EXPECT_TRUE(is_overdue(sent(kNow - kHandshakeExpiryNs - 1, syn), kNow));
}

TEST(HalfOpenAge, WhatWaitsForNothingIsLeftForLonger) {
  EXPECT_FALSE(is_overdue(sent(kNow - kHandshakeExpiryNs - 1, 0), kNow));
  EXPECT_TRUE(is_overdue(sent(kNow - kHalfOpenIdleNs - 1, 0), kNow));
}

TEST(HalfOpenAge, WhatCameAfterTheSweepBeganIsNot) {
  for (const std::uint32_t flags : {0U, std::uint32_t{bpf::CONNECTION_WAITING_SYN}}) {
    EXPECT_FALSE(is_overdue(sent(kNow + 1, flags), kNow));
    EXPECT_FALSE(is_overdue(sent(kNow + 1'000'000, flags), kNow));
  }
}

}  // namespace
}  // namespace petrel
