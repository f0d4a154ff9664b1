// SPDX-License-Identifier: MIT
// Mutator: makes of a well-formed frame one that a hostile or broken sender would send.
#pragma once

#include <deque>

#include "tests/fuzz/rng.hpp"
#include "tests/fuzz/view.hpp"

namespace petrel::fuzz {

class Mutator {
 public:
  explicit Mutator(std::uint64_t seed) : rng_(seed) {}

  // Two of three frames stay as they are, so that there are flows for the others to disturb.
  void mutate(Frame& frame);

 private:
  void change(Frame& frame);
  void change_header(Frame& frame);
  void change_length(Frame& frame);
  void splice(Frame& frame);

  Rng rng_;
  std::deque<Frame> seen_;
};

}  // namespace petrel::fuzz
