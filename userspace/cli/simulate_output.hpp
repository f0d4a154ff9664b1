// SPDX-License-Identifier: MIT
// What petrel simulate says: tables with stable columns, and JSON as shared by all that measures.
#pragma once

#include <boost/json.hpp>
#include <string>
#include <vector>

#include "simulate/comparison.hpp"

namespace petrel::cli {

struct SimulatedRun {
  simulate::Scenario scenario;
  std::string policy;
  std::uint64_t seed = 1;
  simulate::Outcome outcome;
  std::vector<simulate::Second> seconds;
};

std::string catalogue_text();
boost::json::object catalogue_json();

std::string outcomes_heading();
std::string outcome_line(const SimulatedRun& run);
// The same bytes for the same run: no clock, no host.
boost::json::object run_json(const SimulatedRun& run);

std::string cells_heading();
std::string cell_lines(const simulate::Cell& cell);  // medians, then the ends of their intervals
boost::json::object cells_json(const std::vector<simulate::Cell>& cells, std::uint64_t seed,
                               const std::string& command);

}  // namespace petrel::cli
