// SPDX-License-Identifier: MIT
// The ledger against a plain list of what waits, while slots are used again and again.
#include <gtest/gtest.h>

#include <array>
#include <random>
#include <vector>

#include "maps/waiting_ledger.hpp"

namespace petrel {
namespace {

constexpr std::uint64_t kSlotNs = std::uint64_t{1} << WAITING_SLOT_SHIFT;
constexpr std::uint64_t kYoungNs = WAITING_YOUNG_SLOTS * kSlotNs;

// The data path's part: what begin_wait() and end_wait() do to the slots.
struct DataPath {
  std::array<std::int32_t, WAITING_SLOTS> slots{};
  std::int64_t waited_out = 0;

  static std::size_t index(std::uint64_t ns) { return (ns >> WAITING_SLOT_SHIFT) % WAITING_SLOTS; }
  void begin(std::uint64_t now_ns) { ++slots[index(now_ns)]; }
  void end(std::uint64_t start_ns, std::uint64_t now_ns) {
    const std::uint64_t age = (now_ns >> WAITING_SLOT_SHIFT) - (start_ns >> WAITING_SLOT_SHIFT);
    if (age < WAITING_YOUNG_SLOTS) {
      --slots[index(start_ns)];
    } else {
      ++waited_out;
    }
  }
};

TEST(WaitingLedger, GroupsRequestsByTheSlotInWhichTheyBegan) {
  DataPath path;
  WaitingLedger ledger;
  const std::uint64_t begin = 1000 * kSlotNs;
  ledger.update(begin, path.slots);
  path.begin(begin + 1);
  path.begin(begin + 2);
  path.begin(begin + 10 * kSlotNs);
  ledger.update(begin + 20 * kSlotNs, path.slots);
  ASSERT_EQ(ledger.groups().size(), 2u);
  EXPECT_EQ(ledger.groups()[0].count, 1u);
  EXPECT_EQ(ledger.groups()[0].age_ns, 9 * kSlotNs);  // of the slot's end: its youngest
  EXPECT_EQ(ledger.groups()[1].count, 2u);
  EXPECT_EQ(ledger.groups()[1].age_ns, 19 * kSlotNs);
  EXPECT_EQ(ledger.total(), 3u);
}

TEST(WaitingLedger, StaysExactWhileSlotsAreUsedAgain) {
  std::mt19937 random(7);
  DataPath path;
  WaitingLedger ledger;
  std::vector<std::uint64_t> waiting;
  std::uint64_t now = 5000 * kSlotNs;
  ledger.update(now, path.slots);
  for (int step = 0; step < 20000; ++step) {
    now += random() % (kSlotNs / 2);
    if (random() % 2 == 0 || waiting.empty()) {
      path.begin(now);
      waiting.push_back(now);
    } else {
      // Some wait for ever, most end soon: both sides of the young span are met.
      const std::size_t which = random() % 50 == 0 ? 0 : waiting.size() - 1;
      path.end(waiting[which], now);
      waiting.erase(waiting.begin() + static_cast<std::ptrdiff_t>(which));
    }
    if (step % 7 != 0) continue;
    ledger.update(now, path.slots);
    std::uint64_t young = 0;
    for (const std::uint64_t start : waiting) {
      young += (now >> WAITING_SLOT_SHIFT) - (start >> WAITING_SLOT_SHIFT) < WAITING_YOUNG_SLOTS;
    }
    ASSERT_EQ(ledger.total(), young) << "step " << step;
    ASSERT_EQ(ledger.carried() - path.waited_out,
              static_cast<std::int64_t>(waiting.size() - young)) << "step " << step;
  }
  EXPECT_GT(ledger.carried(), 0) << "the test never left the young span";
}

TEST(WaitingLedger, GivesBackWhatTheSweepEnded) {
  DataPath path;
  WaitingLedger ledger;
  const std::uint64_t begin = 1000 * kSlotNs;
  ledger.update(begin, path.slots);
  path.begin(begin);
  ledger.update(begin + kYoungNs / 2, path.slots);
  ASSERT_EQ(ledger.total(), 1u);
  ledger.give_back(begin);
  ledger.update(begin + kYoungNs / 2, path.slots);
  EXPECT_EQ(ledger.total(), 0u);
  ledger.update(begin + 2 * kYoungNs, path.slots);
  EXPECT_EQ(ledger.carried(), 0);
}

TEST(WaitingLedger, DoesNotShowASumThatIsShortForATick) {
  DataPath path;
  WaitingLedger ledger;
  const std::uint64_t begin = 1000 * kSlotNs;
  ledger.update(begin, path.slots);
  path.slots[DataPath::index(begin)] = -1;  // the end was read, the begin on another CPU not yet
  ledger.update(begin + kSlotNs, path.slots);
  EXPECT_EQ(ledger.total(), 0u);
  EXPECT_TRUE(ledger.groups().empty());
}

}  // namespace
}  // namespace petrel
