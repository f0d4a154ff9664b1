// SPDX-License-Identifier: MIT
// ClientMask: what of a client's address may leave the kernel's maps for disk.
//
// `truncate` keeps the first 24 bits of an IPv4 address, 48 of an IPv6 one; `hash` keeps SipHash-2-4
// of the 16 address bytes (IPv4 as ::ffff:a.b.c.d) under a key, so that one client is told from
// another and none can be found by trying all addresses. Ports stay.
#pragma once

#include <string>

#include "base/error.hpp"
#include "bpf/types.h"
#include "capture/siphash.hpp"
#include "config/config.hpp"

namespace petrel {

class ClientMask {
 public:
  ClientMask() = default;  // kNone
  ClientMask(ClientPrivacy privacy, const SipKey& key) : privacy_(privacy), key_(key) {}

  ClientPrivacy privacy() const { return privacy_; }

  // What stands for the address from here on; of a hash: its 8 bytes, then zeros.
  bpf::address mask(const bpf::address& client) const;
  // Of a masked one: an address, or 16 hexadecimal digits.
  std::string text(const bpf::address& masked) const;
  // The inverse, whatever the mask was; false where it is neither.
  static bool parse(const std::string& text, bpf::address& masked);

 private:
  ClientPrivacy privacy_ = ClientPrivacy::kNone;
  SipKey key_{};
};

// Exactly 16 bytes, in a file that nobody but its owner may read or write.
Result<SipKey> read_key_file(const std::string& path);

}  // namespace petrel
