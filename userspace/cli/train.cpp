// SPDX-License-Identifier: MIT
// petrel train: a model file from captured rows.
#include <fmt/format.h>

#include <boost/json.hpp>
#include <ctime>
#include <filesystem>
#include <iostream>
#include <memory>

#include "cli/training_rows.hpp"
#include "cli/verbs.hpp"
#include "trainer/trainer.hpp"

namespace petrel::cli {
namespace {

struct TrainArguments {
  std::vector<std::string> inputs;
  std::string output;
  TrainingOptions options;
  bool as_json = false;
};

std::string today_utc() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  char text[16] = {};
  std::strftime(text, sizeof(text), "%Y-%m-%d", &utc);
  return text;
}

boost::json::object evaluation_json(const Evaluation& evaluation) {
  boost::json::object points;
  for (std::size_t i = 0; i < kPointCount; ++i) {
    const PointResult& point = evaluation.by_point[i];
    points[point_name(static_cast<Point>(i))] = {
        {"rows", point.rows}, {"positive_share", point.positive_share}, {"auc", point.auc}};
  }
  return {{"rows", evaluation.rows},
          {"positive_share", evaluation.positive_share},
          {"auc", evaluation.auc},
          {"log_loss", evaluation.log_loss},
          {"base_rate_log_loss", evaluation.base_rate_log_loss},
          {"by_point", std::move(points)}};
}

void print_json(const TrainingReport& report) {
  boost::json::array baselines;
  for (const Baseline& baseline : report.baselines) {
    baselines.push_back({{"name", baseline.name}, {"auc", baseline.auc}});
  }
  const boost::json::object out = {
      {"schema", "petrel/train/v1"},
      {"model", report.model.name},
      {"checksum", model_checksum(report.model)},
      {"c", report.model.training.c},
      {"runs", report.model.training.runs.size()},
      {"held_out_runs", report.model.training.held_out_runs.size()},
      {"training", evaluation_json(report.training)},
      {"held_out", evaluation_json(report.held_out)},
      {"baselines", std::move(baselines)},
      {"fixed_vs_float", {{"max_probability_difference", report.largest_quantization_difference}}}};
  std::cout << boost::json::serialize(out) << '\n';
}

void print_evaluation(const char* name, const Evaluation& it) {
  fmt::print("{:<10} {:>9} rows  {:>6.2f} % retried  AUC {:.4f}  log loss {:.4f} (base rate {:.4f})\n",
             name, it.rows, 100 * it.positive_share, it.auc, it.log_loss, it.base_rate_log_loss);
}

void print_report(const TrainingReport& report) {
  const TrainingFacts& facts = report.model.training;
  for (const CandidateResult& candidate : report.candidates) {
    fmt::print("C {:<8} cross-validated log loss {:.5f}  AUC {:.4f}{}\n", candidate.c,
               candidate.log_loss, candidate.auc, candidate.c == facts.c ? "  <- chosen" : "");
  }
  print_evaluation("training", report.training);
  print_evaluation("held out", report.held_out);
  for (std::size_t i = 0; i < kPointCount; ++i) {
    const PointResult& point = report.held_out.by_point[i];
    fmt::print("  at {:<17} {:>9} rows  {:>6.2f} % retried  AUC {:.4f}\n",
               point_name(static_cast<Point>(i)), point.rows, 100 * point.positive_share, point.auc);
  }
  for (const Baseline& baseline : report.baselines) {
    fmt::print("baseline {:<22} AUC {:.4f}\n", baseline.name, baseline.auc);
  }
  fmt::print("fixed point against float: probabilities differ by at most {:.5f}\n",
             report.largest_quantization_difference);
  fmt::print("{:<26} {:>12} {:>12}\n", "feature", "mean", "coefficient");
  for (std::size_t i = 0; i < kFeatureCount; ++i) {
    const ModelFeature& feature = report.model.features[i];
    fmt::print("{:<26} {:>12.4f} {:>+12.4f}\n", kFeatures[i].name, feature.mean, feature.coefficient);
  }
}

int run_train(TrainArguments& arguments) {
  std::vector<Run> runs;
  for (const std::string& input : arguments.inputs) {
    if (auto read = read_training_rows(input, runs); !read) return fail(read.error());
    std::cerr << "read " << input << ": " << runs.size() << " runs so far\n";
  }
  if (arguments.options.date.empty()) arguments.options.date = today_utc();
  auto report = train(runs, arguments.options);
  if (!report) return fail(report.error().within("train"));
  if (!arguments.output.empty()) {
    if (auto saved = save_model(report->model, arguments.output); !saved) return fail(saved.error());
    std::cerr << "wrote " << arguments.output << '\n';
  }
  if (arguments.as_json) {
    print_json(*report);
  } else {
    print_report(*report);
  }
  return 0;
}

}  // namespace

void add_train(CLI::App& app, Action& action) {
  auto arguments = std::make_shared<TrainArguments>();
  arguments->options.name = "retry";
  CLI::App* command = app.add_subcommand(
      "train", "Train a model on captured rows; runs are held out whole, never rows");
  command->add_option("captures", arguments->inputs, "Captures: SQLite, directories of CSV, or CSV of rows")
      ->required()
      ->check(CLI::ExistingPath);
  command->add_option("-o,--output", arguments->output, "Model file to write");
  command->add_option("--name", arguments->options.name, "Model's name")->capture_default_str();
  command->add_option("--model-version", arguments->options.version, "Model's version")
      ->capture_default_str();
  command->add_option("--seed", arguments->options.seed, "Decides which runs are held out")
      ->capture_default_str();
  command->add_option("--held-out-share", arguments->options.held_out_share,
                      "Share of the runs kept for testing")
      ->check(CLI::Range(0.05, 0.9))
      ->capture_default_str();
  command->add_option("--held-out", arguments->options.held_out_runs,
                      "Runs kept for testing, instead of drawing them");
  command->add_flag("--weigh-by-confidence", arguments->options.weigh_by_confidence,
                    "Let each training row count by the confidence in its label: it stays with that "
                    "probability, drawn by the seed");
  command->add_option("--date", arguments->options.date, "Date to record, UTC (default: today)");
  command->add_flag("--json", arguments->as_json, "Print petrel/train/v1");
  command->callback([arguments, &action] { action = [arguments] { return run_train(*arguments); }; });
}

}  // namespace petrel::cli
