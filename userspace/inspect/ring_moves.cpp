// SPDX-License-Identifier: MIT
#include "inspect/ring_moves.hpp"

#include "bpf/hash.h"

namespace petrel::inspect {
namespace {

constexpr std::uint64_t kSamples = 100'000;

}  // namespace

double moved_share(std::span<const std::uint32_t> before, std::span<const std::uint32_t> after) {
  if (before.empty() || after.empty()) return before.size() == after.size() ? 0 : 1;
  std::uint64_t moved = 0;
  if (before.size() == after.size()) {
    for (std::size_t slot = 0; slot < before.size(); ++slot) moved += before[slot] != after[slot];
    return static_cast<double>(moved) / static_cast<double>(before.size());
  }
  for (std::uint64_t i = 0; i < kSamples; ++i) {
    const std::uint64_t hash = i * (UINT64_MAX / kSamples);
    moved += before[bpf::hash_slot(hash, static_cast<std::uint32_t>(before.size()))] !=
             after[bpf::hash_slot(hash, static_cast<std::uint32_t>(after.size()))];
  }
  return static_cast<double>(moved) / static_cast<double>(kSamples);
}

}  // namespace petrel::inspect
