// SPDX-License-Identifier: MIT
// What the agent sees as a capture's rows, and the words of the data dictionary.
#include "capture/lines.hpp"

#include <arpa/inet.h>

#include "capture/rows.hpp"
#include "config/address.hpp"
#include "tests/unit/capture_samples.hpp"

namespace petrel::test {
namespace {

// A row's fields by their columns' names.
std::map<std::string, std::string> by_name(const std::string& line) {
  std::vector<std::string> fields;
  EXPECT_TRUE(split_csv(line, fields));
  const CaptureTable* table = find_capture_table(fields.front());
  if (table == nullptr || fields.size() != table->columns.size() + 1) {
    ADD_FAILURE() << line;
    return {};
  }
  std::map<std::string, std::string> out;
  for (std::size_t i = 0; i < table->columns.size(); ++i) {
    out[table->columns[i].name] = fields[i + 1];
    EXPECT_EQ(misfit(table->columns[i].type, fields[i + 1]), "") << table->columns[i].name;
  }
  return out;
}

class OneRow : public CaptureRows {
 public:
  explicit OneRow(const std::string& line) {
    split_csv(line, fields_);
    fields_.erase(fields_.begin());
  }
  Result<bool> next() override { return false; }
  std::string place() const override { return "here"; }
  std::string& field(std::size_t at) { return fields_.at(at); }
};

CaptureNames names() {
  ServiceConfig service;
  service.id = 3;
  service.name = "web, main";
  service.backends.resize(1);
  service.backends[0].id = 7;
  service.backends[0].name = "b1";
  service.backends[0].port = 80;
  return CaptureNames({ServiceLoop(service, {})});
}

bpf::record sample_record() {
  bpf::record record{};
  record.time_ns = 1000;
  record.key.client = *parse_address("192.0.2.77");
  record.key.client_port_be = htons(40000);
  record.key.service_port_be = htons(80);
  record.key.service_id = 3;
  bpf::connection& seen = record.connection;
  seen.backend_id = 7;
  seen.previous_backend_id = 9;  // not configured any more
  seen.syn_ns = 100;
  seen.requests = 2;
  seen.status = 503;
  seen.method = bpf::METHOD_GET;
  seen.failure = bpf::FAILURE_SERVER_ERROR;
  seen.previous_failure = bpf::FAILURE_RESET;
  seen.closed_by = bpf::CLOSED_BY_CLIENT_FIN;
  seen.attempt = 2;
  seen.confidence = 254;
  seen.evidence = bpf::EVIDENCE_FAILURE | bpf::EVIDENCE_SAME_CLOCK;
  seen.flags = bpf::CONNECTION_STEERED | bpf::CONNECTION_HTTP;
  seen.bytes_in = 500;
  seen.request_bytes_in = 300;
  seen.owner = bpf::SENSOR_WIRE;
  seen.sockets[1].srtt_us = 42;
  return record;
}

TEST(CaptureLines, ARequestHasAWordForEachNumber) {
  auto row = by_name(request_line("r1", sample_record(), names(), ClientMask()));
  EXPECT_EQ(row["run"], "r1");
  EXPECT_EQ(row["service"], "web, main");
  EXPECT_EQ(row["backend"], "b1");
  EXPECT_EQ(row["previous_backend"], "9");
  EXPECT_EQ(row["client"], "192.0.2.77");
  EXPECT_EQ(row["client_port"], "40000");
  EXPECT_EQ(row["method"], "GET");
  EXPECT_EQ(row["status"], "503");
  EXPECT_EQ(row["failure"], "server_error");
  EXPECT_EQ(row["previous_failure"], "reset");
  EXPECT_EQ(row["closed_by"], "client_fin");
  EXPECT_EQ(row["request"], "2");
  EXPECT_EQ(row["attempt"], "2");
  EXPECT_EQ(row["evidence"], "3");
  EXPECT_EQ(row["confidence"], "0.9961");
  EXPECT_EQ(row["steered"], "1");
  EXPECT_EQ(row["off_ring"], "0");
  EXPECT_EQ(row["http"], "1");
  EXPECT_EQ(row["bytes_in"], "500");
  EXPECT_EQ(row["request_bytes_in"], "200");
  EXPECT_EQ(row["owner"], "wire");
  EXPECT_EQ(row["accepting_srtt_us"], "42");
  EXPECT_EQ(row["connecting_srtt_us"], "0");
}

TEST(CaptureLines, AConnectionWithoutAnythingIsARowToo) {
  auto row = by_name(request_line("r1", bpf::record{}, CaptureNames(), ClientMask()));
  EXPECT_EQ(row["backend"], "");
  EXPECT_EQ(row["method"], "none");
  EXPECT_EQ(row["confidence"], "0.0000");
}

TEST(CaptureLines, AnEventReadsBackAsItWas) {
  bpf::event event{};
  // Each field another value: what is mixed up shows.
  event.time_ns = 1;
  event.syn_ns = 2;
  event.key.client = *parse_address("2001:db8::1");
  event.key.client_port_be = htons(3);
  event.key.service_port_be = htons(4);
  event.key.service_id = 5;
  event.backend_id = 6;
  event.connect_ns = 7;
  event.waited_ns = 8;
  event.previous_syn_ns = 9;
  event.previous_backend_id = 10;
  event.previous_request = 11;
  event.previous_port_be = htons(12);
  event.status = 13;
  event.request = 14;
  event.repeats = 15;
  event.type = 2;
  event.failure = 7;
  event.attempt = 16;
  event.closed_by = 3;
  event.syn_repeats = 17;
  event.state = 18;
  event.waiting_at_start = 19;
  event.method = 20;
  event.evidence = 21;
  event.confidence = 22;
  event.request_bytes = 23;
  event.srtt_us = 24;
  event.rtos = 25;
  event.score_model = 26;
  event.score_q16 = 27;
  const std::string line = event_line(99, event, ClientMask());
  by_name(line);
  EventRow row;
  const auto read = read_row(OneRow(line), row);
  ASSERT_TRUE(read) << read.error().message();
  EXPECT_EQ(row.tick, 99u);
  row.event.key.client = event.key.client;  // is not read back
  EXPECT_EQ(std::memcmp(&row.event, &event, sizeof event), 0);
}

TEST(CaptureLines, AnEventOutOfRangeIsToldWithItsColumn) {
  OneRow row(event_line(1, bpf::event{}, ClientMask()));
  row.field(3) = "513";
  EventRow event;
  EXPECT_FALSE(read_row(row, event));
  row.field(3) = "1";
  row.field(6) = "65536";
  const auto read = read_row(row, event);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().message(),
            "here: column 7 (client_port): expected an integer from 0 to 65535, found \"65536\"");
  EXPECT_EQ(read.error().kind(), ExitCode::kInput);
}

TEST(CaptureLines, ATickReadsBackAsItWas) {
  const TickFacts tick{1, 2, 3, 4, 5, 6, ~0ull};
  TickFacts read_back;
  ASSERT_TRUE(read_row(OneRow(tick_line(tick)), read_back));
  EXPECT_EQ(read_back, tick);

  const std::vector<WaitingGroup> syn = {{8388608, 3}, {25165824, 1}};
  const std::vector<WaitingGroup> waiting = {{0, 12}};
  const Decided decided{1, 2, 3, 4};
  TickBackendRow row;
  ASSERT_TRUE(read_row(
      OneRow(tick_backend_line(9, 3, 7, {ProbeResult::kRefuses, syn, waiting}, decided)), row));
  EXPECT_EQ(row.tick, 9u);
  EXPECT_EQ(row.service_id, 3u);
  EXPECT_EQ(row.backend_id, 7u);
  EXPECT_EQ(row.probe, ProbeResult::kRefuses);
  ASSERT_EQ(row.waiting_syn.size(), 2u);
  EXPECT_EQ(row.waiting_syn[1].age_ns, 25165824u);
  EXPECT_EQ(row.waiting_syn[1].count, 1u);
  ASSERT_EQ(row.waiting.size(), 1u);
  EXPECT_EQ(row.waiting[0].count, 12u);
  EXPECT_EQ(row.decided, decided);
}

TEST(CaptureLines, WaitingGroupsThatAreNoneAreRefused) {
  std::vector<WaitingGroup> groups;
  for (const char* text : {"1", "1:", ":1", "1:2;x", "1:2:3", "-1:2"}) {
    EXPECT_FALSE(parse_groups(text, groups)) << text;
  }
  EXPECT_TRUE(parse_groups("", groups));
  EXPECT_TRUE(groups.empty());
}

TEST(CaptureLines, ARowOfTextIsOneLine) {
  std::vector<std::string> fields;
  ASSERT_TRUE(split_csv(state_line(1, "model", "{\n \"a\": \"b,c\"\r}"), fields));
  EXPECT_EQ(fields, (std::vector<std::string>{"state", "1", "model", "{  \"a\": \"b,c\" }"}));
  EXPECT_FALSE(split_csv("\"open", fields));
  EXPECT_FALSE(split_csv("\"a\"b", fields));
  ASSERT_TRUE(split_csv("a,,", fields));
  EXPECT_EQ(fields, (std::vector<std::string>{"a", "", ""}));
}

TEST(CaptureLines, EqualMovesHaveEqualHashesAndOthersHaveNot) {
  const std::vector<RingChange> moves = {{1, 2}, {3, 4}};
  const std::vector<RingChange> others = {{1, 2}, {3, 5}};
  MoveHash first, second, third;
  EXPECT_EQ(first.hash(), 0u);
  first.add(1, moves);
  second.add(1, std::span(moves).first(1));
  second.add(1, std::span(moves).last(1));
  third.add(1, others);
  EXPECT_EQ(first.hash(), second.hash());
  EXPECT_NE(first.hash(), third.hash());
  EXPECT_EQ(first.slots(), 2u);
}

// docs/capture.md has a section a table ("## `requests`") and a line a column ("| `time_ns` | ...").
TEST(CaptureDictionary, DocumentsEachTableAndColumn) {
  std::ifstream file(PETREL_CAPTURE_REFERENCE);
  ASSERT_TRUE(file);
  std::map<std::string, std::vector<std::string>> documented;
  std::string table;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("## ")) table = line.starts_with("## `") ? line.substr(4, line.size() - 5) : "";
    if (table.empty() || !line.starts_with("| `")) continue;
    std::string names = line.substr(2, line.find(" |", 2) - 2);  // "`a`, `b`"
    for (auto at = names.find('`'); at != std::string::npos; at = names.find('`')) {
      const auto end = names.find('`', at + 1);
      documented[table].push_back(names.substr(at + 1, end - at - 1));
      names.erase(0, end + 1);
    }
  }
  for (const CaptureTable& each : capture_tables()) {
    std::vector<std::string> columns;
    for (const CaptureColumn& column : each.columns) columns.push_back(column.name);
    EXPECT_EQ(documented[each.name], columns) << "table " << each.name;
  }
}

}  // namespace
}  // namespace petrel::test
