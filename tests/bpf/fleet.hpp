// SPDX-License-Identifier: MIT
// Hosts behind one address: each with its own TCP clock and source ports, as their stacks draw them.
//
//     host 1 ─┐
//     ...     ├─ NAT: one address, ports kept ──► vip
//     host n ─┘
#pragma once

#include <cstdint>
#include <optional>
#include <random>
#include <vector>

#include "tests/bpf/conversation.hpp"

namespace petrel::test {

// The options of a SYN, in the order of Linux.
std::vector<std::uint8_t> syn_options(std::optional<std::uint32_t> tsval);

// One host: where its clock stands, and which port it takes next.
class HostStack {
 public:
  struct Options {
    bool timestamps = true;
    std::uint32_t clock_hz = 1000;
    bool clock_each = false;  // an offset drawn for each connection
    bool port_each = false;   // the same of ports
  };

  HostStack(std::uint64_t seed, const Options& options);

  // Linux: 2 to 16 on (__inet_hash_connect), from the range's end to its beginning.
  std::uint16_t next_port();
  std::vector<std::uint8_t> next_options(std::uint64_t now_ns);
  // The SYN of a new connection, sent.
  Conversation connect(Balancer& lb, const Hosts& hosts);

 private:
  std::mt19937_64 random_;
  Options options_;
  std::uint32_t clock_offset_;
  std::uint16_t port_;
};

}  // namespace petrel::test
