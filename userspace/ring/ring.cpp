// SPDX-License-Identifier: MIT
#include "ring/ring.hpp"

#include <algorithm>
#include <bit>
#include <utility>

#include "ring/permutation.hpp"

namespace petrel {
namespace {

constexpr std::uint32_t kLeastSlots = 1009;
constexpr std::size_t kFineSlots = 500;    // per backend: one slot is 0.2 % of its share
constexpr std::size_t kFineTotal = 50000;  // where 500 each ends
constexpr std::size_t kCoarseSlots = 100;  // per backend, always

bool is_prime(std::uint32_t number) {
  if (number % 2 == 0) return number == 2;
  for (std::uint32_t divisor = 3; divisor <= number / divisor; divisor += 2) {
    if (number % divisor == 0) return false;
  }
  return number > 1;
}

struct Share {
  std::size_t member;
  std::uint64_t remainder;  // of the largest-remainder method, in units of 1 / total weight
};

// By remainder, largest first. Ties by seed, for ids differ from host to host.
std::vector<Share> by_remainder(std::span<const RingMember> members, std::vector<Share> shares) {
  std::sort(shares.begin(), shares.end(), [&](const Share& left, const Share& right) {
    if (left.remainder != right.remainder) return left.remainder > right.remainder;
    return ring_before(members[left.member], members[right.member]);
  });
  return shares;
}

}  // namespace

std::uint64_t ring_seed(const bpf::address& address, std::uint16_t port) {
  constexpr std::uint64_t kOffsetBasis = 0xcbf29ce484222325;
  constexpr std::uint64_t kPrime = 0x100000001b3;
  std::uint64_t hash = kOffsetBasis;
  for (const std::uint8_t byte : address.bytes) hash = (hash ^ byte) * kPrime;
  hash = (hash ^ (port >> 8)) * kPrime;
  hash = (hash ^ (port & 0xff)) * kPrime;
  return ring_mix(hash);
}

std::uint32_t ring_slots(std::size_t backends) {
  const std::size_t room = std::bit_ceil(backends);
  const std::size_t fine = std::min(room * kFineSlots, kFineTotal);
  const std::size_t wanted = std::max<std::size_t>({kLeastSlots, fine, room * kCoarseSlots});
  auto slots = static_cast<std::uint32_t>(wanted);
  while (!is_prime(slots)) ++slots;
  return slots;
}

std::vector<std::uint32_t> ring_quotas(std::span<const RingMember> members, std::uint32_t slots) {
  std::vector<std::uint32_t> quotas(members.size(), 0);
  std::uint64_t total = 0;
  for (const RingMember& member : members) total += member.weight;
  if (total == 0) return quotas;

  const auto weighted = static_cast<std::size_t>(std::count_if(
      members.begin(), members.end(), [](const RingMember& member) { return member.weight > 0; }));
  const bool each_gets_one = weighted <= slots;
  std::vector<Share> shares;
  std::uint64_t given = 0;
  for (std::size_t i = 0; i < members.size(); ++i) {
    if (members[i].weight == 0) continue;
    const std::uint64_t due = members[i].weight * slots;
    quotas[i] = static_cast<std::uint32_t>(due / total);
    // Lifted to one slot it has more than its due already: last in line for another.
    const bool lifted = each_gets_one && quotas[i] == 0;
    if (lifted) quotas[i] = 1;
    shares.push_back({i, lifted ? 0 : due % total});
    given += quotas[i];
  }
  shares = by_remainder(members, std::move(shares));
  // What rounding down left over goes to the largest remainders. Where lifting gave too much, the
  // smallest remainders give back, but never their last slot.
  for (std::size_t i = 0; given < slots; i = (i + 1) % shares.size(), ++given) {
    ++quotas[shares[i].member];
  }
  for (std::size_t i = shares.size(); given > slots;) {
    i = (i == 0 ? shares.size() : i) - 1;
    if (quotas[shares[i].member] <= 1) continue;
    --quotas[shares[i].member];
    --given;
  }
  return quotas;
}

// Maglev's filling: the members take turns, each claiming the next free slot of its own
// permutation (offset + turn * skip) mod slots, which a prime number of slots makes complete.
// Turns come as often as the quota is long, so that a small one is not left the remains only.
std::vector<std::uint32_t> build_neutral(std::span<const RingMember> members, std::uint32_t slots) {
  std::vector<RingMember> ordered(members.begin(), members.end());
  std::sort(ordered.begin(), ordered.end(), ring_before);
  const std::vector<std::uint32_t> quotas = ring_quotas(ordered, slots);
  const std::uint32_t longest =
      quotas.empty() ? 0 : *std::max_element(quotas.begin(), quotas.end());

  std::vector<RingWalk> walks;
  walks.reserve(ordered.size());
  for (const RingMember& member : ordered) walks.emplace_back(member.seed, slots);

  std::vector<std::uint32_t> ring(slots, 0);
  // Beside the ring: nearly all of the time goes into asking, and a byte each stays in the cache.
  std::vector<std::uint8_t> taken(slots, 0);
  std::vector<std::uint32_t> credit(ordered.size(), 0);
  for (std::uint32_t round = 0; round < longest; ++round) {
    for (std::size_t i = 0; i < ordered.size(); ++i) {
      // After `longest` rounds each member has had exactly its quota of turns.
      credit[i] += quotas[i];
      if (credit[i] < longest) continue;
      credit[i] -= longest;
      RingWalk walk = walks[i];  // a copy stays in registers
      std::uint32_t slot = walk.next();
      while (taken[slot] != 0) slot = walk.next();
      walks[i] = walk;
      taken[slot] = 1;
      ring[slot] = ordered[i].backend_id;
    }
  }
  return ring;
}

}  // namespace petrel
