// SPDX-License-Identifier: MIT
// A Diff for people and for programs.
#pragma once

#include <string>

#include "inspect/diff.hpp"

namespace petrel::inspect {

std::string diff_text(const Diff& diff);

// petrel/check-diff/v1
std::string diff_json(const Diff& diff);

}  // namespace petrel::inspect
