// SPDX-License-Identifier: MIT
// Packet filters that make a socket deaf, as if the wire had been cut.
#pragma once

#include "base/error.hpp"

namespace petrel::traffic {

// Drops every packet for this socket before TCP sees it: no ACK, no RST. On a listener that goes
// for SYNs too, and sockets accepted from it begin with the filter. Needs no privilege.
Result<> drop_packets(int socket_fd);

// Takes the filter away; fine if there is none.
Result<> pass_packets(int socket_fd);

}  // namespace petrel::traffic
