// SPDX-License-Identifier: MIT
// Stable ids: what a flow's entry calls its service and its backend.
//
// An established flow keeps its backend over restarts and reloads only if its backend keeps its id,
// whatever lines of the configuration were moved, added, removed or renamed. Pure: the maps say
// what is known, the maps' writer puts the outcome in force.
#pragma once

#include <cstdint>
#include <vector>

#include "base/error.hpp"
#include "bpf/types.h"
#include "config/config.hpp"

namespace petrel {

// What the running maps hold. Ports in host order.
struct KnownService {
  std::uint32_t id = 0;
  bpf::address address{};
  std::uint16_t port = 0;  // the first of a range
  std::uint8_t protocol = 0;
};

struct KnownBackend {
  std::uint32_t id = 0;
  std::uint32_t service_id = 0;
  bpf::address address{};
  std::uint16_t port = 0;  // 0: the port asked for
  bool leaving = false;    // was removed before; its flows have not all ended
};

struct KnownIds {
  std::vector<KnownService> services;
  std::vector<KnownBackend> backends;
};

// Gives every service and backend its id. A service keeps the known one of its address, protocol
// and first port; a backend that of its address and port in the same service, also if it was
// leaving. Others get the lowest ids that nothing has: what `known` holds stays taken, even by what
// the configuration no longer has, as flows may still name it. kConflict where the ids do not
// suffice; `config` is then as it was.
Result<void> assign_ids(Config& config, const KnownIds& known);

// The known backends that a configuration, once it has its ids, has no longer. Those that were
// leaving already are among them, marked as such.
std::vector<KnownBackend> removed_backends(const Config& config, const KnownIds& known);

}  // namespace petrel
