// SPDX-License-Identifier: MIT
// What a backend's risk is compared with. Internal to control/.
#pragma once

#include <span>
#include <vector>

namespace petrel {

struct WeightedRisk {
  double risk = 0;    // 0 to 1
  double weight = 0;  // how much traffic it would take, in any unit; 0: none
};

// For each entry the mean risk, by weight, of the others that are at most half as risky. Several
// backends that fail together (a rack, a bad release) so do not excuse each other, while the
// healthy ones are there to take their traffic. Where none is that much better: of all others.
// Where no other has weight: the entry's own risk, for there is nowhere to move to.
// O(n log n).
std::vector<double> peers_risks(std::span<const WeightedRisk> backends);

}  // namespace petrel
