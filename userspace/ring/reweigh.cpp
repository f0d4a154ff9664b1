// SPDX-License-Identifier: MIT
// Moving a ring that is in force to new weights by the least moves.
#include <algorithm>
#include <numeric>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "ring/ring.hpp"

namespace petrel {
namespace {

// One run of reweigh(): members by their index, surplus and want counted down as slots are moved.
class Reweighing {
 public:
  Reweighing(std::span<const std::uint32_t> in_force, std::span<const std::uint32_t> neutral,
             std::span<const RingMember> members)
      : members_(members), owner_(in_force.size()), home_(neutral.size()) {
    std::uint32_t highest = 0;
    for (const RingMember& member : members) highest = std::max(highest, member.backend_id);
    // The last two entries count for ids of no member.
    std::vector<std::uint32_t> index_of(highest + std::size_t{2}, nobody());
    for (std::uint32_t i = 0; i < members.size(); ++i) index_of[members[i].backend_id] = i;
    const auto find = [&](std::uint32_t id) { return index_of[std::min(id, highest + 1)]; };
    std::transform(in_force.begin(), in_force.end(), owner_.begin(), find);
    std::transform(neutral.begin(), neutral.end(), home_.begin(), find);
  }

  bool all_at_base(const std::vector<std::uint32_t>& quotas) const {
    const std::vector<std::uint32_t> counts = count(home_);
    return counts[nobody()] == 0 && std::equal(quotas.begin(), quotas.end(), counts.begin());
  }

  std::vector<RingChange> move_to(const std::vector<std::uint32_t>& quotas) {
    want_.assign(members_.size() + 2, 0);
    surplus_ = count(owner_);
    for (std::size_t i = 0; i < members_.size(); ++i) {
      const std::uint32_t kept = std::min(surplus_[i], quotas[i]);
      want_[i] = quotas[i] - kept;
      surplus_[i] -= kept;
    }
    to_free_ = std::accumulate(surplus_.begin(), surplus_.end(), std::uint64_t{0});
    changes_.reserve(to_free_);
    send_home();
    free_foreign();
    free_own();
    hand_out();
    return std::move(changes_);
  }

 private:
  // Two indexes beside the members': no quota, so all that they have is surplus (or none is).
  std::uint32_t nobody() const { return static_cast<std::uint32_t>(members_.size()); }
  std::uint32_t freed() const { return nobody() + 1; }  // taken, not handed out yet

  std::vector<std::uint32_t> count(const std::vector<std::uint32_t>& indexes) const {
    std::vector<std::uint32_t> counts(members_.size() + 2, 0);
    for (const std::uint32_t index : indexes) ++counts[index];
    return counts;
  }

  void take(std::size_t slot) {
    --surplus_[owner_[slot]];
    --to_free_;
  }

  // Slots to be freed whose neutral owner is below its quota. In each pass the test for surplus
  // comes first: it fails for nearly all slots, which the processor learns to expect.
  void send_home() {
    for (std::size_t slot = 0; slot < owner_.size() && to_free_ > 0; ++slot) {
      // Who is in surplus wants nothing, so this leaves its own slots alone.
      if (surplus_[owner_[slot]] == 0 || want_[home_[slot]] == 0) continue;
      take(slot);
      const std::uint32_t home = home_[slot];
      --want_[home];
      changes_.push_back({static_cast<std::uint32_t>(slot), members_[home].backend_id});
      owner_[slot] = home;
    }
  }

  void free_foreign() {
    for (std::size_t slot = 0; slot < owner_.size() && to_free_ > 0; ++slot) {
      const std::uint32_t owner = owner_[slot];
      if (surplus_[owner] > 0 && (owner != home_[slot] || owner == nobody())) set_free(slot);
    }
  }

  // From the top: the fixed order in which every backend gives up its own slots, so that a smaller
  // weight always leaves it a part of what a larger one does.
  void free_own() {
    for (std::size_t slot = owner_.size(); slot-- > 0 && to_free_ > 0;) {
      if (surplus_[owner_[slot]] > 0) set_free(slot);
    }
  }

  void set_free(std::size_t slot) {
    take(slot);
    freed_.push_back(static_cast<std::uint32_t>(slot));
    owner_[slot] = freed();
  }

  // What is left goes around those that still want slots.
  void hand_out() {
    std::vector<std::uint32_t> wanting;
    for (std::uint32_t i = 0; i < members_.size(); ++i) {
      if (want_[i] > 0) wanting.push_back(i);
    }
    std::size_t turn = 0;
    for (const std::uint32_t slot : freed_) {
      if (turn >= wanting.size()) turn = 0;
      const std::uint32_t taker = wanting[turn];
      changes_.push_back({slot, members_[taker].backend_id});
      if (--want_[taker] > 0) {
        ++turn;
      } else {
        wanting[turn] = wanting.back();
        wanting.pop_back();
      }
    }
  }

  std::span<const RingMember> members_;
  std::vector<std::uint32_t> owner_;    // of each slot: a member's index, nobody() or freed()
  std::vector<std::uint32_t> home_;     // the same in the neutral ring
  std::vector<std::uint32_t> surplus_;  // slots above quota, by index
  std::vector<std::uint32_t> want_;     // slots below quota, by index
  std::uint64_t to_free_ = 0;
  std::vector<std::uint32_t> freed_;
  std::vector<RingChange> changes_;
};

std::vector<RingChange> back_to(std::span<const std::uint32_t> neutral,
                                std::span<const std::uint32_t> in_force) {
  std::vector<RingChange> changes;
  for (std::uint32_t slot = 0; slot < neutral.size(); ++slot) {
    if (in_force[slot] != neutral[slot]) changes.push_back({slot, neutral[slot]});
  }
  return changes;
}

// Where the holdout's slots belong: home, or where home takes nothing to the next one that does.
class HoldoutOwners {
 public:
  HoldoutOwners(std::span<const std::uint32_t> neutral, std::span<const RingMember> members)
      : neutral_(neutral) {
    for (const RingMember& member : members) {
      if (member.weight > 0) weighted_.insert(member.backend_id);
    }
  }

  std::uint32_t of(std::size_t slot, std::uint32_t now) const {
    if (weighted_.contains(neutral_[slot])) return neutral_[slot];
    if (weighted_.contains(now)) return now;  // it has been moved already
    for (std::size_t i = 1; i < neutral_.size(); ++i) {
      const std::uint32_t next = neutral_[(slot + i) % neutral_.size()];
      if (weighted_.contains(next)) return next;
    }
    return now;
  }

 private:
  std::span<const std::uint32_t> neutral_;
  std::unordered_set<std::uint32_t> weighted_;
};

// The ring but for its holdout, and what each member is due of it.
struct Rest {
  std::vector<std::uint32_t> slots;  // their numbers in the ring
  std::vector<std::uint32_t> in_force;
  std::vector<std::uint32_t> neutral;
  std::vector<std::uint32_t> quotas;
};

// What the holdout has more of a backend than is its due, the others go without.
std::vector<std::uint32_t> rest_quotas(std::span<const RingMember> members,
                                       const std::vector<std::uint32_t>& quotas,
                                       const std::unordered_map<std::uint32_t, std::uint32_t>& held,
                                       std::size_t slots) {
  std::vector<RingMember> due(members.begin(), members.end());
  for (std::size_t i = 0; i < due.size(); ++i) {
    const auto found = held.find(due[i].backend_id);
    const std::uint32_t has = found == held.end() ? 0 : found->second;
    due[i].weight = quotas[i] - std::min(quotas[i], has);
  }
  return ring_quotas(due, static_cast<std::uint32_t>(slots));
}

std::vector<RingChange> reweigh_around(std::span<const std::uint32_t> in_force,
                                       std::span<const std::uint32_t> neutral,
                                       std::span<const RingMember> members,
                                       std::span<const std::uint8_t> holdout,
                                       const std::vector<std::uint32_t>& quotas) {
  std::vector<RingChange> changes;
  Rest rest;
  const HoldoutOwners owners(neutral, members);
  std::unordered_map<std::uint32_t, std::uint32_t> held;
  for (std::uint32_t slot = 0; slot < neutral.size(); ++slot) {
    if (holdout[slot] == 0) {
      rest.slots.push_back(slot);
      rest.in_force.push_back(in_force[slot]);
      rest.neutral.push_back(neutral[slot]);
      continue;
    }
    const std::uint32_t owner = owners.of(slot, in_force[slot]);
    ++held[owner];
    if (owner != in_force[slot]) changes.push_back({slot, owner});
  }
  rest.quotas = rest_quotas(members, quotas, held, rest.slots.size());
  Reweighing reweighing(rest.in_force, rest.neutral, members);
  for (const RingChange& change : reweighing.move_to(rest.quotas)) {
    changes.push_back({rest.slots[change.slot], change.backend_id});
  }
  return changes;
}

}  // namespace

std::vector<RingChange> reweigh(std::span<const std::uint32_t> in_force,
                                std::span<const std::uint32_t> neutral,
                                std::span<const RingMember> members) {
  return reweigh(in_force, neutral, members, {});
}

std::vector<RingChange> reweigh(std::span<const std::uint32_t> in_force,
                                std::span<const std::uint32_t> neutral,
                                std::span<const RingMember> members,
                                std::span<const std::uint8_t> holdout) {
  const auto slots = static_cast<std::uint32_t>(neutral.size());
  const std::vector<std::uint32_t> quotas = ring_quotas(members, slots);
  const bool all_zero =
      std::all_of(quotas.begin(), quotas.end(), [](std::uint32_t quota) { return quota == 0; });
  if (all_zero) return back_to(neutral, in_force);
  Reweighing reweighing(in_force, neutral, members);
  if (reweighing.all_at_base(quotas)) return back_to(neutral, in_force);
  if (holdout.size() == neutral.size()) {
    return reweigh_around(in_force, neutral, members, holdout, quotas);
  }
  return reweighing.move_to(quotas);
}

}  // namespace petrel
