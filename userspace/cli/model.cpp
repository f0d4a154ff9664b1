// SPDX-License-Identifier: MIT
// petrel model show, diff, verify: what is in model files, and whether it is right.
#include <fmt/format.h>

#include <boost/json.hpp>
#include <cmath>
#include <iostream>
#include <memory>

#include "cli/model_life.hpp"
#include "cli/verbs.hpp"
#include "score/exactness.hpp"
#include "score/model_sheet.hpp"
#include "score/score.hpp"

namespace petrel::cli {
namespace {

namespace json = boost::json;

// More than this between fixed point and floating point is no rounding any more.
constexpr double kLargestError = 1e-3;

struct ModelArguments {
  std::vector<std::string> files;
  std::uint64_t seed = 1;
  std::size_t vectors = 200'000;
  bool as_json = false;
};

double number(const json::object& from, const char* name) {
  return from.at(name).to_number<double>();
}

json::value problem_json(const std::string& file, const InputProblem& problem) {
  return {{"file", file},
          {"field", problem.field},
          {"expected", problem.expected},
          {"found", problem.found}};
}

// --- show -----------------------------------------------------------------------------------

std::string values_text(const json::value& value) {
  if (const json::array* const list = value.if_array()) {
    return std::to_string(list->size()) +
           (list->empty() ? "" : " (" + values_text(list->front()) + " ...)");
  }
  if (const json::string* const text = value.if_string()) return text->c_str();
  if (const json::object* const object = value.if_object()) {
    std::string text;
    for (const auto& member : *object) {
      text += (text.empty() ? "" : ", ") + std::string(member.key()) + " " +
              values_text(member.value());
    }
    return text;
  }
  if (value.is_double()) return fmt::format("{:.6g}", value.get_double());
  return json::serialize(value);
}

void print_feature(const json::object& feature) {
  const double per_unit = number(feature, "coefficient") / number(feature, "scale");
  const json::value* const median = feature.if_contains("median_q16");
  fmt::print("{:<26} {:>+11.5f} {:>10.4g} {:>9.4f} {:>9.4f} {:>9} {:>9.4g} {:>9.4g} {:>11} {:>3}\n",
             feature.at("name").as_string().c_str(), number(feature, "coefficient"),
             std::exp(per_unit), number(feature, "mean"), number(feature, "scale"),
             median == nullptr ? "-" : fmt::format("{:.4g}", median->to_number<double>() / Q16_ONE),
             number(feature, "min_q16") / Q16_ONE, number(feature, "max_q16") / Q16_ONE,
             json::serialize(feature.at("mantissa")), json::serialize(feature.at("shift")));
}

// Where the calibrated log-odds are others.
void print_calibration(const json::object& model) {
  const json::value* const calibration = model.if_contains("calibration");
  const json::object* const object =
      calibration != nullptr ? calibration->if_object() : nullptr;
  const json::value* const knots = object != nullptr ? object->if_contains("knots_q16") : nullptr;
  if (knots == nullptr || !knots->is_array()) return;
  fmt::print("calibrated log-odds, from {:+} by 0.5:", CALIBRATION_FIRST_Q16 / Q16_ONE);
  for (const json::value& knot : knots->get_array()) {
    fmt::print(" {:+.2f}", knot.is_number() ? knot.to_number<double>() / Q16_ONE : std::nan(""));
  }
  fmt::print("\n");
}

void print_sheet(const ModelSheet& sheet) {
  const json::object& model = sheet.document;
  fmt::print("{}: {} v{}, checksum {}\n", sheet.source, model.at("name").as_string().c_str(),
             json::serialize(model.at("version")), sheet.checksum);
  if (sheet.found_checksum != sheet.checksum) {
    fmt::print("changed after it was written: its checksum would be {}\n", sheet.found_checksum);
  }
  if (sheet.unusable) fmt::print("this petrel cannot score by it: {}\n", sheet.unusable->text());
  for (const auto& fact : model.at("training").as_object()) {
    fmt::print("  {:<24} {}\n", std::string_view(fact.key().data(), fact.key().size()),
               values_text(fact.value()));
  }
  fmt::print("bias {:+.6g} at the means; {} / 65536 at zeros\n", number(model, "bias"),
             json::serialize(model.at("bias_q16")));
  print_calibration(model);
  fmt::print("{:<26} {:>11} {:>10} {:>9} {:>9} {:>9} {:>9} {:>9} {:>11} {:>3}\n", "feature",
             "coefficient", "odds ratio", "mean", "scale", "median", "least", "most", "mantissa",
             ">>");
  for (const json::value& feature : model.at("features").as_array()) {
    print_feature(feature.as_object());
  }
  fmt::print(
      "coefficient: log-odds for a scale; odds ratio: for 1 of the feature's unit, mantissa / "
      "2^shift "
      "log-odds;\nleast and most: trained range, values outside are clamped to it\n");
}

json::object sheet_json(const ModelSheet& sheet) {
  json::object model = sheet.document;
  model.stable_erase("checksum");
  model.stable_erase("schema");
  for (json::value& each : model.at("features").as_array()) {
    json::object& feature = each.as_object();
    const double coefficient = number(feature, "coefficient");
    feature["odds_ratio_per_scale"] = std::exp(coefficient);
    feature["odds_ratio_per_unit"] = std::exp(coefficient / number(feature, "scale"));
  }
  json::object out = {{"schema", "petrel/model-show/v1"},
                      {"file", sheet.source},
                      {"checksum", sheet.checksum},
                      {"checksum_good", sheet.checksum == sheet.found_checksum},
                      {"usable", !sheet.unusable}};
  out["problem"] =
      sheet.unusable ? problem_json(sheet.source, *sheet.unusable) : json::value(nullptr);
  out["model"] = std::move(model);
  return out;
}

int run_show(const ModelArguments& arguments) {
  for (const std::string& file : arguments.files) {
    const auto sheet = read_model_sheet(file);
    if (!sheet) return fail(sheet.error());
    if (arguments.as_json) {
      std::cout << json::serialize(sheet_json(*sheet)) << '\n';
    } else {
      print_sheet(*sheet);
    }
  }
  return 0;
}

// --- diff -----------------------------------------------------------------------------------

json::array changes_json(const std::vector<FieldChange>& changes) {
  json::array out;
  for (const FieldChange& each : changes) {
    json::object change = {{"field", each.field}, {"before", each.before}, {"after", each.after}};
    if (!each.feature.empty()) change["feature"] = each.feature;
    out.push_back(std::move(change));
  }
  return out;
}

void print_changes(const std::vector<FieldChange>& changes) {
  for (const FieldChange& each : changes) {
    const std::string what = each.feature.empty() ? each.field : each.feature + "." + each.field;
    fmt::print("~ {:<40} {} -> {}\n", what, values_text(each.before), values_text(each.after));
  }
}

void warn_if_changed(const ModelSheet& sheet) {
  if (sheet.checksum == sheet.found_checksum) return;
  std::cerr << "petrel: " << sheet.source << ": changed after it was written: checksum "
            << sheet.checksum << ", found " << sheet.found_checksum << '\n';
}

int run_diff(const ModelArguments& arguments) {
  const auto before = read_model_sheet(arguments.files.at(0));
  if (!before) return fail(before.error());
  const auto after = read_model_sheet(arguments.files.at(1));
  if (!after) return fail(after.error());
  warn_if_changed(*before);
  warn_if_changed(*after);
  const ModelDiff diff = compare(*before, *after);
  if (arguments.as_json) {
    const json::object out = {{"schema", "petrel/model-diff/v1"},
                              {"before", before->source},
                              {"after", after->source},
                              {"equal", diff.empty()},
                              {"added", json::array(diff.added.begin(), diff.added.end())},
                              {"removed", json::array(diff.removed.begin(), diff.removed.end())},
                              {"reordered", diff.reordered},
                              {"facts", changes_json(diff.facts)},
                              {"changed", changes_json(diff.changed)}};
    std::cout << json::serialize(out) << '\n';
  } else {
    print_changes(diff.facts);
    for (const std::string& name : diff.removed) fmt::print("- {}\n", name);
    for (const std::string& name : diff.added) fmt::print("+ {}\n", name);
    if (diff.reordered) fmt::print("~ features stand in another order\n");
    print_changes(diff.changed);
    if (diff.empty()) fmt::print("equal\n");
  }
  return static_cast<int>(diff.empty() ? ExitCode::kGood : ExitCode::kWarnings);
}

// --- verify ---------------------------------------------------------------------------------

json::object worst_json(const FeatureVector& worst) {
  json::object out;
  for (std::size_t i = 0; i < kFeatureCount; i++) out[kFeatures[i].name] = worst[i];
  return out;
}

ExitCode verify_bad(const ModelArguments& arguments, const std::string& file, const Error& error,
                    const InputProblem& problem) {
  if (!arguments.as_json) {
    fail(error);
    return error.kind();
  }
  const json::object out = {{"schema", "petrel/model-verify/v1"},
                            {"file", file},
                            {"good", false},
                            {"problem", problem_json(file, problem)}};
  std::cout << json::serialize(out) << '\n';
  return error.kind();
}

ExitCode verify_one(const ModelArguments& arguments, const std::string& file) {
  InputProblem problem;
  const auto model = load_model(file, &problem);
  if (!model) return verify_bad(arguments, file, model.error(), problem);
  const auto vectors = vectors_within_trained(*model, arguments.seed, arguments.vectors);
  const ScoreError error = score_error(*model, vectors);
  const bool good = error.largest <= kLargestError;
  if (arguments.as_json) {
    const json::object out = {{"schema", "petrel/model-verify/v1"},
                              {"file", file},
                              {"good", good},
                              {"problem", nullptr},
                              {"model", model->name},
                              {"version", model->version},
                              {"checksum", model_checksum(*model)},
                              {"seed", arguments.seed},
                              {"vectors", error.vectors},
                              {"largest_difference", error.largest},
                              {"mean_difference", error.mean},
                              {"allowed_difference", kLargestError},
                              {"worst_q16", worst_json(error.worst)}};
    std::cout << json::serialize(out) << '\n';
  } else {
    fmt::print(
        "{}: {}: {} v{}, checksum {}; coefficients are what the floats quantize to\n"
        "fixed point against float, {} vectors of the trained ranges (seed {}): probabilities "
        "differ "
        "by at most {:.2e}, {:.2e} in the mean\n",
        file, good ? "good" : "NOT GOOD", model->name, model->version, model_checksum(*model),
        error.vectors, arguments.seed, error.largest, error.mean);
  }
  return good ? ExitCode::kGood : ExitCode::kUnhealthy;
}

// Of several files the first bad one decides; all are looked at.
int run_verify(const ModelArguments& arguments) {
  ExitCode code = ExitCode::kGood;
  for (const std::string& file : arguments.files) {
    const ExitCode one = verify_one(arguments, file);
    if (code == ExitCode::kGood) code = one;
  }
  return static_cast<int>(code);
}

}  // namespace

void add_model(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand("model", "Look into model files, and the running agent's models");
  command->require_subcommand(1);
  using Run = int (*)(const ModelArguments&);
  const auto add = [&action, command](const char* name, const char* help, Run run) {
    auto arguments = std::make_shared<ModelArguments>();
    CLI::App* verb = command->add_subcommand(name, help);
    verb->add_option("files", arguments->files, "Model files")->required();
    verb->add_flag("--json", arguments->as_json, "Print petrel/model-" + std::string(name) + "/v1");
    verb->callback(
        [arguments, run, &action] { action = [arguments, run] { return run(*arguments); }; });
    return std::pair(verb, arguments);
  };
  add("show", "Show training facts, features and coefficients", run_show);
  add("diff", "Compare two; exit code 4 where they differ", run_diff)
      .first->get_option("files")
      ->expected(2);
  const auto [verify, arguments] = add(
      "verify", "Check a file whole, and its fixed-point score against floating point", run_verify);
  verify->add_option("--seed", arguments->seed, "Of the feature vectors tried")
      ->capture_default_str();
  verify->add_option("--vectors", arguments->vectors, "How many of them")
      ->check(CLI::Range(1, 100'000'000))
      ->capture_default_str();
  add_model_life(*command, action);
}

}  // namespace petrel::cli
