// SPDX-License-Identifier: MIT
#include "maps/pinned_state.hpp"

#include <arpa/inet.h>
#include <bpf/bpf.h>

#include <algorithm>
#include <cerrno>

#include "base/unique_fd.hpp"
#include "config/address.hpp"
#include "maps/bpf_error.hpp"

namespace petrel {
namespace {

struct PinnedMap {
  UniqueFd fd;
  std::uint32_t entries = 0;
};

// An fd of -1 where there is no such pin.
template <class Key, class Value>
Result<PinnedMap> open_pinned(const std::string& pin_path, const std::string& name) {
  const std::string path = pin_path + "/" + name;
  PinnedMap map{UniqueFd(bpf_obj_get(path.c_str())), 0};
  if (!map.fd) {
    if (errno == ENOENT) return map;
    return bpf_error(-errno, "open the map pinned at " + path);
  }
  bpf_map_info info{};
  std::uint32_t bytes = sizeof(info);
  const int rc = bpf_obj_get_info_by_fd(map.fd.get(), &info, &bytes);
  if (rc != 0) return bpf_error(rc, "look at the map pinned at " + path);
  if (info.key_size != sizeof(Key) || info.value_size != sizeof(Value)) {
    return Error(ExitCode::kConflict,
                 "the map pinned at " + path + " has another layout (keys of " +
                     std::to_string(info.key_size) + " bytes, values of " +
                     std::to_string(info.value_size) + "; ours are of " +
                     std::to_string(sizeof(Key)) + " and " + std::to_string(sizeof(Value)) +
                     "): it is of another version of petrel: remove it with `petrel detach` "
                     "(established flows are then placed anew)");
  }
  map.entries = info.max_entries;
  return map;
}

Result<std::vector<PinnedService>> read_services(const std::string& pin_path) {
  auto map = open_pinned<bpf::service_key, bpf::service>(pin_path, "services");
  if (!map) return map.error();
  auto vips = open_pinned<bpf::address, bpf::vip>(pin_path, "vips");
  if (!vips) return vips.error();
  std::vector<PinnedService> services;
  if (!map->fd) return services;
  bpf::service_key key{};
  for (int rc = bpf_map_get_next_key(map->fd.get(), nullptr, &key); rc == 0;
       rc = bpf_map_get_next_key(map->fd.get(), &key, &key)) {
    PinnedService service{key, {}, ntohs(key.port_be)};
    if (bpf_map_lookup_elem(map->fd.get(), &key, &service.value) != 0) continue;  // just gone
    bpf::vip vip{};
    if (vips->fd && (service.value.flags & bpf::SERVICE_KEEP_PORT) != 0 &&
        bpf_map_lookup_elem(vips->fd.get(), &key.vip, &vip) == 0) {
      for (std::uint32_t i = 0; i < std::min<std::uint32_t>(vip.ranges, VIP_RANGES); ++i) {
        const bpf::port_range& range = vip.range[i];
        if (range.protocol == key.protocol && range.first == service.port()) {
          service.last_port = range.last;
        }
      }
    }
    services.push_back(service);
  }
  std::ranges::sort(services, {}, [](const PinnedService& s) { return s.value.service_id; });
  return services;
}

Result<std::vector<PinnedBackend>> read_backends(const std::string& pin_path) {
  auto map = open_pinned<std::uint32_t, bpf::backend>(pin_path, "backends");
  if (!map) return map.error();
  auto weights = open_pinned<std::uint32_t, bpf::weight>(pin_path, "weights");
  if (!weights) return weights.error();
  std::vector<PinnedBackend> backends;
  if (!map->fd) return backends;
  for (std::uint32_t id = 1; id < map->entries; ++id) {
    PinnedBackend backend;
    backend.id = id;
    const int rc = bpf_map_lookup_elem(map->fd.get(), &id, &backend.value);
    if (rc != 0) return bpf_error(rc, "read the backends pinned under " + pin_path);
    if (backend.value.service_id == 0) continue;
    if (weights->fd) bpf_map_lookup_elem(weights->fd.get(), &id, &backend.weight);
    backends.push_back(backend);
  }
  return backends;
}

}  // namespace

std::uint16_t PinnedService::port() const { return ntohs(key.port_be); }

KnownIds PinnedState::known() const {
  KnownIds known;
  for (const PinnedService& service : services) {
    known.services.push_back(
        {service.value.service_id, service.key.vip, service.port(), service.key.protocol});
  }
  for (const PinnedBackend& backend : backends) {
    known.backends.push_back({backend.id, backend.value.service_id, backend.value.address,
                              ntohs(backend.value.port_be), backend.leaving()});
  }
  return known;
}

const PinnedService* PinnedState::service(std::uint32_t id) const {
  const auto found = std::ranges::find_if(
      services, [&](const PinnedService& service) { return service.value.service_id == id; });
  return found == services.end() ? nullptr : &*found;
}

const PinnedBackend* PinnedState::backend(std::uint32_t id) const {
  const auto found = std::ranges::find(backends, id, &PinnedBackend::id);
  return found == backends.end() ? nullptr : &*found;
}

Result<PinnedState> read_pinned_state(const std::string& pin_path) {
  auto services = read_services(pin_path);
  if (!services) return services.error();
  auto backends = read_backends(pin_path);
  if (!backends) return backends.error();
  return PinnedState{std::move(*services), std::move(*backends)};
}

}  // namespace petrel
