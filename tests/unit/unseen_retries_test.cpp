// SPDX-License-Identifier: MIT
// The estimated share of retries that cannot be seen.
#include "features/unseen_retries.hpp"

#include <gtest/gtest.h>

namespace petrel {
namespace {

TEST(UnseenRetries, AreNoneWhereAllFailuresCanBeRead) {
  EXPECT_EQ(unseen_retry_share({.failures = 100, .retries = 80}), 0);
  EXPECT_EQ(unseen_retry_share({}), 0);
}

TEST(UnseenRetries, AreWhatClientsWouldHaveTriedAgainElsewhere) {
  // 8 of 10 are tried again where it shows: so are 80 of 100 where it does not. 20 of these were seen.
  EXPECT_NEAR(unseen_retry_share({.failures = 200, .retries = 100, .unreadable_failures = 100,
                                  .unreadable_retries = 20}),
              60.0 / 160, 1e-9);
}

TEST(UnseenRetries, AreNoneWhereAsManyAreSeenAsExpected) {
  EXPECT_EQ(unseen_retry_share({.failures = 200, .retries = 160, .unreadable_failures = 100,
                                .unreadable_retries = 80}),
            0);
}

TEST(UnseenRetries, CannotBeToldWhereNothingFailedReadably) {
  EXPECT_EQ(unseen_retry_share({.failures = 50, .retries = 5, .unreadable_failures = 50,
                                .unreadable_retries = 5}),
            0);
}

TEST(UnseenRetries, NeverExceedWhatFailed) {
  const double share = unseen_retry_share(
      {.failures = 110, .retries = 500, .unreadable_failures = 100, .unreadable_retries = 0});
  EXPECT_NEAR(share, 100.0 / 600, 1e-9);
}

}  // namespace
}  // namespace petrel
