// SPDX-License-Identifier: MIT
// A part of the ring that weights leave alone: who it is of, that it stays, and what the rest makes
// of it.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "ring/ring.hpp"

namespace petrel {
namespace {

using Ring = std::vector<std::uint32_t>;

std::vector<RingMember> members_of(const std::vector<std::uint64_t>& weights) {
  std::vector<RingMember> members;
  for (std::uint32_t i = 0; i < weights.size(); ++i) {
    bpf::address address{};
    address.bytes[15] = static_cast<std::uint8_t>(i + 1);
    address.bytes[14] = static_cast<std::uint8_t>((i + 1) >> 8);
    members.push_back({i + 1, ring_seed(address, 80), weights[i]});
  }
  return members;
}

std::map<std::uint32_t, int> counts_of(const Ring& ring,
                                       const std::vector<std::uint8_t>& only = {}) {
  std::map<std::uint32_t, int> counts;
  for (std::size_t slot = 0; slot < ring.size(); ++slot) {
    if (only.empty() || only[slot] != 0) ++counts[ring[slot]];
  }
  return counts;
}

Ring moved(Ring ring, const std::vector<RingChange>& changes) {
  for (const RingChange& change : changes) {
    EXPECT_NE(ring.at(change.slot), change.backend_id) << "a move to where it is already";
    ring[change.slot] = change.backend_id;
  }
  return ring;
}

TEST(RingHoldout, IsOfEachBackendAsMuchAsIsItsDue) {
  for (const auto& weights :
       {std::vector<std::uint64_t>(8, 100), std::vector<std::uint64_t>(300, 7),
        std::vector<std::uint64_t>{100, 50, 25, 3}}) {
    const auto members = members_of(weights);
    const Ring neutral = build_neutral(members, ring_slots(members.size()));
    for (const double share : {0.01, 0.1, 0.5}) {
      const auto holdout = choose_holdout(neutral, share);
      const double size = static_cast<double>(neutral.size());
      EXPECT_NEAR(static_cast<double>(std::ranges::count(holdout, 1)), share * size, 1);
      auto held = counts_of(neutral, holdout);
      for (const auto& [id, count] : counts_of(neutral))
        EXPECT_NEAR(held[id], share * count, 1) << id;
    }
  }
  const Ring neutral = build_neutral(members_of({1, 1}), 1009);
  EXPECT_TRUE(choose_holdout(neutral, 0).empty());
  EXPECT_TRUE(choose_holdout({}, 0.5).empty());
}

TEST(RingHoldout, MostlyStaysWhenABackendComes) {
  const auto before = members_of(std::vector<std::uint64_t>(10, 100));
  const auto after = members_of(std::vector<std::uint64_t>(11, 100));
  const std::uint32_t slots = ring_slots(11);
  const Ring neutral = build_neutral(before, slots), next = build_neutral(after, slots);
  const auto holdout = choose_holdout(neutral, 0.05), kept = choose_holdout(next, 0.05);
  std::size_t both = 0;
  for (std::size_t slot = 0; slot < slots; ++slot) both += holdout[slot] != 0 && kept[slot] != 0;
  EXPECT_GT(both, static_cast<std::size_t>(std::ranges::count(holdout, 1)) * 7 / 10);
}

class AroundAHoldout : public testing::TestWithParam<double> {
 protected:
  void SetUp() override {
    neutral_ = build_neutral(members_, ring_slots(members_.size()));
    holdout_ = choose_holdout(neutral_, GetParam());
  }
  std::vector<RingMember> members_ = members_of(std::vector<std::uint64_t>(8, 65536));
  Ring neutral_;
  std::vector<std::uint8_t> holdout_;
};

TEST_P(AroundAHoldout, ItsSlotsStayAndAllTogetherMeetTheWeights) {
  auto held = counts_of(neutral_, holdout_);
  Ring ring = neutral_;
  // Down in steps, and up again.
  for (const double factor : {0.7, 0.3, 0.05, 0.002, 0.3, 0.9}) {
    members_[2].weight = static_cast<std::uint64_t>(65536 * factor);
    ring = moved(ring, reweigh(ring, neutral_, members_, holdout_));
    EXPECT_TRUE(reweigh(ring, neutral_, members_, holdout_).empty())
        << "moves though nothing has changed";
    const auto quotas = ring_quotas(members_, static_cast<std::uint32_t>(ring.size()));
    auto counts = counts_of(ring);
    for (std::size_t slot = 0; slot < ring.size(); ++slot) {
      if (holdout_[slot] != 0) {
        EXPECT_EQ(ring[slot], neutral_[slot]);
      }
    }
    // No more than is its due, but what the holdout has of it; so nobody grows past a cap.
    const int due = static_cast<int>(quotas[2]);
    EXPECT_EQ(counts[3], std::max(due, held[3])) << factor;
    for (std::uint32_t id : {1U, 2U, 8U}) {
      EXPECT_LE(counts[id], static_cast<int>(quotas[id - 1])) << id;
      EXPECT_GE(counts[id], static_cast<int>(quotas[id - 1]) - held[3] / 7 - 1) << id;
    }
  }
  members_[2].weight = 65536;
  ring = moved(ring, reweigh(ring, neutral_, members_, holdout_));
  EXPECT_EQ(ring, neutral_);
}

TEST_P(AroundAHoldout, MovesHardlyMoreThanWithoutOne) {
  Ring with = neutral_, without = neutral_;
  std::size_t moves_with = 0, moves_without = 0;
  for (const double factor : {0.9, 0.6, 0.3, 0.1, 0.002, 0.004, 0.1, 0.5, 1.0}) {
    members_[2].weight = static_cast<std::uint64_t>(65536 * factor);
    const auto around = reweigh(with, neutral_, members_, holdout_);
    const auto all = reweigh(without, neutral_, members_);
    moves_with += around.size();
    moves_without += all.size();
    with = moved(with, around);
    without = moved(without, all);
  }
  EXPECT_LE(moves_with, moves_without + 20);
}

TEST_P(AroundAHoldout, ABackendAtWeightZeroLeavesItToo) {
  members_[2].weight = 0;
  Ring ring = moved(neutral_, reweigh(neutral_, neutral_, members_, holdout_));
  EXPECT_EQ(counts_of(ring).count(3), 0u);
  for (std::size_t slot = 0; slot < ring.size(); ++slot) {
    if (holdout_[slot] != 0 && neutral_[slot] != 3) {
      EXPECT_EQ(ring[slot], neutral_[slot]);
    }
  }
  EXPECT_TRUE(reweigh(ring, neutral_, members_, holdout_).empty());
  members_[2].weight = 65536;
  EXPECT_EQ(moved(ring, reweigh(ring, neutral_, members_, holdout_)), neutral_);
}

INSTANTIATE_TEST_SUITE_P(Shares, AroundAHoldout, testing::Values(0.01, 0.1, 0.5));

}  // namespace
}  // namespace petrel
