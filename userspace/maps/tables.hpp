// SPDX-License-Identifier: MIT
// Tables: what the agent writes for the data path: services, backends, rings, weights, heartbeat.
//
// Knows where each service's rings lie in the `ring` map. Each store is one aligned word or one
// map update: the data path may read between any two of them. Not thread-safe.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "config/config.hpp"
#include "maps/data_path.hpp"
#include "maps/endpoint_table.hpp"
#include "maps/mapped_array.hpp"
#include "ring/ring.hpp"

namespace petrel {

class Tables {
 public:
  static Result<Tables> open(const DataPath& path);

  // The longest silence of the agent after which the neutral ring serves.
  void set_heartbeat_limit(std::chrono::nanoseconds limit);
  void beat(std::uint64_t now_ns);   // the heartbeat
  void bump_route_generation();      // cached ways back to clients are old
  void set_recording(bool recording);  // whether records are sent, for a capture

  // Where the service's rings lie from now on; before they are written.
  void place(std::uint32_t service_id, const RingPlace& place);
  // Both rings, of the lengths of its place; only slots that differ are stored.
  void write_rings(std::uint32_t service_id, std::span<const std::uint32_t> neutral,
                   std::span<const std::uint32_t> in_force);
  // The ring in force as the map holds it; one id a slot.
  std::vector<std::uint32_t> read_ring(std::uint32_t service_id) const;
  void publish(std::uint32_t service_id, std::span<const RingChange> changes);

  // Tells the data path of a service whose backends and rings are there: its limits, the way back
  // from its backends, then, in one step, the service itself.
  Result<void> write_service(const ServiceConfig& service);
  Result<void> write_backend(const ServiceConfig& service, const BackendConfig& backend,
                             bpf::backend_state state, const bpf::next_hop& hop,
                             std::uint32_t mtu_bytes);
  Result<void> write_weight(std::uint32_t backend_id, const bpf::weight& weight);

  // Which addresses are ours at all; before the services that need them.
  Result<void> write_addresses(std::span<const ServiceConfig> services);
  // Removes services and addresses that are none of these.
  Result<void> forget_others(std::span<const ServiceConfig> services);
  // Makes a backend's id one that was never used; no flow may name it any more.
  Result<void> forget_backend(std::uint32_t backend_id);

  // Retries a second that the service may spend, and how many can be saved up. Keeps what is saved.
  Result<void> write_budget(std::uint32_t service_id, double per_s, double burst);
  Result<bpf::budget> read_budget(std::uint32_t service_id) const;
  // What clients share of a service near its limit: how much it answers in a second; 0: nothing is
  // shared, whoever comes first is served.
  Result<void> write_shared_rate(std::uint32_t service_id, double per_s);
  Result<bpf::budget> read_admissions(std::uint32_t service_id) const;
  Result<void> set_tokens(std::uint32_t service_id, double tokens);

  // How soon and how often what failed is repeated, by which retries are told.
  Result<void> write_retry_odds(std::uint32_t service_id, const bpf::retry_odds& odds);

  // Before the tapping program is put in place.
  Result<void> write_tap_filter(const bpf::tap_wish& wish);

  // Frees the half-open entries that `is_over` says so of. `waited` is told of each whose SYN waited
  // until then: the data path will not give it back.
  void sweep_half_open(const std::function<bool(const bpf::half_open&)>& is_over,
                       const std::function<void(const bpf::half_open&)>& waited);
  // Deletes an entry of an established flow, and gives back what it took.
  void end_connection(const bpf::connection_key& key, const bpf::connection& connection);
  // What is learned of the service as a whole, 0: no limit; the configured one holds all the same.
  void write_limit(const ServiceConfig& service, std::uint64_t learned);
  std::int64_t inflight(std::uint32_t backend_id) const;

  // Requests or SYNs that the data path will never end are in flight no longer.
  void give_back_inflight(std::uint32_t backend_id, std::uint32_t service_id,
                          std::uint64_t count = 1);

  void for_each_half_open(const std::function<void(const bpf::half_open&)>& visit) const;

 private:
  Result<void> write_limits(const ServiceConfig& service);
  int services_fd_ = -1;
  int vips_fd_ = -1;
  int budgets_fd_ = -1;
  int admissions_fd_ = -1;
  std::map<std::uint32_t, std::uint32_t> shared_rates_;  // by service id, as last written
  int retry_odds_fd_ = -1;
  std::vector<std::optional<bpf::weight>> weights_;  // by backend id, as last written
  int backends_fd_ = -1;
  int backend_ids_fd_ = -1;
  int weights_fd_ = -1;
  int connections_fd_ = -1;
  int tap_filter_fd_ = -1;
  int backend_stats_fd_ = -1;
  std::map<std::uint32_t, RingPlace> places_;  // by service id
  std::uint64_t heartbeat_limit_ns_ = 0;
  MappedArray<std::uint32_t> ring_;
  MappedArray<bpf::control> control_;
  MappedArray<bpf::inflight> inflight_;
  MappedArray<bpf::inflight> service_inflight_;
  MappedArray<bpf::address_filter> filter_;
  EndpointTable endpoints_;
  MappedArray<bpf::half_open> half_open_;
};

}  // namespace petrel
