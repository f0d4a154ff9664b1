// SPDX-License-Identifier: MIT
// petrel train: a model file from captured rows.
#include <algorithm>
#include <ctime>
#include <filesystem>
#include <iostream>
#include <memory>
#include <optional>

#include "cli/train_output.hpp"
#include "cli/training_rows.hpp"
#include "cli/verbs.hpp"
#include "trainer/manifest.hpp"
#include "trainer/trainer.hpp"

namespace petrel::cli {
namespace {

struct TrainArguments {
  std::vector<std::string> inputs;
  std::string output;
  TrainingOptions options;
  std::string penalty = "auto";
  std::string class_weight = "auto";
  std::string calibration = "auto";
  std::string manifest;
  bool as_json = false;
};

// "auto" leaves all of them to be tried.
void take_choices(const TrainArguments& arguments, TrainingOptions& options) {
  const auto keep = [](auto& values, const std::string& wanted, const auto& name_of) {
    if (wanted == "auto") return;
    std::erase_if(values, [&](const auto& value) { return name_of(value) != wanted; });
  };
  keep(options.grid.penalties, arguments.penalty, penalty_name);
  keep(options.grid.class_weights, arguments.class_weight, class_weight_name);
  for (const CalibrationMethod method :
       {CalibrationMethod::kNone, CalibrationMethod::kPlatt, CalibrationMethod::kIsotonic}) {
    if (calibration_name(method) == arguments.calibration) options.calibration = method;
  }
}

std::string today_utc() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  char text[16] = {};
  std::strftime(text, sizeof(text), "%Y-%m-%d", &utc);
  return text;
}

std::vector<std::string> feature_names() {
  std::vector<std::string> names;
  for (const FeatureInfo& feature : kFeatures) names.emplace_back(feature.name);
  return names;
}

int run_train(TrainArguments& arguments) {
  std::vector<Run> runs;
  for (const std::string& input : arguments.inputs) {
    if (auto read = read_training_rows(input, runs); !read) return fail(read.error());
    std::cerr << "read " << input << ": " << runs.size() << " runs so far\n";
  }
  if (arguments.options.date.empty()) arguments.options.date = today_utc();
  std::optional<Manifest> manifest;
  if (!arguments.manifest.empty()) {
    auto read = read_manifest(arguments.manifest);
    if (!read) return fail(read.error());
    manifest = std::move(*read);
  }
  take_choices(arguments, arguments.options);
  arguments.options.progress = [](const std::string& what) { std::cerr << "train: " << what << '\n'; };
  auto report = train(runs, arguments.options);
  if (!report) return fail(report.error().within("train"));
  if (!arguments.output.empty()) {
    if (auto saved = save_model(report->model, arguments.output); !saved) return fail(saved.error());
    std::cerr << "wrote " << arguments.output << '\n';
  }
  const std::vector<FaultRows> faults =
      manifest ? rows_by_fault(runs, *manifest) : std::vector<FaultRows>();
  std::cout << (arguments.as_json ? training_json(*report, faults) : training_text(*report, faults));
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
  command->add_option("--penalty", arguments->penalty, "l1, l2 or auto: by cross-validation")
      ->check(CLI::IsMember({"l1", "l2", "auto"}))
      ->capture_default_str();
  command
      ->add_option("--class-weight", arguments->class_weight,
                   "Of retried rows: 1, sqrt, balanced or auto: by cross-validation")
      ->check(CLI::IsMember({"1", "sqrt", "balanced", "auto"}))
      ->capture_default_str();
  command
      ->add_option("--calibration", arguments->calibration,
                   "none, platt, isotonic or auto: by cross-validation")
      ->check(CLI::IsMember({"none", "platt", "isotonic", "auto"}))
      ->capture_default_str();
  command
      ->add_option("--without", arguments->options.without,
                   "Features that get no weight, separated by commas")
      ->delimiter(',')
      ->check(CLI::IsMember(feature_names()));
  command
      ->add_option("--folds", arguments->options.folds,
                   "Of cross-validation; whole runs are dealt to them")
      ->check(CLI::Range(2, 100))
      ->capture_default_str();
  command
      ->add_option("--manifest", arguments->manifest,
                   "petrel/dataset/v1: says the share of rows by the runs' faults")
      ->check(CLI::ExistingFile);
  command->add_option("--date", arguments->options.date, "Date to record, UTC (default: today)");
  command->add_flag("--json", arguments->as_json, "Print petrel/train/v1");
  command->callback([arguments, &action] { action = [arguments] { return run_train(*arguments); }; });
}

}  // namespace petrel::cli
