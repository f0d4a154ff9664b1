// SPDX-License-Identifier: MIT
// The pieces of which the oracle builds the packets that it wants to see.
#include <algorithm>
#include <cstring>

#include "tests/fuzz/oracle.hpp"

namespace petrel::fuzz {

std::string compare(Bytes wanted, Bytes out) {
  if (wanted.size() != out.size())
    return "of " + std::to_string(out.size()) + " bytes, not " + std::to_string(wanted.size());
  if (std::memcmp(wanted.data(), out.data(), out.size()) == 0) return "";
  const auto [want, got] = std::mismatch(wanted.begin(), wanted.end(), out.begin());
  return "byte " + std::to_string(want - wanted.begin()) + " is " + std::to_string(*got) +
         ", not " + std::to_string(*want);
}

void carry_checksum(Frame& wanted, Bytes out, std::size_t at, std::uint32_t before,
                    std::uint32_t after, bool udp) {
  const std::uint32_t was = load16(wanted, at);
  std::uint32_t value = (was + before + 2 * 0xffff - after % 0xffff) % 0xffff;
  if (value == 0 && (udp || (before % 0xffff != 0 && at + 2 <= out.size() &&
                             load16(out, at) == 0xffff)))
    value = 0xffff;
  store16(wanted, at, value);
}

void carry_ip_checksum(Frame& wanted, Bytes in, Bytes out, const View& view) {
  if (view.v6) return;
  const std::size_t bytes = view.l4 - view.l3;
  carry_checksum(wanted, out, view.l3 + 10, sum_of(in.subspan(view.l3, bytes)),
                 sum_of(Bytes(wanted).subspan(view.l3, bytes)));
}

void carry_transport_checksum(Frame& wanted, Bytes in, Bytes out, const View& view) {
  const bool udp = view.protocol == 17;
  if (udp && load16(in, view.check_offset()) == 0) return;
  carry_checksum(wanted, out, view.check_offset(), transport_sum(in, view),
                 transport_sum(wanted, view), udp);
}

bool is_mapped(const bpf::address& address) {
  static constexpr std::uint8_t kPrefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  return std::memcmp(address.bytes, kPrefix, sizeof(kPrefix)) == 0;
}

void append_ip(Frame& frame, const Header& header) {
  const std::size_t at = frame.size();
  if (!is_mapped(header.to)) {
    frame.resize(at + 40);
    store16(frame, at, 0x6000U | static_cast<std::uint32_t>(header.tos) << 4);
    store16(frame, at + 4, static_cast<std::uint32_t>(header.payload_bytes));
    frame[at + 6] = header.protocol;
    frame[at + 7] = header.ttl;
    std::copy_n(header.from.bytes, 16, frame.begin() + at + 8);
    std::copy_n(header.to.bytes, 16, frame.begin() + at + 24);
    return;
  }
  frame.resize(at + 20);
  frame[at] = 0x45;
  frame[at + 1] = header.tos;
  store16(frame, at + 2, static_cast<std::uint32_t>(20 + header.payload_bytes));
  store16(frame, at + 4, header.id);
  frame[at + 6] = header.dont_fragment ? 0x40 : 0;
  frame[at + 8] = header.ttl;
  frame[at + 9] = header.protocol;
  std::copy_n(header.from.bytes + 12, 4, frame.begin() + at + 12);
  std::copy_n(header.to.bytes + 12, 4, frame.begin() + at + 16);
  const std::uint32_t sum = sum_of(Bytes(frame).subspan(at, 20));
  store16(frame, at + 10, sum == 0 ? 0 : 0xffff - sum);
}

void write_address(Frame& frame, const View& view, bool source, const bpf::address& address) {
  const std::size_t bytes = view.v6 ? 16 : 4;
  const std::size_t at = view.l3 + (view.v6 ? 8U : 12U) + (source ? 0 : bytes);
  std::copy_n(address.bytes + 16 - bytes, bytes, frame.begin() + at);
}

Frame ethernet_of(Bytes in, const View& view, bool v6) {
  Frame frame(in.begin(), in.begin() + view.l3);
  store16(frame, view.l3 - 2, v6 ? 0x86dd : 0x0800);
  return frame;
}

void write_hop(Frame& frame, const bpf::next_hop& hop) {
  std::copy_n(hop.destination_mac, 6, frame.begin());
  std::copy_n(hop.source_mac, 6, frame.begin() + 6);
}

void age(Frame& frame, const View& view) { --frame[view.l3 + (view.v6 ? 7U : 8U)]; }

bool may_be_cut(Bytes in, const View& view) { return !view.v6 && !(in[view.l3 + 6] & 0x40); }

Quote quote_of(Bytes in, const View& view) {
  Quote quote;
  const std::size_t l3 = view.l4 + 8;
  const std::size_t least = view.v6 ? 40 : 20;
  if (l3 + least > in.size()) return quote;
  const std::size_t header = view.v6 ? 40 : (in[l3] & 15U) * 4U;
  if (header < least || (!view.v6 && (load16(in, l3 + 6) & 0x1fff))) return quote;
  if (l3 + header + 8 > view.end) return quote;
  quote.l4 = l3 + header;
  quote.protocol = in[l3 + (view.v6 ? 6U : 9U)];
  const std::size_t bytes = view.v6 ? 16 : 4;
  for (bpf::address* address : {&quote.from, &quote.to}) {
    if (!view.v6) address->bytes[10] = address->bytes[11] = 0xff;
    const std::size_t at = l3 + (view.v6 ? 8U : 12U) + (address == &quote.from ? 0 : bytes);
    std::copy_n(in.begin() + at, bytes, address->bytes + 16 - bytes);
  }
  quote.from_port = load16(in, quote.l4);
  quote.to_port = load16(in, quote.l4 + 2);
  quote.good = quote.protocol == 6 || quote.protocol == 17;
  if (quote.protocol == 17 && load16(in, quote.l4 + 6) != 0) quote.check_at = quote.l4 + 6;
  if (quote.protocol == 6 && quote.l4 + 18 <= view.end) quote.check_at = quote.l4 + 16;
  return quote;
}

}  // namespace petrel::fuzz
