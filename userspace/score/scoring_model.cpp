// SPDX-License-Identifier: MIT
// From a model's file form, a mantissa and a shift for each coefficient, to one scale for all.
#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "score/score.hpp"

namespace petrel {
namespace {

// Sums stay below 2^61, so that neither they nor what is added to round them reach the sign.
constexpr int kSumBits = 61;

int64_t distance(int64_t left, int64_t right) { return std::abs(left - right); }

// The most that any sum of clamped features can be, in units of Q16, and each part of it.
double reach(const Model& model) {
  double most = 1 + std::abs(static_cast<double>(model.bias_q16));
  for (size_t i = 0; i < kFeatureCount; i++) {
    const ModelFeature& feature = model.features[i];
    const bpf::model_coefficient& weight = model.coefficients[i];
    const int64_t furthest = std::max({distance(feature.min_q16, 0), distance(feature.max_q16, 0),
                                       distance(feature.max_q16, feature.min_q16)});
    most += std::ldexp(std::abs(static_cast<double>(weight.mantissa)),
                       -static_cast<int>(weight.shift)) *
            static_cast<double>(furthest);
  }
  return most;
}

// mantissa / 2^shift, << to_shift. Exact unless to_shift is the smaller: then rounded, halves up.
int64_t rescale(const bpf::model_coefficient& weight, uint32_t to_shift) {
  const int64_t mantissa = weight.mantissa;
  if (to_shift >= weight.shift) return mantissa << (to_shift - weight.shift);
  return ((mantissa >> (weight.shift - to_shift - 1)) + 1) >> 1;
}

}  // namespace

bpf::scoring_model make_scoring_model(const Model& model, uint32_t generation) {
  bpf::scoring_model scoring{};
  int exponent = 0;
  std::frexp(reach(model), &exponent);  // below 2^54: quantize() bounds coefficients
  scoring.shift = static_cast<uint32_t>(std::clamp(kSumBits - exponent, 1, 62));
  scoring.generation = generation;
  scoring.base = static_cast<int64_t>(model.bias_q16) << scoring.shift;
  for (size_t i = 0; i < kFeatureCount; i++) {
    const ModelFeature& feature = model.features[i];
    bpf::scoring_group& group = scoring.groups[i / SCORING_GROUP];
    const size_t at = i % SCORING_GROUP;
    group.min_q16[at] = feature.min_q16;
    group.span_q16[at] =
        static_cast<uint32_t>(feature.max_q16) - static_cast<uint32_t>(feature.min_q16);
    // Of no weight: what cannot differ from 0. Its factor might be large beyond the scale.
    if (feature.min_q16 == 0 && feature.max_q16 == 0) continue;
    group.factor[at] = rescale(model.coefficients[i], scoring.shift);
    const int64_t zero = std::clamp(0, feature.min_q16, feature.max_q16);
    scoring.base += zero * group.factor[at];
    group.at_zero += (zero - feature.min_q16) * group.factor[at];
  }
  for (int knot = 0; knot < CALIBRATION_KNOTS; knot++) {
    scoring.knots_q16[knot] = model.calibration_q16
                                  ? (*model.calibration_q16)[static_cast<size_t>(knot)]
                                  : CALIBRATION_FIRST_Q16 + (knot << CALIBRATION_STEP_SHIFT);
  }
  return scoring;
}

}  // namespace petrel
