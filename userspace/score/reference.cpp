// SPDX-License-Identifier: MIT
#include "score/reference.hpp"

#include <algorithm>

#include "score/model.hpp"

namespace petrel {

size_t reference_bin(const FeatureReference& reference, int32_t value_q16) {
  const auto& edges = reference.edges_q16;
  return static_cast<size_t>(std::lower_bound(edges.begin(), edges.end(), value_q16) -
                             edges.begin());
}

FeatureReference make_reference(size_t feature, Point point, std::vector<int32_t>& values) {
  FeatureReference reference{feature, point, {}, {}};
  std::sort(values.begin(), values.end());
  if (values.empty() || values.front() == values.back()) return reference;
  const size_t count = values.size();
  auto& edges = reference.edges_q16;
  for (size_t tenth = 1; tenth <= kMostReferenceEdges; tenth++) {
    int32_t edge = values[(count - 1) * tenth / (kMostReferenceEdges + 1)];
    // Above the largest value there would be an empty bin: the edge is the value before it.
    if (edge == values.back()) {
      edge = *(std::lower_bound(values.begin(), values.end(), edge) - 1);
    }
    if (edges.empty() || edges.back() < edge) edges.push_back(edge);
  }
  std::vector<size_t> counts(edges.size() + 1);
  for (const int32_t value : values) counts[reference_bin(reference, value)]++;
  for (const size_t each : counts) {
    const double share = static_cast<double>(each) / static_cast<double>(count);
    reference.shares.push_back(round_to_file_digits(share));
  }
  return reference;
}

}  // namespace petrel
