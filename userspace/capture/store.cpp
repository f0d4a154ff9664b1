// SPDX-License-Identifier: MIT
#include "capture/store.hpp"

#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>

namespace petrel {
namespace {

constexpr std::string_view kSqliteMagic = "SQLite format 3";
constexpr std::size_t kLongestQuote = 40;

}  // namespace

bool is_capture_store(const std::string& path) {
  std::error_code code;
  if (std::filesystem::is_directory(path, code)) return true;
  std::ifstream file(path, std::ios::binary);
  std::string head(kSqliteMagic.size(), '\0');
  file.read(head.data(), static_cast<std::streamsize>(head.size()));
  return head == kSqliteMagic;
}

Result<std::unique_ptr<CaptureSource>> open_capture(const std::string& path) {
  errno = 0;
  if (::access(path.c_str(), R_OK) != 0) {
    return Error(ExitCode::kInput, Error::from_errno(errno, "read " + path).message());
  }
  std::error_code code;
  if (std::filesystem::is_directory(path, code) || !is_capture_store(path)) return open_csv(path);
  return open_sqlite(path);
}

Result<void> check_fields(const CaptureTable& table, const std::vector<std::string>& fields,
                          const std::string& place) {
  if (fields.size() != table.columns.size()) {
    return Error(ExitCode::kInput, place + ": expected " + std::to_string(table.columns.size()) +
                                       " columns, found " + std::to_string(fields.size()));
  }
  for (std::size_t i = 0; i < fields.size(); ++i) {
    const std::string_view expected = misfit(table.columns[i].type, fields[i]);
    if (expected.empty()) continue;
    return Error(ExitCode::kInput, place + ": column " + std::to_string(i + 1) + " (" +
                                       table.columns[i].name + "): expected " +
                                       std::string(expected) + ", found \"" +
                                       fields[i].substr(0, kLongestQuote) + "\"");
  }
  return {};
}

Result<void> copy_capture(CaptureSource& from, CaptureSink& to, const CaptureTable* only) {
  for (const CaptureTable& table : capture_tables()) {
    if (!from.has(table) || (only != nullptr && only != &table)) continue;
    auto rows = from.rows(table);
    if (!rows) return rows.error();
    for (;;) {
      auto more = (*rows)->next();
      if (!more) return more.error();
      if (!*more) break;
      if (auto added = to.add(table, (*rows)->fields()); !added) return added;
    }
  }
  return to.flush();
}

}  // namespace petrel
