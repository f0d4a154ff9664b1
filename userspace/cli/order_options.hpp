// SPDX-License-Identifier: MIT
// What every order by hand takes: for how long, why, and who gives it.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "base/error.hpp"

namespace petrel::cli {

// Who it was before sudo, else the user's name, else "uid N". What a process says of itself: the agent
// notes beside it the uid that the kernel says.
std::string who();

struct OrderOptions {
  std::string lasts;   // "10m", or "forever"
  std::string reason;

  // `otherwise`: how long without --for.
  void add(CLI::App& command, const std::string& otherwise);
  // "&for_s=600&reason=...&by=...", for the API. kUsage where --for is no duration.
  Result<std::string> query() const;
};

}  // namespace petrel::cli
