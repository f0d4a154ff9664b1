// SPDX-License-Identifier: MIT
// petrel export: a capture from SQLite to CSV, or from CSV to SQLite, losing nothing.
#include <iostream>
#include <memory>

#include "cli/capture_output.hpp"
#include "cli/verbs.hpp"

namespace petrel::cli {
namespace {

struct ExportArguments {
  std::string input;
  std::string output;
  std::string table = "requests";
};

int run_export(const ExportArguments& arguments) {
  auto table = table_named(arguments.table);
  if (!table) return fail(table.error());
  auto source = open_capture(arguments.input);
  if (!source) return fail(source.error());
  const CaptureForm form = form_of(arguments.output);
  if (form == CaptureForm::kCsvFile && !(*source)->has(**table)) {
    return fail(Error(ExitCode::kInput, arguments.input + ": has no table " + arguments.table));
  }
  auto sink = creator_of(form, **table)(arguments.output);
  if (!sink) return fail(sink.error());
  const CaptureTable* only = form == CaptureForm::kCsvFile ? *table : nullptr;
  if (auto copied = copy_capture(**source, **sink, only); !copied) return fail(copied.error());
  if (auto closed = (*sink)->close(); !closed) return fail(closed.error());
  if (arguments.output != "-") std::cerr << "wrote " << arguments.output << '\n';
  return 0;
}

}  // namespace

void add_export(CLI::App& app, Action& action) {
  auto arguments = std::make_shared<ExportArguments>();
  CLI::App* command =
      app.add_subcommand("export", "Turn a capture from SQLite into CSV, or from CSV into SQLite");
  command->add_option("capture", arguments->input,
                      "SQLite file, directory of CSV files, or one table's CSV")
      ->required();
  command->add_option("-o,--output", arguments->output,
                      "NAME/: a directory of CSV, a file a table; NAME.csv, -: one table as CSV; "
                      "else SQLite")
      ->required();
  command->add_option("--table", arguments->table, "Table of one CSV")->capture_default_str();
  command->callback(
      [arguments, &action] { action = [arguments] { return run_export(*arguments); }; });
}

}  // namespace petrel::cli
