// SPDX-License-Identifier: MIT
// Many requests, a line each, to as many lines on stdout.
#pragma once

#include <string>
#include <vector>

#include "base/error.hpp"
#include "predict/csv_rows.hpp"

namespace petrel::cli {

enum class LineFormat { kCsv, kJsonLines };

struct StreamOptions {
  std::string input;  // a path, or "-"
  LineFormat format = LineFormat::kCsv;
  CsvOptions csv;        // of JSON lines: `alone`
  bool explain = false;  // petrel/predict/v1 for each
};

// Stops at the first line that is wrong, and says which: what came before it has been written.
Result<void> predict_stream(const Model& model, const StreamOptions& options);

}  // namespace petrel::cli
