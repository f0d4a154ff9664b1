// SPDX-License-Identifier: MIT
// One logistic regression on given rows: standardizes, calls liblinear, puts the numbers in a
// Model.
#pragma once

#include <span>

#include "base/error.hpp"
#include "score/model.hpp"
#include "telemetry/row.hpp"

namespace petrel {

// The floating-point fields of the result are rounded and quantized; its name and training facts
// are left to the caller. Deterministic: Newton's method, which draws no random numbers. The runs
// must hold both labels. Not to be called from two threads: liblinear's print hook is global.
Result<Model> fit_logistic(std::span<const Run* const> runs, double c);

}  // namespace petrel
