// SPDX-License-Identifier: MIT
// Writing a capture as SQLite: one transaction a flush, in WAL mode, so that others may read
// meanwhile; a file that is closed is one file.
#include <charconv>
#include <filesystem>
#include <map>

#include "capture/sqlite.hpp"
#include "capture/store.hpp"

namespace petrel {
namespace {

constexpr int kBusyMs = 5000;

const char* affinity(ColumnType type) {
  switch (type) {
    case ColumnType::kInteger:
      return "INTEGER";
    case ColumnType::kReal:
      return "REAL";
    case ColumnType::kId:
    case ColumnType::kText:
      break;
  }
  return "TEXT";
}

std::string create_statement(const CaptureTable& table) {
  std::string sql = "CREATE TABLE " + table.name + " (";
  for (const CaptureColumn& column : table.columns) {
    if (&column != &table.columns.front()) sql += ", ";
    sql += "\"" + column.name + "\" " + affinity(column.type) + " NOT NULL";
  }
  return sql + ")";
}

std::string insert_statement(const CaptureTable& table) {
  std::string sql = "INSERT INTO " + table.name + " VALUES (?";
  for (std::size_t i = 1; i < table.columns.size(); ++i) sql += ",?";
  return sql + ")";
}

int bind(sqlite3_stmt* statement, int index, ColumnType type, const std::string& field) {
  const char* const end = field.data() + field.size();
  if (type == ColumnType::kInteger) {
    std::int64_t value = 0;
    std::from_chars(field.data(), end, value);
    return sqlite3_bind_int64(statement, index, value);
  }
  if (type == ColumnType::kReal) {
    double value = 0;
    std::from_chars(field.data(), end, value);
    return sqlite3_bind_double(statement, index, value);
  }
  return sqlite3_bind_text(statement, index, field.data(), static_cast<int>(field.size()),
                           SQLITE_STATIC);
}

class SqliteSink : public CaptureSink {
 public:
  SqliteSink(std::string path, SqliteDatabase database)
      : path_(std::move(path)), database_(std::move(database)) {}

  Result<void> prepare() {
    const std::string setup =
        "PRAGMA application_id = " + std::to_string(kSqliteApplicationId) +
        "; PRAGMA user_version = " + std::to_string(kSqliteVersion) +
        "; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; BEGIN;";
    if (auto done = run(setup); !done) return done;
    for (const CaptureTable& table : capture_tables()) {
      if (auto done = run(create_statement(table)); !done) return done;
    }
    if (auto done = run("COMMIT"); !done) return done;
    for (const CaptureTable& table : capture_tables()) {
      auto insert = sqlite_prepare(database_.get(), insert_statement(table), "write " + path_);
      if (!insert) return insert.error();
      inserts_[&table] = std::move(*insert);
    }
    return {};
  }

  Result<void> add(const CaptureTable& table, const std::vector<std::string>& fields) override {
    if (auto fits = check_fields(table, fields, "table " + table.name); !fits) return fits;
    if (!open_) {
      if (auto begun = run("BEGIN"); !begun) return begun;
      open_ = true;
    }
    sqlite3_stmt* const insert = inserts_.at(&table).get();
    for (std::size_t i = 0; i < fields.size(); ++i) {
      bind(insert, static_cast<int>(i) + 1, table.columns[i].type, fields[i]);
    }
    const int code = sqlite3_step(insert);
    sqlite3_reset(insert);
    if (code != SQLITE_DONE) return sqlite_error(database_.get(), "write " + path_);
    return {};
  }

  Result<void> flush() override {
    if (!open_) return {};
    open_ = false;
    return run("COMMIT");
  }

  Result<void> close() override {
    if (auto done = flush(); !done) return done;
    inserts_.clear();
    // Takes the log into the file; fails while another reads: then the log stays beside it.
    sqlite3_exec(database_.get(), "PRAGMA journal_mode = DELETE", nullptr, nullptr, nullptr);
    database_.reset();
    return {};
  }

  std::uint64_t bytes() const override {
    std::uint64_t sum = 0;
    for (const char* suffix : {"", "-wal"}) {
      std::error_code code;
      const auto size = std::filesystem::file_size(path_ + suffix, code);
      if (!code) sum += size;
    }
    return sum;
  }

 private:
  Result<void> run(const std::string& sql) {
    return sqlite_run(database_.get(), sql, "write " + path_);
  }

  std::string path_;
  SqliteDatabase database_;
  std::map<const CaptureTable*, SqliteStatement> inserts_;
  bool open_ = false;  // a transaction is
};

}  // namespace

Result<std::unique_ptr<CaptureSink>> create_sqlite(const std::string& path) {
  std::error_code code;
  if (std::filesystem::exists(path, code)) {
    return Error(ExitCode::kUsage, path + " is there already: name another file, or remove it");
  }
  sqlite3* handle = nullptr;
  const int opened =
      sqlite3_open_v2(path.c_str(), &handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, nullptr);
  SqliteDatabase database(handle);
  if (opened != SQLITE_OK) return sqlite_error(handle, "write " + path);
  std::filesystem::permissions(path, std::filesystem::perms(0600), code);  // as CSV: clients are in it
  sqlite3_busy_timeout(handle, kBusyMs);
  auto sink = std::make_unique<SqliteSink>(path, std::move(database));
  if (auto ready = sink->prepare(); !ready) return ready.error();
  return sink;
}

}  // namespace petrel
