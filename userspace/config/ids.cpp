// SPDX-License-Identifier: MIT
#include "config/ids.hpp"

#include <algorithm>
#include <iterator>
#include <map>
#include <string>
#include <tuple>

namespace petrel {
namespace {

// Ids from 1 to below `limit`, the length of the map: 0 means "unset".
class IdPool {
 public:
  explicit IdPool(std::uint32_t limit) : taken_(limit, false) { taken_[0] = true; }

  bool holds(std::uint32_t id) const { return id > 0 && id < taken_.size(); }
  void take(std::uint32_t id) {
    if (holds(id)) taken_[id] = true;
  }
  std::size_t free() const { return std::count(taken_.begin(), taken_.end(), false); }

  // free() is above 0.
  std::uint32_t take_lowest() {
    // Nothing is given back: what was looked at stays taken.
    while (taken_[next_]) ++next_;
    taken_[next_] = true;
    return next_;
  }

 private:
  std::vector<bool> taken_;
  std::uint32_t next_ = 1;
};

// Of a service: protocol for `owner`. Of a backend: the service's id.
struct Place {
  std::uint32_t owner;
  bpf::address address;
  std::uint16_t port;

  bool operator<(const Place& other) const {
    if (std::tie(owner, port) != std::tie(other.owner, other.port)) {
      return std::tie(owner, port) < std::tie(other.owner, other.port);
    }
    return std::lexicographical_compare(std::begin(address.bytes), std::end(address.bytes),
                                        std::begin(other.address.bytes),
                                        std::end(other.address.bytes));
  }
};
using IdsByPlace = std::map<Place, std::uint32_t>;

Place place_of(const ServiceConfig& service) {
  return {service.protocol, service.address, service.port};
}

Place place_of(const BackendConfig& backend, const ServiceConfig& service) {
  return {service.id, backend.address, backend.port};
}

// 0: none is known.
std::uint32_t known_id(const IdsByPlace& known, const Place& place) {
  const auto found = known.find(place);
  return found == known.end() ? 0 : found->second;
}

// Gives the rest of `items` (those whose id is still 0) their ids.
template <class Item>
Result<void> number_new(const std::vector<Item*>& items, IdPool& ids, const std::string& what,
                        std::size_t gone) {
  const auto fresh =
      std::count_if(items.begin(), items.end(), [](const Item* item) { return item->id == 0; });
  if (static_cast<std::size_t>(fresh) > ids.free()) {
    return Error(ExitCode::kConflict,
                 "too few " + what + " ids: " + std::to_string(fresh) + " needed, " +
                     std::to_string(ids.free()) + " free, " + std::to_string(gone) +
                     " kept for removed ones; try again once their flows have ended, or add fewer "
                     "at once");
  }
  for (Item* item : items) {
    if (item->id == 0) item->id = ids.take_lowest();
  }
  return {};
}

Result<void> number_services(std::vector<ServiceConfig>& services, const KnownIds& known) {
  IdPool ids(MAX_SERVICES);
  IdsByPlace kept;
  for (const KnownService& service : known.services) {
    ids.take(service.id);
    if (!ids.holds(service.id)) continue;
    kept.emplace(Place{service.protocol, service.address, service.port}, service.id);
  }
  // A removed service may have left backends whose flows name it.
  for (const KnownBackend& backend : known.backends) ids.take(backend.service_id);

  const std::size_t free_before = ids.free();
  std::vector<ServiceConfig*> all;
  std::size_t matched = 0;
  for (ServiceConfig& service : services) {
    service.id = known_id(kept, place_of(service));
    if (service.id != 0) ++matched;
    all.push_back(&service);
  }
  return number_new(all, ids, "service", MAX_SERVICES - 1 - free_before - matched);
}

Result<void> number_backends(std::vector<ServiceConfig>& services, const KnownIds& known) {
  IdPool ids(MAX_BACKENDS);
  IdsByPlace kept;
  for (const KnownBackend& backend : known.backends) {
    ids.take(backend.id);
    if (!ids.holds(backend.id)) continue;
    const Place place{backend.service_id, backend.address, backend.port};
    const auto [entry, fresh] = kept.emplace(place, backend.id);
    // Twice in the maps: the one that still takes flows.
    if (!fresh && !backend.leaving) entry->second = backend.id;
  }
  const std::size_t free_before = ids.free();
  std::vector<BackendConfig*> all;
  std::size_t matched = 0;
  for (ServiceConfig& service : services) {
    for (BackendConfig& backend : service.backends) {
      backend.id = known_id(kept, place_of(backend, service));
      if (backend.id != 0) ++matched;
      all.push_back(&backend);
    }
  }
  return number_new(all, ids, "backend", MAX_BACKENDS - 1 - free_before - matched);
}

}  // namespace

Result<void> assign_ids(Config& config, const KnownIds& known) {
  std::vector<ServiceConfig> services = config.services;
  if (Result<void> numbered = number_services(services, known); !numbered) return numbered;
  if (Result<void> numbered = number_backends(services, known); !numbered) return numbered;
  config.services = std::move(services);
  return {};
}

std::vector<KnownBackend> removed_backends(const Config& config, const KnownIds& known) {
  std::vector<bool> present(MAX_BACKENDS, false);
  for (const ServiceConfig& service : config.services) {
    for (const BackendConfig& backend : service.backends) present.at(backend.id) = true;
  }
  std::vector<KnownBackend> removed;
  std::copy_if(known.backends.begin(), known.backends.end(), std::back_inserter(removed),
               [&](const KnownBackend& backend) {
                 return backend.id >= present.size() || !present[backend.id];
               });
  return removed;
}

}  // namespace petrel
