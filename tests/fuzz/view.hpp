// SPDX-License-Identifier: MIT
// View: where the headers of a frame lie, as the RFCs and the balancer's documented bounds say.
//
// Written from these alone; shares no code with the programs in bpf/.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "bpf/types.h"

namespace petrel::fuzz {

using Bytes = std::span<const std::uint8_t>;
using Frame = std::vector<std::uint8_t>;

enum class Kind { kOther, kMalformed, kGood };
enum class Piece { kWhole, kFirst, kLater };  // of a datagram

struct View {
  Kind kind = Kind::kOther;  // the rest holds where it is good
  bool v6 = false;
  std::size_t l3 = 0, l4 = 0, end = 0;  // offsets in the frame; what follows `end` is padding
  std::uint8_t protocol = 0;
  Piece piece = Piece::kWhole;
  bpf::address from{}, to{};
  // TCP and UDP that are no later pieces:
  bool transport = false;
  std::uint16_t from_port = 0, to_port = 0;
  std::size_t payload = 0;    // offset
  std::uint8_t tcp_flags = 0;

  bool tcp() const { return protocol == 6; }
  bool icmp() const { return protocol == (v6 ? 58 : 1); }
  std::size_t l4_bytes() const { return end - l4; }
  std::size_t check_offset() const { return l4 + (tcp() ? 16U : protocol == 17 ? 6U : 2U); }
};

View view_of(Bytes frame);

std::uint16_t load16(Bytes bytes, std::size_t at);
std::uint32_t load32(Bytes bytes, std::size_t at);
void store16(std::span<std::uint8_t> bytes, std::size_t at, std::uint32_t value);
void store32(std::span<std::uint8_t> bytes, std::size_t at, std::uint32_t value);

// Sums of 16-bit words modulo 0xffff, in which 0 and 0xffff are the same (RFC 1071): a header whose
// checksum is right has 0. An odd last byte counts as the high one of a word.
std::uint32_t sum_of(Bytes bytes);
// Of the transport header, what follows, and the pseudo header; ICMP has none (RFC 792).
std::uint32_t transport_sum(Bytes frame, const View& view);

// Makes the checksums right that the frame has, as far as it can be read.
void repair_checksums(Frame& frame);

}  // namespace petrel::fuzz
