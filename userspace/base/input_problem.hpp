// SPDX-License-Identifier: MIT
// InputProblem: what is wrong with one field of an input, for messages and for JSON alike.
#pragma once

#include <string>

namespace petrel {

struct InputProblem {
  std::string field;  // "features[3].scale"; empty: the whole document
  std::string expected;
  std::string found;

  // "FIELD: expected EXPECTED, found FOUND"
  std::string text() const {
    return (field.empty() ? "document" : field) + ": expected " + expected + ", found " + found;
  }
};

}  // namespace petrel
