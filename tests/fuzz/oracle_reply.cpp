// SPDX-License-Identifier: MIT
// Packets of the balancer's own making: resets, "too big", echo replies, SYNs sent again.
#include <linux/bpf.h>

#include <algorithm>

#include "tests/fuzz/oracle.hpp"

namespace petrel::fuzz {
namespace {

constexpr std::size_t kTcpBytes = 20;

void swap_ethernet(Frame& frame) {
  std::swap_ranges(frame.begin(), frame.begin() + 6, frame.begin() + 6);
}

// Behind the IP header that is there; fills in the checksum.
void append_tcp(Frame& frame, const View& view, std::uint16_t from, std::uint16_t to,
                std::uint32_t seq, std::uint32_t ack, std::uint8_t flags, std::uint16_t window,
                Bytes options) {
  const std::size_t at = frame.size();
  frame.resize(at + kTcpBytes);
  store16(frame, at, from);
  store16(frame, at + 2, to);
  store32(frame, at + 4, seq);
  store32(frame, at + 8, ack);
  frame[at + 12] = static_cast<std::uint8_t>((kTcpBytes + options.size()) / 4 << 4);
  frame[at + 13] = flags;
  store16(frame, at + 14, window);
  frame.insert(frame.end(), options.begin(), options.end());
  View whole = view;
  whole.l4 = at;
  whole.end = frame.size();
  whole.protocol = 6;
  const std::uint32_t sum = transport_sum(frame, whole);
  store16(frame, at + 16, sum == 0 ? 0 : 0xffff - sum);
}

std::vector<std::uint8_t> flow_key(const bpf::address& client, std::uint16_t client_port,
                                   const bpf::address& vip, std::uint16_t vip_port) {
  std::vector<std::uint8_t> key(36);
  std::copy_n(client.bytes, 16, key.begin());
  std::copy_n(vip.bytes, 16, key.begin() + 16);
  store16(key, 32, client_port);
  store16(key, 34, vip_port);
  return key;
}

}  // namespace

std::string Oracle::judge_reset(Bytes in, const View& view, const Left& left) const {
  if (left.action != XDP_TX) return "not answered";
  const bool ack = view.tcp_flags & 0x10;
  const auto took = static_cast<std::uint32_t>(view.end - view.payload) +
                    (view.tcp_flags >> 1 & 1) + (view.tcp_flags & 1);
  Frame wanted = ethernet_of(in, view, view.v6);
  swap_ethernet(wanted);
  append_ip(wanted, {.from = view.to, .to = view.from, .protocol = 6, .dont_fragment = true,
                     .payload_bytes = kTcpBytes});
  append_tcp(wanted, view, view.to_port, view.from_port, ack ? load32(in, view.l4 + 8) : 0,
             ack ? 0 : load32(in, view.l4 + 4) + took, ack ? 0x04 : 0x14, 0, {});
  return compare(wanted, left.packet);
}

std::string Oracle::judge_too_big(Bytes in, const View& view, const Left& left) const {
  if (left.action != XDP_TX) return "not answered";
  const Service* service = world_.service_at(view.to, view.to_port, view.protocol);
  const std::size_t quoted = view.v6 ? 1232 : 512;
  Frame wanted = ethernet_of(in, view, view.v6);
  swap_ethernet(wanted);
  append_ip(wanted, {.from = view.to, .to = view.from,
                     .protocol = static_cast<std::uint8_t>(view.v6 ? 58 : 1),
                     .payload_bytes = quoted + 8});
  View reply = view;
  reply.l4 = wanted.size();
  reply.protocol = view.v6 ? 58 : 1;
  wanted.resize(wanted.size() + 8);
  wanted[reply.l4] = view.v6 ? 2 : 3;
  wanted[reply.l4 + 1] = view.v6 ? 0 : 4;
  const Backend& backend = world_.backend(left.backend_id);
  // Of what the sender sends, whatever is put around it.
  const std::uint32_t outer = !service->dsr() ? 0 : is_mapped(backend.at.address) ? 20 : 40;
  if (backend.mtu == 0 || view.end - view.l3 + outer <= backend.mtu) return "it would fit";
  if (backend.service != service->id) return "a backend of another service";
  store32(wanted, reply.l4 + 4, backend.mtu - outer);
  wanted.insert(wanted.end(), in.begin() + view.l3, in.begin() + view.l3 + quoted);
  reply.end = wanted.size();
  const std::uint32_t sum = transport_sum(wanted, reply);
  store16(wanted, reply.l4 + 2, sum == 0 ? 0 : 0xffff - sum);
  return compare(wanted, left.packet);
}

std::string Oracle::judge_ping(Bytes in, const View& view, const Left& left) const {
  if (left.action != XDP_TX) return "not answered";
  Frame wanted(in.begin(), in.end());
  swap_ethernet(wanted);
  write_address(wanted, view, true, view.to);
  write_address(wanted, view, false, view.from);
  wanted[view.l3 + (view.v6 ? 7U : 8U)] = 64;
  wanted[view.l4] = view.v6 ? 129 : 0;
  carry_ip_checksum(wanted, in, left.packet, view);
  carry_checksum(wanted, left.packet, view.l4 + 2, transport_sum(in, view),
                 transport_sum(wanted, view));
  return compare(wanted, left.packet);
}

void Oracle::remember_syn(Bytes in, const View& view) {
  if (!view.transport || !view.tcp() || (view.tcp_flags & 0x12) != 0x02) return;
  if (!world_.is_vip(view.to)) return;
  auto& kept = syns_[flow_key(view.from, view.from_port, view.to, view.to_port)];
  kept.emplace_back(in.begin(), in.end());
  if (kept.size() > 8) kept.pop_front();
}

// The client's own SYN, one of those that it sent; of what is below TCP only TTL and TOS are kept.
std::string Oracle::judge_masked(Bytes in, const View& view, const Left& left) const {
  const Backend* refuser = world_.backend_at(view.from, view.from_port, view.protocol);
  const Service& service = world_.service(refuser->service);
  if (left.backend_id == 0 || left.backend_id > world_.backends().size()) return "no backend";
  const Backend& backend = world_.backend(left.backend_id);
  if (&backend == refuser || backend.service != service.id) return "to a wrong backend";
  const std::uint16_t vip_port = service.has_range() ? view.from_port : service.first_port;
  const auto found = syns_.find(flow_key(view.to, view.to_port, service.vip, vip_port));
  if (found == syns_.end()) return "its client sent no SYN";
  const bpf::next_hop* hop = hop_of(backend);
  std::string problem;
  for (auto syn = found->second.rbegin(); syn != found->second.rend(); ++syn) {
    const View was = view_of(*syn);
    Frame wanted(in.begin(), in.begin() + 12);
    wanted.resize(14);
    store16(wanted, 12, view.v6 ? 0x86dd : 0x0800);
    const std::size_t options = was.payload - was.l4 - kTcpBytes;
    append_ip(wanted,
              {.from = was.from, .to = backend.at.address, .protocol = 6,
               .ttl = static_cast<std::uint8_t>((*syn)[was.l3 + (was.v6 ? 7U : 8U)] - 1),
               .tos = static_cast<std::uint8_t>(was.v6 ? load16(*syn, was.l3) >> 4
                                                       : (*syn)[was.l3 + 1]),
               .dont_fragment = true, .payload_bytes = kTcpBytes + options});
    View made = was;
    made.l3 = 14;
    append_tcp(wanted, made, was.from_port, backend.at.port ? backend.at.port : was.to_port,
               load32(*syn, was.l4 + 4), 0, was.tcp_flags, load16(*syn, was.l4 + 14),
               Bytes(*syn).subspan(was.l4 + kTcpBytes, options));
    if (hop != nullptr) write_hop(wanted, *hop);
    problem = compare(wanted, left.packet);
    if (problem.empty()) break;
  }
  if (!problem.empty()) return "no SYN of the client's: " + problem;
  const int action = hop == nullptr                    ? XDP_PASS
                     : hop->ifindex == kIngressIfindex ? XDP_TX
                                                       : XDP_REDIRECT;
  return left.action == action ? "" : "action " + std::to_string(left.action);
}

}  // namespace petrel::fuzz
