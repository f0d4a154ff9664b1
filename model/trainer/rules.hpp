// SPDX-License-Identifier: MIT
// Rules: what one could predict retries by without a model, to hold a model against.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "score/model.hpp"
#include "telemetry/row.hpp"
#include "trainer/ranking.hpp"

namespace petrel {

struct Rule {
  std::string name;
  std::string meaning;  // one line
  ScoreKind kind;       // a threshold of its own, where it has one
  std::function<double(const LabelledRow&)> score;
};

// `retried_share`: of the rows that are to be judged. Probabilities are held against the working
// point.
std::vector<Rule> baseline_rules(const Model& model, double retried_share, double working_point);

}  // namespace petrel
