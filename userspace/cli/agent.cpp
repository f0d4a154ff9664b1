// SPDX-License-Identifier: MIT
// petrel agent, petrel detach.
#include <spdlog/spdlog.h>

#include <boost/asio/io_context.hpp>
#include <iostream>
#include <memory>
#include <optional>

#include "agent/agent.hpp"
#include "cli/verbs.hpp"
#include "maps/data_path.hpp"

namespace petrel::cli {
namespace {

struct AgentArguments {
  std::string config_path = kDefaultConfig;
  std::string mode;
  bool keep = false;
  bool untrained = false;
};

std::optional<ServiceMode> mode_of(const std::string& name) {
  if (name == "act") return ServiceMode::kAct;
  if (name == "shadow") return ServiceMode::kShadow;
  if (name == "neutral") return ServiceMode::kNeutral;
  return std::nullopt;
}

int run_agent(const AgentArguments& arguments) {
  auto config = load_config(arguments.config_path);
  if (!config) return fail(config.error().error());
  AgentOptions options{.keep = arguments.keep,
                       .untrained = arguments.untrained,
                       .config_path = arguments.config_path,
                       .mode = mode_of(arguments.mode)};
  if (options.mode) config->set_mode(*options.mode);
  spdlog::set_level(spdlog::level::from_str(config->agent.log_level));

  boost::asio::io_context context(1);
  auto agent = Agent::start(context, *config, std::move(options));
  if (!agent) return fail(agent.error().within("start agent"));
  for (const std::string& line : (*agent)->degraded()) spdlog::warn("degraded: {}", line);
  spdlog::info("running: {} services, XDP on {} interfaces, API on {}", config->services.size(),
               config->agent.interfaces.size(), config->agent.socket);
  if (auto ended = (*agent)->run(); !ended) return fail(ended.error());
  return 0;
}

int run_detach(const std::string& config_path) {
  auto config = load_config(config_path);
  if (!config) return fail(config.error().error());
  const bool found = remove_pins(config->agent.pin_path);
  std::cerr << (found ? "removed hooks and pins under " : "nothing was left under ")
            << config->agent.pin_path << '\n';
  return 0;
}

}  // namespace

void add_agent(CLI::App& app, Action& action) {
  auto arguments = std::make_shared<AgentArguments>();
  CLI::App* agent = app.add_subcommand("agent", "Run the agent until SIGTERM or SIGINT");
  agent->add_option("-c,--config", arguments->config_path, "Configuration (TOML)")
      ->capture_default_str();
  agent->add_option("--mode", arguments->mode, "Mode of every service, over the configuration's")
      ->check(CLI::IsMember({"act", "shadow", "neutral"}));
  agent->add_flag("--keep", arguments->keep,
                  "On a stop, leave the data path running for a restart");
  agent->add_flag("--untrained", arguments->untrained,
                  "Load no model and score nothing: for the capture that a first one is trained on");
  agent->callback([arguments, &action] { action = [arguments] { return run_agent(*arguments); }; });

  CLI::App* detach = app.add_subcommand(
      "detach", "Remove what a killed agent, or one stopped with --keep, has left attached");
  detach->add_option("-c,--config", arguments->config_path, "Configuration (TOML)")
      ->capture_default_str();
  detach->callback(
      [arguments, &action] { action = [arguments] { return run_detach(arguments->config_path); }; });
}

}  // namespace petrel::cli
