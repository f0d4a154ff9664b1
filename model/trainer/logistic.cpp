// SPDX-License-Identifier: MIT
#include "trainer/logistic.hpp"

#include <linear.h>

#include <algorithm>
#include <cmath>
#include <memory>

namespace petrel {
namespace {

// liblinear penalizes the intercept as it does coefficients. Its feature is made large, so that
// the intercept's own weight, and with it the penalty, is small.
constexpr double kInterceptFeature = 10;
// Newton's relative stopping tolerance: well below what quantization resolves.
constexpr double kTolerance = 1e-5;
// Features are Q16: anything that varies at all has a larger standard deviation over real rows.
constexpr double kLeastScale = 1e-6;

double unit_value(int32_t value_q16) {
  return value_q16 / static_cast<double>(Q16_ONE);
}

void standardize(std::span<const Run* const> runs, Model& model) {
  for (size_t i = 0; i < kFeatureCount; i++) {
    double sum = 0;
    double squares = 0;
    double rows = 0;
    int32_t least = INT32_MAX;
    int32_t most = INT32_MIN;
    for (const Run* run : runs) {
      for (const LabelledRow& row : run->rows) {
        const double value = unit_value(row.features[i]);
        sum += value;
        squares += value * value;
        rows++;
        least = std::min(least, row.features[i]);
        most = std::max(most, row.features[i]);
      }
    }
    ModelFeature& feature = model.features[i];
    const double mean = sum / rows;
    const double scale = std::sqrt(std::max(0.0, squares / rows - mean * mean));
    const bool varies = least < most && scale >= kLeastScale;
    feature = {.mean = round_to_file_digits(mean),
               .scale = varies ? round_to_file_digits(scale) : 1,
               .coefficient = 0,
               .min_q16 = least,
               .max_q16 = most};
  }
}

bool is_constant(const ModelFeature& feature) {
  return feature.min_q16 == feature.max_q16;
}

// The rows as liblinear wants them: standardized, dense, constant features left out.
class Problem {
 public:
  Problem(std::span<const Run* const> runs, const Model& model) {
    size_t rows = 0;
    for (const Run* run : runs) rows += run->rows.size();
    nodes_.reserve(rows * (kFeatureCount + 2));
    labels_.reserve(rows);
    for (const Run* run : runs) {
      for (const LabelledRow& row : run->rows) add(row, model);
    }
    // Pointers are taken once the nodes no longer move.
    const size_t width = nodes_.size() / labels_.size();
    for (size_t i = 0; i < labels_.size(); i++) starts_.push_back(&nodes_[i * width]);
    problem_.l = static_cast<int>(labels_.size());
    problem_.n = static_cast<int>(kFeatureCount) + 1;
    problem_.y = labels_.data();
    problem_.x = starts_.data();
    problem_.bias = kInterceptFeature;
  }

  const ::problem* get() const { return &problem_; }

 private:
  void add(const LabelledRow& row, const Model& model) {
    for (size_t i = 0; i < kFeatureCount; i++) {
      const ModelFeature& feature = model.features[i];
      if (is_constant(feature)) continue;
      const double value = (unit_value(row.features[i]) - feature.mean) / feature.scale;
      nodes_.push_back({static_cast<int>(i) + 1, value});
    }
    nodes_.push_back({static_cast<int>(kFeatureCount) + 1, kInterceptFeature});
    nodes_.push_back({-1, 0});  // ends the row
    labels_.push_back(row.retried ? 1 : -1);
  }

  std::vector<feature_node> nodes_;
  std::vector<feature_node*> starts_;
  std::vector<double> labels_;
  ::problem problem_{};
};

struct FreeModel {
  void operator()(::model* fitted) const { free_and_destroy_model(&fitted); }
};

}  // namespace

Result<Model> fit_logistic(std::span<const Run* const> runs, double c) {
  Model model;
  standardize(runs, model);
  const Problem problem(runs, model);

  parameter settings{};
  settings.solver_type = L2R_LR;
  settings.C = c;
  settings.eps = kTolerance;
  set_print_string_function([](const char*) {});
  if (const char* const wrong = check_parameter(problem.get(), &settings); wrong != nullptr) {
    return Error(ExitCode::kRuntime, std::string("liblinear: ") + wrong);
  }
  const std::unique_ptr<::model, FreeModel> fitted(::train(problem.get(), &settings));

  // liblinear's positive class is whichever label it met first.
  const double sign = fitted->label[0] == 1 ? 1 : -1;
  for (size_t i = 0; i < kFeatureCount; i++) {
    if (is_constant(model.features[i])) continue;
    model.features[i].coefficient = round_to_file_digits(sign * fitted->w[i]);
  }
  model.bias = round_to_file_digits(sign * fitted->w[kFeatureCount] * kInterceptFeature);
  if (const Result<void> quantized = quantize(model); !quantized) return quantized.error();
  return model;
}

}  // namespace petrel
