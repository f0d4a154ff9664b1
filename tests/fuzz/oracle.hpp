// SPDX-License-Identifier: MIT
// Oracle: whether what the balancer made of a packet is right, byte for byte.
//
// It knows the world's description and the packet as it came, and is told the verdict and the
// backend. It asks whether such a packet may have that verdict, then builds the packet that has to
// leave from scratch. Only where several answers are right (which backend, the outer source that
// spreads flows) is the output looked at. Of flows it remembers clients' SYNs alone: whether flows
// keep their backends is model_test.cpp's affair.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "tests/fuzz/view.hpp"
#include "tests/fuzz/world.hpp"

namespace petrel::fuzz {

// The packet as it left.
struct Left {
  int action = -1;
  Bytes packet;
  std::uint32_t verdict = bpf::VERDICTS;
  std::uint32_t notes = 0;
  std::uint32_t backend_id = 0;

  bool has_note(bpf::verdict note) const { return notes >> (note - kFirstNote) & 1; }
};

// The packet that an ICMP error quotes.
struct Quote {
  bool good = false;  // there is enough of it
  std::size_t l4 = 0;
  std::uint8_t protocol = 0;
  bpf::address from{}, to{};
  std::uint16_t from_port = 0, to_port = 0;
  std::size_t check_at = 0;  // of its transport checksum; 0: none, or the quote ends before it
};
Quote quote_of(Bytes in, const View& view);

class Oracle {
 public:
  explicit Oracle(const World& world) : world_(world) {}

  // "" or what is wrong. Packets are judged in the order in which they ran.
  std::string judge(Bytes in, const Left& left);
  void forget();  // the balancer was emptied

 private:
  // A set of verdicts: bit v.
  std::uint64_t allowed(Bytes in, const View& view) const;
  std::uint64_t allowed_icmp(Bytes in, const View& view) const;
  std::uint64_t allowed_to_service(const View& view, const Service& service) const;

  std::string judge_sent(Bytes in, const View& view, const Left& left) const;
  std::string judge_untouched(Bytes in, const View& view, const Left& left) const;
  std::string judge_clamped(Bytes in, const View& view, const Left& left) const;
  std::string judge_reset(Bytes in, const View& view, const Left& left) const;
  std::string judge_too_big(Bytes in, const View& view, const Left& left) const;
  std::string judge_ping(Bytes in, const View& view, const Left& left) const;
  std::string judge_error(Bytes in, const View& view, const Left& left) const;
  std::string judge_wrapped(Bytes in, const View& view, const Left& left,
                            const Backend& backend) const;
  std::string judge_masked(Bytes in, const View& view, const Left& left) const;
  std::string judge_drop(Bytes in, const View& view, const Left& left) const;
  // Sent by that hop, or, where there is none, passed to the kernel to be routed: sets the Ethernet
  // addresses of `wanted`, and its TTL, to what they have to be.
  std::string send(Frame& wanted, const View& view, const bpf::next_hop* hop,
                   const Left& left) const;
  const bpf::next_hop* hop_of(const Backend& backend) const;
  void remember_syn(Bytes in, const View& view);

  const World& world_;
  std::map<std::vector<std::uint8_t>, std::deque<Frame>> syns_;  // by addresses and ports
};

// What is wrong about the packet's bytes, "" if nothing.
std::string compare(Bytes wanted, Bytes out);

// Fills in the checksum at `at` of `wanted`: what it lacked in the packet as it came, where what it
// covers summed up to `before`, it must lack now as well; `after` is the sum in `wanted` with the
// field still as it came. Of the two forms of 0 both will do if it was wrong before, else UDP's has
// to be all ones and that of the others 0.
void carry_checksum(Frame& wanted, Bytes out, std::size_t at, std::uint32_t before,
                    std::uint32_t after, bool udp = false);
// The same for all of a header that has one: IPv4's, and, where the packet has it, the transport's.
void carry_ip_checksum(Frame& wanted, Bytes in, Bytes out, const View& view);
void carry_transport_checksum(Frame& wanted, Bytes in, Bytes out, const View& view);

// The first IPv4 or IPv6 header of what petrel makes itself, with the right checksum.
struct Header {
  bpf::address from{}, to{};
  std::uint8_t protocol = 0;
  std::uint8_t ttl = 64;
  std::uint8_t tos = 0;
  bool dont_fragment = false;
  std::uint16_t id = 0;
  std::size_t payload_bytes = 0;
};
void append_ip(Frame& frame, const Header& header);
bool is_mapped(const bpf::address& address);  // an IPv4 address
void write_address(Frame& frame, const View& view, bool source, const bpf::address& address);
// Through the VLAN tags, with the type of what follows.
Frame ethernet_of(Bytes in, const View& view, bool v6);
void write_hop(Frame& frame, const bpf::next_hop& hop);
void age(Frame& frame, const View& view);
bool may_be_cut(Bytes in, const View& view);  // by routers: RFC 791, 3.2

}  // namespace petrel::fuzz
