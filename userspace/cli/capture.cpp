// SPDX-License-Identifier: MIT
// petrel capture: what the running agent sees and decides, to SQLite or CSV.
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <iostream>
#include <map>
#include <memory>
#include <optional>

#include "api/client.hpp"
#include "capture/csv_text.hpp"
#include "cli/capture_output.hpp"
#include "cli/verbs.hpp"

namespace petrel::cli {
namespace {

using SystemClock = std::chrono::system_clock;
using SteadyClock = std::chrono::steady_clock;

struct CaptureArguments {
  AgentAddress address;
  std::string output;
  std::string table = "rows";
  std::string what = "requests,rows,replay";
  std::string run = "capture";
  std::string privacy;
  std::string rotate_size;
  std::string rotate_age;
  unsigned keep = 0;
  double duration_s = 0;
};

std::atomic<bool> interrupted{false};  // set by the signal handler: that is all it may do

// The stream's lines on their way into files. The first error ends it.
class Recorder {
 public:
  Recorder(CaptureFiles files, std::string socket, bool is_pipe)
      : files_(std::move(files)), socket_(std::move(socket)), is_pipe_(is_pipe) {}

  Result<void> open() { return files_.open(SystemClock::now()); }

  void take(std::string_view piece) {
    partial_.append(piece);
    std::size_t begin = 0;
    for (auto end = partial_.find('\n'); end != std::string::npos && !failure_;
         end = partial_.find('\n', begin)) {
      if (auto taken = take_line(std::string_view(partial_).substr(begin, end - begin)); !taken) {
        failure_ = taken.error();
      }
      begin = end + 1;
    }
    partial_.erase(0, begin);
    if (is_pipe_) keep(files_.flush());
  }

  // Each second: rows are safe, and a file that is large or old enough gives way at a checkpoint.
  bool go_on() {
    const auto now = SteadyClock::now();
    if (!failure_ && now - flushed_ >= std::chrono::seconds(1)) {
      flushed_ = now;
      keep(files_.flush());
      show_progress();
      if (!failure_ && !rotating_ && files_.is_due(SystemClock::now())) {
        rotating_ = true;
        if (auto asked = api_post(socket_, "/v1/checkpoint"); !asked) failure_ = asked.error();
      }
    }
    return !failure_.has_value();
  }

  Result<void> finish() {
    if (progress_) std::cerr << "\r\033[K";
    auto closed = files_.close();
    if (failure_) return *failure_;
    return closed;
  }

  std::string summary() const {
    std::string text;
    for (const auto& [table, count] : rows_) {
      text += (text.empty() ? "captured " : ", ") + std::to_string(count) + " " + table;
    }
    if (text.empty()) text = "captured nothing";
    return text + "; lost " + std::to_string(lost_) + "; in " + std::to_string(files_.files()) +
           (files_.files() == 1 ? " file, " : " files, the last ") + files_.current();
  }

 private:
  Result<void> take_line(std::string_view line) {
    if (line.empty()) return {};
    if (!split_csv(line, fields_)) {
      return Error(ExitCode::kRuntime, "the agent sent what is no CSV");
    }
    if (fields_.front() == "checkpoint") {
      if (!rotating_) return {};
      rotating_ = false;
      return files_.rotate(SystemClock::now());
    }
    const CaptureTable* table = find_capture_table(fields_.front());
    if (table == nullptr) {
      return Error(ExitCode::kRuntime, "the agent sent a table '" + fields_.front() +
                                           "', which this petrel does not know: use the agent's");
    }
    fields_.erase(fields_.begin());
    if (table->name == "losses" && fields_.size() == 3) lost_ += std::stoull(fields_[2]);
    if (table->name == "requests" || table->name == "rows" || table->name == "ticks") {
      ++rows_[table->name];
    }
    return files_.add(*table, fields_);
  }

  void show_progress() {
    if (!progress_) return;
    std::cerr << '\r' << summary() << "\033[K" << std::flush;
  }

  void keep(const Result<void>& done) {
    if (!done && !failure_) failure_ = done.error();
  }

  CaptureFiles files_;
  std::string socket_;
  bool is_pipe_;
  bool progress_ = ::isatty(STDERR_FILENO) == 1;
  bool rotating_ = false;  // a checkpoint is on its way
  std::string partial_;    // a line that has not ended
  std::vector<std::string> fields_;
  std::map<std::string, std::uint64_t> rows_;
  std::uint64_t lost_ = 0;
  SteadyClock::time_point flushed_ = SteadyClock::now();
  std::optional<Error> failure_;
};

Result<RotationLimits> limits_of(const CaptureArguments& arguments) {
  RotationLimits limits;
  limits.keep = arguments.keep;
  if (!arguments.rotate_size.empty()) {
    auto bytes = parse_bytes(arguments.rotate_size);
    if (!bytes) return bytes.error().within("--rotate-size");
    limits.bytes = *bytes;
  }
  if (!arguments.rotate_age.empty()) {
    auto age = parse_age(arguments.rotate_age);
    if (!age) return age.error().within("--rotate-age");
    limits.age = *age;
  }
  if (limits.keep != 0 && !limits.rotates()) {
    return Error(ExitCode::kUsage, "--keep: needs --rotate-size or --rotate-age");
  }
  if (limits.rotates() && arguments.output == "-") {
    return Error(ExitCode::kUsage, "stdout cannot be rotated: name a file with -o");
  }
  return limits;
}

// One table needs no more than what fills it.
std::string what_of(const CaptureArguments& arguments, CaptureForm form) {
  if (form != CaptureForm::kCsvFile) return arguments.what;
  if (arguments.table == "requests" || arguments.table == "rows") return arguments.table;
  if (arguments.table == "withdrawn") return "requests";
  return arguments.table == "meta" || arguments.table == "losses" ? arguments.what : "replay";
}

int run_capture(CaptureArguments& arguments) {
  auto socket = arguments.address.resolve();
  if (!socket) return fail(socket.error());
  if (arguments.output.empty()) {
    arguments.output = "petrel-capture-" + time_stamp(SystemClock::now()) + ".db";
  }
  auto table = table_named(arguments.table);
  if (!table) return fail(table.error());
  auto limits = limits_of(arguments);
  if (!limits) return fail(limits.error());
  const CaptureForm form = form_of(arguments.output);
  std::string target = "/v1/capture?run=" + percent_encode(arguments.run) +
                       "&what=" + percent_encode(what_of(arguments, form));
  if (!arguments.privacy.empty()) target += "&privacy=" + percent_encode(arguments.privacy);

  std::signal(SIGINT, [](int) { interrupted = true; });
  std::signal(SIGTERM, [](int) { interrupted = true; });
  std::signal(SIGPIPE, SIG_IGN);  // a reader that has left is an error of writing
  std::optional<Recorder> recorder;
  std::optional<Error> failure;
  const auto begun = SteadyClock::now();
  const auto done = api_stream(
      *socket, target,
      [&](std::string_view piece) {
        if (!recorder) {  // not before the agent has agreed: no empty file is left otherwise
          recorder.emplace(CaptureFiles(arguments.output, *limits, creator_of(form, **table)),
                           *socket, arguments.output == "-");
          if (auto opened = recorder->open(); !opened) failure = opened.error();
        }
        if (!failure) recorder->take(piece);
      },
      [&] {
        const std::chrono::duration<double> elapsed = SteadyClock::now() - begun;
        if (interrupted || failure) return false;
        if (arguments.duration_s > 0 && elapsed.count() >= arguments.duration_s) return false;
        return !recorder || recorder->go_on();
      });
  if (failure) return fail(*failure);
  if (recorder) {
    if (auto finished = recorder->finish(); !finished) return fail(finished.error());
    std::cerr << recorder->summary() << '\n';
  }
  if (!done) return fail(done.error());
  return 0;
}

}  // namespace

void add_capture(CLI::App& app, Action& action) {
  auto arguments = std::make_shared<CaptureArguments>();
  CLI::App* command = app.add_subcommand(
      "capture", "Record requests, labelled rows, and what the agent decided, until SIGINT");
  arguments->address.add_options(*command);
  command->add_option("-o,--output", arguments->output,
                      "SQLite file; NAME/: a directory of CSV; NAME.csv, -: one table as CSV. "
                      "Without it petrel-capture-TIME.db");
  command->add_option("--table", arguments->table, "Table of one CSV: requests, rows ...")
      ->capture_default_str();
  command->add_option("--what", arguments->what,
                      "Of requests, rows (labelled, one retry window late) and replay")
      ->capture_default_str();
  command->add_option("--run", arguments->run, "Name of this run, in each row")
      ->capture_default_str();
  command->add_option("--privacy", arguments->privacy,
                      "Of client addresses: truncate (/24, /48) or hash (keyed); not less than the "
                      "configuration's client_privacy");
  command->add_option("--rotate-size", arguments->rotate_size,
                      "A new file once one has so many bytes: 100M");
  command->add_option("--rotate-age", arguments->rotate_age, "A new file each so often: 1h");
  command->add_option("--keep", arguments->keep, "Files that are kept, the oldest go first")
      ->check(CLI::Range(1, 100000));
  command->add_option("--duration", arguments->duration_s, "Seconds; without it until SIGINT")
      ->check(CLI::PositiveNumber);
  command->callback(
      [arguments, &action] { action = [arguments] { return run_capture(*arguments); }; });
}

}  // namespace petrel::cli
