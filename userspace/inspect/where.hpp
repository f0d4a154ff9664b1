// SPDX-License-Identifier: MIT
// Which backend a connection has, which one a new one from there would get, and why.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/error.hpp"
#include "inspect/placement.hpp"
#include "inspect/snapshot.hpp"

namespace petrel::inspect {

struct Question {
  bpf::address client{};
  bpf::address vip{};
  std::uint16_t client_port = 0;
  std::uint16_t port = 0;
  std::uint8_t protocol = 6;  // IPPROTO_TCP or IPPROTO_UDP
};

// The failure that makes the client's next connection a retry.
struct Evidence {
  std::uint32_t failed_backend_id = 0;
  std::uint8_t failure = 0;  // enum failure_kind
  std::uint8_t attempt = 0;  // the number of what failed
  std::uint64_t age_ns = 0;
  bool still_waits = false;  // a SYN of its that is unanswered: it will have failed by the next one
};

struct Answer {
  Question question;
  std::uint64_t now_ns = 0;
  PinnedService service;
  AgentSign agent;
  ServiceFacts facts;
  bpf::budget budget{};
  std::uint64_t retry_window_ns = 0;
  std::optional<bpf::connection> connection;
  std::optional<bpf::half_open> half_open;
  std::optional<Search> next;  // of a SYN that its backend has not answered
  std::optional<Evidence> evidence;
  Attempt attempt;
  Placement placement;  // of a new connection

  // 0: it has none.
  std::uint32_t held_by() const;
};

// kUnhealthy: no service of ours has the address and port.
Result<Answer> where(const Snapshot& snapshot, const Question& question);

// "10.0.0.7:51812", "[2001:db8::7]:51812". kInput: it is neither.
Result<std::pair<bpf::address, std::uint16_t>> parse_endpoint(const std::string& text);

}  // namespace petrel::inspect
