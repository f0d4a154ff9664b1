// SPDX-License-Identifier: MIT
// Rows whose probability is chosen, and the model that says it: by the first feature alone.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "score/model.hpp"
#include "score/score.hpp"
#include "telemetry/row.hpp"

namespace petrel::test {

inline constexpr std::uint64_t kSecondNs = 1'000'000'000;
inline constexpr std::uint64_t kMinuteNs = 60 * kSecondNs;

// Log-odds: `slope` times the first feature, and `bias`.
inline Model line_model(double bias, double slope = 1) {
  Model model;
  model.name = "line";
  model.bias = bias;
  for (ModelFeature& feature : model.features) {
    feature.min_q16 = -(20 << 16);
    feature.max_q16 = 20 << 16;
  }
  model.features[0].coefficient = slope;
  EXPECT_TRUE(quantize(model));
  return model;
}

// One request a row, unless told otherwise.
inline LabelledRow row_of(double probability, bool retried, std::uint64_t connection,
                          Point point = Point::kAnswer) {
  LabelledRow row;
  row.connection_id = connection;
  row.request = 1;
  row.point = point;
  row.features[0] =
      static_cast<std::int32_t>(std::lround(std::log(probability / (1 - probability)) * 65536));
  row.retried = retried;
  return row;
}

inline double uniform(std::mt19937_64& random) {
  return static_cast<double>(random() >> 11) / static_cast<double>(1ULL << 53);
}

}  // namespace petrel::test
