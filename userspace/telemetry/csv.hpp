// SPDX-License-Identifier: MIT
// Labelled rows as CSV: a header line, then one row a line, all numbers decimal integers.
//
// Columns: run, time_ns, service, backend, client, connection, request, point, elapsed_ns, failure,
// status, attempt, each feature by its name (Q16), retried, evidence (enum label_evidence) and
// confidence (0 to 255) of that label. The reader takes exactly these columns in exactly this order: a
// file made with other features cannot be trained on.
#pragma once

#include <iosfwd>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "telemetry/row.hpp"

namespace petrel {

// Letters, digits, '.', '_' and '-': nothing that CSV would have to quote.
bool is_run_name(std::string_view name);

const std::vector<std::string>& csv_columns();
std::string csv_header();                                            // without newline
std::string csv_line(std::string_view run, const LabelledRow& row);  // without newline

// Appends a file's rows to their runs, by name; new runs are added in order of appearance. Errors
// name file, line, column, what was expected and what was found; `runs` is then unchanged.
Result<void> read_csv(const std::string& path, std::vector<Run>& runs);
Result<void> read_csv(std::istream& in, const std::string& source_name, std::vector<Run>& runs);

}  // namespace petrel
