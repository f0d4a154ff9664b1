// SPDX-License-Identifier: MIT
// The named hosts of every packet test, once for IPv4 and once for IPv6.
//
//     client, other_client ──► vip:80  (service)        b1 b2 b3
//                              vip:443 (other_service)  b4
//     stranger: an address of nobody's
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "bpf/types.h"

namespace petrel::test {

struct Endpoint {
  bpf::address address{};
  std::uint16_t port = 0;
};

Endpoint endpoint(const std::string& address, std::uint16_t port);
bool is_v4(const bpf::address& address);

using Mac = std::array<std::uint8_t, 6>;

struct Hosts {
  std::string family;
  Endpoint client, other_client, stranger, vip, other_vip;
  std::uint16_t service = 0;  // ids
  std::uint16_t other_service = 0;
  std::uint32_t b1 = 0, b2 = 0, b3 = 0, b4 = 0;
  std::array<Endpoint, 4> backends;  // b1 to b4

  const Endpoint& backend(std::uint32_t id) const { return backends.at(id - b1); }
  std::array<std::uint32_t, 4> backend_ids() const { return {b1, b2, b3, b4}; }
};

const Hosts& v4();
const Hosts& v6();

}  // namespace petrel::test
