// SPDX-License-Identifier: MIT
#include "tests/fuzz/view.hpp"

#include <algorithm>

namespace petrel::fuzz {
namespace {

constexpr int kVlanTags = 2;           // the balancer's documented bounds
constexpr int kExtensionHeaders = 6;
constexpr std::size_t kExtensionBytes = 256;

Kind read_v4(Bytes frame, View& view) {
  if (frame.size() < view.l3 + 20) return Kind::kMalformed;
  const std::size_t header = (frame[view.l3] & 15U) * 4U;
  const std::size_t total = load16(frame, view.l3 + 2);
  if (frame[view.l3] >> 4 != 4 || header < 20 || total < header) return Kind::kMalformed;
  if (view.l3 + total > frame.size()) return Kind::kMalformed;
  const std::uint16_t place = load16(frame, view.l3 + 6);
  if (place & 0x1fff) {
    view.piece = Piece::kLater;
  } else if (place & 0x2000) {
    view.piece = Piece::kFirst;
  }
  view.protocol = frame[view.l3 + 9];
  view.l4 = view.l3 + header;
  view.end = view.l3 + total;
  for (bpf::address* address : {&view.from, &view.to}) {
    const std::size_t at = view.l3 + (address == &view.from ? 12 : 16);
    address->bytes[10] = address->bytes[11] = 0xff;
    std::copy_n(frame.begin() + at, 4, address->bytes + 12);
  }
  return Kind::kGood;
}

Kind read_v6(Bytes frame, View& view) {
  if (frame.size() < view.l3 + 40) return Kind::kMalformed;
  view.v6 = true;
  view.end = view.l3 + 40 + load16(frame, view.l3 + 4);
  if (frame[view.l3] >> 4 != 6 || view.end > frame.size()) return Kind::kMalformed;
  view.l4 = view.l3 + 40;
  view.protocol = frame[view.l3 + 6];
  for (int i = 0; i < kExtensionHeaders && view.piece != Piece::kLater; ++i) {
    const bool fragment = view.protocol == 44;
    if (!fragment && view.protocol != 0 && view.protocol != 43 && view.protocol != 60) break;
    if (view.l4 - view.l3 - 40 > kExtensionBytes || view.l4 + 8 > frame.size())
      return Kind::kMalformed;
    // Segments left: the checksum covers another destination than the header's.
    if (view.protocol == 43 && frame[view.l4 + 3] != 0) return Kind::kMalformed;
    const std::uint16_t place = load16(frame, view.l4 + 2);
    if (fragment && place >> 3 != 0) {
      view.piece = Piece::kLater;
    } else if (fragment && (place & 1)) {
      view.piece = Piece::kFirst;
    }
    view.protocol = frame[view.l4];
    view.l4 += fragment ? 8U : 8U + frame[view.l4 + 1] * 8U;
  }
  if (view.l4 - view.l3 - 40 > kExtensionBytes || view.l4 > view.end) return Kind::kMalformed;
  std::copy_n(frame.begin() + view.l3 + 8, 16, view.from.bytes);
  std::copy_n(frame.begin() + view.l3 + 24, 16, view.to.bytes);
  return Kind::kGood;
}

void read_transport(Bytes frame, View& view) {
  const std::size_t least = view.tcp() ? 20 : 8;
  if (view.l4_bytes() < least) return;
  const std::size_t header = view.tcp() ? (frame[view.l4 + 12] >> 4) * 4U : 8U;
  if (header < least || header > view.l4_bytes()) return;
  view.transport = true;
  view.payload = view.l4 + header;
  view.from_port = load16(frame, view.l4);
  view.to_port = load16(frame, view.l4 + 2);
  if (view.tcp()) view.tcp_flags = frame[view.l4 + 13];
}

}  // namespace

View view_of(Bytes frame) {
  View view;
  if (frame.size() < 14) return view;
  std::size_t type_at = 12;
  for (int i = 0; i < kVlanTags; ++i) {
    const std::uint16_t type = load16(frame, type_at);
    if (type != 0x8100 && type != 0x88a8) break;
    if (frame.size() < type_at + 6) return view;
    type_at += 4;
  }
  view.l3 = type_at + 2;
  const std::uint16_t type = load16(frame, type_at);
  if (type == 0x0800) view.kind = read_v4(frame, view);
  if (type == 0x86dd) view.kind = read_v6(frame, view);
  if (view.kind == Kind::kGood && view.piece != Piece::kLater &&
      (view.protocol == 6 || view.protocol == 17))
    read_transport(frame, view);
  return view;
}

std::uint16_t load16(Bytes bytes, std::size_t at) {
  return static_cast<std::uint16_t>(bytes[at] << 8 | bytes[at + 1]);
}

std::uint32_t load32(Bytes bytes, std::size_t at) {
  return static_cast<std::uint32_t>(load16(bytes, at)) << 16 | load16(bytes, at + 2);
}

void store16(std::span<std::uint8_t> bytes, std::size_t at, std::uint32_t value) {
  bytes[at] = static_cast<std::uint8_t>(value >> 8);
  bytes[at + 1] = static_cast<std::uint8_t>(value);
}

void store32(std::span<std::uint8_t> bytes, std::size_t at, std::uint32_t value) {
  store16(bytes, at, value >> 16);
  store16(bytes, at + 2, value & 0xffff);
}

std::uint32_t sum_of(Bytes bytes) {
  std::uint64_t sum = 0;
  const std::size_t even = bytes.size() / 2 * 2;
  for (std::size_t i = 0; i < even; i += 2) sum += load16(bytes, i);
  if (bytes.size() > even) sum += static_cast<std::uint64_t>(bytes[even]) << 8;
  return static_cast<std::uint32_t>(sum % 0xffff);
}

std::uint32_t transport_sum(Bytes frame, const View& view) {
  std::uint64_t sum = sum_of(frame.subspan(view.l4, view.l4_bytes()));
  if (view.protocol == 1) return static_cast<std::uint32_t>(sum);
  sum += sum_of(frame.subspan(view.l3 + (view.v6 ? 8U : 12U), view.v6 ? 32 : 8));
  sum += view.l4_bytes() + view.protocol;
  return static_cast<std::uint32_t>(sum % 0xffff);
}

void repair_checksums(Frame& frame) {
  const View view = view_of(frame);
  if (view.kind != Kind::kGood) return;
  if (!view.v6) {
    store16(frame, view.l3 + 10, 0);
    const std::uint32_t sum = sum_of(Bytes(frame).subspan(view.l3, view.l4 - view.l3));
    store16(frame, view.l3 + 10, 0xffff - sum);
  }
  if (view.piece != Piece::kWhole) return;
  if (!view.transport && !(view.icmp() && view.l4_bytes() >= 8)) return;
  store16(frame, view.check_offset(), 0);
  std::uint32_t check = 0xffff - transport_sum(frame, view);
  // All ones is how UDP says 0; the other protocols' canonical form of that is 0 itself.
  if (check == 0xffff && view.protocol != 17) check = 0;
  store16(frame, view.check_offset(), check);
}

}  // namespace petrel::fuzz
