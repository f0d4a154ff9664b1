// SPDX-License-Identifier: MIT
// petrel predict: how likely a request is to be retried, and what makes it so.
#include <boost/json.hpp>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>

#include "cli/predict_stream.hpp"
#include "cli/verbs.hpp"
#include "config/config.hpp"
#include "predict/report.hpp"

namespace petrel::cli {
namespace {

namespace json = boost::json;

struct PredictArguments {
  std::string model = AgentConfig{}.model;
  std::string json_input;
  StreamOptions stream;
  std::string format;
  std::vector<std::string> quantities;  // by index of quantities(); "" is not given
  std::vector<std::string> features;    // NAME=VALUE
  bool as_json = false;
};

Error usage_error(const InputProblem& problem) {
  return Error(ExitCode::kUsage, "predict: " + problem.text());
}

Result<void> read_feature_flag(const std::string& text, Request& request) {
  const auto equals = text.find('=');
  const std::string name = text.substr(0, equals);
  const auto feature = find_feature(name);
  if (!feature) {
    return usage_error({"--feature", "a feature of the model (petrel model show)", name});
  }
  const std::string value = equals == std::string::npos ? "" : text.substr(equals + 1);
  const auto q16 = read_feature(value);
  if (!q16) return usage_error({"--feature " + name, std::string(kFeatureExpected), value});
  request.set_feature(*feature, *q16);
  return {};
}

Result<void> read_flags(const PredictArguments& arguments, Request& request) {
  for (std::size_t i = 0; i < arguments.quantities.size(); i++) {
    const std::string& text = arguments.quantities[i];
    if (text.empty()) continue;
    const Quantity& quantity = quantities()[i];
    const auto value = read_quantity(quantity, text);
    if (!value) return usage_error({flag_of(quantity), expected_of(quantity), '"' + text + '"'});
    request.set(i, *value);
  }
  for (const std::string& text : arguments.features) {
    if (const auto read = read_feature_flag(text, request); !read) return read;
  }
  return {};
}

Result<void> read_json(const std::string& path, Request& request) {
  const std::string name = path == "-" ? "stdin" : path;
  std::ifstream file;
  if (path != "-") {
    errno = 0;
    file.open(path);
    if (!file) return Error(ExitCode::kInput, Error::from_errno(errno, "read " + path).message());
  }
  std::istream& in = path == "-" ? std::cin : file;
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  json::error_code code;
  const json::value document = json::parse(text, code);
  std::optional<InputProblem> problem;
  if (code) {
    problem = InputProblem{"", "JSON", code.message()};
  } else {
    read_request(document, request, problem);
  }
  if (problem) return Error(ExitCode::kInput, name + ": " + problem->text());
  return {};
}

int predict_one(const PredictArguments& arguments, const Model& model) {
  Request request;
  const bool from_json = !arguments.json_input.empty();
  const auto read =
      from_json ? read_json(arguments.json_input, request) : read_flags(arguments, request);
  if (!read) return fail(read.error());
  Predictor predictor(model);
  Prediction prediction;
  if (const auto problem = predictor.predict(request, prediction)) {
    if (!from_json) return fail(usage_error(*problem));
    return fail(Error(ExitCode::kInput, arguments.json_input + ": " + problem->text()));
  }
  if (arguments.as_json) {
    std::cout << json::serialize(prediction_json(predictor, request, prediction)) << '\n';
  } else {
    std::cout << prediction_text(predictor, request, prediction);
  }
  return 0;
}

LineFormat format_of(const PredictArguments& arguments) {
  if (!arguments.format.empty()) {
    return arguments.format == "csv" ? LineFormat::kCsv : LineFormat::kJsonLines;
  }
  const std::string& path = arguments.stream.input;
  const bool json =
      path.ends_with(".jsonl") || path.ends_with(".ndjson") || path.ends_with(".json");
  return json ? LineFormat::kJsonLines : LineFormat::kCsv;
}

int run_predict(PredictArguments& arguments) {
  const auto model = load_model(arguments.model);
  if (!model) return fail(model.error());
  if (arguments.stream.input.empty()) return predict_one(arguments, *model);
  arguments.stream.format = format_of(arguments);
  arguments.stream.explain = arguments.as_json;
  const auto done = predict_stream(*model, arguments.stream);
  return done ? 0 : fail(done.error());
}

void add_quantities(CLI::App& command, PredictArguments& arguments) {
  arguments.quantities.resize(quantities().size());
  for (std::size_t i = 0; i < quantities().size(); i++) {
    const Quantity& quantity = quantities()[i];
    std::string help(quantity.doc);
    if (!quantity.words.empty()) help += ": " + expected_of(quantity);
    command.add_option(flag_of(quantity), arguments.quantities[i], help)->group("Request");
  }
  command
      .add_option("--feature", arguments.features,
                  "NAME=VALUE: a feature of the model, in its unit, whatever the rest says")
      ->group("Request");
}

}  // namespace

void add_predict(CLI::App& app, Action& action) {
  auto arguments = std::make_shared<PredictArguments>();
  CLI::App* command = app.add_subcommand(
      "predict",
      "Say how likely a request is to be retried, and what makes it so; or of each line");
  command->add_option("--model", arguments->model, "Model file")->capture_default_str();
  add_quantities(*command, *arguments);
  auto* one =
      command->add_option("--json-input", arguments->json_input,
                          "The request as a JSON object, members named as the flags; -: stdin");
  auto* many =
      command->add_option("--input", arguments->stream.input,
                          "Many requests: CSV or JSON lines, columns named as the flags, or a "
                          "capture's rows; -: stdin");
  many->excludes(one);
  command->add_option("--format", arguments->format, "Of --input, else by its name: csv or jsonl")
      ->check(CLI::IsMember({"csv", "jsonl"}))
      ->needs(many);
  command
      ->add_option("--carry", arguments->stream.csv.carried, "Columns of --input that are not read")
      ->needs(many);
  command
      ->add_flag("--only-probability", arguments->stream.csv.alone,
                 "Do not repeat the input's lines")
      ->needs(many);
  command->add_flag("--json", arguments->as_json,
                    "Print petrel/predict/v1; of --input, a line each");
  command->callback([arguments, command, one, many, &action] {
    for (const CLI::Option* option : command->get_options()) {
      const bool is_request = option->get_group() == "Request" && option->count() > 0;
      if (is_request && (one->count() > 0 || many->count() > 0)) {
        throw CLI::ExcludesError(option->get_name(), one->count() > 0 ? "--json-input" : "--input");
      }
    }
    action = [arguments] { return run_predict(*arguments); };
  });
}

}  // namespace petrel::cli
