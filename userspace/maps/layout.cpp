// SPDX-License-Identifier: MIT
#include "maps/layout.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "config/address.hpp"
#include "ring/ring.hpp"

namespace petrel {
namespace {

constexpr std::uint32_t kLeastEntries = 16;

// As far as the maps tell: what matters to flows that end.
ServiceConfig service_of(const PinnedService& pinned) {
  ServiceConfig service;
  service.id = pinned.value.service_id;
  service.name = "removed-" + std::to_string(service.id);
  service.address = pinned.key.vip;
  service.port = pinned.port();
  service.last_port = pinned.last_port;
  service.protocol = pinned.key.protocol;
  const std::uint32_t flags = pinned.value.flags;
  service.mode = (flags & bpf::SERVICE_ACT) != 0 ? ServiceMode::kAct : ServiceMode::kNeutral;
  if ((flags & bpf::SERVICE_AT_CLIENT) != 0) service.placement = Placement::kClient;
  if ((flags & bpf::SERVICE_AT_BACKEND) != 0) service.placement = Placement::kBackend;
  if ((flags & bpf::SERVICE_DSR) != 0) service.forward = Forward::kDsr;
  if ((flags & bpf::SERVICE_AFFINITY) != 0) service.affinity = Affinity::kClient;
  if ((flags & bpf::SERVICE_RESET_GONE) == 0) service.on_removal = RemovalPolicy::kMove;
  return service;
}

BackendConfig backend_of(const PinnedBackend& pinned) {
  BackendConfig backend;
  backend.id = pinned.id;
  backend.name = std::string(pinned.weight.backend,
                             strnlen(pinned.weight.backend, sizeof(pinned.weight.backend)));
  backend.address = pinned.value.address;
  backend.port = ntohs(pinned.value.port_be);
  backend.weight = pinned.weight.base_weight;
  return backend;
}

// nullptr: none has the id.
const ServiceConfig* find_service(std::span<const ServiceConfig> services, std::uint32_t id) {
  const auto found = std::ranges::find(services, id, &ServiceConfig::id);
  return found == services.end() ? nullptr : &*found;
}

// Its packets are another service's from now on.
bool is_taken(const Config& config, const ServiceConfig& gone) {
  return std::ranges::any_of(config.services, [&](const ServiceConfig& service) {
    return service.protocol == gone.protocol && service.port <= gone.last_port &&
           gone.port <= service.last_port && same_address(service.address, gone.address);
  });
}

// What comes back from its endpoint is another backend's from now on.
bool is_taken(const Config& config, const ServiceConfig& owner, const BackendConfig& gone) {
  if (owner.forward == Forward::kDsr) return false;  // nothing comes back
  return std::ranges::any_of(config.services, [&](const ServiceConfig& service) {
    return service.forward == Forward::kNat && service.protocol == owner.protocol &&
           std::ranges::any_of(service.backends, [&](const BackendConfig& backend) {
             return backend.id != gone.id && backend.port == gone.port &&
                    same_address(backend.address, gone.address);
           });
  });
}

std::map<std::uint32_t, RingPlace> places_of(const PinnedState& pinned) {
  std::map<std::uint32_t, RingPlace> places;
  for (const PinnedService& service : pinned.services) {
    places[service.value.service_id] = {service.value.ring_offset, service.value.neutral_offset,
                                        service.value.slots};
  }
  return places;
}

MapSizes sizes_of(const Layout& layout) {
  MapSizes sizes;
  for (const ServiceConfig& service : layout.config.services) {
    sizes.services = std::max(sizes.services, service.id + 1);
    for (const BackendConfig& backend : service.backends) {
      sizes.backends = std::max(sizes.backends, backend.id + 1);
    }
  }
  for (const ServiceConfig& service : layout.leaving_services) {
    sizes.services = std::max(sizes.services, service.id + 1);
  }
  for (const LeavingBackend& backend : layout.leaving) {
    sizes.services = std::max(sizes.services, backend.service_id + 1);
    sizes.backends = std::max(sizes.backends, backend.config.id + 1);
  }
  for (const auto& [id, place] : layout.places) {
    sizes.ring = std::max({sizes.ring, place.offset + place.slots, place.neutral + place.slots});
  }
  return sizes;
}

// The lowest gap of so many slots.
std::uint32_t find_gap(std::vector<std::pair<std::uint32_t, std::uint32_t>>& used,
                       std::uint32_t slots) {
  std::ranges::sort(used);
  std::uint32_t begin = 0;
  for (const auto& [first, end] : used) {
    if (first >= begin && first - begin >= slots) break;
    begin = std::max(begin, end);
  }
  used.emplace_back(begin, begin + slots);
  return begin;
}

}  // namespace

std::map<std::uint32_t, RingPlace> place_rings(
    std::span<const RingNeed> needs, const std::map<std::uint32_t, RingPlace>& in_force) {
  std::vector<std::pair<std::uint32_t, std::uint32_t>> used;
  for (const auto& [id, place] : in_force) {
    used.emplace_back(place.offset, place.offset + place.slots);
    used.emplace_back(place.neutral, place.neutral + place.slots);
  }
  std::map<std::uint32_t, RingPlace> places;
  for (const RingNeed& need : needs) {
    const auto had = in_force.find(need.service_id);
    if (had != in_force.end() && had->second.slots == need.slots) {
      places[need.service_id] = had->second;
      continue;
    }
    const std::uint32_t offset = find_gap(used, 2 * need.slots);
    places[need.service_id] = {offset, offset + need.slots, need.slots};
  }
  return places;
}

Result<Layout> plan_layout(Config config, const PinnedState& pinned) {
  Layout layout;
  layout.config = std::move(config);
  const KnownIds known = pinned.known();
  if (auto assigned = assign_ids(layout.config, known); !assigned) return assigned.error();

  std::vector<RingNeed> needs;
  for (const ServiceConfig& service : layout.config.services) {
    needs.push_back({service.id, ring_slots(service.backends.size())});
  }
  for (const PinnedService& service : pinned.services) {
    if (find_service(layout.config.services, service.value.service_id) != nullptr) continue;
    ServiceConfig gone = service_of(service);
    if (is_taken(layout.config, gone)) continue;
    needs.push_back({gone.id, service.value.slots});  // the place that it has
    layout.leaving_services.push_back(std::move(gone));
  }
  for (const KnownBackend& removed : removed_backends(layout.config, known)) {
    LeavingBackend leaving{removed.service_id, backend_of(*pinned.backend(removed.id)), false};
    const ServiceConfig* owner = find_service(layout.config.services, removed.service_id);
    if (owner == nullptr) owner = find_service(layout.leaving_services, removed.service_id);
    leaving.at_once = owner == nullptr || is_taken(layout.config, *owner, leaving.config);
    layout.leaving.push_back(std::move(leaving));
  }
  layout.places = place_rings(needs, places_of(pinned));
  layout.sizes = sizes_of(layout);
  return layout;
}

std::uint32_t with_headroom(std::uint32_t entries) {
  return std::bit_ceil(std::max(entries, kLeastEntries));
}

}  // namespace petrel
