// SPDX-License-Identifier: MIT
#include "cli/predict_stream.hpp"

#include <boost/json.hpp>
#include <iostream>

#include "cli/lines.hpp"
#include "predict/report.hpp"

namespace petrel::cli {
namespace {

namespace json = boost::json;

Error line_error(const LineInput& input, const InputProblem& problem) {
  return Error(ExitCode::kInput, input.place() + problem.text());
}

// Once, for the columns of the whole file.
void say_unused(const CsvRows& rows, const Model& model) {
  if (rows.has_features()) {
    std::cerr
        << "petrel: features are read as they are in the file (Q16); its other columns are not\n";
  }
  for (std::size_t i = 0; i < quantities().size(); i++) {
    if ((rows.unused() >> i & 1) == 0) continue;
    std::cerr << "petrel: " << quantities()[i].name << ": not used by model " << model_title(model)
              << '\n';
  }
}

class Stream {
 public:
  Stream(const Model& model, const StreamOptions& options, LineInput& input)
      : options_(options), input_(input), predictor_(model) {}

  Result<void> run() {
    const auto done = options_.format == LineFormat::kCsv ? csv() : json_lines();
    const auto flushed = output_.flush();
    return done ? flushed : done;
  }

 private:
  Result<void> csv() {
    std::string_view line;
    const auto first = input_.next(line);
    if (!first) return first.error();
    if (!*first)
      return Error(ExitCode::kInput, input_.place() + "expected a header, found nothing");
    if (auto problem = CsvRows::open(line, options_.csv, rows_))
      return line_error(input_, *problem);
    say_unused(rows_, predictor_.model());
    if (!options_.explain) output_.text() += rows_.header() + "\n";
    return each([this](std::string_view row) { return csv_row(row); });
  }

  std::optional<InputProblem> csv_row(std::string_view line) {
    if (!options_.explain) return rows_.append(predictor_, line, output_.text());
    if (auto problem = rows_.read(line, request_)) return problem;
    return explain();
  }

  Result<void> json_lines() {
    return each([this](std::string_view line) { return json_line(line); });
  }

  std::optional<InputProblem> json_line(std::string_view line) {
    json::error_code code;
    json::value document = json::parse({line.data(), line.size()}, code);
    if (code) return InputProblem{"", "JSON", code.message()};
    std::optional<InputProblem> problem;
    read_request(document, request_, problem);
    if (problem) return problem;
    if (options_.explain) return explain();
    Scored scored;
    if (problem = predictor_.score(request_, scored); problem) return problem;
    json::object out = options_.csv.alone ? json::object() : std::move(document.as_object());
    out["probability"] = scored.probability_q16 / 65536.0;
    json::array outside;
    for (const std::string_view name : feature_names(scored.outside)) outside.emplace_back(name);
    out["outside"] = std::move(outside);
    output_.text() += json::serialize(out);
    output_.text() += '\n';
    return std::nullopt;
  }

  std::optional<InputProblem> explain() {
    Prediction prediction;
    if (auto problem = predictor_.predict(request_, prediction)) return problem;
    output_.text() += json::serialize(prediction_json(predictor_, request_, prediction));
    output_.text() += '\n';
    return std::nullopt;
  }

  template <class Row>
  Result<void> each(Row row) {
    std::string_view line;
    for (;;) {
      const auto more = input_.next(line);
      if (!more) return more.error();
      if (!*more) return {};
      if (auto problem = row(line)) return line_error(input_, *problem);
      if (const auto written = output_.write_full_blocks(); !written) return written;
    }
  }

  const StreamOptions& options_;
  LineInput& input_;
  Predictor predictor_;
  CsvRows rows_;
  Request request_;
  BlockOutput output_;
};

}  // namespace

Result<void> predict_stream(const Model& model, const StreamOptions& options) {
  auto input = LineInput::open(options.input);
  if (!input) return input.error();
  return Stream(model, options, *input).run();
}

}  // namespace petrel::cli
