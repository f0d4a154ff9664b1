// SPDX-License-Identifier: MIT
#include "tests/bpf/conversation.hpp"

#include <arpa/inet.h>

namespace petrel::test {
namespace {

constexpr std::uint32_t kSeqBetweenConnections = 100000;

// SYN and FIN take a sequence number each, as a byte does.
std::uint32_t sequence_space(const Segment& segment) {
  return static_cast<std::uint32_t>(segment.payload.size()) + (segment.flags & kSyn ? 1 : 0) +
         (segment.flags & kFin ? 1 : 0);
}

Endpoint with_port(Endpoint endpoint, std::uint16_t port) {
  endpoint.port = port;
  return endpoint;
}

}  // namespace

std::string response(int status) {
  return "HTTP/1.1 " + std::to_string(status) + " Why\r\nContent-Length: 0\r\n\r\n";
}

Conversation::Conversation(Balancer& lb, const Hosts& hosts, std::uint16_t client_port)
    : Conversation(lb, hosts, with_port(hosts.client, client_port), hosts.vip, hosts.service) {}

Conversation::Conversation(Balancer& lb, const Hosts& hosts, Endpoint client, Endpoint vip,
                           std::uint16_t service)
    : lb_(lb), hosts_(hosts), client_(client), vip_(vip), service_(service),
      client_seq_(client.port * 1000U) {}

Outcome Conversation::from_client(std::uint8_t flags, const std::string& payload) {
  last_client_ = Segment{.from = client_, .to = vip_, .flags = flags, .seq = client_seq_,
                         .ack = backend_seq_, .payload = payload};
  client_seq_ += sequence_space(last_client_);
  return lb_.run(build(last_client_));
}

Outcome Conversation::from_backend(std::uint8_t flags, const std::string& payload) {
  last_backend_ = Segment{.from = hosts_.backend(backend_id()), .to = client_, .flags = flags,
                          .seq = backend_seq_, .ack = client_seq_, .payload = payload};
  backend_seq_ += sequence_space(last_backend_);
  return lb_.run(build(last_backend_));
}

Conversation& Conversation::syn() {
  client_seq_ += kSeqBetweenConnections;
  from_client(kSyn);
  return *this;
}

Conversation& Conversation::syn_ack() {
  from_backend(kSynAck);
  return *this;
}

Conversation& Conversation::open() {
  syn().syn_ack();
  from_client(kAck);
  return *this;
}

Conversation& Conversation::request(const std::string& payload) {
  from_client(kAck | kPsh, payload);
  return *this;
}

Conversation& Conversation::answer(int status) {
  from_backend(kAck | kPsh, response(status));
  return *this;
}

Conversation& Conversation::client_fin() {
  from_client(kFinAck);
  return *this;
}

Conversation& Conversation::client_rst() {
  from_client(kRstAck);
  return *this;
}

Conversation& Conversation::backend_fin() {
  from_backend(kFinAck);
  return *this;
}

Conversation& Conversation::backend_rst() {
  from_backend(kRstAck);
  return *this;
}

bpf::connection_key Conversation::key() const {
  return {client_.address, htons(client_.port), service_};
}

bpf::connection Conversation::entry() const { return lb_.connection(key()).value(); }

}  // namespace petrel::test
