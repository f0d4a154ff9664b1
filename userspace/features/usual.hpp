// SPDX-License-Identifier: MIT
// Usual: what a quantity usually is, told robustly and slowly.
//
// Begins at a prior, learns quickly from its first samples, then follows with a time constant of
// 30 s, each sample pulling by at most one unit (one octave of a logarithm): a 10 s incident
// moves it by a third of an octave at most, however bad it is. Integer Q16 throughout.
#pragma once

#include <cstdint>
#include <string>

namespace petrel {

class Usual {
 public:
  // The prior counts as some samples, so that the first one does not decide alone.
  explicit Usual(int32_t prior_q16) : value_q16_(prior_q16), prior_samples_(kPriorSamples) {}
  Usual() : value_q16_(0), prior_samples_(0) {}  // begins at its first sample

  void add(int32_t sample_q16);

  // Takes in what was added since the last tick, elapsed_ns ago.
  void tick(uint64_t elapsed_ns);

  int32_t value_q16() const { return value_q16_; }
  bool is_known() const { return learned_ >= kKnownSamples; }  // no longer the prior's

  // All of it, for base/state.hpp; `name` tells several of one owner apart.
  template <class Fields>
  void archive(Fields& fields, const std::string& name) {
    fields(name + "_value_q16", value_q16_);
    fields(name + "_learned", learned_);
    fields(name + "_pull_q16", pull_q16_);
    fields(name + "_pulls", pulls_);
  }

 private:
  static constexpr uint32_t kKnownSamples = 8;
  static constexpr uint32_t kPriorSamples = 3;

  int32_t value_q16_;
  uint32_t prior_samples_;
  uint32_t learned_ = 0;  // samples, up to the number after which it is slow
  int64_t pull_q16_ = 0;  // summed over the samples since the last tick, each bounded
  uint32_t pulls_ = 0;
};

}  // namespace petrel
