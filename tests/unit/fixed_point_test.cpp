// SPDX-License-Identifier: MIT
// bpf/fixed_point.h and bpf/model.h against double arithmetic, and at the corners of its ranges.
#include "bpf/model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <utility>
#include <vector>

namespace petrel::bpf {
namespace {

constexpr int32_t kLeast = std::numeric_limits<int32_t>::min();
constexpr int32_t kMost = std::numeric_limits<int32_t>::max();
constexpr double kUnit = 1.0 / Q16_ONE;

TEST(FixedPoint, Log2OfPowersOfTwoIsExact) {
  for (int power = 0; power < 64; power++) EXPECT_EQ(log2_q16(1ULL << power), power << 16);
}

TEST(FixedPoint, Log2OfZeroIsThatOfOne) {
  EXPECT_EQ(log2_q16(0), 0);
}

TEST(FixedPoint, Log2IsLessThanTwoUnitsBelowTheTrueValueAndNeverAbove) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 200'000; i++) {
    const uint64_t value = (random() >> (random() % 64)) | 1;
    const double exact = static_cast<double>(std::log2(static_cast<long double>(value)));
    const double error = log2_q16(value) * kUnit - exact;
    ASSERT_LE(error, 1e-12) << value;
    ASSERT_GT(error, -2 * kUnit) << value;
  }
  EXPECT_GT(log2_q16(std::numeric_limits<uint64_t>::max()), 64 * Q16_ONE - 3);
}

TEST(FixedPoint, Log2NeverFalls) {
  std::mt19937_64 random(2);
  for (int i = 0; i < 100'000; i++) {
    const uint64_t value = random() >> (random() % 64);
    if (value == std::numeric_limits<uint64_t>::max()) continue;
    ASSERT_LE(log2_q16(value), log2_q16(value + 1)) << value;
  }
}

TEST(FixedPoint, SigmoidIsWithinFourUnitsOverTheWholeRange) {
  double largest = 0;
  for (int32_t x = -13 * Q16_ONE; x <= 13 * Q16_ONE; x += 7) {
    const double exact = 1 / (1 + std::exp(-x * kUnit));
    largest = std::max(largest, std::abs(sigmoid_q16(x) * kUnit - exact));
  }
  EXPECT_LT(largest, 4 * kUnit);
}

TEST(FixedPoint, SigmoidNeverFallsAndIsSymmetric) {
  for (int32_t x = -13 * Q16_ONE; x < 13 * Q16_ONE; x++) {
    ASSERT_LE(sigmoid_q16(x), sigmoid_q16(x + 1)) << x;
    ASSERT_EQ(sigmoid_q16(x) + sigmoid_q16(-x), static_cast<uint32_t>(Q16_ONE)) << x;
  }
}

TEST(FixedPoint, SigmoidSaturatesAtItsCorners) {
  EXPECT_EQ(sigmoid_q16(0), 32768U);
  EXPECT_EQ(sigmoid_q16(kLeast), 0U);
  EXPECT_EQ(sigmoid_q16(kMost), 65536U);
  EXPECT_EQ(sigmoid_q16(12 * Q16_ONE), 65536U);
  EXPECT_EQ(sigmoid_q16(-12 * Q16_ONE), 0U);
}

TEST(FixedPoint, AdditionSaturatesAtBothEnds) {
  EXPECT_EQ(add_saturating(kMost, 1), kMost);
  EXPECT_EQ(add_saturating(kLeast, -1), kLeast);
  EXPECT_EQ(add_saturating(kLeast, kMost), -1);
  EXPECT_EQ(subtract_saturating(kLeast, 1), kLeast);
  EXPECT_EQ(subtract_saturating(0, kLeast), kMost);
}

TEST(FixedPoint, MultiplicationRoundsToNearestAndSaturates) {
  struct Case {
    const char* what;
    int32_t left, right;
    uint32_t shift;
    int32_t expected;
  };
  const Case cases[] = {
      {"one times one", Q16_ONE, Q16_ONE, 16, Q16_ONE},
      {"half rounds away from zero", 1, 1, 1, 1},
      {"minus half rounds away from zero", -1, 1, 1, -1},
      {"a quarter rounds to zero", 1, 1, 2, 0},
      {"minus a quarter rounds to zero", -1, 1, 2, 0},
      {"no shift", -3, 5, 0, -15},
      {"largest square, no shift", kLeast, kLeast, 0, kMost},
      {"largest square, shift that fits", kLeast, kLeast, 32, 1 << 30},
      {"most negative product", kLeast, kMost, 0, -kMost},
      {"largest square, largest shift", kLeast, kLeast, 63, 1},
      {"shifts count modulo 64", 7, 1, 64, 7},
  };
  for (const Case& each : cases) {
    EXPECT_EQ(mul_shift_saturating(each.left, each.right, each.shift), each.expected) << each.what;
  }
}

TEST(FixedPoint, MultiplicationAgreesWithLongDouble) {
  std::mt19937_64 random(3);
  for (int i = 0; i < 200'000; i++) {
    const auto left = static_cast<int32_t>(random());
    const auto right = static_cast<int32_t>(random());
    const auto shift = static_cast<uint32_t>(random() % 64);
    const long double exact =
        std::round(std::ldexp(static_cast<long double>(left) * right, -static_cast<int>(shift)));
    const long double most = kMost;
    ASSERT_EQ(mul_shift_saturating(left, right, shift),
              static_cast<int32_t>(std::max(-most, std::min(most, exact))))
        << left << " * " << right << " >> " << shift;
  }
}

// One group of terms: factors of 2^-shift, no calibration.
scoring_model one_group(uint32_t shift, int32_t bias_q16) {
  scoring_model model{};
  model.shift = shift;
  model.base = static_cast<int64_t>(bias_q16) << shift;
  for (int knot = 0; knot < CALIBRATION_KNOTS; knot++) {
    model.knots_q16[knot] = CALIBRATION_FIRST_Q16 + (knot << CALIBRATION_STEP_SHIFT);
  }
  return model;
}

void add_term(scoring_model& model, int at, int64_t factor, int32_t min_q16, int32_t max_q16) {
  scoring_group& group = model.groups[at / SCORING_GROUP];
  const int64_t zero = std::clamp(0, min_q16, max_q16);
  group.min_q16[at % SCORING_GROUP] = min_q16;
  group.span_q16[at % SCORING_GROUP] = static_cast<uint32_t>(max_q16) - static_cast<uint32_t>(min_q16);
  group.factor[at % SCORING_GROUP] = factor;
  group.at_zero += (zero - min_q16) * factor;
  model.base += zero * factor;
}

TEST(FixedPoint, ScoreIsBiasAndWeightedSum) {
  scoring_model model = one_group(20, Q16_ONE);
  add_term(model, 0, 3 << 20, 0, 10 * Q16_ONE);
  add_term(model, 1, -(1 << 19), -10 * Q16_ONE, 10 * Q16_ONE);
  const int32_t features[] = {2 * Q16_ONE, 5 * Q16_ONE};
  EXPECT_EQ(scoring_log_odds_q16(&model, features, 2), (6 * Q16_ONE) + Q16_ONE - (5 * Q16_ONE / 2));
  const int32_t below[] = {2 * Q16_ONE, -3 * Q16_ONE};
  EXPECT_EQ(scoring_log_odds_q16(&model, below, 2), (7 * Q16_ONE) + (3 * Q16_ONE / 2));
  const int32_t nothing[] = {0, 0};
  EXPECT_EQ(scoring_log_odds_q16(&model, nothing, 2), Q16_ONE);
}

TEST(FixedPoint, ScoreRoundsOnceHalvesUp) {
  for (const auto& [factor, expected] : {std::pair{1, 1}, {-1, 0}, {3, 2}, {-3, -1}, {2, 1}}) {
    scoring_model model = one_group(1, 0);
    add_term(model, 0, factor, 0, 1);
    const int32_t one = 1;
    EXPECT_EQ(scoring_log_odds_q16(&model, &one, 1), expected) << factor;
  }
  // Two quarters are a half: they are not rounded away each by itself.
  scoring_model model = one_group(2, 0);
  add_term(model, 0, 1, 0, 1);
  add_term(model, 5, 1, 0, 1);
  const int32_t features[] = {1, 0, 0, 0, 0, 1};
  EXPECT_EQ(scoring_log_odds_q16(&model, features, 6), 1);
}

TEST(FixedPoint, ScoreClampsToTheTrainedRange) {
  scoring_model model = one_group(8, 0);
  add_term(model, 0, 256, 100, 200);  // 0 lies outside: it counts as 100
  const std::pair<int32_t, int32_t> cases[] = {{kLeast, 100}, {-1, 100}, {0, 100},   {100, 100},
                                               {150, 150},    {200, 200}, {201, 200}, {kMost, 200}};
  for (const auto& [value, expected] : cases) {
    EXPECT_EQ(scoring_log_odds_q16(&model, &value, 1), expected) << value;
    const int32_t beside_another[] = {value, 7};
    EXPECT_EQ(scoring_log_odds_q16(&model, beside_another, 2), expected) << value;
  }
}

TEST(FixedPoint, ScoreSaturates) {
  scoring_model up = one_group(8, kMost);
  scoring_model down = one_group(8, kLeast);
  for (int i = 0; i < MODEL_MAX_FEATURES; i++) {
    add_term(up, i, int64_t{1} << 24, kLeast, kMost);
    add_term(down, i, -(int64_t{1} << 24), kLeast, kMost);
  }
  const std::vector<int32_t> features(MODEL_MAX_FEATURES, kMost);
  EXPECT_EQ(scoring_log_odds_q16(&up, features.data(), MODEL_MAX_FEATURES), kMost);
  EXPECT_EQ(scoring_log_odds_q16(&down, features.data(), MODEL_MAX_FEATURES), kLeast);
}

TEST(FixedPoint, IdentityKnotsChangeNothing) {
  const scoring_model model = one_group(8, 0);
  std::mt19937_64 random(4);
  for (int i = 0; i < 200'000; i++) {
    const auto log_odds = static_cast<int32_t>(random()) >> (random() % 16);
    ASSERT_EQ(calibrate_log_odds_q16(model.knots_q16, log_odds), log_odds);
  }
  for (const int32_t corner : {kLeast, kLeast + 1, -524289, -524288, -524287, -1, 0, 1, 524287,
                               524288, 524289, kMost - 1, kMost}) {
    EXPECT_EQ(calibrate_log_odds_q16(model.knots_q16, corner), corner);
  }
}

}  // namespace
}  // namespace petrel::bpf
