// SPDX-License-Identifier: MIT
#include "trainer/logistic.hpp"

#include <linear.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <vector>

namespace petrel {
namespace {

// liblinear penalizes the intercept as it does coefficients. Its feature is made large, so that
// the intercept's own weight, and with it the penalty, is small.
constexpr double kInterceptFeature = 10;
constexpr unsigned kSolverSeed = 1;
// Features are Q16: anything that varies at all has a larger standard deviation over real rows.
constexpr double kLeastScale = 1e-6;
// Of a feature's range. One that is hardly ever there in training, say a kind of failure that two
// connections in a million met, would else be blown up to unit variance: its coefficient would be
// as large, for all the penalty, and a service that meets it often be scored by those two.
constexpr double kLeastScaleOfRange = 1.0 / 32;

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
    const double least_scale = kLeastScaleOfRange * (unit_value(most) - unit_value(least));
    feature = {.mean = round_to_file_digits(mean),
               .scale = varies ? round_to_file_digits(std::max(scale, least_scale)) : 1,
               .coefficient = 0,
               .min_q16 = least,
               .max_q16 = most};
  }
}

bool is_constant(const ModelFeature& feature) {
  return feature.min_q16 == feature.max_q16;
}

struct FreeModel {
  void operator()(::model* fitted) const { free_and_destroy_model(&fitted); }
};

}  // namespace

std::string_view penalty_name(Penalty penalty) {
  return penalty == Penalty::kL1 ? "l1" : "l2";
}

// Standardized and dense; features that are left out are not there.
class LogisticProblem::Rows {
 public:
  Rows(std::span<const Run* const> runs, const Model& model, const FeatureSet& left_out) {
    size_t rows = 0;
    for (const Run* run : runs) rows += run->rows.size();
    nodes_.reserve(rows * (kFeatureCount - left_out.count() + 2));
    labels_.reserve(rows);
    for (const Run* run : runs) {
      for (const LabelledRow& row : run->rows) add(row, model, left_out);
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
  size_t size() const { return labels_.size(); }

 private:
  void add(const LabelledRow& row, const Model& model, const FeatureSet& left_out) {
    for (size_t i = 0; i < kFeatureCount; i++) {
      if (left_out[i]) continue;
      const ModelFeature& feature = model.features[i];
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

LogisticProblem::LogisticProblem(std::span<const Run* const> runs, const FeatureSet& without)
    : left_out_(without) {
  standardize(runs, standardized_);
  for (size_t i = 0; i < kFeatureCount; i++) {
    if (is_constant(standardized_.features[i])) left_out_.set(i);
  }
  rows_ = std::make_unique<Rows>(runs, standardized_, left_out_);
}

LogisticProblem::~LogisticProblem() = default;

size_t LogisticProblem::rows() const {
  return rows_->size();
}

Result<Model> LogisticProblem::fit(const FitSettings& settings) const {
  int weight_label = 1;
  double weight = settings.class_weight;
  parameter solver{};
  solver.solver_type = settings.penalty == Penalty::kL1 ? L1R_LR : L2R_LR;
  solver.C = settings.c;
  solver.eps = settings.tolerance;
  solver.nr_weight = 1;
  solver.weight_label = &weight_label;
  solver.weight = &weight;
  set_print_string_function([](const char*) {});
  if (const char* const wrong = check_parameter(rows_->get(), &solver); wrong != nullptr) {
    return Error(ExitCode::kRuntime, std::string("liblinear: ") + wrong);
  }
  std::srand(kSolverSeed);
  const std::unique_ptr<::model, FreeModel> fitted(::train(rows_->get(), &solver));

  // liblinear's positive class is whichever label it met first.
  const double sign = fitted->label[0] == 1 ? 1 : -1;
  Model model = standardized_;
  for (size_t i = 0; i < kFeatureCount; i++) {
    if (left_out_[i]) continue;
    model.features[i].coefficient = round_to_file_digits(sign * fitted->w[i]);
  }
  model.bias = round_to_file_digits(sign * fitted->w[kFeatureCount] * kInterceptFeature);
  if (const Result<void> quantized = quantize(model); !quantized) return quantized.error();
  return model;
}

}  // namespace petrel
