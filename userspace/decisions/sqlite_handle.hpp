// SPDX-License-Identifier: MIT
// SQLite's handles of a log of decisions, owned, with its errors as ours. Internal to decisions/.
#pragma once

#include <sqlite3.h>

#include <memory>
#include <string>

#include "base/error.hpp"

namespace petrel::decisions {

struct Close {
  void operator()(sqlite3* database) const { sqlite3_close_v2(database); }
  void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
};
using Handle = std::unique_ptr<sqlite3, Close>;
using Statement = std::unique_ptr<sqlite3_stmt, Close>;

inline constexpr int kApplicationId = 0x50544431;  // "PTD1"
inline constexpr int kVersion = 1;

// kInput where the file is damaged or none of SQLite's.
inline Error failure(sqlite3* database, const std::string& what) {
  const int code = database == nullptr ? SQLITE_NOMEM : sqlite3_errcode(database) & 0xff;
  const bool bad_file = code == SQLITE_CORRUPT || code == SQLITE_NOTADB;
  return Error(bad_file ? ExitCode::kInput : ExitCode::kRuntime,
               what + ": " + (database == nullptr ? "out of memory" : sqlite3_errmsg(database)));
}

inline Result<Statement> prepare(sqlite3* database, const std::string& sql,
                                 const std::string& what) {
  sqlite3_stmt* statement = nullptr;
  if (sqlite3_prepare_v2(database, sql.c_str(), -1, &statement, nullptr) != SQLITE_OK) {
    return failure(database, what);
  }
  return Statement(statement);
}

inline Result<Handle> open(const std::string& path, int flags, const std::string& what) {
  sqlite3* handle = nullptr;
  const int opened = sqlite3_open_v2(path.c_str(), &handle, flags, nullptr);
  Handle database(handle);
  if (opened != SQLITE_OK) return failure(handle, what);
  sqlite3_busy_timeout(handle, 2000);
  return database;
}

}  // namespace petrel::decisions
