// SPDX-License-Identifier: MIT
#include "cli/check_diff.hpp"

#include <iostream>

#include "cli/verbs.hpp"
#include "inspect/diff_report.hpp"

namespace petrel::cli {

int run_check_diff(const std::string& config_path, bool as_json) {
  const ConfigResult config = load_config(config_path);
  if (!config) return fail(config.error().error());
  const auto snapshot = inspect::Snapshot::open(config->agent.pin_path);
  if (!snapshot) return fail(snapshot.error());
  const auto connections = inspect::count_connections(*snapshot);
  if (!connections) return fail(connections.error());
  const auto diff = inspect::compare(*snapshot, *config, *connections);
  if (!diff) return fail(diff.error());
  if (as_json) {
    std::cout << inspect::diff_json(*diff) << '\n';
  } else {
    std::cout << inspect::diff_text(*diff);
  }
  return static_cast<int>(diff->empty() ? ExitCode::kGood : ExitCode::kWarnings);
}

}  // namespace petrel::cli
