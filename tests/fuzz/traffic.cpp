// SPDX-License-Identifier: MIT
#include "tests/fuzz/traffic.hpp"

#include <algorithm>

namespace petrel::fuzz {
namespace {

using test::Packet;

constexpr std::size_t kFlows = 48;

const std::string kAnswers[] = {
    "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 503 Service Unavailable\r\n\r\n", "HTTP/1.0 429 X\r\n\r\n",
    "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 20", "\x16\x03\x01"};

}  // namespace

Traffic::Traffic(const World& world, std::uint64_t seed)
    : world_(world), rng_(seed), flows_(kFlows) {
  for (Flow& flow : flows_) begin(flow);
}

void Traffic::begin(Flow& flow) {
  flow = Flow{};
  flow.service = &rng_.pick(world_.services());
  const auto span = flow.service->last_port - flow.service->first_port + 1U;
  // Few clients and ports: the same ones come again, to other services too.
  flow.client = {address_of(flow.service->v6, Net::kClient,
                            static_cast<std::uint8_t>(rng_.below(160))),
                 static_cast<std::uint16_t>(40000 + rng_.below(8))};
  flow.vip = {flow.service->vip,
              static_cast<std::uint16_t>(flow.service->first_port + rng_.below(span))};
  flow.client_seq = rng_.one_in(4) ? 0xfffffff0 : rng_.word();
  flow.backend_seq = rng_.one_in(4) ? 0xfffffffe : rng_.word();
}

void Traffic::went_to(std::uint32_t backend_id) {
  if (current_ == nullptr || backend_id == 0) return;
  const auto& all = current_->service->backends;
  if (std::ranges::find(all, backend_id) != all.end()) current_->backend = backend_id;
}

Endpoint Traffic::backend_of(const Flow& flow) {
  // Now and then one that has no part in the flow.
  const bool known = flow.backend != 0 && !rng_.one_in(16);
  Endpoint at = world_.backend(known ? flow.backend : rng_.pick(flow.service->backends)).at;
  if (at.port == 0) at.port = flow.vip.port;
  return at;
}

std::string Traffic::payload() {
  switch (rng_.below(8)) {
    case 0: return std::string(rng_.below(4), 'x');
    case 1: return std::string(1150 + rng_.below(420), 'y');
    default: return std::string(rng_.below(96), 'z');
  }
}

std::vector<std::uint8_t> Traffic::tcp_options() {
  // MSS, SACK permitted, timestamps, window scale as Linux sends them, or fewer, or odd places.
  static const std::vector<std::uint8_t> kLinux{2, 4, 5, 0xb4, 4, 2, 8, 10, 1, 2,
                                                3, 4, 0, 0, 0, 0, 1, 3, 3, 7};
  static const std::vector<std::uint8_t> kOdd{1, 2, 4, 5, 0xb4, 3, 3, 7};
  static const std::vector<std::uint8_t> kLong(40, 1);
  switch (rng_.below(6)) {
    case 0: return {};
    case 1: return kOdd;
    case 2: return kLong;
    case 3: return {2, 4, 5, 0xb4};
    default: return kLinux;
  }
}

Packet Traffic::tcp_of_client(Flow& flow) {
  test::Segment segment{.from = flow.client, .to = flow.vip, .seq = flow.client_seq,
                        .ack = flow.backend_seq};
  segment.ttl = rng_.one_in(32) ? static_cast<std::uint8_t>(rng_.below(3)) : 64;
  segment.tos = rng_.byte();
  const std::uint32_t choice = flow.last.empty() ? 0 : rng_.below(20);
  if (choice < 3) {
    segment.flags = test::kSyn;
    segment.ack = 0;
    segment.tcp_options = tcp_options();
    if (rng_.one_in(12)) segment.payload = payload();  // Fast Open
    if (choice == 2) segment.seq = rng_.word();        // another connection of the same port
    flow.client_seq = segment.seq + 1;
    // The next of these, if one follows, shall be the same again.
    if (choice == 1) segment.seq = flow.client_seq = flow.client_seq - 1;
  } else if (choice < 8) {
    segment.flags = test::kAck;
  } else if (choice < 15) {
    segment.flags = test::kAck | test::kPsh;
    segment.payload = payload();
    if (!rng_.one_in(6)) flow.client_seq += static_cast<std::uint32_t>(segment.payload.size());
  } else if (choice < 17) {
    segment.flags = test::kFinAck;
    flow.client_seq++;
  } else if (choice == 17) {
    segment.flags = rng_.one_in(2) ? std::uint8_t{test::kRst} : test::kRstAck;
  } else {
    segment.seq = rng_.word();
    segment.flags = rng_.byte();
  }
  return test::tcp_datagram(segment);
}

Packet Traffic::tcp_of_backend(Flow& flow) {
  const bool dsr = flow.service->dsr();
  test::Segment segment{.from = dsr ? flow.vip : backend_of(flow), .to = flow.client,
                        .seq = flow.backend_seq, .ack = flow.client_seq};
  segment.ttl = rng_.one_in(32) ? static_cast<std::uint8_t>(rng_.below(3)) : 60;
  const std::uint32_t choice = rng_.below(20);
  if (choice < 7) {
    segment.flags = test::kSynAck;
    segment.tcp_options = tcp_options();
    if (rng_.one_in(8)) segment.ack = rng_.word();
    segment.seq = flow.backend_seq - 1;
  } else if (choice < 9) {
    segment.flags = test::kRstAck;
    segment.seq = 0;
    if (rng_.one_in(8)) segment.ack = rng_.word();
  } else if (choice < 16) {
    segment.flags = test::kAck | test::kPsh;
    segment.payload = kAnswers[rng_.below(std::size(kAnswers))];
    if (!rng_.one_in(6)) flow.backend_seq += static_cast<std::uint32_t>(segment.payload.size());
  } else if (choice < 18) {
    segment.flags = test::kFinAck;
  } else if (choice == 18) {
    segment.flags = test::kRst;
  } else {
    segment.flags = rng_.byte();
  }
  return test::tcp_datagram(segment);
}

Packet Traffic::udp_of(Flow& flow, bool backend) {
  const Endpoint other = flow.service->dsr() ? flow.vip : backend_of(flow);
  const auto checksum = rng_.one_in(6) ? test::UdpChecksum::kNone : test::UdpChecksum::kRight;
  const Endpoint& from = backend ? other : flow.client;
  const Endpoint& to = backend ? flow.client : flow.vip;
  const std::string text = rng_.one_in(16) ? test::zero_sum_payload(from, to) : payload();
  return test::udp_datagram(from, to, text, rng_.one_in(32) ? 1 : 64, checksum);
}

// About a packet of the flow: to its client, from a router or the backend; or to the VIP.
Packet Traffic::quote_of(const Flow& flow) {
  const bool v6 = flow.service->v6;
  const Endpoint backend = backend_of(flow);
  const bool about_reply = rng_.one_in(2);
  const Endpoint from = about_reply ? (flow.service->dsr() ? flow.vip : flow.vip) : flow.client;
  const Endpoint to = about_reply ? flow.client : backend;
  Packet quoted;
  if (flow.service->protocol == kUdpProtocol) {
    quoted = test::udp_datagram(from, to, payload(), 1,
                                rng_.one_in(6) ? test::UdpChecksum::kNone
                                               : test::UdpChecksum::kRight);
  } else {
    quoted = test::tcp_datagram({.from = from, .to = to, .payload = payload(), .ttl = 1});
  }
  const std::size_t header = v6 ? 40 : 20;
  // The whole of it, what RFC 792 asks for, or any other part.
  const std::size_t kept = rng_.one_in(3) ? header + 8 : rng_.one_in(4) ? rng_.below(quoted.size())
                                                                        : quoted.size();
  quoted = test::first_bytes(quoted, std::min(kept, v6 ? std::size_t{1232} : std::size_t{548}));
  static constexpr std::uint8_t kV4[][2] = {{3, 4}, {3, 3}, {3, 1}, {11, 0}, {12, 0}, {5, 0}};
  static constexpr std::uint8_t kV6[][2] = {{2, 0}, {1, 4}, {1, 0}, {3, 0}, {4, 1}, {137, 0}};
  const auto& type = v6 ? kV6[rng_.below(6)] : kV4[rng_.below(6)];
  const bpf::address reporter = !about_reply && rng_.one_in(3)
                                    ? backend.address
                                    : address_of(v6, Net::kRouter, rng_.byte());
  if (test::is_v4(reporter) == v6) return ping();  // of IPv4 in IPv6 the outer end says nothing
  const Packet message = test::icmp(reporter, from.address, type[0], type[1],
                                    1280 + rng_.below(200), quoted);
  return test::ip({.from = reporter, .to = from.address,
                   .protocol = v6 ? test::kIcmpv6 : test::kIcmp, .payload = message});
}

Packet Traffic::ping() {
  const Service& service = rng_.pick(world_.services());
  const bpf::address client = address_of(service.v6, Net::kClient, rng_.byte());
  const bpf::address to =
      rng_.one_in(8) ? address_of(service.v6, Net::kRouter, 1) : service.vip;
  const std::string text = payload();
  const Packet message = test::icmp(client, to, service.v6 ? 128 : 8, rng_.one_in(16) ? 1 : 0,
                                    rng_.word(), Packet(text.begin(), text.end()));
  return test::ip({.from = client, .to = to,
                   .protocol = service.v6 ? test::kIcmpv6 : test::kIcmp, .payload = message,
                   .ttl = rng_.byte(), .tos = rng_.byte()});
}

// Of no flow of ours, if some by a hair.
Packet Traffic::stranger() {
  const bool v6 = rng_.one_in(2);
  const Service& service = rng_.pick(world_.services());
  Endpoint from{address_of(v6, static_cast<Net>(rng_.below(4)), rng_.byte()), 0};
  Endpoint to{service.vip, static_cast<std::uint16_t>(rng_.below(3000))};
  from.port = static_cast<std::uint16_t>(rng_.below(0x10000));
  if (service.v6 == v6 && rng_.one_in(2)) to.address = from.address, from.address = service.vip;
  // An IPv4 address in an IPv6 header, or the other way round, is nobody's.
  if (test::is_v4(from.address) != test::is_v4(to.address)) {
    Packet datagram = test::udp_datagram({service.vip, 1}, to, payload());
    if (!test::is_v4(to.address)) return datagram;
    Packet mapped(test::kIpv6Bytes);
    mapped[0] = 0x60;
    mapped[6] = rng_.one_in(2) ? kTcpProtocol : kUdpProtocol;
    mapped[7] = 64;
    const bpf::address client = address_of(false, Net::kClient, rng_.byte());
    std::copy_n(client.bytes, 16, mapped.begin() + 8);
    std::copy_n(to.address.bytes, 16, mapped.begin() + 24);
    Packet tcp = test::tcp_datagram({.from = {client, 40000},
                                     .to = {to.address, service.first_port},
                                     .flags = test::kSyn});
    mapped.insert(mapped.end(), tcp.begin() + test::kIpv4Bytes, tcp.end());
    test::store_be16(mapped, 4, static_cast<std::uint16_t>(mapped.size() - test::kIpv6Bytes));
    return mapped;
  }
  if (rng_.one_in(2)) return test::udp_datagram(from, to, payload());
  return test::tcp_datagram({.from = from, .to = to, .flags = rng_.byte()});
}

// Options and extension headers: within the bounds mostly, sometimes beyond.
Packet Traffic::with_headers(Packet datagram) {
  if (datagram.size() < 40 || !rng_.one_in(8)) return datagram;
  if (datagram[0] >> 4 == 6) {
    static constexpr std::uint8_t kTypes[] = {test::kHopByHop, test::kDestinationOptions,
                                              test::kRouting};
    std::vector<test::Extension> extensions;
    for (std::uint32_t i = 0, count = 1 + rng_.below(7); i < count; ++i) {
      Packet body(6 + 8 * rng_.below(rng_.one_in(8) ? 12 : 3));
      if (!rng_.one_in(16)) body[1] = 0;  // of a routing header: segments left
      else body[1] = rng_.byte();
      extensions.push_back({kTypes[rng_.below(3)], body});
    }
    return test::with_extensions(datagram, extensions);
  }
  if ((datagram[0] & 15) != 5) return datagram;
  const std::size_t words = 1 + rng_.below(10);
  datagram.insert(datagram.begin() + 20, words * 4, 1);
  datagram[0] = static_cast<std::uint8_t>(0x45 + words);
  test::store_be16(datagram, 2, static_cast<std::uint16_t>(datagram.size()));
  test::store_be16(datagram, 10, 0);
  const Packet header = test::first_bytes(datagram, 20 + words * 4);
  test::store_be16(datagram, 10, static_cast<std::uint16_t>(~test::ones_complement_sum(header)));
  return datagram;
}

Packet Traffic::on_the_wire(const Packet& datagram) {
  Packet frame = test::frame(datagram);
  if (rng_.one_in(10)) {
    std::vector<std::uint32_t> tags;
    for (std::uint32_t i = 0, count = 1 + rng_.below(3); i < count; ++i)
      tags.push_back((rng_.one_in(2) ? 0x81000000U : 0x88a80000U) | rng_.below(0x10000));
    frame = test::with_tags(frame, tags);
  }
  if (frame.size() < 60 && rng_.one_in(2)) frame.resize(60);  // the least that Ethernet carries
  if (rng_.one_in(20)) frame.resize(frame.size() + rng_.below(20), rng_.byte());
  return frame;
}

Packet Traffic::next() {
  if (!waiting_.empty() && rng_.one_in(2)) {
    const Packet piece = waiting_.front();
    waiting_.pop_front();
    return on_the_wire(piece);
  }
  current_ = nullptr;
  const std::uint32_t choice = rng_.below(32);
  if (choice == 0) return on_the_wire(with_headers(ping()));
  if (choice == 1) return on_the_wire(stranger());
  Flow& flow = rng_.pick(flows_);
  if (rng_.one_in(40)) begin(flow);
  if (choice < 5) return on_the_wire(with_headers(quote_of(flow)));
  current_ = &flow;
  const bool backend = !flow.last.empty() && rng_.below(5) < 2;
  Packet datagram = flow.service->protocol == kUdpProtocol ? udp_of(flow, backend)
                    : backend                               ? tcp_of_backend(flow)
                                                            : tcp_of_client(flow);
  if (!backend) flow.last = datagram;
  if (rng_.one_in(24) && datagram.size() > 64) {
    const std::vector<Packet> pieces =
        test::fragments(datagram, ++fragment_id_, 8 * (1 + rng_.below(20)));
    waiting_.insert(waiting_.end(), pieces.begin() + 1, pieces.end());
    if (waiting_.size() > 64) waiting_.clear();
    return on_the_wire(pieces.front());
  }
  return on_the_wire(with_headers(std::move(datagram)));
}

}  // namespace petrel::fuzz
