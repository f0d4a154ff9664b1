// SPDX-License-Identifier: MIT
// bpf/fixed_point.h against double arithmetic, and at the corners of its ranges.
#include "bpf/fixed_point.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
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

TEST(FixedPoint, ScoreIsBiasAndWeightedSum) {
  const model_coefficient coefficients[] = {{3 << 20, 20}, {-(1 << 29), 30}};  // 3, -0.5
  const int32_t features[] = {2 * Q16_ONE, 5 * Q16_ONE};
  EXPECT_EQ(score_log_odds_q16(coefficients, features, 2, Q16_ONE), (6 * Q16_ONE) - 98304);
  EXPECT_EQ(score_log_odds_q16(coefficients, features, 0, 77), 77);
}

TEST(FixedPoint, ScoreSaturatesAndIgnoresFeaturesPastItsBound) {
  const std::vector<model_coefficient> coefficients(MODEL_MAX_FEATURES + 1, {kMost, 0});
  const std::vector<int32_t> up(MODEL_MAX_FEATURES + 1, kMost);
  const std::vector<int32_t> down(MODEL_MAX_FEATURES + 1, kLeast);
  EXPECT_EQ(score_log_odds_q16(coefficients.data(), up.data(), 33, kMost), kMost);
  EXPECT_EQ(score_log_odds_q16(coefficients.data(), down.data(), 33, kLeast), kLeast);

  std::vector<int32_t> only_last(MODEL_MAX_FEATURES + 1, 0);
  only_last.back() = kMost;
  EXPECT_EQ(score_log_odds_q16(coefficients.data(), only_last.data(), 33, 5), 5);
}

}  // namespace
}  // namespace petrel::bpf
