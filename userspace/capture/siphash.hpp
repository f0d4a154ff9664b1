// SPDX-License-Identifier: MIT
// SipHash-2-4 (Aumasson, Bernstein 2012): a keyed hash that cannot be undone without its key.
#pragma once

#include <array>
#include <cstdint>
#include <span>

namespace petrel {

using SipKey = std::array<std::uint8_t, 16>;

std::uint64_t siphash24(const SipKey& key, std::span<const std::uint8_t> bytes);

}  // namespace petrel
