// SPDX-License-Identifier: MIT
// Plan: which features follow from what is given of a request, and which are to take the median.
//
// Found by trying: quantities that are not given are varied, and features that change hang on them.
// So no list of dependencies has to follow a change of compute(). It is the same for all requests
// of which the same is given at the same moment; a Planner keeps them.
#pragma once

#include <cstdint>
#include <unordered_map>

#include "predict/request.hpp"

namespace petrel {

// Bits of features by their index, of quantities by theirs.
struct Plan {
  Moment moment;
  std::uint64_t unknown_features = 0;    // hang on something that is not given
  std::uint64_t idle_quantities = 0;     // given, but no feature that is known hangs on them
  std::uint64_t assumed_quantities = 0;  // not given; features that are known hang on them
};

class Planner {
 public:
  const Plan& plan(const Moment& moment, std::uint64_t given);

 private:
  std::unordered_map<std::uint64_t, Plan> plans_;
  std::uint64_t last_key_ = 0;
  const Plan* last_ = nullptr;
};

Plan make_plan(const Moment& moment, std::uint64_t given);

// Quantities on which any feature hangs at any moment.
std::uint64_t used_quantities();

}  // namespace petrel
