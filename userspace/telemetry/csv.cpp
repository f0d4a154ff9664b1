// SPDX-License-Identifier: MIT
#include "telemetry/csv.hpp"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <fstream>
#include <istream>
#include <limits>
#include <optional>
#include <unordered_map>

namespace petrel {

const std::vector<std::string>& csv_columns() {
  static const std::vector<std::string> kNames = [] {
    std::vector<std::string> names = {"run",        "time_ns",    "service", "backend",
                                      "client",     "connection", "request", "point",
                                      "elapsed_ns", "failure",    "status",  "attempt"};
    for (const FeatureInfo& feature : kFeatures) names.emplace_back(feature.name);
    names.emplace_back("retried");
    names.emplace_back("evidence");
    names.emplace_back("confidence");
    return names;
  }();
  return kNames;
}

namespace {

constexpr size_t kLongestRunName = 120;
constexpr size_t kLongestQuote = 40;

// The fields of one line, taken from left to right; keeps the first thing that was wrong.
class LineReader {
 public:
  explicit LineReader(std::string_view line) : rest_(line) {}

  std::string_view field(const char* expected) {
    if (error_) return {};
    if (!more_) {
      error_ = here() + "expected " + expected + ", found the end of the line";
      return {};
    }
    const size_t comma = rest_.find(',');
    const std::string_view taken = rest_.substr(0, comma);
    more_ = comma != std::string_view::npos;
    rest_ = more_ ? rest_.substr(comma + 1) : std::string_view();
    column_++;
    return taken;
  }

  template <class Number>
  Number number(Number least, Number most) {
    const std::string_view text = field("an integer");
    if (error_) return least;
    Number value{};
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (code == std::errc() && end == text.data() + text.size() && value >= least &&
        value <= most) {
      return value;
    }
    column_--;
    fail("an integer from " + std::to_string(least) + " to " + std::to_string(most), text);
    return least;
  }

  template <class Number>
  Number number() {
    return number<Number>(std::numeric_limits<Number>::min(), std::numeric_limits<Number>::max());
  }

  void refuse(const std::string& expected, std::string_view found) {
    if (error_) return;
    column_--;
    fail(expected, found);
  }

  void end() {
    if (!error_ && more_)
      error_ = "after the last column: expected the end of the line, found more";
  }

  const std::optional<std::string>& error() const { return error_; }

 private:
  void fail(const std::string& expected, std::string_view found) {
    const std::string shown(found.substr(0, kLongestQuote));
    error_ = here() + "expected " + expected + ", found \"" + shown + "\"";
  }

  std::string here() const {
    return "column " + std::to_string(column_ + 1) + " (" + csv_columns()[column_] + "): ";
  }

  std::string_view rest_;
  bool more_ = true;
  size_t column_ = 0;  // fields taken
  std::optional<std::string> error_;
};

Point read_point(LineReader& line) {
  const std::string_view name = line.field("a point's name");
  for (size_t i = 0; i < kPointCount; i++) {
    if (name == point_name(static_cast<Point>(i))) return static_cast<Point>(i);
  }
  line.refuse("waiting_syn, waiting_response, answer or end", name);
  return Point::kEnd;
}

std::string_view read_row(LineReader& line, LabelledRow& row) {
  const std::string_view run = line.field("a run's name");
  if (!is_run_name(run)) line.refuse("a run's name (letters, digits, '.', '_', '-')", run);
  row.time_ns = line.number<uint64_t>();
  row.service_id = line.number<uint32_t>(0, MAX_SERVICES - 1);
  row.backend_id = line.number<uint32_t>(0, MAX_BACKENDS - 1);
  row.client_hash = line.number<uint64_t>();
  row.connection_id = line.number<uint64_t>();
  row.request = line.number<uint32_t>();
  row.point = read_point(line);
  row.elapsed_ns = line.number<uint64_t>();
  row.failure = static_cast<uint8_t>(line.number<unsigned>(0, bpf::FAILURE_KINDS - 1));
  row.status = line.number<uint16_t>();
  row.attempt = static_cast<uint8_t>(line.number<unsigned>(0, 255));
  for (int32_t& feature : row.features) feature = line.number<int32_t>();
  row.retried = line.number<unsigned>(0, 1) == 1;
  row.evidence = static_cast<uint8_t>(line.number<unsigned>(0, 255));
  row.confidence = static_cast<uint8_t>(line.number<unsigned>(0, 255));
  line.end();
  return run;
}

Error line_error(const std::string& source_name, size_t line, const std::string& what) {
  return Error(ExitCode::kInput, source_name + ": line " + std::to_string(line) + ": " + what);
}

// The header must be ours, column for column; says which one is not.
std::optional<std::string> header_error(std::string_view header) {
  LineReader line(header);
  for (const std::string& name : csv_columns()) {
    const std::string_view found = line.field(name.c_str());
    if (!line.error() && found != name) line.refuse("this name", found);
  }
  line.end();
  return line.error();
}

}  // namespace

bool is_run_name(std::string_view name) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  };
  return !name.empty() && name.size() <= kLongestRunName &&
         std::all_of(name.begin(), name.end(), allowed);
}

std::string csv_header() {
  std::string line;
  for (const std::string& name : csv_columns()) {
    if (!line.empty()) line += ',';
    line += name;
  }
  return line;
}

std::string csv_line(std::string_view run, const LabelledRow& row) {
  std::string line(run);
  const auto add = [&line](const auto& value) {
    line += ',';
    line += std::to_string(value);
  };
  add(row.time_ns);
  add(row.service_id);
  add(row.backend_id);
  add(row.client_hash);
  add(row.connection_id);
  add(row.request);
  line += ',';
  line += point_name(row.point);
  add(row.elapsed_ns);
  add(row.failure);
  add(row.status);
  add(row.attempt);
  for (const int32_t feature : row.features) add(feature);
  add(row.retried ? 1 : 0);
  add(row.evidence);
  add(row.confidence);
  return line;
}

Result<void> read_csv(std::istream& in, const std::string& source_name, std::vector<Run>& runs) {
  std::string text;
  if (!std::getline(in, text))
    return line_error(source_name, 1, "expected a header, found nothing");
  if (const auto wrong = header_error(text)) return line_error(source_name, 1, *wrong);

  std::vector<Run> read;
  std::unordered_map<std::string, size_t> index;
  for (size_t number = 2; std::getline(in, text); number++) {
    LineReader line(text);
    LabelledRow row;
    const std::string run(read_row(line, row));
    if (line.error()) return line_error(source_name, number, *line.error());
    // A last line cut short may still have all its columns, but not its newline.
    if (in.eof())
      return line_error(source_name, number, "expected a newline, found the end of file");
    const auto [found, added] = index.try_emplace(run, read.size());
    if (added) read.push_back({run, {}});
    read[found->second].rows.push_back(row);
  }
  if (in.bad()) return Error(ExitCode::kRuntime, "read " + source_name + ": input/output error");

  for (Run& each : read) {
    const auto same = std::find_if(runs.begin(), runs.end(),
                                   [&each](const Run& run) { return run.name == each.name; });
    if (same == runs.end()) {
      runs.push_back(std::move(each));
    } else {
      same->rows.insert(same->rows.end(), each.rows.begin(), each.rows.end());
    }
  }
  return {};
}

Result<void> read_csv(const std::string& path, std::vector<Run>& runs) {
  errno = 0;
  std::ifstream file(path);
  if (!file) return Error(ExitCode::kInput, Error::from_errno(errno, "read " + path).message());
  return read_csv(file, path, runs);
}

}  // namespace petrel
