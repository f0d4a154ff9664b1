// SPDX-License-Identifier: MIT
// What `petrel train` did, as text and as petrel/train/v1.
#pragma once

#include <string>
#include <vector>

#include "trainer/manifest.hpp"
#include "trainer/trainer.hpp"

namespace petrel::cli {

// `faults`: of all rows that were read; empty without a manifest.
std::string training_text(const TrainingReport& report, const std::vector<FaultRows>& faults);
std::string training_json(const TrainingReport& report, const std::vector<FaultRows>& faults);

}  // namespace petrel::cli
