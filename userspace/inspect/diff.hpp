// SPDX-License-Identifier: MIT
// What a configuration would change of a running petrel, as its pinned maps tell of it.
//
// Only what is in the maps can differ: names of services, zones, the ratio of a budget and the
// law's settings are the agent's own (`petrel reload` tells of those).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/error.hpp"
#include "config/config.hpp"
#include "inspect/snapshot.hpp"

namespace petrel::inspect {

enum class Change : std::uint8_t { kSame, kAdded, kRemoved, kChanged };

struct FieldChange {
  std::string field;
  std::string from;
  std::string to;
  std::string note;  // "": none
};

struct BackendChange {
  Change change = Change::kSame;
  std::string name;
  std::string address;
  std::vector<FieldChange> fields;
  std::uint64_t connections = 0;  // established on it
  std::string fate;               // what becomes of them; "": they stay
};

// The part of a service's new connections that would go elsewhere: 0 to 1.
struct RingMove {
  std::uint32_t slots_before = 0;
  std::uint32_t slots_after = 0;
  double share = 0;          // from what serves now to what the reload puts in force
  double from_in_force = 0;  // from the ring in force to the new neutral ring
  double from_neutral = 0;   // from the neutral ring to the new one
};

struct ServiceChange {
  Change change = Change::kSame;
  std::string name;
  std::string address;
  std::string protocol;
  std::vector<FieldChange> fields;
  std::vector<BackendChange> backends;  // those that change
  std::optional<RingMove> ring;         // of a service that was there and stays
};

struct Diff {
  std::vector<FieldChange> agent;
  std::vector<ServiceChange> services;  // those that change, in the configuration's order
  std::uint64_t connections = 0;        // established now
  std::uint64_t leaving = 0;            // of these: on backends that would go or drain

  bool empty() const { return agent.empty() && services.empty(); }
};

// Established connections by backend id.
using ConnectionCounts = std::unordered_map<std::uint32_t, std::uint64_t>;
Result<ConnectionCounts> count_connections(const Snapshot& snapshot);

// kConflict: the ids do not suffice for it.
Result<Diff> compare(const Snapshot& snapshot, const Config& config,
                     const ConnectionCounts& connections);

// The interfaces that carry our program, as their pins name them (a dot is an underscore).
std::vector<std::string> pinned_interfaces(const std::string& pin_path);

// "added", "removed", "changed", "same".
std::string_view change_name(Change change);

}  // namespace petrel::inspect
