// SPDX-License-Identifier: MIT
// petrel evaluate: how good a model is on captured rows.
#include <iostream>
#include <memory>
#include <optional>

#include "cli/evaluate_output.hpp"
#include "cli/training_rows.hpp"
#include "cli/verbs.hpp"
#include "trainer/evaluation.hpp"
#include "trainer/run_choice.hpp"

namespace petrel::cli {
namespace {

// With fewer, intervals say little: the runs that there are may all be of one kind.
constexpr std::size_t kFewRuns = 5;

struct EvaluateArguments {
  std::vector<std::string> inputs;
  std::string model = AgentConfig{}.model;
  RunChoiceOptions choice;
  EvaluationOptions options;
  std::optional<std::uint64_t> shuffle_seed;
  std::string manifest;
  bool leave_one_fault_out = false;
  std::string upper_bound;
  bool as_json = false;
};

// What is asked for beside the figures themselves.
Result<void> add_asked_for(const EvaluateArguments& arguments, const std::vector<Run>& runs,
                           EvaluatedModel& about) {
  if (!arguments.manifest.empty()) {
    const auto manifest = read_manifest(arguments.manifest);
    if (!manifest) return manifest.error();
    about.by_fault =
        figures_by_fault(about.model, about.runs.used, *manifest, arguments.options);
    if (arguments.leave_one_fault_out) {
      FoldOptions folds{.seed = about.model.training.seed};
      const auto without = without_of(about.model);
      if (!without) return without.error();
      folds.without = *without;
      auto left_out = leave_one_fault_out(
          runs, *manifest, choice_of(about.model), about.model.training.rows, folds,
          arguments.options,
          [](const std::string& what) { std::cerr << "evaluate: " << what << '\n'; });
      if (!left_out) return left_out.error();
      about.leave_one_out = std::move(*left_out);
    }
  }
  if (!arguments.upper_bound.empty()) {
    const auto bound = read_upper_bound(arguments.upper_bound);
    if (!bound) return bound.error();
    about.upper_bound = *bound;
  }
  return {};
}

void say_what_was_chosen(const RunChoice& choice) {
  if (!choice.left_out.empty()) {
    std::cerr << "petrel: left out " << choice.left_out.size()
              << " runs that the model was trained on\n";
  }
  if (choice.used.size() < kFewRuns) {
    std::cerr << "petrel: " << choice.used.size()
              << " runs only: intervals over so few say little, and over one there are none\n";
  }
}

int run_evaluate(const EvaluateArguments& arguments) {
  const auto model = load_model(arguments.model);
  if (!model) return fail(model.error());
  std::vector<Run> runs;
  for (const std::string& input : arguments.inputs) {
    if (auto read = read_training_rows(input, runs); !read) return fail(read.error());
    std::cerr << "read " << input << ": " << runs.size() << " runs so far\n";
  }
  if (arguments.shuffle_seed) shuffle_labels(runs, *arguments.shuffle_seed);
  const auto choice = choose_runs(runs, model->training, arguments.choice);
  if (!choice) return fail(choice.error().within("evaluate"));
  say_what_was_chosen(*choice);
  const EvaluationReport report = evaluate_runs(*model, choice->used, arguments.options);
  EvaluatedModel about{*model, *choice, arguments.options, arguments.shuffle_seed};
  if (const auto added = add_asked_for(arguments, runs, about); !added) {
    return fail(added.error().within("evaluate"));
  }
  if (arguments.as_json) {
    std::cout << evaluation_json(about, report) << '\n';
  } else {
    std::cout << evaluation_text(about, report);
  }
  return 0;
}

}  // namespace

void add_evaluate(CLI::App& app, Action& action) {
  auto arguments = std::make_shared<EvaluateArguments>();
  CLI::App* command = app.add_subcommand(
      "evaluate",
      "How good a model is on captured rows that it was not trained on, with intervals");
  command
      ->add_option("captures", arguments->inputs,
                   "Captures: SQLite, directories of CSV, or CSV of rows")
      ->required()
      ->check(CLI::ExistingPath);
  command->add_option("--model", arguments->model, "Model file")->capture_default_str();
  command->add_option("--run", arguments->choice.names, "These runs only");
  command->add_flag("--include-trained", arguments->choice.include_trained,
                    "Use runs that the model was trained on, too");
  command
      ->add_option("--working-point", arguments->options.working_point,
                   "Probability from which on a retry is predicted")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  command
      ->add_option("--resamples", arguments->options.resamples,
                   "For the intervals; 500,000 rows take about 0.02 s for each; 0: no intervals")
      ->check(CLI::Range(0, 100'000))
      ->capture_default_str();
  command->add_option("--seed", arguments->options.seed, "Of the resamples")->capture_default_str();
  command->add_option("--shuffle-labels", arguments->shuffle_seed,
                      "SEED: permute labels within runs first, to check the measuring itself");
  CLI::Option* const manifest =
      command
          ->add_option("--manifest", arguments->manifest,
                       "petrel/dataset/v1: figures by the fault that led each run")
          ->check(CLI::ExistingFile);
  command
      ->add_flag("--leave-one-fault-out", arguments->leave_one_fault_out,
                 "For each kind of fault train anew, as the model was, on the runs without it (those "
                 "that the model was trained on, too) and test on those that had no other")
      ->needs(manifest);
  command
      ->add_option("--upper-bound", arguments->upper_bound,
                   "petrel/upper-bound/v1 of scripts/upper-bound, to hold the model against")
      ->check(CLI::ExistingFile);
  command->add_flag("--json", arguments->as_json, "Print petrel/evaluate/v1");
  command->callback(
      [arguments, &action] { action = [arguments] { return run_evaluate(*arguments); }; });
}

}  // namespace petrel::cli
