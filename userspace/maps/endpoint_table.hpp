// SPDX-License-Identifier: MIT
// EndpointTable: the `endpoints` map: services and backends where a packet finds them without a hash
// map. What finds its slot taken stays in `services` or `backend_ids` alone: slower, not wrong.
// Not thread-safe.
#pragma once

#include <functional>

#include "base/error.hpp"
#include "bpf/types.h"
#include "maps/mapped_array.hpp"

namespace petrel {

class EndpointTable {
 public:
  static Result<EndpointTable> open(int map_fd);
  EndpointTable() = default;

  // In place of what the same endpoint had before. A packet may read between any two stores: it finds
  // the old entry, none, or the new one; a service half old and half new still names slots of the
  // ring, and the balancer checks whose backend it finds there.
  void put(const bpf::service_key& key, const bpf::service& service);
  void put(const bpf::backend_key& key, std::uint32_t backend_id);

  // Frees what `gone` says.
  void erase_if(const std::function<bool(const bpf::endpoint&)>& gone);

 private:
  void put(bpf::endpoint entry);

  MappedArray<bpf::endpoint> slots_;
};

}  // namespace petrel
