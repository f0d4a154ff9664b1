// SPDX-License-Identifier: MIT
// Prober: asks a backend directly, by TCP connect, whether it answers at all.
#pragma once

#include <boost/asio/awaitable.hpp>

#include "bpf/types.h"
#include "control/weights.hpp"

namespace petrel {

// kAnswers, kRefuses (RST), or kSilent (no answer within half a second); kUnknown when this host
// itself could not try. Nothing is sent on the connection.
boost::asio::awaitable<ProbeResult> probe_backend(bpf::address address, std::uint16_t port);

}  // namespace petrel
