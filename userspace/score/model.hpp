// SPDX-License-Identifier: MIT
// Model: the coefficients of one logistic regression, and the facts of its training.
//
// A file holds all of it as JSON (schema "petrel/model/v1"). It is loaded whole or not at all:
// every field is checked, the fixed-point coefficients must be what the floating-point ones
// quantize to, and a CRC-32 covers the rest. Numbers have 9 significant digits, so that text and
// value agree.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "base/input_problem.hpp"
#include "bpf/model.h"
#include "features/features.hpp"
#include "score/reference.hpp"

namespace petrel {

inline constexpr std::string_view kModelSchema = "petrel/model/v1";

// One feature's part. The standardized value (value - mean) / scale is weighed by `coefficient`.
struct ModelFeature {
  double mean = 0;         // in the feature's unit, over the training rows
  double scale = 1;        // standard deviation; 1 for a feature that never varied
  double coefficient = 0;  // log-odds for each standard deviation; 0 for one that never varied
  int32_t min_q16 = 0;     // trained range: values outside are clamped to it
  int32_t max_q16 = 0;
  std::optional<int32_t> median_q16 = {};  // over the training rows; files before it have none

  bool operator==(const ModelFeature&) const = default;
};

using CalibrationKnots = std::array<int32_t, CALIBRATION_KNOTS>;

// What a model's choice rests on, by cross-validation grouped by run on the training runs.
struct FitFacts {
  std::string penalty = "l2";        // or "l1"
  double class_weight = 1;           // of retried rows; others weigh 1
  bool weigh_by_confidence = false;  // rows stayed by the confidence in their labels
  std::vector<std::string> without = {};  // features that were left out, whatever they tell
  std::string calibration = "none";  // "platt", "isotonic": see docs/model.md
  double log_loss = 0;               // of the model as it is shipped, on runs it was not fitted to
  double auc = 0;
  double ece = 0;
  double uncalibrated_log_loss = 0;  // the same without the calibration
  double uncalibrated_ece = 0;

  bool operator==(const FitFacts&) const = default;
};

// How the model came to be, and how it did on runs that it never saw.
struct TrainingFacts {
  std::string date;  // UTC, "2026-01-31"
  uint64_t seed = 0;
  double c = 1;                   // liblinear's inverse regularisation strength
  std::vector<std::string> runs;  // trained on
  uint64_t rows = 0;
  double positive_share = 0;  // of the training rows
  std::vector<std::string> held_out_runs;
  uint64_t held_out_rows = 0;
  double held_out_positive_share = 0;
  double held_out_auc = 0;
  double held_out_log_loss = 0;
  std::optional<FitFacts> fit = {};  // files before it have none

  bool operator==(const TrainingFacts&) const = default;
};

struct Model {
  std::string name;
  uint32_t version = 1;  // grows with each model shipped under the name
  double bias = 0;       // log-odds of a row at the training means
  std::array<ModelFeature, kFeatureCount> features{};
  std::array<bpf::model_coefficient, kFeatureCount> coefficients{};  // of raw Q16 features
  int32_t bias_q16 = 0;                                              // log-odds of a row of zeros
  std::optional<CalibrationKnots> calibration_q16;  // from the log-odds above to calibrated ones
  std::vector<FeatureReference> references;         // by feature, then point
  TrainingFacts training;

  bool operator==(const Model& other) const;
};

// Rounds to the digits that a model file holds; training rounds before it quantizes.
double round_to_file_digits(double value);

// What a coefficient has: 30 bits of mantissa, so that a rounding up cannot reach the sign.
inline constexpr int kCoefficientBits = 32;

// Sets coefficients and bias_q16 from the floating-point fields. Fails where one does not fit.
// Fewer bits than a model file has show what they would lose; bias_q16 has 32 always.
Result<void> quantize(Model& model, int coefficient_bits = kCoefficientBits);

// Errors name the file, the field, what was expected and what was found (ExitCode::kInput).
// `problem`, where given, is set to what is wrong with the document.
Result<Model> load_model(const std::string& path, InputProblem* problem = nullptr);
Result<Model> parse_model(std::string_view text, const std::string& source_name,
                          InputProblem* problem = nullptr);

// The text of a file that may be a model: errors as above.
Result<std::string> read_model_text(const std::string& path, InputProblem* problem = nullptr);

// Writes beside the path and renames: a reader sees the old file or the new one.
Result<void> save_model(const Model& model, const std::string& path);
std::string serialize_model(const Model& model);

// "1a2b3c4d": CRC-32 of the canonical serialisation without the checksum. Names the model in logs.
std::string model_checksum(const Model& model);

}  // namespace petrel
