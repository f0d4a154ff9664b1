// SPDX-License-Identifier: MIT
// An audit finds what leaked, to the slot, and makes nothing up of what ends while it looks.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <random>
#include <vector>

#include "maps/waiting_audit.hpp"
#include "maps/waiting_ledger.hpp"

namespace petrel {
namespace {

constexpr std::uint64_t kSlotNs = std::uint64_t{1} << WAITING_SLOT_SHIFT;
constexpr std::uint64_t kBegin = 100'000 * kSlotNs;
constexpr std::uint32_t kBackend = 3;

bpf::connection waiting_since(std::uint64_t request_ns) {
  bpf::connection flow{};
  flow.backend_id = kBackend;
  flow.state = bpf::CONNECTION_ESTABLISHED;
  flow.flags = bpf::CONNECTION_WAITING;
  flow.request_ns = request_ns;
  return flow;
}

struct World {
  std::array<std::int32_t, WAITING_SLOTS> slots{};
  std::vector<std::uint64_t> flows;  // requests that the table knows of
  std::uint64_t waited_out = 0;
  WaitingLedger ledger;
  OldWaits old;

  static std::size_t index(std::uint64_t ns) { return (ns >> WAITING_SLOT_SHIFT) % WAITING_SLOTS; }
  void begin(std::uint64_t now_ns) {
    ++slots[index(now_ns)];
    flows.push_back(now_ns);
  }
  void end(std::size_t which, std::uint64_t now_ns) {
    const std::uint64_t start_ns = flows[which];
    flows.erase(flows.begin() + static_cast<std::ptrdiff_t>(which));
    const auto age = (now_ns >> WAITING_SLOT_SHIFT) - (start_ns >> WAITING_SLOT_SHIFT);
    if (age < WAITING_YOUNG_SLOTS) {
      --slots[index(start_ns)];
    } else {
      ++waited_out;
    }
  }
  void evict(std::size_t which) { flows.erase(flows.begin() + static_cast<std::ptrdiff_t>(which)); }
  WaitingAudit look(std::uint64_t now_ns) const {
    WaitingAudit audit(now_ns, kBackend + 1);
    for (const std::uint64_t start_ns : flows) audit.see(waiting_since(start_ns));
    return audit;
  }
  std::uint64_t heal(const WaitingAudit& audit) {
    const auto& seen = audit.requests(kBackend);
    return ledger.heal(audit.begun_ns(), slots, seen.slots) +
           old.leaked(ledger.carried(), waited_out, seen.old);
  }
};

TEST(WaitingAudit, FindsNothingWhereNothingLeaked) {
  World world;
  world.ledger.update(kBegin, world.slots);
  for (std::uint64_t i = 0; i < 50; ++i) world.begin(kBegin + i * kSlotNs);
  world.ledger.update(kBegin + 60 * kSlotNs, world.slots);
  EXPECT_EQ(world.heal(world.look(kBegin + 60 * kSlotNs)), 0u);
}

TEST(WaitingAudit, FindsEachEvictedRequestOnce) {
  World world;
  world.ledger.update(kBegin, world.slots);
  for (std::uint64_t i = 0; i < 50; ++i) world.begin(kBegin + i * kSlotNs);
  world.evict(20);
  world.evict(7);
  const std::uint64_t now_ns = kBegin + 60 * kSlotNs;
  EXPECT_EQ(world.heal(world.look(now_ns)), 2u);
  EXPECT_EQ(world.heal(world.look(now_ns)), 0u);
  world.ledger.update(now_ns, world.slots);
  EXPECT_EQ(world.ledger.total(), 48u);
}

TEST(WaitingAudit, TheNewestSlotsAreLeftToTheNext) {
  World world;
  world.ledger.update(kBegin, world.slots);
  world.begin(kBegin);
  world.evict(0);
  EXPECT_EQ(world.heal(world.look(kBegin)), 0u);
  EXPECT_EQ(world.heal(world.look(kBegin + 5 * kSlotNs)), 1u);
}

TEST(WaitingAudit, WhatEndsWhileItLooksIsNoLeak) {
  World world;
  world.ledger.update(kBegin, world.slots);
  world.begin(kBegin);
  world.begin(kBegin);
  const WaitingAudit audit = world.look(kBegin + 10 * kSlotNs);
  world.end(0, kBegin + 11 * kSlotNs);
  EXPECT_EQ(world.heal(audit), 0u);
  world.end(0, kBegin + 12 * kSlotNs);
  world.ledger.update(kBegin + 12 * kSlotNs, world.slots);
  EXPECT_EQ(world.ledger.total(), 0u);
}

TEST(WaitingAudit, PipelinedRequestsAndSynsAreSeen) {
  WaitingAudit audit(kBegin + 9 * kSlotNs, kBackend + 1);
  bpf::connection flow = waiting_since(kBegin);
  flow.queued = 2;
  flow.queued_ns[0] = kBegin + kSlotNs;
  flow.queued_ns[1] = kBegin + kSlotNs;
  audit.see(flow);
  flow.flags = 0;  // answered: its queue is stale
  audit.see(flow);
  bpf::half_open syn{};
  syn.key.service_id = 1;
  syn.backend_id = kBackend;
  syn.flags = bpf::CONNECTION_WAITING_SYN;
  syn.sent_ns = kBegin;
  audit.see(syn);
  EXPECT_EQ(audit.requests(kBackend).slots[World::index(kBegin)], 1u);
  EXPECT_EQ(audit.requests(kBackend).slots[World::index(kBegin + kSlotNs)], 2u);
  EXPECT_EQ(audit.syns(kBackend).slots[World::index(kBegin)], 1u);
  EXPECT_EQ(audit.open(), 2u);
}

TEST(WaitingAudit, AtAClosedConnectionNothingWaits) {
  World world;
  world.ledger.update(kBegin, world.slots);
  world.begin(kBegin);
  WaitingAudit audit(kBegin + 10 * kSlotNs, kBackend + 1);
  bpf::connection flow = waiting_since(kBegin);
  flow.state = bpf::CONNECTION_CLOSED;
  audit.see(flow);
  EXPECT_EQ(audit.closed(), 1u);
  EXPECT_EQ(world.heal(audit), 1u);
}

TEST(WaitingAudit, AnIdOfNoBackendIsIgnored) {
  WaitingAudit audit(kBegin, 2);
  audit.see(waiting_since(kBegin));
  EXPECT_EQ(audit.open(), 1u);
}

// Of a loop that began with nothing.
struct Ledgers {
  Ledgers() {
    const std::array<std::int32_t, WAITING_SLOTS> none{};
    requests.update(kBegin - kSlotNs, none);
    syns.update(kBegin - kSlotNs, none);
  }
  WaitingLedger requests, syns;
  OldWaits old;
};

// One request and one SYN wait that no table of flows knows of.
bpf::backend_stats stats_with_leaks() {
  bpf::backend_stats stats{};
  stats.waiting[World::index(kBegin)] = 1;
  stats.waiting_syn[World::index(kBegin)] = 1;
  return stats;
}

TEST(Leaks, OnlyWhatWaitedInAConnectionWasEvicted) {
  Ledgers ledgers;
  const bpf::backend_stats stats = stats_with_leaks();
  const WaitingAudit audit(kBegin + 60 * kSlotNs, kBackend + 1);
  ledgers.requests.update(kBegin + 60 * kSlotNs, stats.waiting);
  ledgers.syns.update(kBegin + 60 * kSlotNs, stats.waiting_syn);
  const Leaks leaks =
      heal(audit, kBackend, stats, {ledgers.requests, &ledgers.syns, ledgers.old});
  EXPECT_EQ(leaks.evicted, 1u);
  EXPECT_EQ(leaks.syns, 1u);
  EXPECT_EQ(leaks.total(), 2u);
}

TEST(Leaks, AFlowThatIsThereWasNotEvicted) {
  Ledgers ledgers;
  const bpf::backend_stats stats = stats_with_leaks();
  WaitingAudit audit(kBegin + 60 * kSlotNs, kBackend + 1);
  audit.see(waiting_since(kBegin));
  EXPECT_EQ(heal(audit, kBackend, stats, {ledgers.requests, nullptr, ledgers.old}).evicted, 0u);
}

TEST(Leaks, SynsOfSocketsAreInNoTableAndNoLeak) {
  Ledgers ledgers;
  const bpf::backend_stats stats = stats_with_leaks();
  const WaitingAudit audit(kBegin + 60 * kSlotNs, kBackend + 1);
  const Leaks leaks = heal(audit, kBackend, stats, {ledgers.requests, nullptr, ledgers.old});
  EXPECT_EQ(leaks.evicted, 1u);
  EXPECT_EQ(leaks.syns, 0u);
}

// A loop that is started on the maps of an earlier one, at which a request had waited for minutes.
TEST(Leaks, WhatWaitedLongBeforeARestartIsNone) {
  WaitingLedger requests, syns;
  OldWaits old;
  bpf::backend_stats stats{};
  stats.waiting[World::index(kBegin - 10'000 * kSlotNs)] = 11;
  for (std::uint64_t i = 0; i < 3 * WAITING_SLOTS; ++i) {
    const std::uint64_t now_ns = kBegin + i * kSlotNs;
    requests.update(now_ns, stats.waiting);
    syns.update(now_ns, stats.waiting_syn);
    if (i % 50 != 49) continue;
    WaitingAudit audit(now_ns, kBackend + 1);
    for (int flow = 0; flow < 11; ++flow) audit.see(waiting_since(kBegin - 10'000 * kSlotNs));
    EXPECT_EQ(heal(audit, kBackend, stats, {requests, &syns, old}).total(), 0u) << i;
  }
  EXPECT_TRUE(requests.is_settled());
}

// Hours of churn: requests of all ages, some evicted; each leak is found once, none is made up.
TEST(WaitingAudit, HealsExactlyWhatLeaksInALongHistory) {
  World world;
  std::mt19937 random(7);
  std::uint64_t now_ns = kBegin, leaked = 0, healed = 0;
  world.ledger.update(now_ns, world.slots);
  healed += world.heal(world.look(now_ns));
  for (int tick = 0; tick < 20'000; ++tick) {
    now_ns += 100'000'000;
    for (int i = 0; i < 3; ++i) world.begin(now_ns - random() % 90'000'000);
    while (world.flows.size() > 40 || (!world.flows.empty() && random() % 3 == 0)) {
      world.end(random() % world.flows.size(), now_ns);
    }
    if (random() % 20 == 0 && !world.flows.empty()) {
      world.evict(random() % world.flows.size());
      ++leaked;
    }
    world.ledger.update(now_ns, world.slots);
    if (tick % 50 == 0) healed += world.heal(world.look(now_ns));
    ASSERT_LE(healed, leaked);
  }
  for (int tick = 0; tick < 200; ++tick) {  // what leaked last grows old
    now_ns += 100'000'000;
    world.ledger.update(now_ns, world.slots);
    if (tick % 50 == 0) healed += world.heal(world.look(now_ns));
  }
  EXPECT_GT(leaked, 500u);
  EXPECT_EQ(healed, leaked);
}

}  // namespace
}  // namespace petrel
