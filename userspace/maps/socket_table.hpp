// SPDX-License-Identifier: MIT
// SocketTable: which TCP sockets the kernel has, by inet_diag. Of the caller's network namespace alone.
#pragma once

#include <cstdint>

#include "base/error.hpp"
#include "base/unique_fd.hpp"
#include "bpf/types.h"

namespace petrel {

struct SocketEnds {
  bpf::address local{};
  bpf::address remote{};
  std::uint16_t local_port_be = 0;
  std::uint16_t remote_port_be = 0;
};

class SocketTable {
 public:
  static Result<SocketTable> open();

  // Whether there is a connection of these ends; one in TIME_WAIT has no socket any more. Blocks for
  // some µs.
  Result<bool> has(const SocketEnds& ends) const;

 private:
  explicit SocketTable(UniqueFd socket) : socket_(std::move(socket)) {}

  UniqueFd socket_;
};

}  // namespace petrel
