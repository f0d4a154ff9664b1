// SPDX-License-Identifier: MIT
// What `petrel evaluate` found, as a table and as petrel/evaluate/v1.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "score/model.hpp"
#include "trainer/evaluation.hpp"
#include "trainer/run_choice.hpp"

namespace petrel::cli {

// All that the report is about, beside the report.
struct EvaluatedModel {
  const Model& model;
  const RunChoice& runs;
  const EvaluationOptions& options;
  std::optional<std::uint64_t> shuffle_seed;
};

std::string evaluation_text(const EvaluatedModel& about, const EvaluationReport& report);
std::string evaluation_json(const EvaluatedModel& about, const EvaluationReport& report);

}  // namespace petrel::cli
