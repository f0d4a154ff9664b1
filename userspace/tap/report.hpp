// SPDX-License-Identifier: MIT
// What the tap says of a packet: comments for a capture file, a line of text, a JSON object.
#pragma once

#include <cstdint>
#include <set>
#include <string>

#include "tap/names.hpp"
#include "tap/sample.hpp"

namespace petrel::tap {

// Which of a packet's two records are shown.
enum class Sides { kBoth, kIn, kOut };

inline bool shows_arrival(const TappedPacket& packet, Sides sides) {
  return sides != Sides::kOut && packet.arrival;
}
// What stayed on this host has no second packet.
inline bool shows_departure(const TappedPacket& packet, Sides sides) {
  return sides != Sides::kIn && packet.departure && was_sent(*packet.departure);
}

// What is asked of both records together; an empty set asks nothing.
struct PacketFilter {
  std::set<std::uint32_t> services;
  std::set<std::uint32_t> backends;
  std::set<std::uint32_t> verdicts;  // verdicts and notes: any of them

  bool takes(const TappedPacket& packet) const;
};

// "petrel: forwarded (sent to a backend); service web, backend b1; notes: miss_syn (...)"
std::string arrival_comment(const TappedPacket& packet, const Names& names);
std::string departure_comment(const TappedPacket& packet, const Names& names);

// Without a newline. `wall_offset_ns`: what to add to a record's time to have the time since 1970.
std::string text_line(const TappedPacket& packet, const Names& names, Sides sides,
                      std::uint64_t wall_offset_ns);
std::string json_line(const TappedPacket& packet, const Names& names, Sides sides,
                      std::uint64_t wall_offset_ns);

// The interface's name, "ifindex 7" where it has none in this network namespace.
std::string interface_name(std::uint32_t ifindex);

std::uint64_t wall_offset_ns();

}  // namespace petrel::tap
