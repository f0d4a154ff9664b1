// SPDX-License-Identifier: MIT
// Names: the agent's answer to a request for a tap: where the maps are, and what ids mean.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>

#include "base/error.hpp"

namespace petrel::tap {

struct BackendName {
  std::string name;
  std::string service;
};

struct Names {
  std::string pin_path;
  std::map<std::uint32_t, std::string> services;  // by id
  std::map<std::uint32_t, BackendName> backends;  // by id

  // From the stream's first line: {"schema":"petrel/tap/v1","pin_path":..,"services":[..],..}.
  static Result<Names> parse(std::string_view line);

  // "" for id 0; "#7" for an id that came into force after the tap did.
  std::string service(std::uint32_t id) const;
  std::string backend(std::uint32_t id) const;

  // Those of the name; an error that names the ones there are, when there is none. A backend's name
  // is its service's own: `service` narrows it, unless "".
  Result<std::set<std::uint32_t>> service_ids(std::string_view name) const;
  Result<std::set<std::uint32_t>> backend_ids(std::string_view name,
                                              std::string_view service) const;
};

}  // namespace petrel::tap
