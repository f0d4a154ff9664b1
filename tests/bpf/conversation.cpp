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

Segment Conversation::next_of_client(std::uint8_t flags, const std::string& payload) const {
  return {.from = client_, .to = vip_, .flags = flags, .seq = client_seq_, .ack = backend_seq_,
          .payload = payload};
}

Segment Conversation::next_of_backend(std::uint8_t flags, const std::string& payload) const {
  return {.from = hosts_.backend(backend_id()), .to = client_, .flags = flags,
          .seq = backend_seq_, .ack = client_seq_, .payload = payload};
}

Outcome Conversation::from_client(std::uint8_t flags, const std::string& payload) {
  last_client_ = next_of_client(flags, payload);
  if (flags == kSyn) last_client_.tcp_options = syn_options_;
  client_seq_ += sequence_space(last_client_);
  Outcome outcome = lb_.run(build(last_client_));
  last_backend_id_ = is_tracked() ? entry().backend_id : last_backend_id_;
  return outcome;
}

Outcome Conversation::from_backend(std::uint8_t flags, const std::string& payload) {
  last_backend_ = next_of_backend(flags, payload);
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

Conversation& Conversation::accept() {
  syn_ack();
  from_client(kAck);
  return *this;
}

Conversation& Conversation::open() { return syn().accept(); }

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
  return {client_.address, htons(client_.port), htons(vip_.port), service_, 0};
}

std::uint32_t Conversation::backend_id() const {
  return is_tracked() ? entry().backend_id : last_backend_id_;
}

// A half-open flow looks as its connection will, once the client has answered; it is younger than
// a connection of the same port.
bpf::connection Conversation::entry() const {
  const auto half_open = lb_.half_open(key());
  if (!half_open) return lb_.connection(key()).value();
  const bpf::half_open& flow = *half_open;
  bpf::connection connection{};
  connection.backend_id = flow.backend_id;
  connection.flags = flow.flags;
  connection.state = flow.state;
  connection.attempt = flow.attempt;
  connection.syn_repeats = flow.syn_repeats;
  connection.syn_ns = flow.syn_ns;
  connection.synack_ns = flow.synack_ns;
  connection.syn_seq = flow.syn_seq;
  connection.client_end_seq = flow.syn_seq + 1;
  connection.backend_end_seq = flow.backend_seq + 1;
  connection.previous_failure = flow.previous_failure;
  connection.previous_backend_id = flow.previous_backend_id;
  connection.previous_hash = flow.previous_hash;
  connection.evidence = flow.evidence;
  connection.confidence = flow.confidence;
  return connection;
}

}  // namespace petrel::test
