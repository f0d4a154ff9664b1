// SPDX-License-Identifier: MIT
// The verbs of `petrel`: each adds its subcommand and runs it. One file a verb, or a pair of kin.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>

#include "base/error.hpp"
#include "config/config.hpp"

namespace petrel::cli {

// What main() runs once the command line has been parsed; returns the exit code.
using Action = std::function<int()>;

void add_agent(CLI::App& app, Action& action);    // agent, detach
void add_check(CLI::App& app, Action& action);
void add_status(CLI::App& app, Action& action);
void add_explain(CLI::App& app, Action& action);
void add_log(CLI::App& app, Action& action);
void add_report(CLI::App& app, Action& action);
void add_capture(CLI::App& app, Action& action);
void add_export(CLI::App& app, Action& action);
void add_replay(CLI::App& app, Action& action);
void add_simulate(CLI::App& app, Action& action);
void add_train(CLI::App& app, Action& action);
void add_predict(CLI::App& app, Action& action);
void add_model(CLI::App& app, Action& action);  // show, diff, verify
void add_quantize(CLI::App& app, Action& action);
void add_evaluate(CLI::App& app, Action& action);
void add_tap(CLI::App& app, Action& action);
void add_reload(CLI::App& app, Action& action);
void add_drain(CLI::App& app, Action& action);
void add_budget(CLI::App& app, Action& action);
void add_weight(CLI::App& app, Action& action);
void add_overrides(CLI::App& app, Action& action);  // freeze, neutral, release
void add_where(CLI::App& app, Action& action);

// Prints "petrel: <message>" on stderr; returns the error's exit code.
int fail(const Error& error);

// --config and --socket, for verbs that talk to the agent: the socket given, else the
// configuration's, else the default.
struct AgentAddress {
  std::string config_path;
  std::string socket;

  void add_options(CLI::App& command);
  Result<std::string> resolve() const;
};

inline constexpr const char* kDefaultConfig = "/etc/petrel/petrel.toml";

}  // namespace petrel::cli
