// SPDX-License-Identifier: MIT
// The tables of a capture, petrel/capture/v1: one list for SQLite, CSV, the agent's stream and
// their readers. docs/capture.md says what each column means; a test compares the names.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace petrel {

inline constexpr std::string_view kCaptureSchema = "petrel/capture/v1";

enum class ColumnType : std::uint8_t {
  kInteger,  // decimal, 64 bits, signed
  kId,       // decimal, 64 bits, unsigned: text in SQLite, whose integers are signed
  kReal,     // decimal, 4 places
  kText,     // one line
};

struct CaptureColumn {
  std::string name;
  ColumnType type;
};

struct CaptureTable {
  std::string name;
  std::vector<CaptureColumn> columns;
};

// In the order in which they are written. Pointers to them stay valid.
const std::vector<CaptureTable>& capture_tables();
const CaptureTable* find_capture_table(std::string_view name);  // null: there is none

// "time_ns,place,lost", without newline.
std::string csv_header_of(const CaptureTable& table);

// Why a field does not fit its column: what was expected; "" where it fits.
std::string_view misfit(ColumnType type, std::string_view field);

}  // namespace petrel
