// SPDX-License-Identifier: MIT
// Reading a log of decisions, while an agent may be writing it.
#include <algorithm>
#include <boost/json.hpp>
#include <filesystem>

#include "decisions/decision_store.hpp"
#include "decisions/sqlite_handle.hpp"

namespace petrel {
namespace {

std::string text_of(sqlite3_stmt* row, int column) {
  const unsigned char* text = sqlite3_column_text(row, column);
  return text == nullptr ? "" : reinterpret_cast<const char*>(text);
}

DecisionValue value_of(sqlite3_stmt* row, int column) {
  switch (sqlite3_column_type(row, column)) {
    case SQLITE_NULL:
      return {};
    case SQLITE_TEXT:
      return text_of(row, column);
    default:
      return sqlite3_column_double(row, column);
  }
}

std::vector<DecisionFeature> features_of(const std::string& text) {
  std::vector<DecisionFeature> out;
  boost::system::error_code code;
  const boost::json::value value = boost::json::parse(text, code);
  if (code || !value.is_object()) return out;
  for (const auto& [name, log_odds] : value.as_object()) {
    if (log_odds.is_number()) out.push_back({std::string(name), log_odds.to_number<double>()});
  }
  return out;
}

Decision decision_of(sqlite3_stmt* row) {
  Decision it;
  it.time_ns = sqlite3_column_int64(row, 1);
  it.tick = static_cast<std::uint64_t>(sqlite3_column_int64(row, 2));
  const auto kind = std::ranges::find(kDecisionKinds, text_of(row, 3));
  if (kind != kDecisionKinds.end()) {
    it.kind = static_cast<DecisionKind>(kind - kDecisionKinds.begin());
  }
  it.service = text_of(row, 4);
  it.backend = text_of(row, 5);
  it.before = value_of(row, 6);
  it.after = value_of(row, 7);
  it.reason = text_of(row, 8);
  it.rails = text_of(row, 9);
  it.features = features_of(text_of(row, 10));
  it.model = text_of(row, 11);
  it.in_force = sqlite3_column_int(row, 12) != 0;
  it.note = text_of(row, 13);
  return it;
}

}  // namespace

Result<std::map<std::int64_t, Decision>> read_decisions(const std::string& path,
                                                        const DecisionQuery& query) {
  const std::string what = "read " + path;
  std::error_code code;
  if (!std::filesystem::exists(path, code)) {
    return Error(ExitCode::kInput, what + ": there is no such log of decisions");
  }
  // Not read-only: the last reader of a WAL that nobody writes any more must be able to open it.
  auto handle = decisions::open(path, SQLITE_OPEN_READWRITE, what);
  if (!handle) return handle.error();
  // No table of that name: some other file.
  auto select = decisions::prepare(
      handle->get(),
      "SELECT id, time_ns, tick, kind, service, backend, before, after, reason, rails, features, "
      "model, in_force, note FROM decisions WHERE time_ns >= ?1 AND id > ?2 AND "
      "(?3 = '' OR service = ?3) AND (?4 = '' OR backend = ?4) AND (?5 = '' OR kind = ?5) "
      "ORDER BY id DESC LIMIT ?6",
      what);
  if (!select) return Error(ExitCode::kInput, select.error().message());
  sqlite3_stmt* row = select->get();
  sqlite3_bind_int64(row, 1, query.since_ns);
  sqlite3_bind_int64(row, 2, query.after_id);
  int index = 3;
  for (const std::string* text : {&query.service, &query.backend, &query.kind}) {
    sqlite3_bind_text(row, index++, text->data(), static_cast<int>(text->size()), SQLITE_STATIC);
  }
  sqlite3_bind_int64(row, 6, query.last == 0 ? -1 : static_cast<std::int64_t>(query.last));
  std::map<std::int64_t, Decision> out;
  int stepped = SQLITE_ROW;
  while ((stepped = sqlite3_step(row)) == SQLITE_ROW) {
    out.emplace(sqlite3_column_int64(row, 0), decision_of(row));
  }
  if (stepped != SQLITE_DONE) return decisions::failure(handle->get(), what);
  return out;
}

}  // namespace petrel
