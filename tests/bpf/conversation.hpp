// SPDX-License-Identifier: MIT
// Conversation: one client's connection through the balancer, with its sequence numbers kept.
//
// The backend's side is played by whichever backend the balancer pinned the connection to.
#pragma once

#include <cstdint>
#include <string>

#include "tests/bpf/balancer_fixture.hpp"

namespace petrel::test {

inline const std::string kRequest = "GET / HTTP/1.1\r\nHost: example\r\n\r\n";
std::string response(int status);

class Conversation {
 public:
  // From `client` (whose port is replaced) to the VIP of hosts.service.
  Conversation(Balancer& lb, const Hosts& hosts, std::uint16_t client_port);
  Conversation(Balancer& lb, const Hosts& hosts, Endpoint client, Endpoint vip,
               std::uint16_t service);

  // What comes next from either end, not sent yet.
  Segment next_of_client(std::uint8_t flags, const std::string& payload = "") const;
  Segment next_of_backend(std::uint8_t flags, const std::string& payload = "") const;
  Outcome from_client(std::uint8_t flags, const std::string& payload = "");
  Outcome from_backend(std::uint8_t flags, const std::string& payload = "");
  Outcome repeat_client() { return lb_.run(build(last_client_)); }
  Outcome repeat_backend() { return lb_.run(build(last_backend_)); }

  // Options and sequence number (else one by its port) of its next SYN.
  void set_sequence(std::uint32_t seq) { client_seq_ = seq; }
  void set_syn_options(std::vector<std::uint8_t> options) { syn_options_ = std::move(options); }

  Conversation& syn();      // a client's next SYN: of a new connection if there was one before
  Conversation& syn_ack();
  Conversation& accept();   // SYN-ACK, ACK
  Conversation& open();     // SYN, SYN-ACK, ACK
  Conversation& request(const std::string& payload = kRequest);
  Conversation& answer(int status = 200);
  Conversation& client_fin();
  Conversation& client_rst();
  Conversation& backend_fin();
  Conversation& backend_rst();

  bpf::connection_key key() const;
  bpf::connection entry() const;  // throws std::bad_optional_access if there is none
  bool is_established() const { return lb_.connection(key()).has_value(); }
  bool is_half_open() const { return lb_.half_open(key()).has_value(); }
  bool is_tracked() const { return is_established() || is_half_open(); }
  std::uint32_t backend_id() const;  // of a flow without an entry: the last that it had

 private:
  Balancer& lb_;
  const Hosts& hosts_;
  Endpoint client_;
  Endpoint vip_;
  std::uint16_t service_;
  std::uint32_t client_seq_;
  // Starts in the upper half of the sequence space and wraps within a test: where signs go wrong.
  std::uint32_t backend_seq_ = 0xffffffd0;
  std::uint32_t last_backend_id_ = 0;
  std::vector<std::uint8_t> syn_options_;
  Segment last_client_;
  Segment last_backend_;
};

}  // namespace petrel::test
