// SPDX-License-Identifier: MIT
// Reading a capture from SQLite.
#include <cstdio>
#include <filesystem>

#include "capture/sqlite.hpp"
#include "capture/store.hpp"

namespace petrel {
namespace {

constexpr int kBusyMs = 5000;

std::string text_of(sqlite3_stmt* statement, int index) {
  const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(statement, index));
  return text == nullptr ? std::string()
                         : std::string(text, static_cast<std::size_t>(
                                                 sqlite3_column_bytes(statement, index)));
}

std::string field_of(sqlite3_stmt* statement, int index, ColumnType type) {
  if (type != ColumnType::kReal || sqlite3_column_type(statement, index) == SQLITE_TEXT) {
    return text_of(statement, index);
  }
  char digits[64];
  std::snprintf(digits, sizeof(digits), "%.4f", sqlite3_column_double(statement, index));
  return digits;
}

class SqliteRows : public CaptureRows {
 public:
  SqliteRows(const CaptureTable& table, std::string path, SqliteStatement select)
      : table_(table), path_(std::move(path)), select_(std::move(select)) {}

  Result<bool> next() override {
    const int code = sqlite3_step(select_.get());
    if (code == SQLITE_DONE) return false;
    ++row_;
    if (code != SQLITE_ROW) {
      return sqlite_error(sqlite3_db_handle(select_.get()), "read " + place());
    }
    fields_.clear();
    for (std::size_t i = 0; i < table_.columns.size(); ++i) {
      fields_.push_back(field_of(select_.get(), static_cast<int>(i), table_.columns[i].type));
    }
    if (auto fits = check_fields(table_, fields_, place()); !fits) return fits.error();
    return true;
  }
  std::string place() const override {
    return path_ + ": table " + table_.name + ", row " + std::to_string(row_);
  }

 private:
  const CaptureTable& table_;
  std::string path_;
  SqliteStatement select_;
  std::uint64_t row_ = 0;
};

class SqliteSource : public CaptureSource {
 public:
  SqliteSource(std::string path, SqliteDatabase database)
      : path_(std::move(path)), database_(std::move(database)) {}

  bool has(const CaptureTable&) const override { return true; }

  Result<std::unique_ptr<CaptureRows>> rows(const CaptureTable& table) override {
    std::string columns;
    for (const CaptureColumn& column : table.columns) {
      columns += (columns.empty() ? "t.\"" : ", t.\"") + column.name + "\"";
    }
    auto select =
        sqlite_prepare(database_.get(), "SELECT " + columns + " FROM " + table.name +
                                            " AS t ORDER BY t.rowid",
                       "read " + path_ + ": table " + table.name);
    if (!select) return select.error();
    return std::make_unique<SqliteRows>(table, path_, std::move(*select));
  }

  Result<int> number(const char* pragma) {
    auto select = sqlite_prepare(database_.get(), std::string("PRAGMA ") + pragma, "read " + path_);
    if (!select) return select.error();
    if (sqlite3_step(select->get()) != SQLITE_ROW) {
      return sqlite_error(database_.get(), "read " + path_);
    }
    return sqlite3_column_int(select->get(), 0);
  }

 private:
  std::string path_;
  SqliteDatabase database_;
};

// Writable where it may be: what a killed writer has left is put in order then.
SqliteDatabase open_either_way(const std::string& path) {
  for (const int flags : {SQLITE_OPEN_READWRITE, SQLITE_OPEN_READONLY}) {
    sqlite3* handle = nullptr;
    const int opened = sqlite3_open_v2(path.c_str(), &handle, flags, nullptr);
    SqliteDatabase database(handle);
    if (opened == SQLITE_OK || flags == SQLITE_OPEN_READONLY) return database;
  }
  return nullptr;
}

}  // namespace

Result<std::unique_ptr<CaptureSource>> open_sqlite(const std::string& path) {
  SqliteDatabase database = open_either_way(path);
  if (sqlite3_errcode(database.get()) != SQLITE_OK) {
    return sqlite_error(database.get(), "read " + path);
  }
  sqlite3_busy_timeout(database.get(), kBusyMs);
  auto source = std::make_unique<SqliteSource>(path, std::move(database));
  const auto id = source->number("application_id");
  if (!id) return id.error();
  if (*id != kSqliteApplicationId) {
    return Error(ExitCode::kInput, path + ": expected a capture (application_id " +
                                       std::to_string(kSqliteApplicationId) + "), found " +
                                       std::to_string(*id) + ": another program's SQLite file");
  }
  const auto version = source->number("user_version");
  if (!version) return version.error();
  if (*version != kSqliteVersion) {
    return Error(ExitCode::kInput, path + ": expected version " + std::to_string(kSqliteVersion) +
                                       " of petrel/capture, found " + std::to_string(*version));
  }
  return source;
}

}  // namespace petrel
