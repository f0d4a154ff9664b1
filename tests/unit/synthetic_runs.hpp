// SPDX-License-Identifier: MIT
// Runs of rows whose true model is known.
#pragma once

#include <array>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "bpf/fixed_point.h"
#include "telemetry/row.hpp"

namespace petrel {

inline constexpr double kTrueBias = -2;
inline constexpr std::array<double, 4> kTrueCoefficients = {1.5, -1, 0.5, 0};

using Runs = std::vector<Run>;  // in a test's body, Run is GoogleTest's own

// Uniform on [0, 1) from a generator whose sequence the standard fixes, unlike its distributions.
inline double uniform(std::mt19937_64& random) {
  return static_cast<double>(random() >> 11) / static_cast<double>(1ULL << 53);
}

// Runs of rows with 4 features that vary in [0, 4), the rest constant, labelled by the true model.
inline Runs synthetic_runs(size_t runs, size_t rows_per_run, uint64_t seed) {
  std::mt19937_64 random(seed);
  Runs result;
  for (size_t r = 0; r < runs; r++) {
    Run run{"run-" + std::to_string(r), {}};
    for (size_t i = 0; i < rows_per_run; i++) {
      LabelledRow row;
      row.elapsed_ns = random() % 1000;
      row.point = static_cast<Point>(random() % kPointCount);
      double log_odds = kTrueBias;
      for (size_t f = 0; f < kTrueCoefficients.size(); f++) {
        row.features[f] = static_cast<int32_t>(random() % (4 * Q16_ONE));
        log_odds += kTrueCoefficients[f] * row.features[f] / Q16_ONE;
      }
      row.features[10] = 7;
      row.retried = uniform(random) < 1 / (1 + std::exp(-log_odds));
      run.rows.push_back(row);
    }
    result.push_back(std::move(run));
  }
  return result;
}

}  // namespace petrel
