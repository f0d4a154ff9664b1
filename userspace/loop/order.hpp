// SPDX-License-Identifier: MIT
// What a person may order of a service's weights, and what is in force of a backend's.
//
// A weight set by hand takes the place of the configured one: control lowers it and brings it back
// as it would that one. An order for the service stops control: frozen, weights stay as they are;
// neutral, they are the configured ones (or those set by hand).
#pragma once

#include <cstdint>

#include "bpf/types.h"

namespace petrel {

inline constexpr std::uint32_t kWholeWeight = 65536;  // Q16: all of the configured weight

enum class ServiceOrder : std::uint8_t {
  kNone,
  kFreeze,
  kNeutral,
};

// Codes of weights.reason beside those of bpf/enums.h.
inline constexpr auto kReasonByHand = static_cast<bpf::weight_reason>(11);
inline constexpr auto kReasonFrozen = static_cast<bpf::weight_reason>(12);
inline constexpr auto kReasonHarm = static_cast<bpf::weight_reason>(13);  // watch/holdout.hpp

struct WeightInForce {
  std::uint32_t factor_q16 = kWholeWeight;  // of the configured weight
  bpf::weight_reason reason = bpf::REASON_BASE;

  double factor() const { return static_cast<double>(factor_q16) / kWholeWeight; }
};

}  // namespace petrel
