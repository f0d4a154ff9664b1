// SPDX-License-Identifier: MIT
// Addresses as the maps hold them: IPv6, or IPv4 as ::ffff:a.b.c.d.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.hpp"
#include "bpf/types.h"

namespace petrel {

// "10.0.0.1", "fd00::1"; "::ffff:10.0.0.1" is the IPv4 address. A scope ("%eth0") is refused:
// the maps have no room for it.
Result<bpf::address> parse_address(std::string_view text);

// IPv4 in dotted form, IPv6 as RFC 5952 writes it.
std::string to_string(const bpf::address& address);

bool is_v4(const bpf::address& address);
bool same_address(const bpf::address& left, const bpf::address& right);

// Not unspecified, multicast or broadcast: what a connection can be sent to.
bool is_one_host(const bpf::address& address);

// "10.0.0.1:80", "[fd00::1]:80".
std::string endpoint_text(const bpf::address& address, std::uint16_t port);

// A service's: "10.0.0.1:80", "10.0.0.1:8000-8099", "[fd00::1]:all" for ports 0 to 65535.
std::string endpoint_text(const bpf::address& address, std::uint16_t first_port,
                          std::uint16_t last_port);

}  // namespace petrel
