// SPDX-License-Identifier: MIT
#include "capture/schema.hpp"

#include <algorithm>
#include <charconv>

#include "telemetry/csv.hpp"

namespace petrel {
namespace {

constexpr ColumnType kInteger = ColumnType::kInteger;
constexpr ColumnType kId = ColumnType::kId;
constexpr ColumnType kReal = ColumnType::kReal;
constexpr ColumnType kText = ColumnType::kText;

void add_integers(std::vector<CaptureColumn>& columns, std::initializer_list<const char*> names,
                  const std::string& prefix = "") {
  for (const char* name : names) columns.push_back({prefix + name, kInteger});
}

std::vector<CaptureColumn> request_columns() {
  std::vector<CaptureColumn> columns = {{"run", kText},     {"time_ns", kInteger},
                                        {"service", kText}, {"backend", kText},
                                        {"client", kText}};
  add_integers(columns, {"client_port", "service_port", "syn_ns", "synack_ns", "ack_ns",
                         "request_ns", "response_ns", "last_byte_ns", "close_ns", "request"});
  columns.push_back({"method", kText});
  columns.push_back({"status", kInteger});
  columns.push_back({"failure", kText});
  columns.push_back({"closed_by", kText});
  add_integers(columns, {"attempt", "evidence"});
  columns.push_back({"confidence", kReal});
  columns.push_back({"previous_backend", kText});
  columns.push_back({"previous_failure", kText});
  add_integers(columns, {"steered", "off_ring", "failed_over", "masked", "moved", "adopted",
                         "moves", "syn_repeats", "bytes_in", "bytes_out", "request_bytes_in",
                         "request_bytes_out", "client_repeats", "backend_repeats",
                         "zero_windows_in", "zero_windows_out", "waiting_at_start", "pipelined",
                         "http"});
  columns.push_back({"owner", kText});
  for (const char* end : {"connecting_", "accepting_"}) {
    add_integers(columns, {"connect_ns", "bytes_sent", "bytes_received", "srtt_us", "rttvar_us",
                           "retransmits", "rtos", "resets_sent", "resets_received"}, end);
  }
  return columns;
}

// The labelled rows' own columns: numbers but for these.
std::vector<CaptureColumn> row_columns() {
  std::vector<CaptureColumn> columns;
  for (const std::string& name : csv_columns()) {
    ColumnType type = kInteger;
    if (name == "run" || name == "point") type = kText;
    if (name == "client" || name == "connection") type = kId;
    columns.push_back({name, type});
  }
  return columns;
}

std::vector<CaptureColumn> event_columns() {
  std::vector<CaptureColumn> columns;
  add_integers(columns, {"tick", "time_ns", "type", "service", "backend"});
  columns.push_back({"client", kText});
  add_integers(columns, {"client_port", "service_port", "syn_ns", "connect_ns", "waited_ns",
                         "previous_syn_ns", "previous_backend", "previous_request",
                         "previous_port", "status", "request", "repeats", "failure", "attempt",
                         "closed_by", "syn_repeats", "state", "waiting_at_start", "method",
                         "evidence", "confidence", "request_bytes", "srtt_us", "rtos",
                         "score_model", "score_q16"});
  return columns;
}

template <class Number>
bool is_number(std::string_view text) {
  Number value{};
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  return parsed.ec == std::errc{} && parsed.ptr == text.data() + text.size();
}

// "-12.3400": what is written is what is read.
bool is_decimal(std::string_view text) {
  const auto point = text.find('.');
  return point != std::string_view::npos && text.size() == point + 5 && is_number<double>(text) &&
         text.find_first_not_of("-.0123456789") == std::string_view::npos;
}

}  // namespace

const std::vector<CaptureTable>& capture_tables() {
  static const std::vector<CaptureTable> kTables = {
      {"meta", {{"name", kText}, {"value", kText}}},
      {"losses", {{"time_ns", kInteger}, {"place", kText}, {"lost", kInteger}}},
      {"requests", request_columns()},
      {"withdrawn",
       {{"time_ns", kInteger},
        {"client", kText},
        {"client_port", kInteger},
        {"service_port", kInteger},
        {"syn_ns", kInteger},
        {"request", kInteger},
        {"evidence", kInteger}}},
      {"rows", row_columns()},
      {"events", event_columns()},
      {"ticks",
       {{"tick", kInteger},
        {"time_ns", kInteger},
        {"elapsed_ns", kInteger},
        {"events", kInteger},
        {"backends", kInteger},
        {"moved_slots", kInteger},
        {"moved_hash", kId}}},
      {"tick_backends",
       {{"tick", kInteger},
        {"service", kInteger},
        {"backend", kInteger},
        {"probe", kInteger},
        {"waiting_syn", kText},
        {"waiting", kText},
        {"risk_q16", kInteger},
        {"factor_q16", kInteger},
        {"reason", kInteger},
        {"slots", kInteger}}},
      {"state", {{"tick", kInteger}, {"name", kText}, {"value", kText}}},
  };
  return kTables;
}

const CaptureTable* find_capture_table(std::string_view name) {
  const auto& tables = capture_tables();
  const auto found =
      std::ranges::find_if(tables, [&](const CaptureTable& table) { return table.name == name; });
  return found == tables.end() ? nullptr : &*found;
}

std::string csv_header_of(const CaptureTable& table) {
  std::string header;
  for (const CaptureColumn& column : table.columns) {
    if (!header.empty()) header += ',';
    header += column.name;
  }
  return header;
}

std::string_view misfit(ColumnType type, std::string_view field) {
  switch (type) {
    case ColumnType::kInteger:
      return is_number<std::int64_t>(field) ? "" : "an integer of 64 bits";
    case ColumnType::kId:
      return is_number<std::uint64_t>(field) ? "" : "an unsigned integer of 64 bits";
    case ColumnType::kReal:
      return is_decimal(field) ? "" : "a number with 4 decimals";
    case ColumnType::kText:
      break;
  }
  return "";
}

}  // namespace petrel
