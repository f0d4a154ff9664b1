// SPDX-License-Identifier: MIT
#include "control/peers.hpp"

#include <algorithm>

namespace petrel {
namespace {

constexpr double kClearlyBetter = 0.5;  // of one's own risk

struct Sums {
  double risk = 0;  // weighted
  double weight = 0;

  Sums& operator+=(const WeightedRisk& other) {
    risk += other.risk * other.weight;
    weight += other.weight;
    return *this;
  }
};

}  // namespace

std::vector<double> peers_risks(std::span<const WeightedRisk> backends) {
  std::vector<WeightedRisk> sorted(backends.begin(), backends.end());
  std::sort(sorted.begin(), sorted.end(), [](const WeightedRisk& left, const WeightedRisk& right) {
    return left.risk < right.risk;
  });
  // up_to[i]: of the i least risky ones.
  std::vector<Sums> up_to(sorted.size() + 1);
  for (std::size_t i = 0; i < sorted.size(); ++i) {
    up_to[i + 1] = up_to[i];
    up_to[i + 1] += sorted[i];
  }

  std::vector<double> risks;
  risks.reserve(backends.size());
  for (const WeightedRisk& self : backends) {
    // At risk 0 the entry itself would be among "at most half as risky"; nothing is better anyway.
    Sums peers;
    if (self.risk > 0) {
      const auto end = std::upper_bound(
          sorted.begin(), sorted.end(), self.risk * kClearlyBetter,
          [](double limit, const WeightedRisk& other) { return limit < other.risk; });
      peers = up_to[static_cast<std::size_t>(end - sorted.begin())];
    }
    if (peers.weight <= 0) {
      peers = up_to.back();
      peers += {self.risk, -self.weight};
    }
    // Subtraction leaves a rest of rounding where nobody else has weight.
    const bool nobody = peers.weight <= up_to.back().weight * 1e-9;
    risks.push_back(nobody ? self.risk : std::max(peers.risk / peers.weight, 0.0));
  }
  return risks;
}

}  // namespace petrel
