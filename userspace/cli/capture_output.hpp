// SPDX-License-Identifier: MIT
// Where captures go by their names: for `petrel capture` and `petrel export`.
#pragma once

#include <string>

#include "capture/rotation.hpp"
#include "capture/store.hpp"

namespace petrel::cli {

enum class CaptureForm { kSqlite, kCsvDirectory, kCsvFile };

// "-" and NAME.csv: one table as CSV; NAME/ and what is a directory: CSV, a file a table; else SQLite.
CaptureForm form_of(const std::string& path);

// `table`: of kCsvFile.
CaptureFiles::Create creator_of(CaptureForm form, const CaptureTable& table);

// "100M", "4096", "2G": bytes; kUsage for anything else.
Result<std::uint64_t> parse_bytes(const std::string& text);
// "90s", "15m", "1h", "2d".
Result<std::chrono::seconds> parse_age(const std::string& text);

// One of a capture's tables; kUsage, with all of their names, for another name.
Result<const CaptureTable*> table_named(const std::string& name);

}  // namespace petrel::cli
