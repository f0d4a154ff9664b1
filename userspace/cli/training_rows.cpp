// SPDX-License-Identifier: MIT
#include "cli/training_rows.hpp"

#include <sstream>

#include "capture/csv_text.hpp"
#include "capture/store.hpp"
#include "telemetry/csv.hpp"

namespace petrel::cli {

Result<void> read_training_rows(const std::string& input, std::vector<Run>& runs) {
  if (!is_capture_store(input)) return read_csv(input, runs);
  auto source = open_capture(input);
  if (!source) return source.error();
  const CaptureTable& table = *find_capture_table("rows");
  if (!(*source)->has(table)) return Error(ExitCode::kInput, input + ": has no table rows");
  auto rows = (*source)->rows(table);
  if (!rows) return rows.error();
  std::stringstream text;
  text << csv_header_of(table) << '\n';
  for (;;) {
    auto more = (*rows)->next();
    if (!more) return more.error();
    if (!*more) break;
    CsvLine line;
    for (const std::string& field : (*rows)->fields()) line.text(field);
    text << line.str() << '\n';
  }
  return read_csv(text, input + ": table rows", runs);
}

}  // namespace petrel::cli
