// SPDX-License-Identifier: MIT
// Captures as CSV: a directory with TABLE.csv for each table, or one table in one file.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>

#include "base/unique_fd.hpp"
#include "capture/csv_text.hpp"
#include "capture/store.hpp"

namespace petrel {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kFlushBytes = 64u << 10;

// Writes whole lines only: whatever ends this program, the file has no half row.
class CsvFile {
 public:
  static Result<CsvFile> create(const std::string& path, const CaptureTable& table) {
    CsvFile file;
    file.path_ = path;
    if (path == "-") {
      file.fd_ = STDOUT_FILENO;
    } else {
      file.owned_.reset(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
      if (!file.owned_) return Error::from_errno(errno, "write " + path);
      file.fd_ = file.owned_.get();
    }
    file.pending_ = csv_header_of(table) + "\n";
    if (auto written = file.flush(); !written) return written.error();
    return file;
  }

  Result<void> add(const std::vector<std::string>& fields) {
    CsvLine line;
    for (const std::string& field : fields) line.text(field);
    pending_.append(line.str()).push_back('\n');
    if (pending_.size() < kFlushBytes) return {};
    return flush();
  }

  Result<void> flush() {
    std::string_view rest = pending_;
    while (!rest.empty()) {
      const ssize_t written = ::write(fd_, rest.data(), rest.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return Error::from_errno(errno, "write " + path_);
      rest.remove_prefix(static_cast<std::size_t>(written));
    }
    bytes_ += pending_.size();
    pending_.clear();
    return {};
  }

  std::uint64_t bytes() const { return bytes_ + pending_.size(); }

 private:
  std::string path_;
  UniqueFd owned_;
  int fd_ = -1;
  std::string pending_;
  std::uint64_t bytes_ = 0;
};

class CsvSink : public CaptureSink {
 public:
  explicit CsvSink(std::map<const CaptureTable*, CsvFile> files) : files_(std::move(files)) {}

  Result<void> add(const CaptureTable& table, const std::vector<std::string>& fields) override {
    const auto file = files_.find(&table);
    if (file == files_.end()) return {};
    return file->second.add(fields);
  }
  Result<void> flush() override {
    for (auto& [table, file] : files_) {
      if (auto written = file.flush(); !written) return written;
    }
    return {};
  }
  Result<void> close() override { return flush(); }
  std::uint64_t bytes() const override {
    std::uint64_t sum = 0;
    for (const auto& [table, file] : files_) sum += file.bytes();
    return sum;
  }

 private:
  std::map<const CaptureTable*, CsvFile> files_;
};

class CsvRows : public CaptureRows {
 public:
  static Result<std::unique_ptr<CaptureRows>> open(const std::string& path,
                                                   const CaptureTable& table) {
    auto rows = std::make_unique<CsvRows>(path, table);
    std::string header;
    if (!rows->file_ || !std::getline(rows->file_, header)) {
      return Error(ExitCode::kInput, path + ": line 1: expected a header, found nothing");
    }
    if (header != csv_header_of(table)) return rows->wrong_header(header);
    return rows;
  }

  CsvRows(const std::string& path, const CaptureTable& table)
      : table_(table), path_(path), file_(path, std::ios::binary) {}

  Result<bool> next() override {
    std::string line;
    if (!std::getline(file_, line)) {
      if (file_.bad()) return Error(ExitCode::kRuntime, "read " + path_ + ": input/output error");
      return false;
    }
    ++line_;
    if (file_.eof()) {
      return Error(ExitCode::kInput, place() + ": expected a newline, found the end of file");
    }
    if (!split_csv(line, fields_)) {
      return Error(ExitCode::kInput, place() + ": expected fields with their quotes closed");
    }
    if (auto fits = check_fields(table_, fields_, place()); !fits) return fits.error();
    return true;
  }
  std::string place() const override { return path_ + ": line " + std::to_string(line_); }

 private:
  Error wrong_header(const std::string& header) const {
    std::vector<std::string> found;
    split_csv(header, found);
    const auto& columns = table_.columns;
    std::size_t at = 0;
    while (at < found.size() && at < columns.size() && found[at] == columns[at].name) ++at;
    const std::string expected = at < columns.size() ? columns[at].name : "the end of the line";
    const std::string instead = at < found.size() ? found[at].substr(0, 40) : "";
    return Error(ExitCode::kInput, path_ + ": line 1: column " + std::to_string(at + 1) +
                                       ": expected " + expected + ", found \"" + instead + "\"");
  }

  const CaptureTable& table_;
  std::string path_;
  std::ifstream file_;
  std::size_t line_ = 1;
};

class CsvSource : public CaptureSource {
 public:
  void keep(const CaptureTable& table, const std::string& path) { paths_[&table] = path; }
  bool empty() const { return paths_.empty(); }

  bool has(const CaptureTable& table) const override { return paths_.contains(&table); }
  Result<std::unique_ptr<CaptureRows>> rows(const CaptureTable& table) override {
    return CsvRows::open(paths_.at(&table), table);
  }

 private:
  std::map<const CaptureTable*, std::string> paths_;
};

}  // namespace

Result<std::unique_ptr<CaptureSink>> create_csv_directory(const std::string& path) {
  std::error_code code;
  fs::create_directories(path, code);
  if (code) return Error::from_errno(code.value(), "make directory " + path);
  std::map<const CaptureTable*, CsvFile> files;
  for (const CaptureTable& table : capture_tables()) {
    const std::string file = path + "/" + table.name + ".csv";
    if (fs::exists(file, code)) {
      return Error(ExitCode::kUsage, file + " is there already: name another directory");
    }
    auto created = CsvFile::create(file, table);
    if (!created) return created.error();
    files.emplace(&table, std::move(*created));
  }
  return std::make_unique<CsvSink>(std::move(files));
}

Result<std::unique_ptr<CaptureSink>> create_csv_file(const std::string& path,
                                                     const CaptureTable& table) {
  auto file = CsvFile::create(path, table);
  if (!file) return file.error();
  std::map<const CaptureTable*, CsvFile> files;
  files.emplace(&table, std::move(*file));
  return std::make_unique<CsvSink>(std::move(files));
}

Result<std::unique_ptr<CaptureSource>> open_csv(const std::string& path) {
  auto source = std::make_unique<CsvSource>();
  std::error_code code;
  if (fs::is_directory(path, code)) {
    for (const CaptureTable& table : capture_tables()) {
      const std::string file = path + "/" + table.name + ".csv";
      if (fs::exists(file, code)) source->keep(table, file);
    }
    if (!source->empty()) return source;
    return Error(ExitCode::kInput, path + ": expected a capture's tables (requests.csv, rows.csv "
                                          "...), found none");
  }
  std::ifstream file(path, std::ios::binary);
  std::string header;
  std::getline(file, header);
  for (const CaptureTable& table : capture_tables()) {
    if (header == csv_header_of(table)) source->keep(table, path);
  }
  if (!source->empty()) return source;
  return Error(ExitCode::kInput, path + ": line 1: expected the columns of a capture's table, or "
                                        "SQLite, found \"" + header.substr(0, 40) + "\"");
}

}  // namespace petrel
