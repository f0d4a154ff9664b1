// SPDX-License-Identifier: MIT
#include "trainer/rules.hpp"

#include <cmath>

#include "score/score.hpp"

namespace petrel {
namespace {

// Where balancers' own rules act by default: about one failure in ten, and some multiple of what is
// usual. The areas do not depend on them.
constexpr double kFailureShare = 0.1;
constexpr double kTimesUsual = 4;

double unit_value(const LabelledRow& row, Feature feature) {
  return row.features[static_cast<size_t>(feature)] / static_cast<double>(Q16_ONE);
}

}  // namespace

std::vector<Rule> baseline_rules(const Model& model, double retried_share, double working_point) {
  return {
      {"base rate",
       "the share of these very rows that was retried: the best constant there is",
       {.is_probability = true, .threshold = working_point},
       [retried_share](const LabelledRow&) { return retried_share; }},
      {"failure threshold",
       "a tenth of the backend's recent outcomes failed: the feature backend_failures stands for n "
       "failures in t; it is 0 but while waiting",
       {.threshold = kFailureShare},
       [](const LabelledRow& row) { return unit_value(row, Feature::kBackendFailures); }},
      {"slow",
       "has waited for more than 4 times the service's usual time (feature waiting_beyond_usual; 0 "
       "but while waiting)",
       {.threshold = std::log2(kTimesUsual)},
       [](const LabelledRow& row) { return unit_value(row, Feature::kWaitingBeyondUsual); }},
      {"response time",
       "how long it has waited, or waited, alone (elapsed_ns); no threshold",
       {},
       [](const LabelledRow& row) { return static_cast<double>(row.elapsed_ns); }},
      {"last failure",
       "the request itself has failed, 429 and 5xx included; nothing while waiting",
       {.threshold = 1},
       [](const LabelledRow& row) { return row.failure != bpf::FAILURE_NONE ? 1.0 : 0.0; }},
      {"float model",
       "the model's own coefficients in floating point, not quantized",
       {.is_probability = true, .threshold = working_point},
       [&model](const LabelledRow& row) { return float_probability(model, row.features); }},
  };
}

}  // namespace petrel
