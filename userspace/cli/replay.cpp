// SPDX-License-Identifier: MIT
// petrel replay: a capture through features, score and control once more.
#include <fmt/format.h>

#include <boost/json.hpp>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>

#include "agent/report.hpp"
#include "cli/verbs.hpp"
#include "replay/replay.hpp"
#include "telemetry/csv.hpp"
#include "telemetry/labeller.hpp"

namespace petrel::cli {
namespace {

namespace json = boost::json;

struct ReplayArguments {
  std::string capture;
  std::string model;
  std::string config;
  std::string rows;
  std::string run;
  bool compare = false;
  bool as_json = false;
};

// What became of one backend over a replay.
struct Course {
  std::string service;
  std::string backend;
  std::uint32_t worst_risk_q16 = 0;
  std::uint32_t least_factor_q16 = 65536;
  std::uint64_t least_tick = 0;
  Decided last;
};

using Courses = std::map<std::pair<std::uint32_t, std::uint32_t>, Course>;

std::string_view reason_of(const Decided& decided) {
  return reason_name(static_cast<bpf::weight_reason>(decided.reason));
}

void follow(const Replay& replay, Courses& courses) {
  for (const ServiceLoop& service : replay.loop().services()) {
    for (const BackendLoop& backend : service.backends()) {
      Course& course = courses[{service.config().id, backend.config.id}];
      course.service = service.config().name;
      course.backend = backend.config.name;
      course.last = Decided::of(backend);
      course.worst_risk_q16 = std::max(course.worst_risk_q16, course.last.risk_q16);
      if (course.last.factor_q16 >= course.least_factor_q16) continue;
      course.least_factor_q16 = course.last.factor_q16;
      course.least_tick = replay.tick().tick;
    }
  }
}

void print_tick(const Replay& replay, const Courses& courses) {
  if (replay.changes().empty() && replay.tick().moved_slots == 0) return;
  json::array backends;
  for (const BackendChange& change : replay.changes()) {
    const Course& course = courses.at({change.service_id, change.backend_id});
    backends.push_back({{"service", course.service},
                        {"backend", course.backend},
                        {"risk_q16", change.decided.risk_q16},
                        {"factor_q16", change.decided.factor_q16},
                        {"reason", reason_of(change.decided)},
                        {"slots", change.decided.slots}});
  }
  std::cout << json::serialize(json::object{{"tick", replay.tick().tick},
                                            {"time_ns", replay.tick().time_ns},
                                            {"events", replay.tick().events},
                                            {"moved_slots", replay.tick().moved_slots},
                                            {"backends", std::move(backends)}})
            << '\n';
}

json::object summary_json(const Replay& replay, std::uint64_t moved_slots) {
  json::object out = {{"schema", "petrel/replay/v1"},
                      {"ticks", replay.ticks()},
                      {"events", replay.events()},
                      {"checkpoints", replay.checkpoints()},
                      {"moved_slots", moved_slots},
                      {"gaps", replay.gaps()}};
  return out;
}

json::object comparison_json(const Replay& replay) {
  json::object out = {{"ticks", replay.compared()},
                      {"different", replay.different()},
                      {"equal", replay.different() == 0}};
  if (const auto& first = replay.first_difference()) {
    out["first"] = {{"tick", first->tick}, {"what", first->what}};
  }
  return out;
}

void print_summary(const Replay& replay, const Courses& courses, std::uint64_t moved_slots) {
  fmt::print("{} ticks, {} events, {} checkpoints, {} gaps; {} slots moved\n", replay.ticks(),
             replay.events(), replay.checkpoints(), replay.gaps(), moved_slots);
  fmt::print("{:<16} {:<16} {:>10} {:>12} {:>9} {:>9} {:>7}  {}\n", "service", "backend",
             "worst risk", "least factor", "at tick", "factor", "slots", "reason");
  for (const auto& [ids, course] : courses) {
    fmt::print("{:<16} {:<16} {:>10.4f} {:>12.4f} {:>9} {:>9.4f} {:>7}  {}\n", course.service,
               course.backend, course.worst_risk_q16 / 65536.0, course.least_factor_q16 / 65536.0,
               course.least_tick, course.last.factor_q16 / 65536.0, course.last.slots,
               reason_of(course.last));
  }
}

void print_comparison(const Replay& replay) {
  if (replay.different() == 0) {
    fmt::print("as decided live in each of {} ticks\n", replay.compared());
  } else {
    fmt::print("otherwise than decided live in {} of {} ticks, first in tick {}: {}\n",
               replay.different(), replay.compared(), replay.first_difference()->tick,
               replay.first_difference()->what);
  }
}

Result<WhatIf> what_if_of(const ReplayArguments& arguments) {
  WhatIf what_if;
  if (!arguments.model.empty()) {
    auto model = load_model(arguments.model);
    if (!model) return model.error();
    what_if.model = std::move(*model);
  }
  if (!arguments.config.empty()) {
    auto config = load_config(arguments.config);
    if (!config) return config.error().error();
    what_if.config = std::move(*config);
  }
  return what_if;
}

// What a capture's rows would be, made of its events by this program's features.
class RowsAgain {
 public:
  static Result<std::unique_ptr<RowsAgain>> create(const std::string& path, std::string run,
                                                   LabellerOptions options) {
    auto rows = std::make_unique<RowsAgain>(std::move(run), options);
    errno = 0;
    rows->file_.open(path);
    if (!rows->file_) return Error::from_errno(errno != 0 ? errno : EIO, "write " + path);
    rows->path_ = path;
    rows->file_ << csv_header() << '\n';
    return rows;
  }

  RowsAgain(std::string run, LabellerOptions options)
      : run_(std::move(run)),
        labeller_(options, [this](const LabelledRow& row) { file_ << csv_line(run_, row) << '\n'; }) {}

  Replay::Observer observer() {
    return {[this](const bpf::event& event) { labeller_.on_event(event); },
            [this](const Loop& loop, std::uint64_t now_ns) {
              last_ns_ = now_ns;
              labeller_.on_tick(loop.features().snapshot(), now_ns);
            }};
  }

  Result<void> finish() {
    labeller_.finish(last_ns_);
    errno = 0;
    file_.close();
    if (!file_) return Error::from_errno(errno != 0 ? errno : EIO, "write " + path_);
    return {};
  }

 private:
  std::string run_;
  std::string path_;
  std::ofstream file_;
  Labeller labeller_;
  std::uint64_t last_ns_ = 0;
};

// As the agent labelled while it was captured; its default where the capture does not say.
Result<LabellerOptions> options_of(CaptureSource& source, const std::string& path) {
  LabellerOptions options;
  const CaptureTable& table = *find_capture_table("meta");
  if (!source.has(table)) return options;
  auto rows = source.rows(table);
  if (!rows) return rows.error();
  for (;;) {
    auto more = (*rows)->next();
    if (!more) return more.error();
    if (!*more) return options;
    const std::vector<std::string>& fields = (*rows)->fields();
    if (fields.front() != "retry_window_ms") continue;
    std::uint32_t window_ms = 0;
    const std::string& text = fields.back();
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), window_ms);
    if (code != std::errc() || end != text.data() + text.size()) {
      return Error(ExitCode::kInput, path + ": table meta: retry_window_ms: expected an integer, "
                                            "found \"" + text.substr(0, 40) + "\"");
    }
    options.retry_window = std::chrono::milliseconds(window_ms);
  }
}

// What the capture's own rows say, or the file's name.
std::string run_of(CaptureSource& source, const std::string& path) {
  const CaptureTable& table = *find_capture_table("rows");
  if (source.has(table)) {
    auto rows = source.rows(table);
    if (rows) {
      if (const auto more = (*rows)->next(); more && *more) return (*rows)->fields().front();
    }
  }
  return std::filesystem::path(path).stem().string();
}

int run_replay(const ReplayArguments& arguments) {
  auto what_if = what_if_of(arguments);
  if (!what_if) return fail(what_if.error());
  auto source = open_capture(arguments.capture);
  if (!source) return fail(source.error());
  auto replay = Replay::open(**source, std::move(*what_if));
  if (!replay) return fail(replay.error().within(arguments.capture));
  std::unique_ptr<RowsAgain> rows;
  if (!arguments.rows.empty()) {
    const std::string run =
        arguments.run.empty() ? run_of(**source, arguments.capture) : arguments.run;
    if (!is_run_name(run)) {
      return fail(Error(ExitCode::kUsage, "--run: expected letters, digits, '.', '_' and '-', found \"" +
                                              run + "\""));
    }
    auto options = options_of(**source, arguments.capture);
    if (!options) return fail(options.error());
    auto created = RowsAgain::create(arguments.rows, run, *options);
    if (!created) return fail(created.error());
    rows = std::move(*created);
    replay->observe(rows->observer());
  }
  Courses courses;
  std::uint64_t moved_slots = 0;
  for (;;) {
    auto more = replay->step();
    if (!more) return fail(more.error().within("replay " + arguments.capture));
    if (!*more) break;
    moved_slots += replay->tick().moved_slots;
    follow(*replay, courses);
    if (arguments.as_json) print_tick(*replay, courses);
  }
  if (rows) {
    if (auto finished = rows->finish(); !finished) return fail(finished.error());
  }
  if (arguments.as_json) {
    json::object out = summary_json(*replay, moved_slots);
    if (arguments.compare) out["comparison"] = comparison_json(*replay);
    std::cout << json::serialize(out) << '\n';
  } else {
    print_summary(*replay, courses, moved_slots);
    if (arguments.compare) print_comparison(*replay);
  }
  if (!arguments.compare) return 0;
  if (replay->compared() == 0) {
    return fail(Error(ExitCode::kInput, arguments.capture + ": holds no tick to compare with"));
  }
  return static_cast<int>(replay->different() == 0 ? ExitCode::kGood : ExitCode::kUnhealthy);
}

}  // namespace

void add_replay(CLI::App& app, Action& action) {
  auto arguments = std::make_shared<ReplayArguments>();
  CLI::App* command = app.add_subcommand(
      "replay", "Run a capture through features, score and control again: what would be decided");
  command->add_option("capture", arguments->capture, "SQLite file, or directory of CSV files")
      ->required();
  command->add_option("--model", arguments->model, "Score by this model instead of the agent's");
  command->add_option("--config", arguments->config,
                      "Decide by this file's [control], modes and weights, found by name");
  command->add_option("--rows", arguments->rows,
                      "Write the rows that a model is trained on, made anew of the events, as CSV");
  command->add_option("--run", arguments->run,
                      "Their run; else that of the capture's rows, or the file's name");
  command->add_flag("--compare", arguments->compare,
                    "Say whether it equals what was decided live; exit code 8 where not");
  command->add_flag("--json", arguments->as_json,
                    "A line for each tick that changes something, then petrel/replay/v1");
  command->callback(
      [arguments, &action] { action = [arguments] { return run_replay(*arguments); }; });
}

}  // namespace petrel::cli
