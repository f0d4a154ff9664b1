// SPDX-License-Identifier: MIT
// Prober: asks a backend directly whether it answers at all, by TCP connect, or by HTTP.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <string>

#include "bpf/types.h"
#include "control/weights.hpp"

namespace petrel {

struct ProbeTarget {
  bpf::address address{};
  std::uint16_t port = 0;
  std::string path;  // "": connecting is enough, and nothing is sent
};

// kAnswers, kRefuses (RST; with a path also an answer that is not 2xx or 3xx, or no HTTP), kSilent
// (no connection within half a second, no answer within a second); kUnknown when this host itself
// could not try.
boost::asio::awaitable<ProbeResult> probe_backend(ProbeTarget target);

}  // namespace petrel
