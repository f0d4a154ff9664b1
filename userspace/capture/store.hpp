// SPDX-License-Identifier: MIT
// Where the rows of a capture are kept, and read from: SQLite or CSV, table by table, in order.
//
// Fields are text on both sides; what a file may hold is checked on the way in and out (schema.hpp).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "capture/schema.hpp"

namespace petrel {

class CaptureSink {
 public:
  virtual ~CaptureSink() = default;

  // One field a column. Rows of tables that the sink does not keep are left out.
  virtual Result<void> add(const CaptureTable& table, const std::vector<std::string>& fields) = 0;
  // All rows so far are where a crash of this program does not take them; call about each second.
  virtual Result<void> flush() = 0;
  // Complete, and readable by itself. Nothing may be added any more.
  virtual Result<void> close() = 0;
  virtual std::uint64_t bytes() const = 0;  // of disk, about
};

// Ends with the data, or at the first error.
class CaptureRows {
 public:
  virtual ~CaptureRows() = default;

  // False at the end.
  virtual Result<bool> next() = 0;
  const std::vector<std::string>& fields() const { return fields_; }
  // "capture.db: table rows, row 3", "capture/rows.csv: line 4"
  virtual std::string place() const = 0;

 protected:
  std::vector<std::string> fields_;
};

class CaptureSource {
 public:
  virtual ~CaptureSource() = default;

  virtual bool has(const CaptureTable& table) const = 0;
  virtual Result<std::unique_ptr<CaptureRows>> rows(const CaptureTable& table) = 0;
};

// A new SQLite file; kUsage where there is a file already.
Result<std::unique_ptr<CaptureSink>> create_sqlite(const std::string& path);
// A directory with a file a table, as asked for; kUsage where it holds one of them already.
Result<std::unique_ptr<CaptureSink>> create_csv_directory(const std::string& path);
// One table in one file, or on stdout ("-"). Overwrites.
Result<std::unique_ptr<CaptureSink>> create_csv_file(const std::string& path,
                                                     const CaptureTable& table);

// SQLite, a directory of CSV files, or one CSV file: told by looking. kInput where it is none of
// these, or not a capture's.
Result<std::unique_ptr<CaptureSource>> open_capture(const std::string& path);
bool is_capture_store(const std::string& path);  // a directory, or SQLite
Result<std::unique_ptr<CaptureSource>> open_sqlite(const std::string& path);
Result<std::unique_ptr<CaptureSource>> open_csv(const std::string& path);

// "PLACE: column 3 (lost): expected an integer of 64 bits, found "x""; no error where all fit.
Result<void> check_fields(const CaptureTable& table, const std::vector<std::string>& fields,
                          const std::string& place);

// All rows of all tables, or of one. Both stay open.
Result<void> copy_capture(CaptureSource& from, CaptureSink& to, const CaptureTable* only = nullptr);

}  // namespace petrel
