// SPDX-License-Identifier: MIT
// Captures on disk: SQLite and CSV hold the same, and what is no capture is told so.
#include <sqlite3.h>

#include "tests/unit/capture_samples.hpp"

namespace petrel::test {
namespace {

class CaptureStore : public CaptureFileTest {
 protected:
  TableRows fill(CaptureSink& sink) {
    TableRows rows;
    for (const CaptureTable& table : capture_tables()) {
      for (std::size_t i = 0; i < 5; ++i) {
        rows[table.name].push_back(sample_row(table, i));
        const auto added = sink.add(table, rows[table.name].back());
        EXPECT_TRUE(added) << added.error().message();
      }
    }
    EXPECT_TRUE(sink.close());
    return rows;
  }

  void copy(const std::string& from, CaptureSink& to) {
    auto source = open_capture(path(from));
    ASSERT_TRUE(source) << source.error().message();
    const auto copied = copy_capture(**source, to);
    ASSERT_TRUE(copied) << copied.error().message();
    ASSERT_TRUE(to.close());
  }

  // What is said of a file that is none.
  Error refusal(const std::string& name) {
    auto source = open_capture(path(name));
    if (!source) return source.error();
    for (const CaptureTable& table : capture_tables()) {
      if (!(*source)->has(table)) continue;
      auto rows = (*source)->rows(table);
      if (!rows) return rows.error();
      for (;;) {
        auto more = (*rows)->next();
        if (!more) return more.error();
        if (!*more) break;
      }
    }
    return Error(ExitCode::kGood, "nothing");
  }
};

TEST_F(CaptureStore, GoesFromSqliteToCsvAndBackAndLosesNothing) {
  auto sink = create_sqlite(path("a.db"));
  ASSERT_TRUE(sink) << sink.error().message();
  const TableRows rows = fill(**sink);
  auto as_csv = create_csv_directory(path("csv"));
  ASSERT_TRUE(as_csv);
  copy("a.db", **as_csv);
  auto back = create_sqlite(path("b.db"));
  ASSERT_TRUE(back);
  copy("csv", **back);

  for (const char* name : {"a.db", "csv", "b.db"}) {
    auto source = open_capture(path(name));
    ASSERT_TRUE(source) << source.error().message();
    EXPECT_EQ(all_rows(**source), rows) << name;
  }
  auto again = create_csv_directory(path("again"));
  ASSERT_TRUE(again);
  copy("b.db", **again);
  for (const CaptureTable& table : capture_tables()) {
    EXPECT_EQ(read("again/" + table.name + ".csv"), read("csv/" + table.name + ".csv"));
  }
}

TEST_F(CaptureStore, OneTableGoesIntoOneCsvAndIsKnownByItsHeader) {
  const CaptureTable& losses = *find_capture_table("losses");
  auto sink = create_csv_file(path("x.csv"), losses);
  ASSERT_TRUE(sink);
  const TableRows rows = fill(**sink);
  auto source = open_capture(path("x.csv"));
  ASSERT_TRUE(source) << source.error().message();
  EXPECT_FALSE((*source)->has(*find_capture_table("rows")));
  const TableRows found = all_rows(**source);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found.at("losses"), rows.at("losses"));
}

TEST_F(CaptureStore, ACloseLeavesOneFileThatOthersCannotRead) {
  auto sink = create_sqlite(path("a.db"));
  ASSERT_TRUE(sink);
  fill(**sink);
  EXPECT_FALSE(std::filesystem::exists(path("a.db-wal")));
  EXPECT_EQ(std::filesystem::status(path("a.db")).permissions(), std::filesystem::perms(0600));
}

TEST_F(CaptureStore, WhatWasFlushedIsThereWithoutAClose) {
  auto sink = create_sqlite(path("a.db"));
  ASSERT_TRUE(sink);
  const CaptureTable& losses = *find_capture_table("losses");
  ASSERT_TRUE((*sink)->add(losses, {"1", "stream", "2"}));
  ASSERT_TRUE((*sink)->flush());
  ASSERT_TRUE((*sink)->add(losses, {"3", "stream", "4"}));
  auto source = open_capture(path("a.db"));  // while it is being written
  ASSERT_TRUE(source) << source.error().message();
  EXPECT_EQ(all_rows(**source).at("losses").size(), 1u);
}

TEST_F(CaptureStore, OverwritesNoCapture) {
  ASSERT_TRUE(create_sqlite(path("a.db")));
  EXPECT_EQ(create_sqlite(path("a.db")).error().kind(), ExitCode::kUsage);
  ASSERT_TRUE(create_csv_directory(path("csv")));
  EXPECT_EQ(create_csv_directory(path("csv")).error().kind(), ExitCode::kUsage);
}

TEST_F(CaptureStore, TakesNoRowThatDoesNotFit) {
  auto sink = create_sqlite(path("a.db"));
  ASSERT_TRUE(sink);
  const CaptureTable& losses = *find_capture_table("losses");
  EXPECT_FALSE((*sink)->add(losses, {"1", "stream"}));
  const auto wrong = (*sink)->add(losses, {"1", "stream", "many"});
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().message(),
            "table losses: column 3 (lost): expected an integer of 64 bits, found \"many\"");
}

TEST_F(CaptureStore, SaysWhereACsvIsWrong) {
  struct Case {
    const char* text;
    const char* said;
  };
  const Case cases[] = {
      {"time_ns,place,lots\n", "line 1: expected the columns of a capture's table"},
      {"", "line 1: expected"},
      {"time_ns,place,lost\n1,stream,x\n",
       "line 2: column 3 (lost): expected an integer of 64 bits, found \"x\""},
      {"time_ns,place,lost\n1,stream,2\n1,stream\n", "line 3: expected 3 columns, found 2"},
      {"time_ns,place,lost\n1,stream,2", "line 2: expected a newline, found the end of file"},
      {"time_ns,place,lost\n1,\"stream,2\n", "line 2: expected fields with their quotes closed"},
      {"time_ns,place,lost\n1,stream,9223372036854775808\n", "line 2: column 3 (lost)"},
  };
  for (const Case& each : cases) {
    write("x.csv", each.text);
    const Error error = refusal("x.csv");
    EXPECT_EQ(error.kind(), ExitCode::kInput) << each.text;
    EXPECT_NE(error.message().find(each.said), std::string::npos) << error.message();
  }
}

TEST_F(CaptureStore, ATableOfADirectoryMustHaveItsColumns) {
  std::filesystem::create_directory(path("csv"));
  EXPECT_EQ(refusal("csv").kind(), ExitCode::kInput);
  write("csv/losses.csv", "time_ns,spot,lost\n");
  const Error error = refusal("csv");
  EXPECT_EQ(error.kind(), ExitCode::kInput);
  EXPECT_NE(error.message().find("line 1: column 2: expected place, found \"spot\""),
            std::string::npos)
      << error.message();
}

TEST_F(CaptureStore, AnotherProgramsSqliteIsNoCapture) {
  sqlite3* database = nullptr;
  ASSERT_EQ(sqlite3_open(path("other.db").c_str(), &database), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(database, "CREATE TABLE requests (x)", nullptr, nullptr, nullptr),
            SQLITE_OK);
  sqlite3_close(database);
  const Error error = refusal("other.db");
  EXPECT_EQ(error.kind(), ExitCode::kInput);
  EXPECT_NE(error.message().find("another program's"), std::string::npos) << error.message();
}

TEST_F(CaptureStore, ADamagedFileIsBadInput) {
  auto sink = create_sqlite(path("a.db"));
  ASSERT_TRUE(sink);
  fill(**sink);
  const std::string whole = read("a.db");
  std::string garbled = whole;
  std::fill(garbled.begin() + 100, garbled.end(), '\x5a');
  write("garbled.db", garbled);
  EXPECT_EQ(refusal("garbled.db").kind(), ExitCode::kInput) << refusal("garbled.db").message();
  write("short.db", whole.substr(0, whole.size() / 2));
  EXPECT_EQ(refusal("short.db").kind(), ExitCode::kInput) << refusal("short.db").message();
  EXPECT_EQ(refusal("absent.db").kind(), ExitCode::kInput);
}

TEST_F(CaptureStore, AnotherVersionOrAMissingTableIsSaid) {
  auto sink = create_sqlite(path("a.db"));
  ASSERT_TRUE(sink);
  fill(**sink);
  const auto run = [&](const char* sql) {
    sqlite3* database = nullptr;
    ASSERT_EQ(sqlite3_open(path("a.db").c_str(), &database), SQLITE_OK);
    ASSERT_EQ(sqlite3_exec(database, sql, nullptr, nullptr, nullptr), SQLITE_OK);
    sqlite3_close(database);
  };
  run("ALTER TABLE losses RENAME COLUMN lost TO gone");
  EXPECT_EQ(refusal("a.db").kind(), ExitCode::kInput);
  EXPECT_NE(refusal("a.db").message().find("table losses"), std::string::npos);
  run("PRAGMA user_version = 9");
  EXPECT_NE(refusal("a.db").message().find("found 9"), std::string::npos);
}

}  // namespace
}  // namespace petrel::test
