// SPDX-License-Identifier: MIT
// How far the fixed-point score is from the floating-point model, over what it was trained on.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "score/model.hpp"

namespace petrel {

// Feature vectors within the trained ranges, the same ones for the same seed: the middle with one
// feature at an end, the corners of least and most log-odds and steps between them (which cross the
// steep part of the sigmoid), then as many random corners, random points and points between random
// corners as `count` leaves room for.
std::vector<FeatureVector> vectors_within_trained(const Model& model, uint64_t seed, size_t count);

// Of |fixed - float|, as probabilities.
struct ScoreError {
  size_t vectors = 0;
  double largest = 0;
  double mean = 0;
  FeatureVector worst{};  // where it is largest
};

ScoreError score_error(const Model& model, std::span<const FeatureVector> vectors);

}  // namespace petrel
