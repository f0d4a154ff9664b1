// SPDX-License-Identifier: MIT
#include "cli/capture_output.hpp"

#include <charconv>
#include <filesystem>

namespace petrel::cli {
namespace {

struct Unit {
  char letter;
  std::uint64_t worth;
};

// A whole number above 0 with one of the units, or (where `plain`) without.
Result<std::uint64_t> parse_quantity(const std::string& text, std::initializer_list<Unit> units,
                                     bool plain, const char* expected) {
  std::uint64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, number);
  if (parsed.ec == std::errc{} && number > 0 && number < (1ull << 32)) {
    if (plain && parsed.ptr == end) return number;
    for (const Unit& unit : units) {
      if (parsed.ptr + 1 == end && *parsed.ptr == unit.letter) return number * unit.worth;
    }
  }
  return Error(ExitCode::kUsage, std::string("expected ") + expected + ", found '" + text + "'");
}

}  // namespace

CaptureForm form_of(const std::string& path) {
  std::error_code code;
  if (path == "-" || path.ends_with(".csv")) return CaptureForm::kCsvFile;
  if (path.ends_with('/') || std::filesystem::is_directory(path, code)) {
    return CaptureForm::kCsvDirectory;
  }
  return CaptureForm::kSqlite;
}

CaptureFiles::Create creator_of(CaptureForm form, const CaptureTable& table) {
  if (form == CaptureForm::kSqlite) return create_sqlite;
  if (form == CaptureForm::kCsvDirectory) return create_csv_directory;
  return [&table](const std::string& path) { return create_csv_file(path, table); };
}

Result<std::uint64_t> parse_bytes(const std::string& text) {
  return parse_quantity(text, {{'K', 1ull << 10}, {'M', 1ull << 20}, {'G', 1ull << 30}}, true,
                        "bytes, or with K, M or G");
}

Result<std::chrono::seconds> parse_age(const std::string& text) {
  auto seconds = parse_quantity(text, {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}}, false,
                                "a time with s, m, h or d");
  if (!seconds) return seconds.error();
  return std::chrono::seconds(*seconds);
}

Result<const CaptureTable*> table_named(const std::string& name) {
  if (const CaptureTable* table = find_capture_table(name)) return table;
  std::string names;
  for (const CaptureTable& table : capture_tables()) {
    names += (names.empty() ? "" : ", ") + table.name;
  }
  return Error(ExitCode::kUsage, "--table: expected one of " + names + ", found '" + name + "'");
}

}  // namespace petrel::cli
