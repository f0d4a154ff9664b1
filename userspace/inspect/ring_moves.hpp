// SPDX-License-Identifier: MIT
// What part of new connections another ring would send elsewhere. Pure.
#pragma once

#include <cstdint>
#include <span>

namespace petrel::inspect {

// Slot by slot; rings of different lengths by 100,000 hash values, spread evenly. 0 to 1.
double moved_share(std::span<const std::uint32_t> before, std::span<const std::uint32_t> after);

}  // namespace petrel::inspect
