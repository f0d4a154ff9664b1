// SPDX-License-Identifier: MIT
// DecisionStore: decisions on disk, as a SQLite table and as JSON lines, each bounded.
//
// decisions.db keeps the last so many rows, in WAL mode, so that others may read meanwhile.
// decisions.jsonl is renamed to decisions.jsonl.1 and so on when it is full. What fails is closed and
// opened anew at the next write. Blocking; for one thread.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>

#include "base/error.hpp"
#include "base/unique_fd.hpp"
#include "decisions/decision.hpp"

struct sqlite3;

namespace petrel {

// The section [log] of the configuration.
struct DecisionLogSettings {
  bool sqlite = true;
  bool json = true;
  std::uint32_t sqlite_rows = 200000;  // about 250 bytes each
  std::uint32_t json_mb = 16;          // a file
  std::uint32_t json_files = 4;        // the one in hand among them

  bool operator==(const DecisionLogSettings&) const = default;
};

inline std::string decisions_db(const std::string& directory) { return directory + "/decisions.db"; }
inline std::string decisions_jsonl(const std::string& directory) {
  return directory + "/decisions.jsonl";
}

class DecisionStore {
 public:
  DecisionStore(std::string directory, const DecisionLogSettings& settings);
  ~DecisionStore();
  DecisionStore(DecisionStore&&) = delete;

  // All of them or none.
  Result<void> write_sqlite(std::span<const Decision> decisions);
  Result<void> write_json(std::span<const Decision> decisions);

  const DecisionLogSettings& settings() const { return settings_; }

 private:
  class Database;
  Result<void> open_json();
  Result<void> rotate_json();

  std::string directory_;
  DecisionLogSettings settings_;
  std::unique_ptr<Database> database_;
  UniqueFd json_;
  std::uint64_t json_bytes_ = 0;
};

// --- reading --------------------------------------------------------------------------------------

struct DecisionQuery {
  std::int64_t since_ns = 0;  // CLOCK_REALTIME
  std::int64_t after_id = 0;
  std::string service = {};   // "": all
  std::string backend = {};
  std::string kind = {};
  std::uint32_t last = 0;     // only so many, the latest; 0: all
};

// In order of time, by their row's id. kInput: it is no log of decisions.
Result<std::map<std::int64_t, Decision>> read_decisions(const std::string& path,
                                                        const DecisionQuery& query);

}  // namespace petrel
