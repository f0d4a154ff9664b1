// SPDX-License-Identifier: MIT
// The ring: balance, agreement between hosts, least moves and the way back.
#include "ring/ring.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

namespace petrel {
namespace {

bpf::address host(std::uint32_t number) {
  bpf::address address{};
  address.bytes[10] = address.bytes[11] = 0xff;
  address.bytes[12] = 10;
  for (int i = 0; i < 3; ++i) {
    address.bytes[15 - i] = static_cast<std::uint8_t>(number >> (8 * i));
  }
  return address;
}

std::vector<RingMember> equal_members(std::uint32_t count, std::uint64_t weight = 100) {
  std::vector<RingMember> members;
  for (std::uint32_t i = 1; i <= count; ++i) members.push_back({i, ring_seed(host(i), 80), weight});
  return members;
}

std::map<std::uint32_t, std::uint32_t> counts_of(const std::vector<std::uint32_t>& ring) {
  std::map<std::uint32_t, std::uint32_t> counts;
  for (const std::uint32_t id : ring) ++counts[id];
  return counts;
}

std::size_t differences(const std::vector<std::uint32_t>& left,
                        const std::vector<std::uint32_t>& right) {
  std::size_t count = 0;
  for (std::size_t i = 0; i < left.size(); ++i) count += left[i] != right[i] ? 1 : 0;
  return count;
}

void put(std::vector<std::uint32_t>& ring, const std::vector<RingChange>& changes) {
  std::set<std::uint32_t> touched;
  for (const RingChange& change : changes) {
    EXPECT_NE(ring.at(change.slot), change.backend_id) << "a move to where it is already";
    EXPECT_TRUE(touched.insert(change.slot).second) << "a slot moved twice";
    ring[change.slot] = change.backend_id;
  }
}

// What no way of reaching the quotas can be below.
std::size_t least_moves(const std::vector<std::uint32_t>& ring,
                        const std::vector<RingMember>& members) {
  auto counts = counts_of(ring);
  const auto quotas = ring_quotas(members, static_cast<std::uint32_t>(ring.size()));
  std::size_t moves = 0;
  for (std::size_t i = 0; i < members.size(); ++i) {
    const std::uint32_t count = counts[members[i].backend_id];
    moves += quotas[i] > count ? quotas[i] - count : 0;
  }
  return moves;
}

TEST(Ring, SlotsAreAPrimeLargeEnough) {
  EXPECT_EQ(ring_slots(0), 1009U);
  EXPECT_EQ(ring_slots(2), 1009U);
  for (const std::size_t backends : {1U, 3U, 10U, 100U, 101U, 500U, 1000U, 4095U}) {
    const std::uint32_t slots = ring_slots(backends);
    EXPECT_GE(slots, backends * (backends <= 100 ? 500 : 100));
    EXPECT_LT(slots, 410000U);
    for (std::uint32_t divisor = 2; divisor <= slots / divisor; ++divisor) {
      ASSERT_NE(slots % divisor, 0U) << slots;
    }
  }
}

TEST(Ring, SeedIsTheSameInEveryRelease) {
  // Hosts of different releases share traffic: these values must never change.
  EXPECT_EQ(ring_seed(host(1), 80), 0xe721276fae1d42bc);
  EXPECT_EQ(ring_seed(bpf::address{}, 0), 0x7c9bc86d3794ae7);
  EXPECT_NE(ring_seed(host(1), 80), ring_seed(host(1), 81));
  EXPECT_NE(ring_seed(host(1), 80), ring_seed(host(2), 80));
  EXPECT_NE(ring_seed(host(1), 0x0102), ring_seed(host(1), 0x0201));
}

TEST(Ring, EachBackendHasItsQuota) {
  for (const std::uint32_t count : {1U, 2U, 7U, 100U, 1000U}) {
    const auto members = equal_members(count);
    const std::uint32_t slots = ring_slots(count);
    const auto counts = counts_of(build_neutral(members, slots));
    ASSERT_EQ(counts.size(), count);
    for (const auto& [id, owned] : counts) {
      EXPECT_NEAR(owned, static_cast<double>(slots) / count, 1.0) << id;
    }
  }
}

TEST(Ring, WeightsScaleQuotas) {
  auto members = equal_members(4);
  members[0].weight = 300;
  members[3].weight = 0;
  auto counts = counts_of(build_neutral(members, 5003));
  EXPECT_NEAR(counts[1], 5003 * 0.6, 1.0);
  EXPECT_NEAR(counts[2], 5003 * 0.2, 1.0);
  EXPECT_NEAR(counts[3], 5003 * 0.2, 1.0);
  EXPECT_EQ(counts.count(4), 0U);
}

TEST(Ring, QuotasAddUpAndLeaveNobodyOut) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 200; ++round) {
    auto members = equal_members(1 + static_cast<std::uint32_t>(random() % 300));
    for (RingMember& member : members) {
      member.weight = random() % 4 == 0 ? 0 : 1 + random() % (round % 2 == 0 ? 65535 : 0xffffffff);
    }
    const auto quotas = ring_quotas(members, 1009);
    std::uint64_t sum = 0;
    bool any = false;
    for (std::size_t i = 0; i < members.size(); ++i) {
      sum += quotas[i];
      any = any || members[i].weight > 0;
      EXPECT_EQ(quotas[i] > 0, members[i].weight > 0);
    }
    EXPECT_EQ(sum, any ? 1009U : 0U);
  }
}

TEST(Ring, MoreBackendsThanSlotsStillFillIt) {
  const auto members = equal_members(2000);
  const auto ring = build_neutral(members, 1009);
  EXPECT_EQ(counts_of(ring).size(), 1009U);
  EXPECT_EQ(counts_of(ring).count(0), 0U);
}

TEST(Ring, HostsAgreeWhateverTheirIdsAndOrder) {
  const auto here = equal_members(20);
  auto there = here;
  for (RingMember& member : there) member.backend_id += 1000;
  std::shuffle(there.begin(), there.end(), std::mt19937(3));
  const auto left = build_neutral(here, 10007);
  const auto right = build_neutral(there, 10007);
  for (std::size_t slot = 0; slot < left.size(); ++slot) ASSERT_EQ(left[slot] + 1000, right[slot]);
}

TEST(Ring, ARemovedBackendDisturbsFewOthers) {
  const auto members = equal_members(20);
  const auto before = build_neutral(members, 10007);
  const auto after = build_neutral(std::span(members).first(19), 10007);
  std::size_t needless = 0;
  for (std::size_t slot = 0; slot < before.size(); ++slot) {
    needless += before[slot] != 20 && before[slot] != after[slot] ? 1 : 0;
  }
  EXPECT_LT(needless, before.size() / 10);
}

TEST(Ring, UnitsOfWeightDoNotMatter) {
  auto members = equal_members(7);
  members[2].weight = 33;
  const auto ring = build_neutral(members, 5003);
  for (RingMember& member : members) member.weight *= 65536;
  EXPECT_EQ(build_neutral(members, 5003), ring);
  EXPECT_TRUE(reweigh(ring, ring, members).empty());
}

TEST(Reweigh, MovesExactlyTheLeast) {
  auto members = equal_members(11);
  const std::uint32_t slots = ring_slots(11);
  const auto neutral = build_neutral(members, slots);
  auto ring = neutral;
  members[4].weight /= 2;
  const auto changes = reweigh(ring, neutral, members);
  EXPECT_EQ(changes.size(), least_moves(ring, members));
  // Half of one of eleven: no more than the slots it gives up, and each one of its own.
  EXPECT_NEAR(static_cast<double>(changes.size()), slots / 11.0 - slots * 50 / 1050.0, 2.0);
  for (const RingChange& change : changes) EXPECT_EQ(ring[change.slot], 5U);
  put(ring, changes);
  EXPECT_TRUE(reweigh(ring, neutral, members).empty());
}

TEST(Reweigh, GivesBackForeignSlotsBeforeItsOwn) {
  auto members = equal_members(5);
  const auto neutral = build_neutral(members, 2503);
  auto ring = neutral;
  members[0].weight = 0;
  put(ring, reweigh(ring, neutral, members));
  // The first one returns halfway: each slot that comes back is one of its own.
  members[0].weight = 50;
  const auto changes = reweigh(ring, neutral, members);
  EXPECT_EQ(changes.size(), least_moves(ring, members));
  for (const RingChange& change : changes) {
    EXPECT_EQ(change.backend_id, 1U);
    EXPECT_EQ(neutral[change.slot], 1U);
  }
}

TEST(Reweigh, RandomWalksMoveTheLeastAndComeHome) {
  std::mt19937_64 random(7);
  auto members = equal_members(30);
  const auto neutral = build_neutral(members, 15013);
  auto ring = neutral;
  for (int step = 0; step < 300; ++step) {
    members[random() % members.size()].weight = random() % 5 == 0 ? 0 : 1 + random() % 400;
    const auto changes = reweigh(ring, neutral, members);
    ASSERT_EQ(changes.size(), least_moves(ring, members)) << step;
    put(ring, changes);
    const auto counts = counts_of(ring);
    const auto quotas = ring_quotas(members, 15013);
    for (std::size_t i = 0; i < members.size(); ++i) {
      const auto found = counts.find(members[i].backend_id);
      ASSERT_EQ(found == counts.end() ? 0 : found->second, quotas[i]);
    }
  }
  for (RingMember& member : members) member.weight = 100;
  put(ring, reweigh(ring, neutral, members));
  EXPECT_EQ(ring, neutral);
}

TEST(Reweigh, OneBackendsDipAndReturnTouchesOnlyItsSlots) {
  auto members = equal_members(10, 65536 * 100ULL);
  const auto neutral = build_neutral(members, 5003);
  auto ring = neutral;
  for (const double factor : {0.5, 0.05, 0.002, 0.01, 0.3, 0.7}) {
    members[3].weight = static_cast<std::uint64_t>(65536 * 100 * factor);
    put(ring, reweigh(ring, neutral, members));
    std::size_t disturbed = 0;
    for (std::size_t slot = 0; slot < ring.size(); ++slot) {
      disturbed += ring[slot] != neutral[slot] && neutral[slot] != 4 ? 1 : 0;
    }
    // The others' quotas round up and down by one slot now and then.
    EXPECT_LE(disturbed, members.size()) << factor;
  }
  members[3].weight = 65536 * 100;
  put(ring, reweigh(ring, neutral, members));
  EXPECT_EQ(ring, neutral);
}

// Two balancers of the same backends whose risks differ can disagree on the slots that they have
// moved, and those stay within a quarter over what their weights make necessary, however long they have
// been at it: slots off the neutral ring do not pile up.
TEST(Reweigh, TwoBalancersDisagreeOnlyWhereTheyMoved) {
  auto members = equal_members(20, 65536);
  const auto slots = ring_slots(20);
  const auto neutral = build_neutral(members, slots);
  const auto base = ring_quotas(members, slots);
  auto reversed = members;
  std::reverse(reversed.begin(), reversed.end());
  ASSERT_EQ(build_neutral(reversed, slots), neutral);
  std::vector<std::uint32_t> rings[2] = {neutral, neutral};
  std::size_t displaced[2] = {0, 0};
  std::mt19937 random(7);
  std::uniform_int_distribution<std::uint64_t> weight(1, 65536);
  for (int step = 0; step < 200; ++step) {
    const int which = step % 2;
    auto& weights = which == 0 ? members : reversed;
    weights[random() % weights.size()].weight = weight(random);
    put(rings[which], reweigh(rings[which], neutral, weights));
    const auto quotas = ring_quotas(weights, slots);
    displaced[which] = 0;
    for (std::size_t i = 0; i < quotas.size(); ++i) {
      displaced[which] += quotas[i] < base[i] ? base[i] - quotas[i] : 0;
    }
    displaced[which] += displaced[which] / 4 + members.size();
    EXPECT_LE(differences(rings[which], neutral), displaced[which]) << step;
    EXPECT_LE(differences(rings[0], rings[1]), displaced[0] + displaced[1]) << step;
  }
}

TEST(Reweigh, LeastWeightKeepsASlot) {
  auto members = equal_members(100, 65536);
  const auto neutral = build_neutral(members, ring_slots(100));
  auto ring = neutral;
  members[0].weight = 131;  // 0.2 %
  put(ring, reweigh(ring, neutral, members));
  EXPECT_EQ(counts_of(ring)[1], 1U);
}

TEST(Reweigh, AllZeroKeepsTheNeutralRing) {
  auto members = equal_members(3);
  const auto neutral = build_neutral(members, 1009);
  auto ring = neutral;
  members[0].weight = 0;
  put(ring, reweigh(ring, neutral, members));
  EXPECT_GT(differences(ring, neutral), 0U);
  for (RingMember& member : members) member.weight = 0;
  put(ring, reweigh(ring, neutral, members));
  EXPECT_EQ(ring, neutral);
}

TEST(Reweigh, SlotsOfNobodyAreGivenAway) {
  auto members = equal_members(3);
  const auto neutral = build_neutral(members, 1009);
  // A ring taken over from an earlier run: 0 and ids of backends that are gone.
  std::vector<std::uint32_t> ring(1009, 0);
  std::fill(ring.begin(), ring.begin() + 300, 77U);
  std::fill(ring.begin() + 900, ring.end(), 4000000000U);
  members[1].weight = 10;
  const auto changes = reweigh(ring, neutral, members);
  EXPECT_EQ(changes.size(), ring.size());
  put(ring, changes);
  EXPECT_EQ(counts_of(ring).size(), 3U);
  members[1].weight = 100;
  put(ring, reweigh(ring, neutral, members));
  EXPECT_EQ(ring, neutral);
}

}  // namespace
}  // namespace petrel
