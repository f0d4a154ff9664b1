// SPDX-License-Identifier: MIT
#include "score/model.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

namespace petrel {
namespace {

// Of a coefficient's bits: its sign, and one that keeps a rounding up from reaching it.
constexpr int kNoMantissaBits = 2;
// A coefficient is below 2^16: with a mantissa of 30 bits no shift is below MODEL_LEAST_SHIFT.
constexpr int kMostExponent = kCoefficientBits - kNoMantissaBits - MODEL_LEAST_SHIFT;
constexpr int kFileDigits = 9;

int most_exponent(int coefficient_bits) {
  return std::min(coefficient_bits - kNoMantissaBits, kMostExponent);
}

std::optional<bpf::model_coefficient> quantize_coefficient(double value, int mantissa_bits) {
  if (value == 0) return bpf::model_coefficient{0, 0};
  int exponent = 0;
  std::frexp(value, &exponent);  // |value| < 2^exponent
  const int shift = std::min(mantissa_bits - exponent, MODEL_MAX_SHIFT);
  if (shift < 0 || exponent > kMostExponent) return std::nullopt;
  const auto mantissa = static_cast<int32_t>(std::lround(std::ldexp(value, shift)));
  return bpf::model_coefficient{mantissa, static_cast<uint32_t>(shift)};
}

}  // namespace

bool Model::operator==(const Model& other) const {
  for (size_t i = 0; i < kFeatureCount; i++) {
    if (coefficients[i].mantissa != other.coefficients[i].mantissa ||
        coefficients[i].shift != other.coefficients[i].shift) {
      return false;
    }
  }
  return name == other.name && version == other.version && bias == other.bias &&
         features == other.features && bias_q16 == other.bias_q16 &&
         calibration_q16 == other.calibration_q16 && references == other.references &&
         training == other.training;
}

double round_to_file_digits(double value) {
  // Not printf and strtod, which follow the locale. Longest: "-1.23456789e-308".
  std::array<char, 32> text{};
  const auto end =
      std::to_chars(text.begin(), text.end(), value, std::chars_format::general, kFileDigits).ptr;
  double rounded = 0;
  std::from_chars(text.begin(), end, rounded);
  return rounded + 0.0;  // -0 becomes 0
}

Result<void> quantize(Model& model, int coefficient_bits) {
  double bias = model.bias;
  for (size_t i = 0; i < kFeatureCount; i++) {
    const ModelFeature& feature = model.features[i];
    const double raw = feature.coefficient / feature.scale;
    const auto coefficient = std::isfinite(raw)
                                 ? quantize_coefficient(raw, coefficient_bits - kNoMantissaBits)
                                 : std::nullopt;
    if (!coefficient) {
      return Error(ExitCode::kInput, "feature " + std::string(kFeatures[i].name) +
                                         ": coefficient / scale must be finite and below 2^" +
                                         std::to_string(most_exponent(coefficient_bits)) +
                                         ", is " + std::to_string(raw));
    }
    model.coefficients[i] = *coefficient;
    bias -= raw * feature.mean;
  }
  const double bias_q16 = std::round(bias * Q16_ONE);
  if (!(std::abs(bias_q16) <= static_cast<double>(Q16_S32_MAX))) {
    return Error(ExitCode::kInput,
                 "bias of a row of zeros must be within 32767, is " + std::to_string(bias));
  }
  model.bias_q16 = static_cast<int32_t>(bias_q16);
  return {};
}

}  // namespace petrel
