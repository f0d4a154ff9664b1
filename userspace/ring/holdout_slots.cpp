// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cmath>
#include <utility>

#include "ring/permutation.hpp"
#include "ring/ring.hpp"

namespace petrel {

std::vector<std::uint8_t> choose_holdout(std::span<const std::uint32_t> neutral, double share) {
  if (share <= 0 || neutral.empty()) return {};
  using Slot = std::pair<std::uint64_t, std::uint32_t>;  // its number's hash, its number
  std::vector<std::vector<Slot>> by_owner;               // in the order of their first slots
  std::vector<std::size_t> index_of(*std::max_element(neutral.begin(), neutral.end()) +
                                    std::size_t{1});
  for (std::uint32_t slot = 0; slot < neutral.size(); ++slot) {
    std::size_t& index = index_of[neutral[slot]];  // from 1; 0: not yet seen
    if (index == 0) index = (by_owner.emplace_back(), by_owner.size());
    by_owner[index - 1].emplace_back(ring_mix(slot + std::uint64_t{1}), slot);
  }
  std::vector<std::uint8_t> holdout(neutral.size(), 0);
  // Rounding is carried over from one to the next: the sum is right, and each within one of its
  // due.
  double due = 0;
  std::size_t taken = 0;
  for (std::vector<Slot>& slots : by_owner) {
    std::sort(slots.begin(), slots.end());
    due += share * static_cast<double>(slots.size());
    const auto until = static_cast<std::size_t>(std::max<long>(std::lround(due), 0));
    for (std::size_t i = 0; taken < until && i < slots.size(); ++i, ++taken) {
      holdout[slots[i].second] = 1;
    }
  }
  return holdout;
}

}  // namespace petrel
