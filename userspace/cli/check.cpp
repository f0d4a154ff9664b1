// SPDX-License-Identifier: MIT
// petrel check: the configuration, in full, without touching anything; or the host (--system), or
// what it would change of a running petrel (--diff).
#include <boost/json.hpp>
#include <iostream>
#include <memory>

#include "cli/check_diff.hpp"
#include "cli/check_system.hpp"
#include "cli/verbs.hpp"
#include "score/model.hpp"

namespace petrel::cli {
namespace {

struct CheckArguments {
  std::string config_path = kDefaultConfig;
  bool as_json = false;
  bool system = false;
  bool diff = false;
};

boost::json::value problem_json(const ConfigProblem& problem) {
  return {{"file", problem.file},   {"line", problem.line},         {"column", problem.column},
          {"field", problem.field}, {"expected", problem.expected}, {"found", problem.found}};
}

int print_json(const boost::json::array& problems, const std::string& model_error) {
  const bool good = problems.empty() && model_error.empty();
  const boost::json::object out = {
      {"schema", "petrel/check/v1"},
      {"good", good},
      {"problems", problems},
      {"model_error",
       model_error.empty() ? boost::json::value(nullptr) : boost::json::value(model_error)}};
  std::cout << boost::json::serialize(out) << '\n';
  return static_cast<int>(good ? ExitCode::kGood : ExitCode::kInput);
}

int run_check(const CheckArguments& arguments) {
  const ConfigResult config = load_config(arguments.config_path);
  if (!config) {
    if (!arguments.as_json) return fail(config.error().error());
    boost::json::array problems;
    for (const ConfigProblem& problem : config.error().list) {
      problems.push_back(problem_json(problem));
    }
    return print_json(problems, "");
  }
  auto model = load_model(config->agent.model);
  if (const std::string& path = config->model_watch.shadow_model; model && !path.empty()) {
    const auto shadow = load_model(path);
    if (!shadow) model = Result<Model>(shadow.error().within("model_watch.shadow_model"));
  }
  if (arguments.as_json) return print_json({}, model ? "" : model.error().message());
  if (!model) return fail(model.error());
  std::size_t backends = 0;
  for (const ServiceConfig& service : config->services) backends += service.backends.size();
  std::cout << arguments.config_path << ": good: " << config->services.size() << " services, "
            << backends << " backends, model " << model->name << " " << model_checksum(*model)
            << '\n';
  for (const ServiceConfig& service : config->services) {
    if (service.is_balanced()) continue;
    std::cout << "service " << service.name << ": placement " << to_string(service.placement)
              << ": seen by this host's sockets, mode " << to_string(service.mode) << '\n';
  }
  return 0;
}

}  // namespace

void add_check(CLI::App& app, Action& action) {
  auto arguments = std::make_shared<CheckArguments>();
  CLI::App* command =
      app.add_subcommand("check", "Check a configuration and its model; attach nothing");
  command->add_option("-c,--config", arguments->config_path, "Configuration (TOML)")
      ->capture_default_str();
  command->add_flag("--json", arguments->as_json,
                    "Print petrel/check/v1, check-system/v1 or check-diff/v1");
  command->add_flag("--system", arguments->system,
                    "Check this host: kernel, BPF, interfaces, routes; each with what mends it");
  command
      ->add_flag("--diff", arguments->diff,
                 "Compare it with the running maps: what would change, what share of new "
                 "connections would move; exit code 4 if anything differs")
      ->excludes("--system");
  command->callback([arguments, &action] {
    action = [arguments] {
      if (arguments->system) return run_check_system(arguments->config_path, arguments->as_json);
      if (arguments->diff) return run_check_diff(arguments->config_path, arguments->as_json);
      return run_check(*arguments);
    };
  });
}

}  // namespace petrel::cli
