// SPDX-License-Identifier: MIT
// From packets to labelled rows: what a model is trained on.
//
//   client ── lb ─┬─ b1   each answers 503 to all, at first; clients retry
//                 └─ b2
#include <algorithm>
#include <csignal>
#include <fstream>
#include <sstream>

#include "tests/lab/lab_fixture.hpp"

namespace petrel::test {
namespace {

using CaptureTest = LabTest;

// Rows by their columns; only lines that are complete.
struct Table {
  std::vector<std::string> header;
  std::vector<std::vector<std::string>> rows;

  std::size_t column(const std::string& name) const {
    const auto found = std::find(header.begin(), header.end(), name);
    if (found == header.end()) throw std::runtime_error("no column " + name);
    return static_cast<std::size_t>(found - header.begin());
  }
  long count(const std::string& name, const std::string& value) const {
    return std::count_if(rows.begin(), rows.end(), [&, at = column(name)](const auto& row) {
      return row.at(at) == value;
    });
  }
};

std::vector<std::string> fields_of(const std::string& line) {
  std::vector<std::string> fields;
  std::istringstream in(line);
  for (std::string field; std::getline(in, field, ',');) fields.push_back(field);
  return fields;
}

Table read_table(const std::string& path) {
  Table table;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (file.eof()) break;  // no newline yet
    if (table.header.empty()) {
      table.header = fields_of(line);
    } else {
      table.rows.push_back(fields_of(line));
    }
  }
  return table;
}

TEST_F(CaptureTest, LabelsWhatWasRetriedAndNotWhatWasServed) {
  Lab lab({.backends = 2});
  // Each row comes one retry window late: a short one.
  lab.start_agent({.mode = "neutral", .agent_lines = "retry_window_ms = 1000"});
  const std::string csv = lab.path("run.csv");
  Process& capture = lab.start_petrel({"capture", "-s", lab.socket(), "-o", csv, "--run", "r1"});
  for (int i : {1, 2}) lab.fault(i, "errors", {"--rate", "1"});
  Process& client = lab.start_client({"--rate", "100", "--duration", "60", "--clients", "8000",
                                      "--retry", "fixed", "--retry-delay-ms", "100",
                                      "--max-attempts", "3"});
  const auto rows_with = [&](const std::string& label) {
    const Table table = read_table(csv);
    return table.header.empty() ? 0 : table.count("retried", label);
  };
  await("rows that were retried", [&] { return rows_with("1") > 50; });
  for (int i : {1, 2}) lab.fault(i, "none");
  const double failed_before = lab.status().service("failures/server_error");
  await("rows that were served", [&] { return rows_with("0") > 300; });
  lab.end_client(client);
  EXPECT_EQ(capture.stop(SIGTERM), 0);

  const Table table = read_table(csv);
  EXPECT_EQ(table.header.front(), "run");
  EXPECT_EQ(table.header.back(), "confidence");
  EXPECT_EQ(table.count("run", "r1"), static_cast<long>(table.rows.size()));
  for (const auto& row : table.rows) ASSERT_EQ(row.size(), table.header.size());
  EXPECT_EQ(table.count("retried", "0") + table.count("retried", "1"),
            static_cast<long>(table.rows.size()));
  EXPECT_GT(failed_before, 50);
  long served_but_retried = 0;
  for (const auto& row : table.rows) {
    served_but_retried +=
        row.at(table.column("status")) == "200" && row.at(table.column("retried")) == "1";
  }
  EXPECT_EQ(served_but_retried, 0);

  // One run cannot be both trained on and held out.
  const Finished train = lab.petrel({"train", csv});
  EXPECT_EQ(train.exit_code, 3) << train.err;
  EXPECT_NE(train.err.find("run"), std::string::npos) << train.err;
}

TEST_F(CaptureTest, EndsWhenTheAgentStops) {
  Lab lab({.backends = 1});
  Process& agent = lab.start_agent({.mode = "neutral"});
  Process& capture = lab.start_petrel({"capture", "-s", lab.socket(), "--duration", "60"});
  EXPECT_EQ(agent.stop(SIGTERM), 0);
  capture.wait();
  EXPECT_EQ(lab.petrel({"capture", "-s", lab.socket()}).exit_code, 6);
}

}  // namespace
}  // namespace petrel::test
