// SPDX-License-Identifier: MIT
// Packets with another address than they came with, and those wrapped in another.
#include <linux/bpf.h>

#include <algorithm>

#include "tests/fuzz/oracle.hpp"

namespace petrel::fuzz {

const bpf::next_hop* Oracle::hop_of(const Backend& backend) const {
  if (backend.hop.ifindex != 0) return &backend.hop;
  const Way* way = world_.route(backend.at.address);
  return way != nullptr ? &way->hop : nullptr;
}

std::string Oracle::send(Frame& wanted, const View& view, const bpf::next_hop* hop,
                         const Left& left) const {
  if (hop == nullptr) return left.action == XDP_PASS ? "" : "sent, though nobody knows where to";
  age(wanted, view);
  write_hop(wanted, *hop);
  const int action = hop->ifindex == kIngressIfindex ? XDP_TX : XDP_REDIRECT;
  return left.action == action ? "" : "action " + std::to_string(left.action);
}

namespace {

// A client's FIN that went on as a RST: whether it left a request unanswered is not the oracle's to know.
bool is_ended(Bytes in, Bytes out, const View& view) {
  constexpr std::uint8_t kFin = 1, kRst = 4, kPsh = 8;
  if (!view.tcp() || out.size() <= view.l4 + 13) return false;
  const std::uint8_t came = in[view.l4 + 13];
  return (came & kFin) != 0 && out[view.l4 + 13] == ((came & ~(kFin | kPsh)) | kRst);
}

}  // namespace

std::string Oracle::judge_sent(Bytes in, const View& view, const Left& left) const {
  if (left.backend_id == 0 || left.backend_id > world_.backends().size()) return "no backend";
  const Backend& backend = world_.backend(left.backend_id);
  const Service& service = world_.service(backend.service);
  const bool later = view.piece == Piece::kLater;
  const bool reply = !world_.is_vip(view.to);
  if (reply) {
    const Backend* sender =
        later ? &backend : world_.backend_at(view.from, view.from_port, view.protocol);
    if (sender != &backend || !same(view.from, backend.at.address)) return "another backend";
  } else {
    const Service* asked =
        later ? &service : world_.service_at(view.to, view.to_port, view.protocol);
    if (asked != &service || !same(view.to, service.vip)) return "a backend of another service";
    if (!later && backend.state == bpf::BACKEND_REMOVED) return "a backend that was removed";
    if (service.dsr()) return judge_wrapped(in, view, left, backend);
  }
  const Way* way = reply ? world_.route(view.to) : nullptr;
  const bpf::next_hop* hop = !reply ? hop_of(backend) : way != nullptr ? &way->hop : nullptr;
  const std::uint32_t mtu = !reply ? backend.mtu : way != nullptr ? way->mtu : 0;
  // The kernel cuts up what may be, and tells the sender of what may not.
  if (mtu != 0 && view.end - view.l3 > mtu) {
    if (reply && !may_be_cut(in, view))
      return left.verdict == bpf::VERDICT_KERNEL_ROUTED ? judge_untouched(in, view, left)
                                                        : "longer than the link takes";
    hop = nullptr;
  }
  if ((hop == nullptr) != (left.verdict == bpf::VERDICT_KERNEL_ROUTED))
    return "miscounted, or longer than the link takes";
  Frame wanted(in.begin(), in.end());
  write_address(wanted, view, reply, reply ? service.vip : backend.at.address);
  const std::uint16_t port = reply ? (service.has_range() ? 0 : service.first_port)
                                   : backend.at.port;
  if (!later && port != 0) store16(wanted, view.l4 + (reply ? 0U : 2U), port);
  if (!reply && !later && is_ended(in, left.packet, view)) {
    wanted[view.l4 + 13] = left.packet[view.l4 + 13];
  }
  const std::string problem = send(wanted, view, hop, left);
  if (!problem.empty()) return problem;
  carry_ip_checksum(wanted, in, left.packet, view);
  if (!later) carry_transport_checksum(wanted, in, left.packet, view);
  return compare(wanted, left.packet);
}

std::string Oracle::judge_wrapped(Bytes in, const View& view, const Left& left,
                                  const Backend& backend) const {
  const bool outer_v6 = !is_mapped(backend.at.address);
  const std::size_t inner = view.end - view.l3, outer = outer_v6 ? 40 : 20;
  if (backend.mtu != 0 && inner + outer > backend.mtu) return "longer than the link takes";
  Frame wanted = ethernet_of(in, view, outer_v6);
  if (left.packet.size() < view.l3 + outer) return "shorter than its headers";
  Header header{{}, backend.at.address, static_cast<std::uint8_t>(view.v6 ? 41 : 4)};
  header.tos = static_cast<std::uint8_t>(view.v6 ? load16(in, view.l3) >> 4 : in[view.l3 + 1]);
  header.dont_fragment = view.v6 || (in[view.l3 + 6] & 0x40);
  if (!view.v6) header.id = load16(in, view.l3 + 4);
  header.payload_bytes = inner;
  // The source's lower part spreads flows, as the label does: any will do.
  if (outer_v6) {
    std::copy_n(left.packet.begin() + view.l3 + 16, 8, header.from.bytes + 8);
    header.from.bytes[0] = 0x01;
  } else {
    header.from = {{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 100, 10,
                     left.packet[view.l3 + 14], left.packet[view.l3 + 15]}}};
  }
  append_ip(wanted, header);
  if (outer_v6) {
    wanted[view.l3 + 1] = static_cast<std::uint8_t>((wanted[view.l3 + 1] & 0xf0) |
                                                    (left.packet[view.l3 + 1] & 0x0f));
    std::copy_n(left.packet.begin() + view.l3 + 2, 2, wanted.begin() + view.l3 + 2);
  }
  // What is inside, and the padding after it, as it came but for its TTL.
  Frame aged(in.begin(), in.end());
  age(aged, view);
  View shifted = view;
  shifted.l3 += outer;
  shifted.l4 += outer;
  wanted.insert(wanted.end(), aged.begin() + view.l3, aged.end());
  if (!view.v6) {
    const auto header_bytes = view.l4 - view.l3;
    carry_checksum(wanted, left.packet, shifted.l3 + 10,
                   sum_of(in.subspan(view.l3, header_bytes)),
                   sum_of(Bytes(wanted).subspan(shifted.l3, header_bytes)));
  }
  const bpf::next_hop* hop = hop_of(backend);
  if (left.verdict != bpf::VERDICT_ICMP_FORWARDED &&
      (hop == nullptr) != (left.verdict == bpf::VERDICT_KERNEL_ROUTED))
    return "miscounted";
  if (hop != nullptr) write_hop(wanted, *hop);
  const int action = hop == nullptr                          ? XDP_PASS
                     : hop->ifindex == kIngressIfindex ? XDP_TX
                                                             : XDP_REDIRECT;
  if (left.action != action) return "action " + std::to_string(left.action);
  return compare(wanted, left.packet);
}

// --- ICMP errors --------------------------------------------------------------------------------

std::string Oracle::judge_error(Bytes in, const View& view, const Left& left) const {
  const Quote quote = quote_of(in, view);
  const bool to_vip = world_.is_vip(view.to);
  if (left.backend_id == 0 || left.backend_id > world_.backends().size()) return "no backend";
  const Backend& backend = world_.backend(left.backend_id);
  const Service& service = world_.service(backend.service);
  if (to_vip) {
    if (world_.service_at(quote.from, quote.from_port, quote.protocol) != &service)
      return "a backend of another service";
    if (service.dsr()) return judge_wrapped(in, view, left, backend);
  } else if (world_.backend_at(quote.to, quote.to_port, quote.protocol) != &backend ||
             !same(quote.from, view.to)) {
    return "another backend's";
  }
  Frame wanted(in.begin(), in.end());
  View quoted = view;  // of the packet inside
  quoted.l3 = view.l4 + 8;
  quoted.l4 = quote.l4;
  // Inside, the end that the receiver does not know by this name.
  const std::uint16_t port = to_vip ? backend.at.port
                                    : service.has_range() ? 0 : service.first_port;
  write_address(wanted, quoted, to_vip, to_vip ? backend.at.address : service.vip);
  if (port != 0) store16(wanted, quote.l4 + (to_vip ? 0U : 2U), port);
  carry_ip_checksum(wanted, in, left.packet, quoted);
  if (quote.check_at != 0) {
    // What the quote lacks of its packet is the same before and after: the addresses and ports do.
    const auto ends = [&](Bytes bytes) {
      return sum_of(bytes.subspan(quoted.l3 + (view.v6 ? 8U : 12U), view.v6 ? 32 : 8)) +
             sum_of(bytes.subspan(quote.l4, 4));
    };
    const std::uint32_t was = load16(in, quote.check_at);
    carry_checksum(wanted, left.packet, quote.check_at, ends(in) + was, ends(wanted) + was,
                   quote.protocol == 17);
  }
  // Outside, a backend that speaks for itself is known as the VIP.
  if (to_vip)
    write_address(wanted, view, false, backend.at.address);
  else if (same(view.from, backend.at.address))
    write_address(wanted, view, true, service.vip);
  const Way* way = world_.route(view.to);
  const bpf::next_hop* hop = to_vip ? hop_of(backend) : way != nullptr ? &way->hop : nullptr;
  const std::string problem = send(wanted, view, hop, left);
  if (!problem.empty()) return problem;
  carry_ip_checksum(wanted, in, left.packet, view);
  carry_checksum(wanted, left.packet, view.l4 + 2, transport_sum(in, view),
                 transport_sum(wanted, view));
  return compare(wanted, left.packet);
}

}  // namespace petrel::fuzz
