// SPDX-License-Identifier: MIT
#include "cli/evaluate_output.hpp"

#include <fmt/format.h>

#include <boost/json.hpp>
#include <cmath>
#include <iterator>

#include "capture/words.hpp"
#include "score/json_fields.hpp"

namespace petrel::cli {
namespace {

namespace json = boost::json;

constexpr int kNameWidth = 18;
constexpr double kUpperBoundAim = 0.01;
constexpr std::size_t kLargestName = 200;
constexpr std::array<const char*, kMeasureCount> kHeadings = {
    "AUC", "in runs", "PR AUC", "log loss", "Brier", "ECE", "precision", "recall"};

// --- table ---

double percent_of(std::uint64_t part, std::uint64_t whole) {
  return whole == 0 ? 0 : 100 * static_cast<double>(part) / static_cast<double>(whole);
}

std::string value_text(const Estimate& estimate) {
  return estimate.has_value() ? fmt::format("{:.4f}", estimate.value) : "-";
}

std::string interval_text(const Estimate& estimate) {
  return estimate.has_interval() ? fmt::format("{:.3f}-{:.3f}", estimate.low, estimate.high) : "";
}

class Text {
 public:
  template <class... Arguments>
  void add(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
    fmt::format_to(std::back_inserter(text_), format, std::forward<Arguments>(arguments)...);
  }

  void heading(const std::string& title) {
    add("\n{:<{}} {:>9} {:>4} {:>8}", title, kNameWidth, "rows", "runs", "retried");
    for (const char* name : kHeadings) add(" {:>12}", name);
    add("\n");
  }

  // A second line has the intervals.
  void line(std::string_view name, const Measures& it) {
    add("{:<{}} {:>9} {:>4} {:>6.2f} %", name, kNameWidth, it.rows, it.runs,
        percent_of(it.retried, it.rows));
    for (const Estimate& value : it.values) add(" {:>12}", value_text(value));
    add("\n");
    bool any = false;
    for (const Estimate& value : it.values) any = any || value.has_interval();
    if (!any) return;
    add("{:<{}}", "", kNameWidth + 24);
    for (const Estimate& value : it.values) add(" {:>12}", interval_text(value));
    add("\n");
  }

  const std::string& str() const { return text_; }

 private:
  std::string text_;
};

void add_head(Text& text, const EvaluatedModel& about, const EvaluationReport& report) {
  const TrainingFacts& facts = about.model.training;
  std::array<std::size_t, 3> by_role{};
  for (const Run* run : about.runs.used)
    by_role[static_cast<std::size_t>(role_of(facts, run->name))]++;
  text.add("model {} version {} ({}), retry predicted from {:g} on\n", about.model.name,
           about.model.version, model_checksum(about.model), about.options.working_point);
  text.add(
      "{} rows of {} runs: {} held out, {} that the model's file does not name, {} trained on\n",
      report.all.rows, about.runs.used.size(), by_role[0], by_role[1], by_role[2]);
  text.add("intervals: 95 %, {} resamples of whole runs, seed {}\n", about.options.resamples,
           about.options.seed);
  if (by_role[2] > 0) text.add("runs that were trained on flatter the model\n");
  if (about.shuffle_seed) {
    text.add(
        "labels permuted within runs, seed {}: AUC in runs is 0.5 but for chance; the other AUC "
        "keeps what runs differ in\n",
        *about.shuffle_seed);
  }
}

std::string with_interval(const Estimate& it, double factor, const char* unit) {
  if (!it.has_value()) return "-";
  std::string text = fmt::format("{:.1f}{}", factor * it.value, unit);
  if (it.has_interval()) {
    text += fmt::format(" ({:.1f}-{:.1f})", factor * it.low, factor * it.high);
  }
  return text;
}

void add_lead_time(Text& text, const LeadTime& lead) {
  const auto add = [&text](const char* name, const AlarmCounts& it) {
    text.add(
        "{:<{}} {:>9} requests, {} waited 8 ms or more, {} predicted while waiting: {} of all, {} "
        "of "
        "those that waited\n",
        name, kNameWidth, it.requests, it.waited, it.crossed,
        with_interval(it.share_crossed, 100, " %"),
        with_interval(it.share_crossed_of_waited, 100, " %"));
  };
  text.add("\nlead time\n");
  add("retried", lead.retried);
  add("not retried", lead.others);
  text.add("{:<{}} {:>9}\n", "median", kNameWidth, with_interval(lead.median_ms, 1, " ms"));
  text.add("{:<{}} {:>9}\n", "p90", kNameWidth, with_interval(lead.p90_ms, 1, " ms"));
}

void add_reliability(Text& text, const std::vector<CalibrationBin>& bins) {
  text.add("\n{:<{}} {:>9} {:>12} {:>12}\n", "predicted", kNameWidth, "rows", "mean", "retried");
  for (const CalibrationBin& bin : bins) {
    text.add("{:<{}} {:>9} {:>12.4f} {:>12.4f}\n",
             fmt::format("{:.4f}-{:.4f}", bin.least_predicted, bin.most_predicted), kNameWidth,
             bin.rows, bin.mean_predicted, bin.share_retried);
  }
}

void add_baselines(Text& text, const EvaluationReport& report) {
  text.heading("baseline, all rows");
  for (const BaselineReport& it : report.baselines) text.line(it.name, it.all);
  text.heading("while waiting");
  text.line("model", report.waiting);
  for (const BaselineReport& it : report.baselines) text.line(it.name, it.waiting);
  const auto gain = [](const Estimate& it) {
    if (!it.has_value()) return std::string("-");
    std::string shown = fmt::format("{:+.4f}", it.value);
    if (it.has_interval()) shown += fmt::format(" ({:+.4f} to {:+.4f})", it.low, it.high);
    return shown;
  };
  text.add("\n{:<{}} {:<30} {:<30}\n", "model's AUC less", kNameWidth, "all rows", "while waiting");
  for (const BaselineReport& it : report.baselines) {
    text.add("{:<{}} {:<30} {:<30}\n", it.name, kNameWidth, gain(it.auc_gain),
             gain(it.auc_gain_waiting));
  }
  text.add("\n");
  for (const BaselineReport& it : report.baselines) {
    text.add("{:<{}} {}\n", it.name, kNameWidth, it.meaning);
  }
}

void add_faults(Text& text, const char* title, const std::vector<FaultFigures>& faults) {
  if (faults.empty()) return;
  text.heading(title);
  for (const FaultFigures& it : faults) {
    if (!it.why_not.empty()) {
      text.add("{:<{}} {}\n", it.fault, kNameWidth, it.why_not);
      continue;
    }
    text.line(it.fault, it.report.all);
    text.line("  while waiting", it.report.waiting);
    text.add("{:<{}} median {}\n", "  lead time", kNameWidth,
             with_interval(it.report.median_lead_ms, 1, " ms"));
  }
}

void add_upper_bound(Text& text, const EvaluatedModel& about, const EvaluationReport& report) {
  if (!about.upper_bound) return;
  const double less = about.upper_bound->auc - report.all.of(Measure::kAuc).value;
  text.add("\nupper bound: {} reaches an AUC of {:.4f}; the model is {:.4f} below (aim: {:g}){}\n",
           about.upper_bound->model, about.upper_bound->auc, less, kUpperBoundAim,
           about.upper_bound->checksum == model_checksum(about.model)
               ? ""
               : "; it is of another model's split");
}

// --- JSON ---

json::value estimate_json(const Estimate& it) {
  if (!it.has_value()) return nullptr;
  const bool known = it.has_interval();
  return json::object{{"value", it.value},
                      {"low", known ? json::value(it.low) : json::value(nullptr)},
                      {"high", known ? json::value(it.high) : json::value(nullptr)}};
}

json::value value_json(const Estimate& it) {
  return it.has_value() ? json::value(it.value) : json::value(nullptr);
}

json::value interval_json(const Estimate& it) {
  if (!it.has_interval()) return nullptr;
  return json::array{it.low, it.high};
}

json::array faults_json(const std::vector<FaultFigures>& faults) {
  json::array out;
  for (const FaultFigures& it : faults) {
    const Measures& all = it.report.all;
    const Measures& waiting = it.report.waiting;
    json::object fault{{"fault", it.fault},
                       {"auc", value_json(all.of(Measure::kAuc))},
                       {"auc_interval", interval_json(all.of(Measure::kAuc))},
                       {"auc_waiting", value_json(waiting.of(Measure::kAuc))},
                       {"auc_waiting_interval", interval_json(waiting.of(Measure::kAuc))},
                       {"ece", value_json(all.of(Measure::kEce))},
                       {"lead_time_ms", value_json(it.report.median_lead_ms)},
                       {"rows", all.rows},
                       {"retried", all.retried},
                       {"runs", json::value_from(it.tested)}};
    if (it.training_runs > 0) fault["training_runs"] = it.training_runs;
    if (!it.why_not.empty()) fault["why_not"] = it.why_not;
    out.push_back(std::move(fault));
  }
  return out;
}

json::value upper_bound_json(const EvaluatedModel& about, const EvaluationReport& report) {
  if (!about.upper_bound) return nullptr;
  const double less = about.upper_bound->auc - report.all.of(Measure::kAuc).value;
  return json::object{{"model", about.upper_bound->model},
                      {"auc", about.upper_bound->auc},
                      {"auc_difference", less},
                      {"aim", kUpperBoundAim},
                      {"same_split", about.upper_bound->checksum == model_checksum(about.model)}};
}

// The figures of all rows once more, by the names that all of petrel's results have.
void add_flat(const EvaluatedModel& about, const EvaluationReport& report, json::object& out) {
  const Measures& all = report.all;
  out["rows"] = all.rows;
  out["retry_share"] = all.rows == 0 ? 0.0 : static_cast<double>(all.retried) / static_cast<double>(all.rows);
  out["auc"] = value_json(all.of(Measure::kAuc));
  out["auc_interval"] = interval_json(all.of(Measure::kAuc));
  out["pr_auc"] = value_json(all.of(Measure::kAveragePrecision));
  out["log_loss"] = value_json(all.of(Measure::kLogLoss));
  out["brier"] = value_json(all.of(Measure::kBrier));
  out["ece"] = value_json(all.of(Measure::kEce));
  out["shuffled_label_auc"] = about.shuffle_seed ? out["auc"] : json::value(nullptr);
  for (const BaselineReport& it : report.baselines) {
    if (it.name != "float model") continue;
    out["fixed_vs_float"] = {{"auc_difference", value_json(it.auc_gain)},
                             {"max_probability_difference", report.largest_float_difference}};
  }
}

json::object measures_json(const Measures& it) {
  json::object out{{"rows", it.rows}, {"retried", it.retried}, {"runs", it.runs}};
  for (std::size_t i = 0; i < kMeasureCount; ++i) {
    out[measure_name(static_cast<Measure>(i))] = estimate_json(it.values[i]);
  }
  return out;
}

json::object alarms_json(const AlarmCounts& it) {
  return {{"requests", it.requests},
          {"waited", it.waited},
          {"crossed", it.crossed},
          {"share_crossed", estimate_json(it.share_crossed)},
          {"share_crossed_of_waited", estimate_json(it.share_crossed_of_waited)}};
}

json::array runs_json(const EvaluatedModel& about) {
  json::array runs;
  for (const Run* run : about.runs.used) {
    std::uint64_t retried = 0;
    for (const LabelledRow& row : run->rows) retried += row.retried ? 1 : 0;
    runs.push_back({{"name", run->name},
                    {"role", run_role_name(role_of(about.model.training, run->name))},
                    {"rows", run->rows.size()},
                    {"retried", retried}});
  }
  return runs;
}

json::array reliability_json(const std::vector<CalibrationBin>& bins) {
  json::array out;
  for (const CalibrationBin& bin : bins) {
    out.push_back({{"rows", bin.rows},
                   {"least_predicted", bin.least_predicted},
                   {"most_predicted", bin.most_predicted},
                   {"mean_predicted", bin.mean_predicted},
                   {"share_retried", bin.share_retried}});
  }
  return out;
}

json::array baselines_json(const std::vector<BaselineReport>& baselines) {
  json::array out;
  for (const BaselineReport& it : baselines) {
    out.push_back({{"name", it.name},
                   {"meaning", it.meaning},
                   {"auc", value_json(it.all.of(Measure::kAuc))},
                   {"all", measures_json(it.all)},
                   {"waiting", measures_json(it.waiting)},
                   {"auc_gain", estimate_json(it.auc_gain)},
                   {"auc_gain_waiting", estimate_json(it.auc_gain_waiting)}});
  }
  return out;
}

}  // namespace

std::string evaluation_text(const EvaluatedModel& about, const EvaluationReport& report) {
  Text text;
  add_head(text, about, report);
  text.heading("by decision point");
  text.line("all", report.all);
  for (std::size_t i = 0; i < kPointCount; ++i) {
    text.line(point_name(static_cast<Point>(i)), report.by_point[i]);
  }
  text.heading("by outcome");
  for (std::size_t i = 0; i < report.by_failure.size(); ++i) {
    if (report.by_failure[i].rows == 0) continue;
    text.line(capture_failure(static_cast<std::uint8_t>(i)), report.by_failure[i]);
  }
  add_faults(text, "led by fault", about.by_fault);
  add_faults(text, "fault left out", about.leave_one_out);
  add_lead_time(text, report.lead_time);
  add_reliability(text, report.calibration);
  add_baselines(text, report);
  add_upper_bound(text, about, report);
  return text.str();
}

std::string evaluation_json(const EvaluatedModel& about, const EvaluationReport& report) {
  json::object by_point;
  for (std::size_t i = 0; i < kPointCount; ++i) {
    by_point[point_name(static_cast<Point>(i))] = measures_json(report.by_point[i]);
  }
  json::object by_failure;
  for (std::size_t i = 0; i < report.by_failure.size(); ++i) {
    by_failure[capture_failure(static_cast<std::uint8_t>(i))] = measures_json(report.by_failure[i]);
  }
  const LeadTime& lead = report.lead_time;
  json::object out = {{"schema", "petrel/evaluate/v1"},
                   {"model",
                    {{"name", about.model.name},
                     {"version", about.model.version},
                     {"checksum", model_checksum(about.model)}}},
                   {"working_point", about.options.working_point},
                   {"resamples", about.options.resamples},
                   {"seed", about.options.seed},
                   {"shuffle_seed",
                    about.shuffle_seed ? json::value(*about.shuffle_seed) : json::value(nullptr)},
                   {"runs", runs_json(about)},
                   {"left_out", json::value_from(about.runs.left_out)},
                   {"all", measures_json(report.all)},
                   {"waiting", measures_json(report.waiting)},
                   {"by_point", std::move(by_point)},
                   {"by_failure", std::move(by_failure)},
                   {"reliability", reliability_json(report.calibration)},
                   {"lead_time",
                    {{"retried", alarms_json(lead.retried)},
                     {"not_retried", alarms_json(lead.others)},
                     {"median_ms", estimate_json(lead.median_ms)},
                     {"p90_ms", estimate_json(lead.p90_ms)}}},
                   {"baselines", baselines_json(report.baselines)},
                   {"by_fault", faults_json(about.by_fault)},
                   {"leave_one_fault_out", faults_json(about.leave_one_out)},
                   {"upper_bound", upper_bound_json(about, report)}};
  add_flat(about, report, out);
  return json::serialize(out);
}

Result<UpperBound> read_upper_bound(const std::string& path) {
  const Result<std::string> text = read_model_text(path);
  if (!text) return text.error();
  UpperBound bound;
  std::optional<InputProblem> error;
  boost::system::error_code code;
  const json::value document = json::parse(*text, code);
  if (code) {
    error = InputProblem{"", "JSON", code.message()};
  } else {
    Fields fields(document, "", error);
    const std::string schema = fields.text("schema", kLargestName);
    if (schema != "petrel/upper-bound/v1") {
      fields.fail("schema", "\"petrel/upper-bound/v1\"", json::value(schema));
    }
    bound.model = fields.text("model", kLargestName);
    bound.auc = fields.number("auc", 0, 1);
    if (fields.has("checksum")) bound.checksum = fields.text("checksum", kLargestName);
  }
  if (error) return Error(ExitCode::kInput, "upper bound " + path + ": " + error->text());
  return bound;
}

}  // namespace petrel::cli
