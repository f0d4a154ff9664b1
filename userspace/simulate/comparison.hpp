// SPDX-License-Identifier: MIT
// Comparison: figures of several seeds of one scenario under one policy, and their intervals.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "simulate/simulation.hpp"

namespace petrel::simulate {

// One figure of an Outcome, by the name that it has in JSON.
struct Figure {
  std::string_view name;
  std::optional<double> (*of)(const Outcome& outcome);
};
std::span<const Figure> figures();

// Over seeds. A run without the figure (it never recovered) counts as one where it is larger than
// in any other, so that a median or bound may have no value.
struct SeedEstimate {
  std::optional<double> median, low, high;  // low, high: 95 %, by bootstrap over the seeds
  std::optional<double> mean;               // of the runs that have the figure
  std::size_t missing = 0;                  // runs that have not
};
SeedEstimate estimate(std::span<const std::optional<double>> by_seed);
SeedEstimate estimate(const Figure& figure, std::span<const Outcome> by_seed);

struct Cell {
  std::string scenario;
  std::string policy;
  std::vector<Outcome> outcomes;  // by seed
};

// The longest cause, in seconds, from which the service recovers by itself, by bisection.
struct Boundary {
  double recovers_s = 0;               // 0: not even from the shortest that was tried
  std::optional<double> fails_from_s;  // nothing: it recovers from the longest that was tried
};
struct BoundarySearch {
  double shortest_s = 0.5;
  double longest_s = 64;
  double grain_s = 0.5;
};
Boundary find_boundary(const Scenario& scenario, const std::function<Outcome(const Scenario&)>& run,
                       BoundarySearch search);

}  // namespace petrel::simulate
