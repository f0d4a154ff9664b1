// SPDX-License-Identifier: MIT
#include "maps/tables.hpp"

#include <arpa/inet.h>
#include <bpf/bpf.h>

#include <algorithm>
#include <atomic>
#include <cerrno>

#include "config/address.hpp"
#include "maps/bpf_error.hpp"

namespace petrel {
namespace {

std::uint32_t service_flags(const ServiceConfig& service) {
  std::uint32_t flags = bpf::SERVICE_READY;
  if (service.mode != ServiceMode::kAct) return flags;
  flags |= bpf::SERVICE_ACT;
  if (service.steer_retries) flags |= bpf::SERVICE_STEER;
  if (service.two_choices) flags |= bpf::SERVICE_TWO_CHOICES;
  return flags;
}

// Removes the keys of a hash map that `keep` does not know.
template <class Key, class Keep>
Result<void> prune(int map_fd, const Keep& keep) {
  std::vector<Key> unknown;
  Key key{};
  for (int rc = bpf_map_get_next_key(map_fd, nullptr, &key); rc == 0;
       rc = bpf_map_get_next_key(map_fd, &key, &key)) {
    if (!keep(key)) unknown.push_back(key);
  }
  for (const Key& gone : unknown) {
    const int rc = bpf_map_delete_elem(map_fd, &gone);
    if (rc != 0 && rc != -ENOENT) return bpf_error(rc, "remove an old entry");
  }
  return {};
}

}  // namespace

std::vector<RingPlace> place_rings(const Config& config) {
  std::vector<RingPlace> places;
  std::uint32_t next = 0;
  for (const ServiceConfig& service : config.services) {
    const std::uint32_t slots = ring_slots(service.backends.size());
    places.push_back({next, next + slots, slots});
    next += 2 * slots;
  }
  return places;
}

MapSizes map_sizes(const Config& config) {
  MapSizes sizes;
  for (const ServiceConfig& service : config.services) {
    sizes.services = std::max(sizes.services, service.id + 1);
    for (const BackendConfig& backend : service.backends) {
      sizes.backends = std::max(sizes.backends, backend.id + 1);
    }
  }
  const RingPlace last = place_rings(config).back();
  sizes.ring = last.neutral + last.slots;
  return sizes;
}

Result<Tables> Tables::open(const DataPath& path, const Config& config) {
  const MapSizes sizes = map_sizes(config);
  Tables tables;
  tables.services_fd_ = path.map_fd("services");
  tables.backends_fd_ = path.map_fd("backends");
  tables.backend_ids_fd_ = path.map_fd("backend_ids");
  tables.weights_fd_ = path.map_fd("weights");
  tables.places_ = place_rings(config);
  tables.heartbeat_limit_ns_ = static_cast<std::uint64_t>(
      std::chrono::nanoseconds(config.agent.heartbeat_limit).count());

  auto ring = MappedArray<std::uint32_t>::open(path.map_fd("ring"), sizes.ring);
  if (!ring) return ring.error().within("ring");
  auto control = MappedArray<bpf::control>::open(path.map_fd("control"), 1);
  if (!control) return control.error().within("control");
  auto inflight = MappedArray<bpf::inflight>::open(path.map_fd("inflight"), sizes.backends);
  if (!inflight) return inflight.error().within("inflight");
  tables.ring_ = std::move(*ring);
  tables.control_ = std::move(*control);
  tables.inflight_ = std::move(*inflight);
  return tables;
}

const RingPlace& Tables::place_of(const ServiceConfig& service) const {
  return places_[service.id - 1];  // ids are given in the file's order, from 1
}

Result<void> Tables::write_backend(const ServiceConfig& service, const BackendConfig& backend,
                                   bpf::backend_state state, const bpf::next_hop& hop) {
  bpf::backend value{};
  value.address = backend.address;
  value.vip = service.address;
  value.port_be = htons(backend.port);
  value.vip_port_be = htons(service.port);
  value.service_id = service.id;
  value.state = state;
  value.hop = hop;
  const int rc = bpf_map_update_elem(backends_fd_, &backend.id, &value, BPF_ANY);
  if (rc != 0) return bpf_error(rc, "write backend " + backend.name);
  return {};
}

Result<void> Tables::write_service(const ServiceConfig& service,
                                   std::span<const std::uint32_t> neutral,
                                   std::span<const std::uint32_t> in_force) {
  const RingPlace& place = place_of(service);
  for (const BackendConfig& backend : service.backends) {
    const bpf::backend_key key{backend.address, htons(backend.port), 0};
    const int rc = bpf_map_update_elem(backend_ids_fd_, &key, &backend.id, BPF_ANY);
    if (rc != 0) return bpf_error(rc, "write backend_ids of " + backend.name);
  }
  for (std::uint32_t slot = 0; slot < place.slots; ++slot) {
    ring_[place.offset + slot] = in_force[slot];
    ring_[place.neutral + slot] = neutral[slot];
  }
  std::atomic_thread_fence(std::memory_order_release);
  const bpf::service_key key{service.address, htons(service.port), service.protocol, 0};
  const bpf::service value{.service_id = service.id,
                           .flags = service_flags(service),
                           .ring_offset = place.offset,
                           .neutral_offset = place.neutral,
                           .slots = place.slots,
                           .hash_seed = 0};
  const int rc = bpf_map_update_elem(services_fd_, &key, &value, BPF_ANY);
  if (rc != 0) return bpf_error(rc, "write service " + service.name);
  return {};
}

Result<void> Tables::write_weight(std::uint32_t backend_id, const bpf::weight& weight) {
  const int rc = bpf_map_update_elem(weights_fd_, &backend_id, &weight, BPF_ANY);
  if (rc != 0) return bpf_error(rc, "write weight");
  return {};
}

Result<void> Tables::forget_others(const Config& config) {
  const auto is_service = [&](const bpf::service_key& key) {
    return std::ranges::any_of(config.services, [&](const ServiceConfig& service) {
      return same_address(service.address, key.vip) && htons(service.port) == key.port_be &&
             service.protocol == key.protocol;
    });
  };
  const auto is_backend = [&](const bpf::backend_key& key) {
    return std::ranges::any_of(config.services, [&](const ServiceConfig& service) {
      return std::ranges::any_of(service.backends, [&](const BackendConfig& backend) {
        return same_address(backend.address, key.address) && htons(backend.port) == key.port_be;
      });
    });
  };
  if (auto pruned = prune<bpf::service_key>(services_fd_, is_service); !pruned) return pruned;
  return prune<bpf::backend_key>(backend_ids_fd_, is_backend);
}

Result<std::vector<bpf::weight>> Tables::read_weights(std::uint32_t entries) const {
  std::vector<bpf::weight> weights(entries);
  for (std::uint32_t id = 0; id < entries; ++id) {
    const int rc = bpf_map_lookup_elem(weights_fd_, &id, &weights[id]);
    if (rc != 0) return bpf_error(rc, "read weights");
  }
  return weights;
}

std::vector<std::uint32_t> Tables::read_ring(const ServiceConfig& service) const {
  const RingPlace& place = place_of(service);
  std::vector<std::uint32_t> slots(place.slots);
  for (std::uint32_t slot = 0; slot < place.slots; ++slot) slots[slot] = ring_[place.offset + slot];
  return slots;
}

void Tables::publish(const ServiceConfig& service, std::span<const RingChange> changes) {
  const RingPlace& place = place_of(service);
  for (const RingChange& change : changes) {
    std::atomic_ref(ring_[place.offset + change.slot])
        .store(change.backend_id, std::memory_order_relaxed);
  }
}

void Tables::beat(std::uint64_t now_ns) {
  bpf::control& control = control_[0];
  control.heartbeat_limit_ns = heartbeat_limit_ns_;
  std::atomic_ref(control.heartbeat_ns).store(now_ns, std::memory_order_release);
}

void Tables::bump_route_generation() {
  std::atomic_ref(control_[0].route_generation).fetch_add(1, std::memory_order_release);
}

void Tables::give_back_inflight(std::uint32_t backend_id) {
  std::atomic_ref(inflight_[backend_id].requests).fetch_sub(1, std::memory_order_relaxed);
}

std::int64_t Tables::inflight(std::uint32_t backend_id) const {
  return inflight_[backend_id].requests;
}

}  // namespace petrel
