// SPDX-License-Identifier: MIT
// Harms: services whose learned weights were found to do harm, kept in agent.state_dir as harms.json, so
// that an agent that is started again does not act where the one before it did harm. Times are of the day
// (CLOCK_REALTIME), so that they outlast the host's restart.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"

namespace petrel {

struct Harm {
  std::string service;
  std::int64_t until_ns = 0;  // configured weights until then; what is over counts for the next time
  std::uint64_t rest_ns = 0;  // how long that was
  std::uint64_t found = 0;    // how often, ever

  friend bool operator==(const Harm&, const Harm&) = default;
};

std::string harms_text(std::span<const Harm> harms);
// `name` stands for the file in errors.
Result<std::vector<Harm>> parse_harms(std::string_view text, const std::string& name);
// No file: none.
Result<std::vector<Harm>> read_harms(const std::string& path);

}  // namespace petrel
