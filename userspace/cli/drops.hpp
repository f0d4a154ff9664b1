// SPDX-License-Identifier: MIT
// petrel status --drops: how packets left the balancer, by service, and what each verdict means.
#pragma once

#include <string>

namespace petrel::cli {

struct DropsOptions {
  std::string service;    // "": all of them, and packets of no service
  bool all = false;       // those that never happened too
  double interval_s = 0;  // above 0: what happened in so many seconds from now
  bool as_json = false;   // petrel/drops/v1
};

// Asks the agent behind the socket; returns the exit code.
int run_drops(const std::string& socket, const DropsOptions& options);

}  // namespace petrel::cli
