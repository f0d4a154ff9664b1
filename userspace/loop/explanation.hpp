// SPDX-License-Identifier: MIT
// Explanation: which features have pushed a backend's risk lately.
//
// Keeps the decayed mean of what was scored. A linear model's mean contribution is the contribution
// of the mean, so that nothing is taken apart until somebody asks.
#pragma once

#include <array>
#include <chrono>
#include <vector>

#include "score/score.hpp"

namespace petrel {

class Explanation {
 public:
  // `count` observations of the same features, as the model clamps them.
  void add(const Model& model, const FeatureVector& features, double count);

  // Forgets with a half-life of 1 s; call once a tick.
  void decay(std::chrono::nanoseconds elapsed);

  // Of the mean observation, the largest magnitude first. Empty until something was scored.
  std::vector<Contribution> pushes(const Model& model) const;
  double observations() const { return weight_; }

 private:
  std::array<double, kFeatureCount> sums_{};  // of Q16 values
  double weight_ = 0;
};

}  // namespace petrel
