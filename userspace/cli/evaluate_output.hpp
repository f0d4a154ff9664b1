// SPDX-License-Identifier: MIT
// What `petrel evaluate` found, as a table and as petrel/evaluate/v1.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "score/model.hpp"
#include "trainer/evaluation.hpp"
#include "trainer/fault_study.hpp"
#include "trainer/run_choice.hpp"

namespace petrel::cli {

// What scripts/upper-bound reached with the same features.
struct UpperBound {
  std::string model;
  double auc = 0;
  std::string checksum;  // of the model whose split it used; empty: the file does not say
};
Result<UpperBound> read_upper_bound(const std::string& path);

// All that the report is about, beside the report.
struct EvaluatedModel {
  const Model& model;
  const RunChoice& runs;
  const EvaluationOptions& options;
  std::optional<std::uint64_t> shuffle_seed;
  std::vector<FaultFigures> by_fault = {};        // with a manifest
  std::vector<FaultFigures> leave_one_out = {};   // where it was asked for
  std::optional<UpperBound> upper_bound = {};
};

std::string evaluation_text(const EvaluatedModel& about, const EvaluationReport& report);
std::string evaluation_json(const EvaluatedModel& about, const EvaluationReport& report);

}  // namespace petrel::cli
