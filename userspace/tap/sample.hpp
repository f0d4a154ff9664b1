// SPDX-License-Identifier: MIT
// What the tap hands on: a packet as it came, and as it left.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "bpf/types.h"

namespace petrel::tap {

// One record of the map `taps`.
struct Sample {
  int cpu = 0;
  bpf::tap_header header{};
  std::vector<std::byte> bytes;  // the packet's first ones; header.packet_bytes is its length
};

// Both records of one packet. One may be missing: the buffer was full, or the tap began or ended
// between them.
struct TappedPacket {
  std::optional<Sample> arrival;
  std::optional<Sample> departure;

  // What the balancer decided is in the departure; without it only the packet is known.
  const Sample& known() const { return departure ? *departure : *arrival; }
  const Sample& first() const { return arrival ? *arrival : *departure; }
};

// Whether it went to a wire: a departure by any other action stays on the host or is no more.
inline bool was_sent(const Sample& departure) {
  return departure.header.action == XDP_TX || departure.header.action == XDP_REDIRECT;
}

}  // namespace petrel::tap
