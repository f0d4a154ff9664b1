// SPDX-License-Identifier: MIT
// petrel quantize: what coefficients of fewer bits would lose.
#include <fmt/format.h>

#include <boost/json.hpp>
#include <iostream>
#include <memory>

#include "cli/training_rows.hpp"
#include "cli/verbs.hpp"
#include "config/config.hpp"
#include "score/exactness.hpp"
#include "score/score.hpp"
#include "trainer/metrics.hpp"

namespace petrel::cli {
namespace {

namespace json = boost::json;

constexpr int kWidths[] = {8, 12, 16, 24, kCoefficientBits};

struct QuantizeArguments {
  std::string model = AgentConfig{}.model;
  std::vector<std::string> captures;
  std::uint64_t seed = 1;
  std::size_t vectors = 200'000;
  bool as_json = false;
};

// On captured rows.
struct RowsResult {
  ScoreError error;
  double auc = 0;
  double log_loss = 0;
};

struct WidthResult {
  int bits = 0;
  ScoreError error;
  std::optional<RowsResult> rows;
};

struct Rows {
  std::vector<FeatureVector> features;
  std::vector<std::uint8_t> labels;
};

Rows flatten(const std::vector<Run>& runs) {
  Rows rows;
  for (const Run& run : runs) {
    for (const LabelledRow& row : run.rows) {
      rows.features.push_back(row.features);
      rows.labels.push_back(row.retried ? 1 : 0);
    }
  }
  return rows;
}

template <class Score>
RowsResult score_rows(const Rows& rows, Score score) {
  std::vector<double> probabilities;
  probabilities.reserve(rows.features.size());
  for (const FeatureVector& features : rows.features) probabilities.push_back(score(features));
  RowsResult result;
  result.auc = roc_auc(probabilities, rows.labels);
  result.log_loss = log_loss(probabilities, rows.labels);
  return result;
}

Result<std::vector<WidthResult>> measure(const Model& model, const QuantizeArguments& arguments,
                                         const Rows& rows) {
  const auto vectors = vectors_within_trained(model, arguments.seed, arguments.vectors);
  std::vector<WidthResult> results;
  for (const int bits : kWidths) {
    Model narrow = model;
    if (const auto done = quantize(narrow, bits); !done) {
      return done.error().within(std::to_string(bits) + " bits");
    }
    WidthResult result;
    result.bits = bits;
    result.error = score_error(narrow, vectors);
    if (!rows.features.empty()) {
      const bpf::scoring_model scoring = make_scoring_model(narrow);
      result.rows = score_rows(rows, [&scoring](const FeatureVector& features) {
        return probability_q16(scoring, features) / double{Q16_ONE};
      });
      result.rows->error = score_error(narrow, rows.features);
    }
    results.push_back(std::move(result));
  }
  return results;
}

json::object rows_json(const RowsResult& rows) {
  return {{"largest_error", rows.error.largest},
          {"mean_error", rows.error.mean},
          {"auc", rows.auc},
          {"log_loss", rows.log_loss}};
}

void print_json(const Model& model, const QuantizeArguments& arguments, const Rows& rows,
                const std::vector<WidthResult>& results, const RowsResult& exact) {
  json::array widths;
  for (const WidthResult& each : results) {
    widths.push_back({{"bits", each.bits},
                      {"largest_error", each.error.largest},
                      {"mean_error", each.error.mean},
                      {"rows", each.rows ? json::value(rows_json(*each.rows)) : nullptr}});
  }
  const json::object out = {
      {"schema", "petrel/quantize/v1"},
      {"model", model.name},
      {"version", model.version},
      {"checksum", model_checksum(model)},
      {"seed", arguments.seed},
      {"vectors", arguments.vectors},
      {"rows", rows.labels.size()},
      {"float", rows.labels.empty()
                    ? json::value(nullptr)
                    : json::value({{"auc", exact.auc}, {"log_loss", exact.log_loss}})},
      {"widths", std::move(widths)}};
  std::cout << json::serialize(out) << '\n';
}

void print_table(const QuantizeArguments& arguments, const Rows& rows,
                 const std::vector<WidthResult>& results, const RowsResult& exact) {
  fmt::print("probability error against float, on {} vectors of the trained ranges (seed {})",
             arguments.vectors, arguments.seed);
  if (!rows.labels.empty()) fmt::print(" and on {} rows", rows.labels.size());
  fmt::print("\n{:<6} {:>10} {:>10}", "bits", "largest", "mean");
  if (!rows.labels.empty()) {
    fmt::print(" {:>12} {:>10} {:>9} {:>9}", "rows largest", "mean", "AUC", "log loss");
  }
  fmt::print("\n");
  for (const WidthResult& each : results) {
    fmt::print("{:<6} {:>10.2e} {:>10.2e}", each.bits, each.error.largest, each.error.mean);
    if (each.rows) {
      fmt::print(" {:>12.2e} {:>10.2e} {:>9.6f} {:>9.6f}", each.rows->error.largest,
                 each.rows->error.mean, each.rows->auc, each.rows->log_loss);
    }
    fmt::print("{}\n", each.bits == kCoefficientBits ? "  <- model files" : "");
  }
  if (!rows.labels.empty()) {
    fmt::print("{:<6} {:>10} {:>10} {:>12} {:>10} {:>9.6f} {:>9.6f}\n", "float", "", "", "", "",
               exact.auc, exact.log_loss);
  }
}

int run_quantize(const QuantizeArguments& arguments) {
  const auto model = load_model(arguments.model);
  if (!model) return fail(model.error());
  std::vector<Run> runs;
  for (const std::string& capture : arguments.captures) {
    if (const auto read = read_training_rows(capture, runs); !read) return fail(read.error());
  }
  const Rows rows = flatten(runs);
  if (!arguments.captures.empty() && rows.labels.empty()) {
    return fail(
        Error(ExitCode::kInput, arguments.captures.front() + ": expected rows, found none"));
  }
  const auto results = measure(*model, arguments, rows);
  if (!results) return fail(results.error().within("quantize " + arguments.model));
  const RowsResult exact = score_rows(rows, [&model](const FeatureVector& features) {
    return float_probability(*model, features);
  });
  if (arguments.as_json) {
    print_json(*model, arguments, rows, *results, exact);
  } else {
    print_table(arguments, rows, *results, exact);
  }
  return 0;
}

}  // namespace

void add_quantize(CLI::App& app, Action& action) {
  auto arguments = std::make_shared<QuantizeArguments>();
  CLI::App* command = app.add_subcommand(
      "quantize",
      "Show what coefficients of 8, 12, 16, 24 and 32 bits lose against floating point");
  command->add_option("--model", arguments->model, "Model file")->capture_default_str();
  command
      ->add_option("--capture", arguments->captures,
                   "Also on these rows: SQLite, directories of CSV, or CSV of rows")
      ->check(CLI::ExistingPath);
  command->add_option("--seed", arguments->seed, "Of the feature vectors tried")
      ->capture_default_str();
  command->add_option("--vectors", arguments->vectors, "How many of them")
      ->check(CLI::Range(1, 100'000'000))
      ->capture_default_str();
  command->add_flag("--json", arguments->as_json, "Print petrel/quantize/v1");
  command->callback(
      [arguments, &action] { action = [arguments] { return run_quantize(*arguments); }; });
}

}  // namespace petrel::cli
