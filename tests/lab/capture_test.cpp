// SPDX-License-Identifier: MIT
// From packets to captures: rows that a model is trained on, and all that a replay needs.
//
//   client ── lb ─┬─ b1   with a fault for a while; clients retry
//                 └─ b2
#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/lab/config_file.hpp"
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
  // The same from SQLite.
  const std::string db = lab.path("run.db");
  EXPECT_EQ(lab.petrel({"export", csv, "-o", db}).exit_code, 0);
  const Finished from_db = lab.petrel({"train", db});
  EXPECT_EQ(from_db.exit_code, 3) << from_db.err;
  EXPECT_NE(from_db.err.find("run"), std::string::npos) << from_db.err;
}

// A table of a capture, as `petrel export` writes it.
Table export_table(Lab& lab, const std::string& capture, const std::string& name) {
  const Finished done = lab.petrel({"export", capture, "-o", "-", "--table", name});
  if (done.exit_code != 0) throw std::runtime_error("export: " + done.err);
  Table table;
  std::istringstream lines(done.out);
  for (std::string line; std::getline(lines, line);) {
    if (table.header.empty()) {
      table.header = fields_of(line);
    } else {
      table.rows.push_back(fields_of(line));
    }
  }
  return table;
}

std::size_t rows_of(Lab& lab, const std::string& capture, const std::string& name) {
  return export_table(lab, capture, name).rows.size();
}

// A capture has begun once it has a tick: what comes from then on is in it.
Process& start_capture(Lab& lab, const std::string& file, std::vector<std::string> options = {}) {
  options.insert(options.begin(), {"capture", "-s", lab.socket(), "-o", file});
  Process& capture = lab.start_petrel(options);
  await("the first ticks in " + file, [&] {
    const std::string ticks = lab.petrel({"export", file, "-o", "-", "--table", "ticks"}).out;
    return std::ranges::count(ticks, '\n') > 1;  // not there yet, the header alone, or more
  }, 30s);
  return capture;
}

void await_answers_of_three(Lab& lab) {
  lab.eventually("answers of all", [](const Status& status) {
    for (int i : {1, 2, 3}) {
      if (status.backend(i, "wire/answers") < 30) return false;
    }
    return true;
  });
}

TEST_F(CaptureTest, ReplayDecidesWhatWasDecidedLive) {
  Lab lab({.backends = 3});
  // Rows come a retry window late: a short one.
  lab.start_agent({.mode = "act", .agent_lines = "retry_window_ms = 1000"});
  const std::string file = lab.path("run.db");
  Process& capture = start_capture(lab, file);
  Process& client = lab.start_client({"--rate", "200", "--duration", "60", "--clients", "4000",
                                      "--retry", "exponential", "--max-attempts", "3"});
  await_answers_of_three(lab);
  lab.fault(2, "errors", {"--rate", "1"});
  lab.eventually("b2's fall", [](const Status& status) { return status.factor(2) < 0.1; }, 30s);
  lab.fault(2, "none");
  lab.eventually("b2's return", [](const Status& status) { return status.factor(2) > 0.5; }, 30s);
  const Finished drained = lab.petrel({"drain", "b3", "-s", lab.socket(), "--deadline", "60"});
  EXPECT_EQ(drained.exit_code, 0) << drained.err;
  lab.end_client(client);
  const std::size_t ticks = rows_of(lab, file, "ticks");
  await("ticks after the drain", [&] { return rows_of(lab, file, "ticks") > ticks + 10; }, 30s);
  EXPECT_EQ(capture.stop(SIGTERM), 0);
  EXPECT_NE(capture.err().find("lost 0"), std::string::npos) << capture.err();

  const Finished once = lab.petrel({"replay", file, "--compare", "--json"});
  EXPECT_EQ(once.exit_code, 0) << once.err;
  const Finished again = lab.petrel({"replay", file, "--compare", "--json"});
  EXPECT_EQ(once.out, again.out);
  const std::string last = once.out.substr(once.out.rfind('\n', once.out.size() - 2) + 1);
  const Facts facts(last);
  EXPECT_TRUE(facts.flag("/comparison/equal")) << last;
  EXPECT_EQ(facts.number("/comparison/ticks"), facts.number("/ticks")) << last;
  EXPECT_GT(facts.number("/moved_slots"), 0) << last;
  EXPECT_GE(facts.number("/checkpoints"), 2) << last;  // the first one, and the drain's

  // The same from CSV.
  const std::string directory = lab.path("run/");
  EXPECT_EQ(lab.petrel({"export", file, "-o", directory}).exit_code, 0);
  EXPECT_EQ(lab.petrel({"replay", directory, "--compare", "--json"}).out, once.out);

  // And the rows that a model is trained on, made anew of the events: bit for bit.
  const std::string anew = lab.path("anew.csv");
  const std::string live = lab.path("live.csv");
  const Finished made = lab.petrel({"replay", file, "--rows", anew});
  EXPECT_EQ(made.exit_code, 0) << made.err;
  EXPECT_EQ(lab.petrel({"export", file, "--table", "rows", "-o", live}).exit_code, 0);
  const Table table = read_table(live);
  EXPECT_GT(table.rows.size(), 100U);
  EXPECT_GT(table.count("retried", "1"), 0);
  EXPECT_TRUE(table.rows == read_table(anew).rows);
}

TEST_F(CaptureTest, ReplaysOverAReload) {
  Lab lab({.backends = 3});
  lab.start_agent({.mode = "act"});
  const std::string file = lab.path("run.db");
  Process& capture = start_capture(lab, file);
  Process& client = lab.start_client({"--rate", "200", "--duration", "60", "--retry", "exponential"});
  await_answers_of_three(lab);
  lab.fault(2, "errors", {"--rate", "1"});
  lab.eventually("b2's fall", [](const Status& status) { return status.factor(2) < 0.1; }, 30s);
  ConfigFile config = ConfigFile::read(lab.config_path());
  config.backends.front() += "weight = 300\n";
  config.backends.pop_back();  // b3
  config.write(lab.config_path());
  const Finished reloaded = lab.petrel({"reload", "-s", lab.socket()});
  ASSERT_EQ(reloaded.exit_code, 0) << reloaded.err;
  EXPECT_NE(reloaded.out.find("backend b1: weight 100 -> 300"), std::string::npos) << reloaded.out;
  lab.fault(2, "none");
  lab.eventually("b2's return", [](const Status& status) { return status.factor(2) > 0.5; }, 30s);
  lab.end_client(client);
  EXPECT_EQ(capture.stop(SIGTERM), 0);
  EXPECT_NE(capture.err().find("lost 0"), std::string::npos) << capture.err();

  const Finished replay = lab.petrel({"replay", file, "--compare", "--json"});
  EXPECT_EQ(replay.exit_code, 0) << replay.err;
  const std::string last =
      replay.out.substr(replay.out.rfind('\n', replay.out.size() - 2) + 1);
  const Facts facts(last);
  EXPECT_TRUE(facts.flag("/comparison/equal")) << last;
  EXPECT_EQ(facts.number("/comparison/ticks"), facts.number("/ticks")) << last;
  EXPECT_GE(facts.number("/checkpoints"), 2) << last;  // the first one, and the reload's
}

TEST_F(CaptureTest, HasARequestAndAnEventForEachAttemptOfTheClient) {
  Lab lab({.backends = 2});
  lab.start_agent({.mode = "act"});
  const std::string file = lab.path("run.db");
  Process& capture = start_capture(lab, file, {"--what", "requests,replay"});
  lab.fault(1, "errors", {"--rate", "0.1"});  // its retries are within their budget
  const Summary summary = lab.await_client(
      lab.start_client({"--rate", "100", "--duration", "2", "--retry", "fixed",
                        "--retry-delay-ms", "50", "--max-attempts", "2"}));
  ASSERT_GT(summary.ended("ok"), 0) << summary.outcomes();
  const long attempts = static_cast<long>(summary.attempts());  // all are answered, well or badly
  const auto answers = [&] { return export_table(lab, file, "events").count("type", "2"); };
  const auto requests = [&] { return static_cast<long>(rows_of(lab, file, "requests")); };
  await("an answer to each attempt", [&] { return answers() >= attempts; }, 30s);
  await("a row for each attempt", [&] { return requests() >= attempts; }, 30s);
  EXPECT_EQ(capture.stop(SIGTERM), 0);
  EXPECT_NE(capture.err().find("lost 0"), std::string::npos) << capture.err();

  const Table events = export_table(lab, file, "events");
  const Table rows = export_table(lab, file, "rows");
  EXPECT_EQ(rows.rows.size(), 0u);  // was not asked for
  const Table records = export_table(lab, file, "requests");
  const long well = static_cast<long>(summary.ended("ok"));
  EXPECT_EQ(requests(), attempts) << summary.outcomes();
  EXPECT_EQ(records.count("status", "200"), well) << summary.outcomes();
  EXPECT_EQ(records.count("failure", "server_error"), attempts - well) << summary.outcomes();
  EXPECT_EQ(records.count("service", "web"), attempts);
  EXPECT_EQ(records.count("method", "GET"), attempts);
  EXPECT_EQ(records.count("owner", "wire"), attempts);
  EXPECT_EQ(records.count("backend", "b1") + records.count("backend", "b2"), attempts);
  long answered_well = 0;
  for (const auto& row : events.rows) {
    answered_well += row.at(events.column("type")) == "2" && row.at(events.column("status")) == "200";
  }
  EXPECT_EQ(answers(), attempts) << summary.outcomes();
  EXPECT_EQ(answered_well, well) << summary.outcomes();
}

TEST_F(CaptureTest, AKilledCaptureLeavesAReadableFile) {
  Lab lab({.backends = 1});
  lab.start_agent({.mode = "act"});
  const std::string file = lab.path("run.db");
  Process& capture = start_capture(lab, file);
  await("a few seconds' ticks", [&] { return rows_of(lab, file, "ticks") > 20; }, 30s);
  const std::size_t before = rows_of(lab, file, "ticks");
  capture.send(SIGKILL);
  EXPECT_EQ(capture.wait(), 128 + SIGKILL);
  EXPECT_GE(rows_of(lab, file, "ticks"), before);
  EXPECT_EQ(lab.petrel({"replay", file, "--compare"}).exit_code, 0);
}

TEST_F(CaptureTest, EachRotatedFileReplaysByItself) {
  Lab lab({.backends = 2});
  lab.start_agent({.mode = "act"});
  Process& client = lab.start_client({"--rate", "100", "--duration", "60"});
  lab.start_petrel({"capture", "-s", lab.socket(), "-o", lab.path("run.db"), "--rotate-age", "1s",
                    "--keep", "3"});
  const auto files = [&] {
    std::vector<std::string> found;
    for (const auto& entry : std::filesystem::directory_iterator(lab.path(""))) {
      const std::string name = entry.path().filename();
      if (name.starts_with("run-") && name.ends_with(".db")) found.push_back(entry.path());
    }
    std::ranges::sort(found);
    return found;
  };
  await("the first file", [&] { return !files().empty(); }, 30s);
  const std::string first = files().front();
  await("its end", [&] { return files().size() == 3 && files().front() != first; }, 30s);
  const std::string complete = files()[1];
  const Finished replay = lab.petrel({"replay", complete, "--compare"});
  EXPECT_EQ(replay.exit_code, 0) << replay.out << replay.err;
  EXPECT_GT(export_table(lab, complete, "meta").count("name", "schema"), 0);
  lab.end_client(client);
}

TEST_F(CaptureTest, ClientsAreMaskedBeforeTheyLeaveTheAgent) {
  Lab lab({.backends = 1});
  const std::string key = lab.path("client.key");
  std::ofstream(key) << "0123456789abcdef";
  std::filesystem::permissions(key, std::filesystem::perms(0600));
  lab.start_agent({.mode = "act",
                   .agent_lines = "client_privacy = \"truncate\"\nclient_privacy_key_file = \"" +
                                  key + "\""});
  const std::string truncated = lab.path("truncated.db");
  const std::string hashed = lab.path("hashed.db");
  Process& first = start_capture(lab, truncated);
  Process& second = start_capture(lab, hashed, {"--privacy", "hash"});
  lab.await_client(lab.start_client({"--rate", "100", "--duration", "1"}));
  await("events", [&] {
    return rows_of(lab, truncated, "events") > 50 && rows_of(lab, hashed, "events") > 50;
  }, 30s);
  EXPECT_EQ(first.stop(SIGTERM), 0);
  EXPECT_EQ(second.stop(SIGTERM), 0);

  const Table networks = export_table(lab, truncated, "events");
  for (const auto& row : networks.rows) {
    const std::string& client = row.at(networks.column("client"));
    ASSERT_TRUE(client.ends_with(".0")) << client;
  }
  const Table hashes = export_table(lab, hashed, "events");
  for (const auto& row : hashes.rows) {
    const std::string& client = row.at(hashes.column("client"));
    ASSERT_EQ(client.size(), 16u) << client;
    ASSERT_EQ(client.find_first_not_of("0123456789abcdef"), std::string::npos) << client;
  }
  EXPECT_EQ(lab.petrel({"replay", hashed, "--compare"}).exit_code, 0);  // needs no client

  const Finished looser = lab.petrel({"capture", "-s", lab.socket(), "-o", lab.path("x.db"),
                                      "--privacy", "none"});
  EXPECT_EQ(looser.exit_code, 2) << looser.err;
  EXPECT_FALSE(std::filesystem::exists(lab.path("x.db")));
  const Finished tap = lab.petrel({"tap", "-s", lab.socket(), "-w", lab.path("x.pcapng")});
  EXPECT_EQ(tap.exit_code, 7) << tap.err;
}

TEST_F(CaptureTest, EndsWhenTheAgentStops) {
  Lab lab({.backends = 1});
  Process& agent = lab.start_agent({.mode = "neutral"});
  Process& capture = lab.start_petrel({"capture", "-s", lab.socket(), "-o", "-", "--duration", "60"});
  EXPECT_EQ(agent.stop(SIGTERM), 0);
  capture.wait();
  const std::string none = lab.path("none.db");
  EXPECT_EQ(lab.petrel({"capture", "-s", lab.socket(), "-o", none}).exit_code, 6);
  EXPECT_FALSE(std::filesystem::exists(none));
}

}  // namespace
}  // namespace petrel::test
