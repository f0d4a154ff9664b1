// SPDX-License-Identifier: MIT
// The lookup table of a service: which backend a hash slot belongs to.
//
// The neutral ring is Maglev's (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load
// Balancer", NSDI 2016, section 3.4) with weights: the same on every host that has the same
// backends. The ring in force starts as a copy of it and is moved to new weights slot by slot, as
// few as can be. Pure: no I/O, no clock, no state between calls.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "bpf/types.h"

namespace petrel {

struct RingMember {
  std::uint32_t backend_id = 0;  // what a slot holds; never 0
  std::uint64_t seed = 0;        // ring_seed(): what the ring's layout depends on, not the id
  std::uint64_t weight = 0;      // up to 2^32, in any unit common to all (base weight x factor_q16)
};

struct RingChange {
  std::uint32_t slot;
  std::uint32_t backend_id;
};

// The same on every host and in every release: FNV-1a (64 bit) over the 16 address bytes and the
// two port bytes in network order, then the finisher of splitmix64 to spread the low bits.
std::uint64_t ring_seed(const bpf::address& address, std::uint16_t port);

// A prime, at least 1009, by the number of backends rounded up to a power of two: one backend more or
// less leaves the ring's length, and so most flows' slots, as they are. Up to 64 backends it has 500
// slots for each, so that one slot is the least weight (0.2 % of base); beyond that at least 100 for
// each. Limits of the configuration (MAX_BACKENDS) keep it under 410,000.
std::uint32_t ring_slots(std::size_t backends);

// How many of `slots` each member is due, by largest remainder, in the members' order. A weight
// above 0 gets at least one slot (while there are enough), so that a backend at its least weight
// still shows whether it is well. All weights 0: all quotas 0.
std::vector<std::uint32_t> ring_quotas(std::span<const RingMember> members, std::uint32_t slots);

// The seed of hash_flow() in every balancer: a flow's slot is the same in all of them.
inline constexpr std::uint32_t kRingHashSeed = 0;

// slots entries, each a backend id (0 only if all weights are 0). `slots` must be a prime.
// The members' order does not matter.
std::vector<std::uint32_t> build_neutral(std::span<const RingMember> members, std::uint32_t slots);

// The least moves that take the ring in force to the members' weights. A backend above its quota
// gives up slots that the neutral ring gives to others first, then its own highest ones; a freed
// slot goes home where its neutral owner is below quota. Once the quotas are the neutral ring's,
// what still lies elsewhere goes home too, so that the ring is exactly the neutral one again; the
// same if all weights are 0. Slots of `in_force` that name no member are always given away.
// `in_force` and `neutral` have the same length; `members` has all that `neutral` names.
std::vector<RingChange> reweigh(std::span<const std::uint32_t> in_force,
                                std::span<const std::uint32_t> neutral,
                                std::span<const RingMember> members);

// Which slots are the holdout's: 1 for `share` (0 to 1) of them, of each backend's neutral ones as many as
// it is due, give or take one, so that the holdout is served as by configured weights. By a hash of the
// slot's number: stable for as long as the ring's owners are. Empty: none.
std::vector<std::uint8_t> choose_holdout(std::span<const std::uint32_t> neutral, double share);

// The same moves around a holdout, whose slots keep their neutral backend unless its weight is 0: then
// they go to the next one along the neutral ring. The other slots make up for what the holdout has, so
// that all together meet the weights, but for a backend of which the holdout alone has more.
std::vector<RingChange> reweigh(std::span<const std::uint32_t> in_force,
                                std::span<const std::uint32_t> neutral,
                                std::span<const RingMember> members,
                                std::span<const std::uint8_t> holdout);

}  // namespace petrel
