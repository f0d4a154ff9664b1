// SPDX-License-Identifier: MIT
// Explanation: which features have pushed a backend's risk lately, as decayed mean log-odds.
#pragma once

#include <array>
#include <chrono>
#include <vector>

#include "score/score.hpp"

namespace petrel {

class Explanation {
 public:
  struct Push {
    Feature feature;
    double log_odds;  // mean contribution to an observation, relative to the training mean
    double value;     // mean value of the feature
  };

  // `count` observations of the same features.
  void add(const Model& model, const FeatureVector& features, double count);

  // Forgets with a half-life of 1 s; call once a tick.
  void decay(std::chrono::nanoseconds elapsed);

  // By magnitude, the largest first. Empty until something was scored.
  std::vector<Push> pushes() const;
  double observations() const { return weight_; }

 private:
  std::array<double, kFeatureCount> log_odds_{};
  std::array<double, kFeatureCount> values_{};
  double weight_ = 0;
};

}  // namespace petrel
