// SPDX-License-Identifier: MIT
#include "tests/bpf/hosts.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <stdexcept>

namespace petrel::test {
namespace {

constexpr std::array<std::uint8_t, 12> kV4Prefix{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

// `net` ends where the host number begins; the addresses are those of documentation (RFC 5737,
// RFC 3849). Backends listen on a port other than the VIP's, so that a forgotten port shows.
Hosts hosts(const std::string& family, const std::string& client_net,
            const std::string& backend_net, std::uint16_t first_service,
            std::uint32_t first_backend) {
  Hosts hosts;
  hosts.family = family;
  hosts.client = endpoint(client_net + "10", 40000);
  hosts.other_client = endpoint(client_net + "11", 40000);
  hosts.stranger = endpoint(client_net + "99", 80);
  hosts.vip = endpoint(client_net + "200", 80);
  hosts.other_vip = endpoint(client_net + "200", 443);
  hosts.service = first_service;
  hosts.other_service = static_cast<std::uint16_t>(first_service + 1);
  hosts.b1 = first_backend;
  hosts.b2 = first_backend + 1;
  hosts.b3 = first_backend + 2;
  hosts.b4 = first_backend + 3;
  for (std::size_t i = 0; i < hosts.backends.size(); ++i) {
    hosts.backends[i] = endpoint(backend_net + std::to_string(i + 1), 8080);
  }
  return hosts;
}

}  // namespace

Endpoint endpoint(const std::string& address, std::uint16_t port) {
  Endpoint result;
  result.port = port;
  std::uint8_t* bytes = result.address.bytes;
  if (address.find(':') != std::string::npos) {
    if (inet_pton(AF_INET6, address.c_str(), bytes) == 1) return result;
  } else {
    std::copy(kV4Prefix.begin(), kV4Prefix.end(), bytes);
    if (inet_pton(AF_INET, address.c_str(), bytes + kV4Prefix.size()) == 1) return result;
  }
  throw std::invalid_argument("not an address: " + address);
}

bool is_v4(const bpf::address& address) {
  return std::equal(kV4Prefix.begin(), kV4Prefix.end(), address.bytes);
}

const Hosts& v4() {
  static const Hosts kHosts = hosts("IPv4", "192.0.2.", "198.51.100.", 1, 1);
  return kHosts;
}

const Hosts& v6() {
  static const Hosts kHosts = hosts("IPv6", "2001:db8:1::", "2001:db8:2::", 3, 5);
  return kHosts;
}

}  // namespace petrel::test
