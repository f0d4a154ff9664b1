// SPDX-License-Identifier: MIT
// What the tests of captures share: a directory of their own, rows, and all rows of a capture.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "capture/csv_text.hpp"
#include "capture/store.hpp"

namespace petrel::test {

class CaptureFileTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "petrel-capture-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::string path(const std::string& name) const { return (directory_ / name).string(); }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(path(name), std::ios::binary) << text;
  }
  std::string read(const std::string& name) const {
    std::ifstream file(path(name), std::ios::binary);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
  }

 private:
  std::filesystem::path directory_;
};

using TableRows = std::map<std::string, std::vector<std::vector<std::string>>>;

inline TableRows all_rows(CaptureSource& source) {
  TableRows out;
  for (const CaptureTable& table : capture_tables()) {
    if (!source.has(table)) continue;
    auto rows = source.rows(table);
    EXPECT_TRUE(rows) << rows.error().message();
    if (!rows) continue;
    out[table.name];
    for (;;) {
      auto more = (*rows)->next();
      EXPECT_TRUE(more) << more.error().message();
      if (!more || !*more) break;
      out[table.name].push_back((*rows)->fields());
    }
  }
  return out;
}

// Adds a line of the agent's stream: the table's name, then its fields.
inline void add_line(CaptureSink& sink, const std::string& line) {
  std::vector<std::string> fields;
  ASSERT_TRUE(split_csv(line, fields)) << line;
  const CaptureTable* table = find_capture_table(fields.front());
  ASSERT_NE(table, nullptr) << line;
  fields.erase(fields.begin());
  const auto added = sink.add(*table, fields);
  ASSERT_TRUE(added) << added.error().message();
}

// One row that fits, with what is hard to keep: quotes, commas, ends of ranges.
inline std::vector<std::string> sample_row(const CaptureTable& table, std::size_t number) {
  std::vector<std::string> fields;
  for (const CaptureColumn& column : table.columns) {
    const std::size_t kind = number + fields.size();
    switch (column.type) {
      case ColumnType::kInteger:
        fields.push_back(kind % 3 == 0 ? "9223372036854775807" : std::to_string(kind));
        break;
      case ColumnType::kId:
        fields.push_back(kind % 2 == 0 ? "18446744073709551615" : std::to_string(kind));
        break;
      case ColumnType::kReal:
        fields.push_back(kind % 2 == 0 ? "0.9961" : "1.0000");
        break;
      case ColumnType::kText:
        fields.push_back(kind % 2 == 0 ? "a \"quoted\", text=1" : "");
        break;
    }
  }
  return fields;
}

}  // namespace petrel::test
