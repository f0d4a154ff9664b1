// SPDX-License-Identifier: MIT
#include "maps/route_cache.hpp"

#include <bpf/bpf.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "maps/bpf_error.hpp"

namespace petrel {
namespace {

bool same(const bpf::route& left, const bpf::route& right) {
  return std::memcmp(&left, &right, sizeof(left)) == 0;
}

using Entry = RouteEntries::value_type;

// Longest prefixes first: what answers for a part is there before what answers for the rest.
std::vector<const Entry*> most_specific_first(std::vector<const Entry*> entries) {
  std::stable_sort(entries.begin(), entries.end(), [](const Entry* left, const Entry* right) {
    return left->first.prefix_bits > right->first.prefix_bits;
  });
  return entries;
}

void tell_family(const char* name, FamilyState before, FamilyState now) {
  if (before == now) return;
  switch (now) {
    case FamilyState::kCached:
      spdlog::info("{} routes are cached", name);
      break;
    case FamilyState::kAbsent:
      break;
    case FamilyState::kRules:
      spdlog::warn(
          "{} routes are not cached: there are policy rules other than the default ones "
          "(`ip rule`): the kernel is asked for each flow",
          name);
      break;
    case FamilyState::kTooMany:
      spdlog::warn(
          "{} routes are not cached: they are more than the map `routes` holds: the "
          "kernel is asked for each flow",
          name);
      break;
  }
}

}  // namespace

Result<RouteCache> RouteCache::open(int map_fd) {
  bpf_map_info info{};
  __u32 info_bytes = sizeof(info);
  if (const int rc = bpf_obj_get_info_by_fd(map_fd, &info, &info_bytes); rc < 0) {
    return bpf_error(rc, "read the map routes' size");
  }
  auto socket = netlink::connect();
  if (!socket) return socket.error();
  RouteCache cache(map_fd, info.max_entries, std::move(*socket));
  if (auto read = cache.read_map(); !read) return read.error();
  return cache;
}

Result<void> RouteCache::read_map() {
  bpf::route_key key{};
  const bpf::route_key* previous = nullptr;
  written_.clear();
  while (bpf_map_get_next_key(map_fd_, previous, &key) == 0) {
    bpf::route route{};
    if (const int rc = bpf_map_lookup_elem(map_fd_, &key, &route); rc < 0) {
      return bpf_error(rc, "read the map routes");
    }
    previous = &written_.insert_or_assign(key, route).first->first;
  }
  return {};
}

Result<bool> RouteCache::sync() {
  auto tables = read_kernel_tables(most_entries_);
  if (!tables) return tables.error();
  const WantedRoutes wanted = wanted_routes(*tables, most_entries_);
  tell(wanted);
  for (const auto& gateway : wanted.to_probe) {
    netlink::probe_neighbour(socket_.get(), gateway.ifindex, gateway.address);
  }
  return write(wanted.entries);
}

void RouteCache::tell(const WantedRoutes& wanted) {
  tell_family("IPv4", std::exchange(v4_, wanted.v4), wanted.v4);
  tell_family("IPv6", std::exchange(v6_, wanted.v6), wanted.v6);
  if (wanted.hosts_left_out > 0) {
    spdlog::debug("{} neighbours have no room in the map routes", wanted.hosts_left_out);
  }
}

Result<bool> RouteCache::write(const RouteEntries& wanted) {
  const bool differs =
      !std::equal(wanted.begin(), wanted.end(), written_.begin(), written_.end(),
                  [](const Entry& left, const Entry& right) {
                    return std::memcmp(&left.first, &right.first, sizeof(left.first)) == 0 &&
                           same(left.second, right.second);
                  });
  if (!differs) return false;
  Result<void> put = put_missing(wanted);
  if (!put && put.error().code() == std::errc::no_space_on_device) {
    // New and old together do not fit: start from nothing, which answers no one wrongly.
    if (auto removed = remove_others({}); !removed) return removed.error();
    put = put_missing(wanted);
  }
  if (!put) return put.error();
  if (auto removed = remove_others(wanted); !removed) return removed.error();
  return true;
}

Result<void> RouteCache::put_missing(const RouteEntries& wanted) {
  std::vector<const Entry*> missing;
  for (const Entry& entry : wanted) {
    const auto found = written_.find(entry.first);
    if (found == written_.end() || !same(found->second, entry.second)) missing.push_back(&entry);
  }
  for (const Entry* entry : most_specific_first(std::move(missing))) {
    const int rc = bpf_map_update_elem(map_fd_, &entry->first, &entry->second, BPF_ANY);
    if (rc < 0) return bpf_error(rc, "write the map routes");
    written_[entry->first] = entry->second;
  }
  return {};
}

Result<void> RouteCache::remove_others(const RouteEntries& wanted) {
  std::vector<const Entry*> others;
  for (const Entry& entry : written_) {
    if (!wanted.contains(entry.first)) others.push_back(&entry);
  }
  others = most_specific_first(std::move(others));
  for (auto entry = others.rbegin(); entry != others.rend(); ++entry) {
    const bpf::route_key key = (*entry)->first;
    const int rc = bpf_map_delete_elem(map_fd_, &key);
    if (rc < 0 && rc != -ENOENT) return bpf_error(rc, "delete from the map routes");
    written_.erase(key);
  }
  return {};
}

}  // namespace petrel
