// SPDX-License-Identifier: MIT
// The tap's filter by client: "10.0.0.0/8", "2001:db8::/32", or one address.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/error.hpp"
#include "bpf/types.h"

namespace petrel::tap {

struct ClientPrefix {
  bpf::address address{};
  std::uint32_t bits = 0;  // as in bpf::tap_filter: of IPv4 96 more than its own
};

// Bits of the address beyond the prefix must be zero: "10.0.0.7/8" is refused as a slip.
Result<ClientPrefix> parse_client_prefix(std::string_view text);

}  // namespace petrel::tap
