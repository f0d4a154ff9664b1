// SPDX-License-Identifier: MIT
// PinnedState: what the maps under a pin path say of services and backends: the state that a start,
// a reload, or a look at a running petrel begins from.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "bpf/types.h"
#include "config/ids.hpp"

namespace petrel {

struct PinnedService {
  bpf::service_key key{};
  bpf::service value{};
  std::uint16_t last_port = 0;  // host order; of a range, else the service's only one

  std::uint16_t port() const;  // host order
};

struct PinnedBackend {
  std::uint32_t id = 0;
  bpf::backend value{};
  bpf::weight weight{};

  // Was removed from the configuration; its flows have not all ended. Such a one has no base weight.
  bool leaving() const { return weight.drained_ns != 0 && weight.base_weight == 0; }
};

struct PinnedState {
  std::vector<PinnedService> services;  // by id
  std::vector<PinnedBackend> backends;  // by id

  bool empty() const { return services.empty() && backends.empty(); }
  KnownIds known() const;  // for assign_ids()
  const PinnedService* service(std::uint32_t id) const;
  const PinnedBackend* backend(std::uint32_t id) const;
};

// Empty where nothing is pinned. kConflict: the maps there have another layout than ours.
Result<PinnedState> read_pinned_state(const std::string& pin_path);

}  // namespace petrel
