// SPDX-License-Identifier: MIT
// The packet fuzzer for as long as a test may take, and whether its oracle sees what is wrong.
#include <gtest/gtest.h>
#include <sched.h>

#include <algorithm>

#include "tests/fuzz/fuzzer.hpp"

namespace petrel::fuzz {
namespace {

constexpr std::uint64_t kSeed = 20240613;
constexpr std::uint64_t kPackets = 200'000;

class FuzzTest : public testing::Test {
 protected:
  void SetUp() override {
    const std::string problem = fuzzer_.load(sched_getcpu());
    if (fuzzer_.missing_right())
      GTEST_SKIP() << "SKIPPED, nothing was tested: " << problem << ": run as root";
    ASSERT_EQ(problem, "");
  }

  Fuzzer fuzzer_{kSeed};
};

TEST_F(FuzzTest, EachPacketIsLeftAloneOrSentOnWhole) {
  for (std::uint64_t epoch = 0; fuzzer_.packets() < kPackets; ++epoch) {
    const auto finding =
        fuzzer_.run_epoch(epoch, std::min(kEpochPackets, kPackets - fuzzer_.packets()));
    ASSERT_FALSE(finding) << describe(*finding, kSeed);
  }
}

TEST_F(FuzzTest, EveryWayOutIsTaken) {
  for (std::uint64_t epoch = 0; epoch < 6; ++epoch) fuzzer_.run_epoch(epoch);
  for (std::uint32_t verdict = 0; verdict < bpf::VERDICTS; ++verdict) {
    // Needs two CPUs, or 4 MiB of events that nobody reads: neither is here for certain.
    if (verdict == bpf::VERDICT_TABLE_FULL || verdict == bpf::VERDICT_EVENT_LOST) continue;
    if (verdict == bpf::VERDICT_RECORD_LOST) continue;  // nobody captures
    if (verdict == bpf::VERDICT_HEDGED) continue;  // of another program: tests/bpf/hedge_test.cpp
    // No route of this namespace answers.
    if (verdict == bpf::VERDICT_FIB_LOOKUP) continue;
    EXPECT_GT(fuzzer_.verdicts()[verdict], 0U) << "verdict " << verdict;
  }
}

TEST_F(FuzzTest, SameSeedGivesTheSamePackets) {
  Fuzzer again(kSeed);
  ASSERT_EQ(again.load(sched_getcpu()), "");
  fuzzer_.run_epoch(3);
  again.run_epoch(3);
  EXPECT_EQ(fuzzer_.verdicts(), again.verdicts());
  EXPECT_EQ(fuzzer_.actions(), again.actions());
}

}  // namespace
}  // namespace petrel::fuzz
