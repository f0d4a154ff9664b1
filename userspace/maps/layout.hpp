// SPDX-License-Identifier: MIT
// Layout: what a configuration makes of the maps that are in force: ids, rings, sizes, and who leaves.
//
// A backend that the configuration has no longer is drained: it keeps its id and its place in the
// tables until its flows have ended. So does a service, which is then one whose backends all leave.
// Pure: the pinned state comes in as values.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "base/error.hpp"
#include "config/config.hpp"
#include "maps/pinned_state.hpp"

namespace petrel {

// Where one service's rings lie.
struct RingPlace {
  std::uint32_t offset = 0;   // the ring in force
  std::uint32_t neutral = 0;  // the neutral ring
  std::uint32_t slots = 0;    // of each

  bool operator==(const RingPlace&) const = default;
};

// What the tables must at least hold.
struct MapSizes {
  std::uint32_t backends = 2;  // highest backend id + 1
  std::uint32_t services = 2;  // highest service id + 1
  std::uint32_t ring = 2;      // slots of both rings of all services
};

struct LeavingBackend {
  std::uint32_t service_id = 0;
  BackendConfig config;
  bool at_once = false;  // its place is taken: its flows cannot go on
};

struct Layout {
  Config config;                                // with its ids
  std::vector<ServiceConfig> leaving_services;  // without backends
  std::vector<LeavingBackend> leaving;
  std::map<std::uint32_t, RingPlace> places;  // by service id, leaving ones included
  MapSizes sizes;
};

// kConflict: the ids do not suffice. `config` has been checked.
Result<Layout> plan_layout(Config config, const PinnedState& pinned);

struct RingNeed {
  std::uint32_t service_id = 0;
  std::uint32_t slots = 0;
};

// A service keeps the place that it has in `in_force` when its length is the same; others get space
// that nothing in force uses: a packet may be reading it until the service's entry has changed.
std::map<std::uint32_t, RingPlace> place_rings(std::span<const RingNeed> needs,
                                               const std::map<std::uint32_t, RingPlace>& in_force);

// What a map is given, so that most reloads fit: a power of two, at least 16.
std::uint32_t with_headroom(std::uint32_t entries);

}  // namespace petrel
