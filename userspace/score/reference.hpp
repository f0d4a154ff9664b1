// SPDX-License-Identifier: MIT
// FeatureReference: how a feature was distributed at one decision point of the training rows, for
// drift to be measured against (PSI).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "features/features.hpp"

namespace petrel {

inline constexpr size_t kMostReferenceEdges = 9;  // deciles

struct FeatureReference {
  size_t feature = 0;
  Point point = Point::kEnd;
  std::vector<int32_t> edges_q16;  // ascending, no two alike; 1 to kMostReferenceEdges
  std::vector<double> shares;      // of the rows in each bin: one more than edges, their sum is 1

  bool operator==(const FeatureReference&) const = default;
};

// The bin of a value: how many edges are below it. A value at an edge is in the bin under it.
size_t reference_bin(const FeatureReference& reference, int32_t value_q16);

// By deciles of `values`, which are put in order. No bin is empty: where many values are alike there
// are fewer. None at all (no edges) where all values are.
FeatureReference make_reference(size_t feature, Point point, std::vector<int32_t>& values);

}  // namespace petrel
