// SPDX-License-Identifier: MIT
// How problems of a configuration read.
#include <stdexcept>

#include "config/config.hpp"

namespace petrel {

std::string ConfigProblem::text() const {
  std::string where = file;
  if (line > 0) where += ":" + std::to_string(line) + ":" + std::to_string(column);
  if (!field.empty()) where += ": " + field;
  return where + ": expected " + expected + ", found " + found;
}

std::string ConfigProblems::text() const {
  std::string lines;
  for (const ConfigProblem& problem : list) {
    if (!lines.empty()) lines += '\n';
    lines += problem.text();
  }
  return lines;
}

Error ConfigProblems::error() const {
  return {ExitCode::kInput, text()};
}

void throw_exception_from_error(const ConfigProblems& problems, const boost::source_location&) {
  throw std::logic_error("value() of a failed ConfigResult: " + problems.text());
}

}  // namespace petrel
