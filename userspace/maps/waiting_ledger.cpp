// SPDX-License-Identifier: MIT
#include "maps/waiting_ledger.hpp"

#include <algorithm>
#include <cstring>

namespace petrel {
namespace {

// The data path stops giving back to a slot at this age, a second before the slot is used again:
// updates up to a second apart miss none.
constexpr std::uint64_t kYoungSlots = WAITING_YOUNG_SLOTS;

// Slots that are compared at once: most hold nothing.
constexpr std::size_t kBlock = 16;

std::size_t index_of(std::uint64_t slot_number) { return slot_number & (WAITING_SLOTS - 1); }

}  // namespace

void WaitingLedger::update(std::uint64_t now_ns,
                           std::span<const std::int32_t, WAITING_SLOTS> slots) {
  const std::uint64_t current = now_ns >> WAITING_SLOT_SHIFT;
  if (last_tick_ == 0) {
    last_tick_ = first_tick_ = current;
    found_some_ = std::any_of(slots.begin(), slots.end(), [](std::int32_t n) { return n != 0; });
  }

  // Slot numbers that have left the young span since the last update.
  const std::uint64_t steps = std::min<std::uint64_t>(current - last_tick_, WAITING_SLOTS);
  for (std::uint64_t i = 0; i < steps; ++i) {
    const std::uint64_t leaving = current - steps + 1 + i - kYoungSlots;
    const std::size_t index = index_of(leaving);
    carried_ += slots[index] - offset_[index];
    offset_[index] = slots[index];
  }
  last_tick_ = current;

  groups_.clear();
  total_ = 0;
  for (std::uint64_t age = 0; age < kYoungSlots; ++age) {
    const std::size_t index = index_of(current - age);
    const std::size_t block = index + 1 - kBlock;  // of which this is the youngest
    if (index % kBlock == kBlock - 1 && age + kBlock <= kYoungSlots &&
        std::memcmp(&slots[block], &offset_[block], kBlock * sizeof(std::int32_t)) == 0) {
      age += kBlock - 1;
      continue;
    }
    const std::int64_t count = std::int64_t{slots[index]} - offset_[index];
    if (count <= 0) continue;  // CPUs were read one after the other: a sum can be short for a tick
    const std::uint64_t slot_end_ns = (current - age + 1) << WAITING_SLOT_SHIFT;
    groups_.push_back({now_ns > slot_end_ns ? now_ns - slot_end_ns : 0,
                       static_cast<std::uint64_t>(count)});
    total_ += static_cast<std::uint64_t>(count);
  }
}

void WaitingLedger::give_back(std::uint64_t start_ns) {
  const std::uint64_t slot_number = start_ns >> WAITING_SLOT_SHIFT;
  if (last_tick_ >= kYoungSlots && slot_number <= last_tick_ - kYoungSlots) {
    --carried_;
  } else {
    ++offset_[index_of(slot_number)];
  }
}

std::uint64_t WaitingLedger::heal(std::uint64_t begun_ns,
                                  std::span<const std::int32_t, WAITING_SLOTS> slots,
                                  std::span<const std::uint32_t, WAITING_SLOTS> seen) {
  // A request that began while the audit did may be in its slot and not in its flow yet.
  constexpr std::uint64_t kMargin = 2;
  const std::uint64_t newest = begun_ns >> WAITING_SLOT_SHIFT;
  const std::uint64_t oldest = last_tick_ - std::min(last_tick_, kYoungSlots) + 1; // not carried yet
  std::uint64_t healed = 0;
  for (std::uint64_t slot = oldest; slot + kMargin < newest; ++slot) {
    const std::size_t index = index_of(slot);
    const std::int64_t leaked = std::int64_t{slots[index]} - offset_[index] - seen[index];
    if (leaked <= 0) continue;
    offset_[index] += static_cast<std::int32_t>(leaked);
    healed += static_cast<std::uint64_t>(leaked);
  }
  return healed;
}

}  // namespace petrel
