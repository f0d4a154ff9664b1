// SPDX-License-Identifier: MIT
// SQLite's handles, owned, with its errors as ours.
#pragma once

#include <sqlite3.h>

#include <memory>
#include <string>

#include "base/error.hpp"

namespace petrel {

struct SqliteClose {
  void operator()(sqlite3* database) const { sqlite3_close_v2(database); }
  void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
};
using SqliteDatabase = std::unique_ptr<sqlite3, SqliteClose>;
using SqliteStatement = std::unique_ptr<sqlite3_stmt, SqliteClose>;

// "WHAT: SQLITE's message"; kInput where the file is damaged or none of SQLite's.
inline Error sqlite_error(sqlite3* database, const std::string& what) {
  const int code = database == nullptr ? SQLITE_NOMEM : sqlite3_errcode(database) & 0xff;
  const bool bad_file = code == SQLITE_CORRUPT || code == SQLITE_NOTADB || code == SQLITE_ERROR;
  return Error(bad_file ? ExitCode::kInput : ExitCode::kRuntime,
               what + ": " + (database == nullptr ? "out of memory" : sqlite3_errmsg(database)));
}

inline Result<void> sqlite_run(sqlite3* database, const std::string& sql, const std::string& what) {
  if (sqlite3_exec(database, sql.c_str(), nullptr, nullptr, nullptr) == SQLITE_OK) return {};
  return sqlite_error(database, what);
}

inline Result<SqliteStatement> sqlite_prepare(sqlite3* database, const std::string& sql,
                                              const std::string& what) {
  sqlite3_stmt* statement = nullptr;
  if (sqlite3_prepare_v2(database, sql.c_str(), -1, &statement, nullptr) != SQLITE_OK) {
    return sqlite_error(database, what);
  }
  return SqliteStatement(statement);
}

inline constexpr int kSqliteApplicationId = 0x50545231;  // "PTR1": a capture of ours
inline constexpr int kSqliteVersion = 1;                 // of its tables

}  // namespace petrel
