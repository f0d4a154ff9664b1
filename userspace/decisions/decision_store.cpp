// SPDX-License-Identifier: MIT
#include "decisions/decision_store.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/json.hpp>
#include <cerrno>
#include <cstdio>
#include <filesystem>

#include "decisions/sqlite_handle.hpp"

namespace petrel {
namespace {

using decisions::Handle;
using decisions::Statement;

constexpr std::uint64_t kBytesInMb = 1 << 20;
constexpr const char* kCreate =
    "CREATE TABLE IF NOT EXISTS decisions (id INTEGER PRIMARY KEY, time_ns INTEGER NOT NULL, "
    "tick INTEGER NOT NULL, kind TEXT NOT NULL, service TEXT NOT NULL, backend TEXT NOT NULL, "
    "before, after, reason TEXT NOT NULL, rails TEXT NOT NULL, features TEXT NOT NULL, "
    "model TEXT NOT NULL, in_force INTEGER NOT NULL, note TEXT NOT NULL); "
    "CREATE INDEX IF NOT EXISTS decisions_time ON decisions (time_ns);";

void bind_text(sqlite3_stmt* statement, int index, std::string_view text) {
  sqlite3_bind_text(statement, index, text.data(), static_cast<int>(text.size()), SQLITE_TRANSIENT);
}

void bind_value(sqlite3_stmt* statement, int index, const DecisionValue& value) {
  if (const double* number = std::get_if<double>(&value)) {
    sqlite3_bind_double(statement, index, *number);
  } else if (const std::string* text = std::get_if<std::string>(&value)) {
    bind_text(statement, index, *text);
  } else {
    sqlite3_bind_null(statement, index);
  }
}

Result<void> make_directory(const std::string& directory) {
  std::error_code code;
  std::filesystem::create_directories(directory, code);
  if (code) return Error::from_errno(code.value(), "create " + directory);
  return {};
}

// KiB of pages: rows are only added, and the agent's memory is not to grow with the file.
constexpr const char* kSmallCache = "PRAGMA cache_size = -64; ";

}  // namespace

// One open file; where anything fails it is to be thrown away.
class DecisionStore::Database {
 public:
  static Result<std::unique_ptr<Database>> open(const std::string& path, std::uint32_t rows) {
    const std::string what = "write " + path;
    auto handle = decisions::open(path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, what);
    if (!handle) return handle.error();
    std::unique_ptr<Database> database(new Database(std::move(*handle), what, rows));
    const std::string setup = "PRAGMA application_id = " + std::to_string(decisions::kApplicationId) +
                              "; PRAGMA user_version = " + std::to_string(decisions::kVersion) +
                              "; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; " + kSmallCache +
                              kCreate;
    if (auto done = database->run(setup); !done) return done.error();
    std::error_code ignored;
    std::filesystem::permissions(path, std::filesystem::perms(0600), ignored);
    auto insert = decisions::prepare(
        database->handle_.get(),
        "INSERT INTO decisions (time_ns, tick, kind, service, backend, before, after, reason, rails, "
        "features, model, in_force, note) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",
        what);
    if (!insert) return insert.error();
    database->insert_ = std::move(*insert);
    return database;
  }

  Result<void> write(std::span<const Decision> list) {
    if (auto begun = run("BEGIN IMMEDIATE"); !begun) return begun;
    for (const Decision& decision : list) {
      if (auto added = add(decision); !added) return added;
    }
    // Those beyond: ids grow by one.
    const std::string surplus = "DELETE FROM decisions WHERE id <= (SELECT MAX(id) FROM decisions) - " +
                                std::to_string(rows_);
    if (auto deleted = run(surplus); !deleted) return deleted;
    return run("COMMIT");
  }

 private:
  Database(Handle handle, std::string what, std::uint32_t rows)
      : handle_(std::move(handle)), what_(std::move(what)), rows_(rows) {}

  Result<void> run(const std::string& sql) {
    if (sqlite3_exec(handle_.get(), sql.c_str(), nullptr, nullptr, nullptr) == SQLITE_OK) return {};
    return decisions::failure(handle_.get(), what_);
  }

  Result<void> add(const Decision& it) {
    boost::json::object features;
    for (const DecisionFeature& feature : it.features) features[feature.name] = feature.log_odds;
    sqlite3_stmt* row = insert_.get();
    sqlite3_bind_int64(row, 1, it.time_ns);
    sqlite3_bind_int64(row, 2, static_cast<sqlite3_int64>(it.tick));
    bind_text(row, 3, to_string(it.kind));
    bind_text(row, 4, it.service);
    bind_text(row, 5, it.backend);
    bind_value(row, 6, it.before);
    bind_value(row, 7, it.after);
    bind_text(row, 8, it.reason);
    bind_text(row, 9, it.rails);
    bind_text(row, 10, boost::json::serialize(features));
    bind_text(row, 11, it.model);
    sqlite3_bind_int(row, 12, it.in_force ? 1 : 0);
    bind_text(row, 13, it.note);
    const int stepped = sqlite3_step(row);
    const int reset = sqlite3_reset(row);
    if (stepped == SQLITE_DONE && reset == SQLITE_OK) return {};
    return decisions::failure(handle_.get(), what_);
  }

  Handle handle_;
  std::string what_;
  std::uint32_t rows_;
  Statement insert_;
};

DecisionStore::DecisionStore(std::string directory, const DecisionLogSettings& settings)
    : directory_(std::move(directory)), settings_(settings) {}
DecisionStore::~DecisionStore() = default;

Result<void> DecisionStore::write_sqlite(std::span<const Decision> list) {
  if (!settings_.sqlite) return {};
  const std::string path = decisions_db(directory_);
  if (!database_) {
    if (auto made = make_directory(directory_); !made) return made;
    auto opened = Database::open(path, settings_.sqlite_rows);
    if (!opened && opened.error().kind() == ExitCode::kInput) {
      // Nobody can read it: it makes room, and is kept for whoever wants to know.
      std::error_code ignored;
      std::filesystem::rename(path, path + ".broken", ignored);
      for (const char* beside : {"-wal", "-shm"}) std::filesystem::remove(path + beside, ignored);
      opened = Database::open(path, settings_.sqlite_rows);
    }
    if (!opened) return opened.error();
    database_ = std::move(*opened);
  }
  auto written = database_->write(list);
  if (!written) database_.reset();  // with it goes what it has begun
  return written;
}

Result<void> DecisionStore::open_json() {
  if (auto made = make_directory(directory_); !made) return made;
  const std::string path = decisions_jsonl(directory_);
  json_.reset(::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600));
  if (!json_) return Error::from_errno(errno, "open " + path);
  struct stat facts {};
  if (::fstat(json_.get(), &facts) != 0) return Error::from_errno(errno, "stat " + path);
  json_bytes_ = static_cast<std::uint64_t>(facts.st_size);
  return {};
}

Result<void> DecisionStore::rotate_json() {
  const std::string path = decisions_jsonl(directory_);
  json_.reset();
  for (std::uint32_t i = settings_.json_files - 1; i > 0; --i) {
    const std::string from = i == 1 ? path : path + "." + std::to_string(i - 1);
    if (::rename(from.c_str(), (path + "." + std::to_string(i)).c_str()) != 0 && errno != ENOENT) {
      return Error::from_errno(errno, "rename " + from);
    }
  }
  if (settings_.json_files == 1) ::unlink(path.c_str());
  return open_json();
}

Result<void> DecisionStore::write_json(std::span<const Decision> list) {
  if (!settings_.json) return {};
  if (!json_) {
    if (auto opened = open_json(); !opened) return opened;
  }
  if (json_bytes_ >= settings_.json_mb * kBytesInMb) {
    if (auto rotated = rotate_json(); !rotated) return rotated;
  }
  std::string text;
  for (const Decision& decision : list) text += boost::json::serialize(decision_json(decision)) + "\n";
  const ssize_t written = ::write(json_.get(), text.data(), text.size());
  if (written == static_cast<ssize_t>(text.size())) {
    json_bytes_ += text.size();
    return {};
  }
  const int why = written < 0 ? errno : ENOSPC;
  // Half a line would spoil the next one.
  if (written > 0 && ::ftruncate(json_.get(), static_cast<off_t>(json_bytes_)) != 0) json_bytes_ = 0;
  json_.reset();
  return Error::from_errno(why, "write " + decisions_jsonl(directory_));
}

}  // namespace petrel
