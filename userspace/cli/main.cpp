// SPDX-License-Identifier: MIT
// petrel: the agent and everything that talks to it, by subcommand.
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <filesystem>
#include <iostream>

#include "cli/verbs.hpp"

namespace petrel::cli {

int fail(const Error& error) {
  std::cerr << "petrel: " << error.message() << '\n';
  return static_cast<int>(error.kind());
}

void AgentAddress::add_options(CLI::App& command) {
  command.add_option("-c,--config", config_path, "Configuration, for its agent.socket");
  command.add_option("-s,--socket", socket, "The agent's API socket");
}

Result<std::string> AgentAddress::resolve() const {
  if (!socket.empty()) return socket;
  if (config_path.empty() && !std::filesystem::exists(kDefaultConfig)) return AgentConfig{}.socket;
  auto config = load_config(config_path.empty() ? kDefaultConfig : config_path);
  if (!config) return config.error().error();
  return config->agent.socket;
}

}  // namespace petrel::cli

int main(int argc, char** argv) {
  using namespace petrel;
  spdlog::set_default_logger(spdlog::stderr_color_mt("petrel"));
  CLI::App app{"petrel predicts client retries and moves traffic before they happen.", "petrel"};
  app.set_version_flag("--version", PETREL_VERSION);
  app.require_subcommand(1);
  cli::Action action;
  cli::add_agent(app, action);
  cli::add_check(app, action);
  cli::add_status(app, action);
  cli::add_explain(app, action);
  cli::add_log(app, action);
  cli::add_report(app, action);
  cli::add_capture(app, action);
  cli::add_export(app, action);
  cli::add_replay(app, action);
  cli::add_simulate(app, action);
  cli::add_train(app, action);
  cli::add_predict(app, action);
  cli::add_model(app, action);
  cli::add_quantize(app, action);
  cli::add_evaluate(app, action);
  cli::add_tap(app, action);
  cli::add_reload(app, action);
  cli::add_drain(app, action);
  cli::add_budget(app, action);
  cli::add_weight(app, action);
  cli::add_overrides(app, action);
  cli::add_where(app, action);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : static_cast<int>(ExitCode::kUsage);
  }
  try {
    return action();
  } catch (const std::exception& error) {
    return cli::fail(Error(ExitCode::kRuntime, error.what()));
  }
}
