// SPDX-License-Identifier: MIT
#include "maps/tables.hpp"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>

#include "bpf/hash.h"
#include "config/address.hpp"
#include "maps/bpf_error.hpp"

namespace petrel {
namespace {

std::uint32_t service_flags(const ServiceConfig& service) {
  std::uint32_t flags = bpf::SERVICE_READY;
  // Not ready for the balancer, now or ever: what passes here passes untouched.
  if (service.placement == Placement::kClient) flags = bpf::SERVICE_AT_CLIENT;
  if (service.placement == Placement::kBackend) flags = bpf::SERVICE_AT_BACKEND;
  const bool tcp = service.protocol == IPPROTO_TCP;
  const bool nat = service.forward == Forward::kNat;
  if (!nat) flags |= bpf::SERVICE_DSR;
  if (service.affinity == Affinity::kClient) flags |= bpf::SERVICE_AFFINITY;
  if (service.on_removal == RemovalPolicy::kReset) flags |= bpf::SERVICE_RESET_GONE;
  if (service.is_range()) flags |= bpf::SERVICE_KEEP_PORT;
  // What moves or refuses traffic waits for the word to act.
  if (!service.is_balanced()) return flags;
  const ActuatorModes& modes = service.modes;
  const bool steers = service.acts(modes.steering);
  if (service.mode == ServiceMode::kAct) flags |= bpf::SERVICE_ACT;
  if (steers && service.steer_retries) flags |= bpf::SERVICE_STEER;
  if (service.acts(modes.two_choices) && service.two_choices) flags |= bpf::SERVICE_TWO_CHOICES;
  if (steers && tcp && nat && service.failover) flags |= bpf::SERVICE_FAILOVER;
  if (steers && tcp && nat && service.mask_refusals) flags |= bpf::SERVICE_MASK;
  if (service.acts(modes.budget) && tcp && nat && service.budget.enabled) {
    flags |= bpf::SERVICE_BUDGET;
  }
  const bool limited =
      service.admission || service.max_inflight > 0 || std::ranges::any_of(service.backends, [](const BackendConfig& b) {
        return b.max_inflight > 0;
      });
  if (service.acts(modes.admission) && tcp && nat && limited) flags |= bpf::SERVICE_ADMIT;
  return flags;
}

// Retries are refused first: at this part of a limit.
std::uint64_t retry_limit(std::uint64_t limit) {
  return limit == 0 ? 0 : std::max<std::uint64_t>(1, limit * 4 / 5);
}

// Whole words each: a SYN between the two sees one of the old and one of the new, which harms nobody.
void set_limit(bpf::inflight& place, std::uint64_t limit) {
  std::atomic_ref(place.limit).store(limit, std::memory_order_relaxed);
  std::atomic_ref(place.retry_limit).store(retry_limit(limit), std::memory_order_relaxed);
}

void set_bit(std::span<__u64> words, const bpf::address& address) {
  const std::uint32_t bit = bpf::hash_address(&address);
  std::atomic_ref(words[bit / 64]).fetch_or(1ULL << (bit % 64), std::memory_order_release);
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

Result<Tables> Tables::open(const DataPath& path) {
  Tables tables;
  auto endpoints = EndpointTable::open(path.map_fd("endpoints"));
  if (!endpoints) return endpoints.error();
  tables.endpoints_ = std::move(*endpoints);
  tables.services_fd_ = path.map_fd("services");
  tables.backends_fd_ = path.map_fd("backends");
  tables.vips_fd_ = path.map_fd("vips");
  tables.budgets_fd_ = path.map_fd("budgets");
  tables.admissions_fd_ = path.map_fd("admissions");
  tables.retry_odds_fd_ = path.map_fd("retry_odds");
  tables.backend_ids_fd_ = path.map_fd("backend_ids");
  tables.weights_fd_ = path.map_fd("weights");
  tables.connections_fd_ = path.map_fd("connections");
  tables.tap_filter_fd_ = path.map_fd("tap_filter");
  tables.backend_stats_fd_ = path.map_fd("backend_stats");

  const auto map = [&](const char* name, auto& array) -> Result<void> {
    auto opened = std::decay_t<decltype(array)>::open(path.map_fd(name), path.map_entries(name));
    if (!opened) return opened.error().within(name);
    array = std::move(*opened);
    return {};
  };
  if (auto mapped = map("ring", tables.ring_); !mapped) return mapped.error();
  if (auto mapped = map("control", tables.control_); !mapped) return mapped.error();
  if (auto mapped = map("inflight", tables.inflight_); !mapped) return mapped.error();
  if (auto mapped = map("svc_inflight", tables.service_inflight_); !mapped) return mapped.error();
  if (auto mapped = map("address_filter", tables.filter_); !mapped) return mapped.error();
  if (auto mapped = map("half_open", tables.half_open_); !mapped) return mapped.error();
  tables.control_[0].secret = path.secret();
  return tables;
}

void Tables::set_heartbeat_limit(std::chrono::nanoseconds limit) {
  heartbeat_limit_ns_ = static_cast<std::uint64_t>(limit.count());
}

void Tables::place(std::uint32_t service_id, const RingPlace& place) {
  places_[service_id] = place;
}

Result<void> Tables::write_backend(const ServiceConfig& service, const BackendConfig& backend,
                                   bpf::backend_state state, const bpf::next_hop& hop,
                                   std::uint32_t mtu_bytes) {
  bpf::backend value{};
  value.address = backend.address;
  value.vip = service.address;
  value.port_be = htons(backend.port);
  value.vip_port_be = service.is_range() ? __be16{0} : htons(service.port);
  value.service_id = service.id;
  value.state = static_cast<__u16>(state);
  value.mtu = static_cast<__u16>(std::min<std::uint32_t>(mtu_bytes, 65535));
  value.hop = hop;
  value.service_flags = service_flags(service);
  const int rc = bpf_map_update_elem(backends_fd_, &backend.id, &value, BPF_ANY);
  if (rc != 0) return bpf_error(rc, "write backend " + backend.name);
  return {};
}

void Tables::write_rings(std::uint32_t service_id, std::span<const std::uint32_t> neutral,
                         std::span<const std::uint32_t> in_force) {
  const auto store = [this](std::uint32_t index, std::uint32_t backend_id) {
    std::atomic_ref slot(ring_[index]);
    if (slot.load(std::memory_order_relaxed) != backend_id) {
      slot.store(backend_id, std::memory_order_relaxed);
    }
  };
  const RingPlace& place = places_.at(service_id);
  for (std::uint32_t slot = 0; slot < place.slots; ++slot) {
    store(place.offset + slot, in_force[slot]);
    store(place.neutral + slot, neutral[slot]);
  }
  std::atomic_thread_fence(std::memory_order_release);
}

Result<void> Tables::write_service(const ServiceConfig& service) {
  const RingPlace& place = places_.at(service.id);
  if (auto limits = write_limits(service); !limits) return limits;
  for (const BackendConfig& backend : service.backends) {
    if (service.forward == Forward::kDsr) break;  // its replies do not come through us
    const bpf::backend_key key{backend.address, htons(backend.port), service.protocol, 0};
    const int rc = bpf_map_update_elem(backend_ids_fd_, &key, &backend.id, BPF_ANY);
    if (rc != 0) return bpf_error(rc, "write backend_ids of " + backend.name);
    if (backend.port != 0) endpoints_.put(key, backend.id);
  }
  const bpf::service_key key{service.address, htons(service.port), service.protocol, 0};
  const bpf::service value{.service_id = service.id,
                           .flags = service_flags(service),
                           .ring_offset = place.offset,
                           .neutral_offset = place.neutral,
                           .slots = place.slots,
                           .hash_seed = kRingHashSeed};
  const int rc = bpf_map_update_elem(services_fd_, &key, &value, BPF_ANY);
  if (rc != 0) return bpf_error(rc, "write service " + service.name);
  endpoints_.put(key, value);  // a range's first port, too
  return {};
}

Result<void> Tables::write_retry_odds(std::uint32_t service_id, const bpf::retry_odds& odds) {
  const int rc = bpf_map_update_elem(retry_odds_fd_, &service_id, &odds, BPF_ANY);
  if (rc != 0) return bpf_error(rc, "write retry_odds");
  return {};
}

Result<void> Tables::write_weight(std::uint32_t backend_id, const bpf::weight& weight) {
  if (backend_id >= weights_.size()) weights_.resize(backend_id + 1);
  auto& written = weights_[backend_id];
  if (written && std::memcmp(&*written, &weight, sizeof(weight)) == 0) return {};
  const int rc = bpf_map_update_elem(weights_fd_, &backend_id, &weight, BPF_ANY);
  if (rc != 0) return bpf_error(rc, "write weight");
  written = weight;
  return {};
}

Result<void> Tables::forget_others(std::span<const ServiceConfig> services) {
  const auto is_service = [&](const bpf::service_key& key) {
    return std::ranges::any_of(services, [&](const ServiceConfig& service) {
      return same_address(service.address, key.vip) && htons(service.port) == key.port_be &&
             service.protocol == key.protocol;
    });
  };
  const auto is_backend = [&](const bpf::backend_key& key) {
    return std::ranges::any_of(services, [&](const ServiceConfig& service) {
      return std::ranges::any_of(service.backends, [&](const BackendConfig& backend) {
        return service.forward == Forward::kNat && service.protocol == key.protocol &&
               same_address(backend.address, key.address) && htons(backend.port) == key.port_be;
      });
    });
  };
  endpoints_.erase_if([&](const bpf::endpoint& entry) {
    return entry.kind == bpf::ENDPOINT_SERVICE
               ? !is_service({entry.address, entry.port_be, entry.protocol, 0})
               : !is_backend({entry.address, entry.port_be, entry.protocol, 0});
  });
  if (auto pruned = prune<bpf::service_key>(services_fd_, is_service); !pruned) return pruned;
  const auto is_vip = [&](const bpf::address& address) {
    return std::ranges::any_of(services, [&](const ServiceConfig& service) {
      return same_address(service.address, address);
    });
  };
  if (auto pruned = prune<bpf::address>(vips_fd_, is_vip); !pruned) return pruned;
  if (auto pruned = prune<bpf::backend_key>(backend_ids_fd_, is_backend); !pruned) return pruned;
  // Bits go last: what has none passes as a stranger's.
  bpf::address_filter wanted{};
  for (const ServiceConfig& service : services) {
    if (!service.is_balanced()) continue;
    set_bit(wanted.vips, service.address);
    if (service.forward == Forward::kDsr) continue;
    for (const BackendConfig& backend : service.backends) set_bit(wanted.backends, backend.address);
  }
  for (std::size_t i = 0; i < FILTER_WORDS; ++i) {
    std::atomic_ref(filter_[0].vips[i]).store(wanted.vips[i], std::memory_order_relaxed);
    std::atomic_ref(filter_[0].backends[i]).store(wanted.backends[i], std::memory_order_relaxed);
  }
  return {};
}

Result<void> Tables::write_addresses(std::span<const ServiceConfig> services) {
  std::vector<std::pair<bpf::address, bpf::vip>> vips;
  for (const ServiceConfig& service : services) {
    if (!service.is_balanced()) continue;  // the balancer has no business with its addresses
    set_bit(filter_[0].vips, service.address);
    if (service.forward == Forward::kNat) {
      for (const BackendConfig& backend : service.backends) {
        set_bit(filter_[0].backends, backend.address);
      }
    }
    auto vip = std::ranges::find_if(vips, [&](const auto& known) {
      return same_address(known.first, service.address);
    });
    if (vip == vips.end()) vip = vips.insert(vips.end(), {service.address, bpf::vip{}});
    if (!service.is_range() || vip->second.ranges == VIP_RANGES) continue;
    vip->second.range[vip->second.ranges++] = {service.port, service.last_port, service.protocol,
                                               {}};
  }
  for (const auto& [address, vip] : vips) {
    const int rc = bpf_map_update_elem(vips_fd_, &address, &vip, BPF_ANY);
    if (rc != 0) return bpf_error(rc, "write vips");
  }
  return {};
}

Result<void> Tables::write_limits(const ServiceConfig& service) {
  set_limit(service_inflight_[service.id], service.max_inflight);
  for (const BackendConfig& backend : service.backends) {
    set_limit(inflight_[backend.id], backend.max_inflight);
  }
  return {};
}

void Tables::write_limit(const ServiceConfig& service, std::uint64_t learned) {
  const std::uint64_t configured = service.max_inflight;
  const bool both = configured > 0 && learned > 0;
  const std::uint64_t limit =
      both ? std::min(configured, learned) : std::max(configured, learned);
  bpf::inflight& place = service_inflight_[service.id];
  if (place.limit != limit) set_limit(place, limit);
  const std::uint64_t ends = learned > 0 && service.end_abandoned ? 1 : 0;
  if (place.ends_abandoned != ends) {
    std::atomic_ref(place.ends_abandoned).store(ends, std::memory_order_relaxed);
  }
}

Result<void> Tables::write_tap_filter(const bpf::tap_wish& wish) {
  const std::uint32_t zero = 0;
  const int rc = bpf_map_update_elem(tap_filter_fd_, &zero, &wish, BPF_ANY);
  if (rc != 0) return bpf_error(rc, "write tap_filter");
  return {};
}

void Tables::sweep_half_open(const std::function<bool(const bpf::half_open&)>& is_over,
                             const std::function<void(const bpf::half_open&)>& waited) {
  for (std::uint32_t i = 0; i < half_open_.size(); ++i) {
    bpf::half_open& flow = half_open_[i];
    if (flow.key.service_id == 0) continue;
    std::atomic_ref flags(flow.flags);
    std::uint32_t seen = flags.load(std::memory_order_acquire);
    if ((seen & bpf::HALF_OPEN_BUSY) != 0 || !is_over(flow)) continue;
    // The data path may end it at this moment: whose claim comes first gives back what it took.
    const std::uint32_t held = seen & bpf::CONNECTION_WAITING_SYN;
    if (!flags.compare_exchange_strong(seen, bpf::HALF_OPEN_BUSY)) continue;
    if (held != 0) {
      give_back_inflight(flow.backend_id, flow.key.service_id);
      bpf::half_open ended = flow;
      ended.flags = seen;
      waited(ended);
    }
    flow.key.service_id = 0;
    flow.syn_ns = 0;
    flags.store(0, std::memory_order_release);
  }
}

void Tables::for_each_half_open(const std::function<void(const bpf::half_open&)>& visit) const {
  for (std::uint32_t i = 0; i < half_open_.size(); ++i) visit(half_open_[i]);
}

std::vector<std::uint32_t> Tables::read_ring(std::uint32_t service_id) const {
  const RingPlace& place = places_.at(service_id);
  std::vector<std::uint32_t> slots(place.slots);
  for (std::uint32_t slot = 0; slot < place.slots; ++slot) slots[slot] = ring_[place.offset + slot];
  return slots;
}

void Tables::publish(std::uint32_t service_id, std::span<const RingChange> changes) {
  const RingPlace& place = places_.at(service_id);
  for (const RingChange& change : changes) {
    std::atomic_ref(ring_[place.offset + change.slot])
        .store(change.backend_id, std::memory_order_relaxed);
  }
}

Result<void> Tables::forget_backend(std::uint32_t backend_id) {
  if (backend_id < weights_.size()) weights_[backend_id].reset();
  const bpf::backend backend{};
  const bpf::weight weight{};
  const std::vector<std::byte> stats(sizeof(bpf::backend_stats) *
                                     static_cast<std::size_t>(libbpf_num_possible_cpus()));
  for (const auto& [fd, value] : {std::pair<int, const void*>{backends_fd_, &backend},
                                  {weights_fd_, &weight},
                                  {backend_stats_fd_, stats.data()}}) {
    const int rc = bpf_map_update_elem(fd, &backend_id, value, BPF_ANY);
    if (rc != 0) return bpf_error(rc, "forget a removed backend");
  }
  bpf::inflight& waiting = inflight_[backend_id];
  std::atomic_ref(waiting.requests).store(0, std::memory_order_relaxed);
  std::atomic_ref(waiting.limit).store(0, std::memory_order_relaxed);
  std::atomic_ref(waiting.retry_limit).store(0, std::memory_order_relaxed);
  return {};
}

void Tables::end_connection(const bpf::connection_key& key, const bpf::connection& connection) {
  if (bpf_map_delete_elem(connections_fd_, &key) != 0) return;  // somebody else did
  if ((connection.flags & bpf::CONNECTION_WAITING) != 0) {
    give_back_inflight(connection.backend_id, key.service_id);
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

void Tables::set_recording(bool recording) {
  std::atomic_ref(control_[0].recording).store(recording ? 1 : 0, std::memory_order_release);
}

void Tables::give_back_inflight(std::uint32_t backend_id, std::uint32_t service_id,
                                std::uint64_t count) {
  const auto given = static_cast<std::int64_t>(count);
  std::atomic_ref(inflight_[backend_id].requests).fetch_sub(given, std::memory_order_relaxed);
  std::atomic_ref(service_inflight_[service_id].requests)
      .fetch_sub(given, std::memory_order_relaxed);
}

std::int64_t Tables::inflight(std::uint32_t backend_id) const {
  return inflight_[backend_id].requests;
}

}  // namespace petrel
