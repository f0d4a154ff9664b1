// SPDX-License-Identifier: MIT
// Tables: what the agent writes for the data path: services, backends, rings, weights, heartbeat.
//
// Knows where each service's rings lie in the `ring` map. Each store is one aligned word or one
// map update: the data path may read between any two of them. Not thread-safe.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "config/config.hpp"
#include "maps/data_path.hpp"
#include "maps/mapped_array.hpp"
#include "ring/ring.hpp"

namespace petrel {

// Where one service's rings lie.
struct RingPlace {
  std::uint32_t offset = 0;   // the ring in force
  std::uint32_t neutral = 0;  // the neutral ring
  std::uint32_t slots = 0;
};

std::vector<RingPlace> place_rings(const Config& config);  // by index in config.services
MapSizes map_sizes(const Config& config);

class Tables {
 public:
  static Result<Tables> open(const DataPath& path, const Config& config);

  // Tells the data path of a service: its backends first, then its rings, then the service, so that
  // no packet meets half of it.
  Result<void> write_service(const ServiceConfig& service, std::span<const std::uint32_t> neutral,
                             std::span<const std::uint32_t> in_force);
  Result<void> write_backend(const ServiceConfig& service, const BackendConfig& backend,
                             bpf::backend_state state, const bpf::next_hop& hop);
  Result<void> write_weight(std::uint32_t backend_id, const bpf::weight& weight);

  // Removes the services and backends of an earlier agent that the configuration no longer has.
  Result<void> forget_others(const Config& config);
  // As the map holds them, by backend id.
  Result<std::vector<bpf::weight>> read_weights(std::uint32_t entries) const;

  // The ring in force as the map holds it (after an adopted start); one id a slot.
  std::vector<std::uint32_t> read_ring(const ServiceConfig& service) const;
  void publish(const ServiceConfig& service, std::span<const RingChange> changes);

  void beat(std::uint64_t now_ns);   // the heartbeat
  void bump_route_generation();      // cached ways back to clients are old
  void give_back_inflight(std::uint32_t backend_id);
  std::int64_t inflight(std::uint32_t backend_id) const;

 private:
  const RingPlace& place_of(const ServiceConfig& service) const;

  int services_fd_ = -1;
  int backends_fd_ = -1;
  int backend_ids_fd_ = -1;
  int weights_fd_ = -1;
  std::vector<RingPlace> places_;
  std::uint64_t heartbeat_limit_ns_ = 0;
  MappedArray<std::uint32_t> ring_;
  MappedArray<bpf::control> control_;
  MappedArray<bpf::inflight> inflight_;
};

}  // namespace petrel
