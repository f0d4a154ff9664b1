// SPDX-License-Identifier: MIT
// Comparison: live and shadow on the same rows, and how far their differences could be chance.
//
// Intervals are 95 %, by a bootstrap over the window's parts: whole minutes are drawn again, never
// rows, for the rows of a minute share its trouble.
#pragma once

#include <array>

#include "trainer/bootstrap.hpp"
#include "watch/model_watch.hpp"

namespace petrel {

// The shadow's less the live one's.
struct WatchDifferences {
  Estimate auc;
  Estimate log_loss;
  Estimate brier;
  Estimate ece;
};

struct WatchCompared {
  WatchMeasures live;
  WatchMeasures shadow;
  WatchDifferences differences;
};

struct Comparison {
  std::size_t parts = 0;  // of the window, with rows that both have scored
  WatchCompared all;
  std::array<WatchCompared, kPointCount> points;
};

// Takes some 10 ms.
Comparison compare(const ModelWatch& watch, std::size_t resamples = 200, std::uint64_t seed = 1);

// Why the shadow should not become the live model; "" where nothing speaks against it.
std::string objection(const Comparison& comparison, double ece_limit);

}  // namespace petrel
