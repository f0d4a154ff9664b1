// SPDX-License-Identifier: MIT
// petrel simulate: scenarios and policies on a model of clients, balancers and backends.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <iostream>
#include <memory>
#include <optional>

#include "cli/simulate_output.hpp"
#include "cli/verbs.hpp"

namespace petrel::cli {
namespace {

using simulate::Cell;
using simulate::PolicyInfo;
using simulate::Scenario;

constexpr std::size_t kFewSeeds = 5;
constexpr std::chrono::seconds kProgressPeriod{1};

struct SimulateArguments {
  std::vector<std::string> scenarios;
  std::vector<std::string> policies;
  std::uint64_t seed = 1;
  std::uint64_t seeds = 5;
  std::optional<double> duration_s;
  std::optional<double> cause_s;
  std::optional<std::uint32_t> backends;
  std::optional<std::uint32_t> balancers;
  std::optional<double> rate;
  std::string spread;
  std::string model = AgentConfig{}.model;
  std::optional<std::string> json;  // "": to stdout
  bool list = false;
  bool compare = false;
  bool boundary = false;
  std::string command;
};

template <class Named>
std::string names_of(const Named& all) {
  std::string names;
  for (const auto& each : all) {
    if (!names.empty()) names += ", ";
    names += each.name;
  }
  return names;
}

// With what the command line has otherwise.
Result<Scenario> chosen_scenario(const std::string& name, const SimulateArguments& arguments) {
  const Scenario* found = simulate::find_scenario(name);
  if (found == nullptr) {
    return Error(ExitCode::kUsage, "--scenario: expected one of " +
                                       names_of(simulate::scenarios()) + ", found '" + name + "'");
  }
  Scenario scenario = *found;
  if (arguments.backends) scenario.set_backends(*arguments.backends);
  if (arguments.balancers) scenario.balancers = *arguments.balancers;
  if (arguments.rate) scenario.clients.rate_per_s = *arguments.rate;
  if (arguments.cause_s) {
    if (scenario.cause_until_s <= scenario.cause_from_s) {
      return Error(ExitCode::kUsage, "--cause-duration: scenario " + name + " has no cause");
    }
    scenario.set_cause_duration(*arguments.cause_s);
  }
  if (arguments.duration_s) scenario.duration_s = *arguments.duration_s;
  if (arguments.spread == "client") scenario.spread = simulate::Spread::kClient;
  return scenario;
}

Result<std::vector<Scenario>> chosen_scenarios(const SimulateArguments& arguments) {
  std::vector<std::string> names = arguments.scenarios;
  if (names.empty() && arguments.compare) {
    for (const Scenario& each : simulate::scenarios()) {
      if (each.name != "scale") names.push_back(each.name);  // hours of it
    }
  }
  if (names.empty()) names = {"hang"};
  std::vector<Scenario> chosen;
  for (const std::string& name : names) {
    auto scenario = chosen_scenario(name, arguments);
    if (!scenario) return scenario.error();
    chosen.push_back(std::move(*scenario));
  }
  return chosen;
}

Result<std::vector<std::string>> chosen_policies(const SimulateArguments& arguments) {
  std::vector<std::string> names = arguments.policies;
  if (names.empty() && arguments.compare) {
    for (const PolicyInfo& each : simulate::policies()) names.emplace_back(each.name);
  }
  if (names.empty()) names = {"static", "petrel"};
  for (const std::string& name : names) {
    if (simulate::find_policy(name) != nullptr) continue;
    return Error(ExitCode::kUsage, "--policy: expected one of " + names_of(simulate::policies()) +
                                       ", found '" + name + "'");
  }
  return names;
}

// On stderr, once in a second at most, so that what takes long is seen to go on.
class Progress {
 public:
  void say(const std::string& what) {
    const auto now = std::chrono::steady_clock::now();
    if (now - said_ < kProgressPeriod) return;
    said_ = now;
    std::cerr << "simulate: " << what << '\n';
  }

 private:
  std::chrono::steady_clock::time_point said_ = std::chrono::steady_clock::now();
};

class Runs {
 public:
  explicit Runs(const simulate::PolicySettings& settings) : settings_(settings) {}

  SimulatedRun run(const Scenario& scenario, const std::string& policy, std::uint64_t seed,
                   const std::string& where) {
    SimulatedRun run{scenario, policy, seed, {}, {}};
    const auto maker = simulate::make_policy_maker(policy, run.scenario, settings_);
    simulate::Simulation simulation(
        run.scenario, maker,
        {seed, [&](std::uint32_t second) {
           progress_.say(fmt::format("{}{}, {}, seed {}: second {} of {}", where, scenario.name,
                                     policy, seed, second, static_cast<int>(scenario.duration_s)));
         }});
    run.outcome = simulation.run();
    run.seconds = std::move(simulation.meter().seconds());
    return run;
  }

 private:
  simulate::PolicySettings settings_;
  Progress progress_;
};

int put_json(const SimulateArguments& arguments, const boost::json::value& value) {
  const std::string text = boost::json::serialize(value);
  if (arguments.json->empty()) {
    std::cout << text << '\n';
    return 0;
  }
  errno = 0;
  std::ofstream file(*arguments.json);
  file << text << '\n';
  file.close();
  if (file) return 0;
  return fail(Error::from_errno(errno != 0 ? errno : EIO, "write " + *arguments.json));
}

int run_singly(const SimulateArguments& arguments, const std::vector<Scenario>& scenarios,
               const std::vector<std::string>& policies, Runs& runs) {
  boost::json::array list;
  if (!arguments.json || !arguments.json->empty()) std::cout << outcomes_heading();
  for (const Scenario& scenario : scenarios) {
    for (const std::string& policy : policies) {
      const SimulatedRun run = runs.run(scenario, policy, arguments.seed, "");
      if (arguments.json) list.push_back(run_json(run));
      if (!arguments.json || !arguments.json->empty()) std::cout << outcome_line(run) << std::flush;
    }
  }
  if (!arguments.json) return 0;
  return put_json(arguments, list.size() == 1 ? list.front() : boost::json::value(list));
}

int run_comparison(const SimulateArguments& arguments, const std::vector<Scenario>& scenarios,
                   const std::vector<std::string>& policies, Runs& runs) {
  if (arguments.seeds < kFewSeeds) {
    std::cerr << "petrel: " << arguments.seeds << " seeds: intervals over so few say little\n";
  }
  std::vector<Cell> cells;
  const bool text = !arguments.json || !arguments.json->empty();
  if (text) std::cout << cells_heading();
  const std::size_t all = scenarios.size() * policies.size();
  for (const Scenario& scenario : scenarios) {
    for (const std::string& policy : policies) {
      Cell cell{scenario.name, policy, {}};
      const std::string where = fmt::format("cell {} of {}: ", cells.size() + 1, all);
      for (std::uint64_t i = 0; i < arguments.seeds; ++i) {
        cell.outcomes.push_back(runs.run(scenario, policy, arguments.seed + i, where).outcome);
      }
      // At once: a comparison of everything takes minutes.
      if (text) std::cout << cell_lines(cell) << std::flush;
      cells.push_back(std::move(cell));
    }
  }
  if (!arguments.json) return 0;
  return put_json(arguments, cells_json(cells, arguments.seed, arguments.command));
}

int run_boundary(const SimulateArguments& arguments, const std::vector<Scenario>& scenarios,
                 const std::vector<std::string>& policies, Runs& runs) {
  boost::json::array list;
  const bool text = !arguments.json || !arguments.json->empty();
  if (text)
    fmt::print("{:<16} {:<16} {:>16} {:>16}\n", "scenario", "policy", "recovers from s",
               "not from s");
  for (const Scenario& scenario : scenarios) {
    if (scenario.cause_until_s <= scenario.cause_from_s) {
      return fail(
          Error(ExitCode::kUsage, "--boundary: scenario " + scenario.name + " has no cause"));
    }
    for (const std::string& policy : policies) {
      const simulate::Boundary found = simulate::find_boundary(
          scenario,
          [&](const Scenario& with) { return runs.run(with, policy, arguments.seed, "").outcome; },
          {});
      if (text) {
        fmt::print("{:<16} {:<16} {:>16.1f} {:>16}\n", scenario.name, policy, found.recovers_s,
                   found.fails_from_s ? fmt::format("{:.1f}", *found.fails_from_s) : "none");
      }
      list.push_back({{"scenario", scenario.name},
                      {"policy", policy},
                      {"recovers_from_s", found.recovers_s},
                      {"not_from_s", found.fails_from_s ? boost::json::value(*found.fails_from_s)
                                                        : boost::json::value(nullptr)}});
    }
  }
  if (!arguments.json) return 0;
  return put_json(arguments, boost::json::object{{"schema", "petrel/simulate-boundary/v1"},
                                                 {"seed", arguments.seed},
                                                 {"boundaries", std::move(list)}});
}

int run_simulate(const SimulateArguments& arguments) {
  if (arguments.list) {
    if (!arguments.json) {
      std::cout << catalogue_text();
      return 0;
    }
    return put_json(arguments, catalogue_json());
  }
  const auto scenarios = chosen_scenarios(arguments);
  if (!scenarios) return fail(scenarios.error());
  const auto policies = chosen_policies(arguments);
  if (!policies) return fail(policies.error());
  simulate::PolicySettings settings;
  std::optional<Model> model;
  const bool needs_model = std::ranges::any_of(
      *policies, [](const std::string& name) { return simulate::find_policy(name)->needs_model; });
  if (needs_model) {
    auto loaded = load_model(arguments.model);
    if (!loaded) return fail(loaded.error());
    model = std::move(*loaded);
    settings.model = &*model;
  }
  Runs runs(settings);
  if (arguments.boundary) return run_boundary(arguments, *scenarios, *policies, runs);
  if (arguments.compare) return run_comparison(arguments, *scenarios, *policies, runs);
  return run_singly(arguments, *scenarios, *policies, runs);
}

void add_options(CLI::App& command, SimulateArguments& arguments) {
  command
      .add_option("--scenario", arguments.scenarios, "Which, repeatable or with commas; see --list")
      ->delimiter(',');
  command
      .add_option("--policy", arguments.policies, "Which, repeatable or with commas; see --list")
      ->delimiter(',');
  command.add_option("--seed", arguments.seed,
                     "Of the random numbers: the same gives the same bytes");
  command.add_option("--seeds", arguments.seeds, "With --compare: so many, from --seed on")
      ->check(CLI::Range(1, 1000));
  command.add_option("--duration", arguments.duration_s, "Seconds of arrivals")
      ->check(CLI::Range(1.0, 1e5));
  command
      .add_option("--cause-duration", arguments.cause_s, "Seconds that the scenario's cause lasts")
      ->check(CLI::Range(0.1, 1e5));
  command.add_option("--backends", arguments.backends, "How many")->check(CLI::Range(1, 4096));
  command.add_option("--balancers", arguments.balancers, "How many, that share nothing")
      ->check(CLI::Range(1, 1000));
  command.add_option("--rate", arguments.rate, "Requests a second")->check(CLI::Range(0.1, 1e7));
  command
      .add_option("--spread", arguments.spread,
                  "How connections reach balancers: by flow (any of them) or by client (the same)")
      ->check(CLI::IsMember({"flow", "client"}));
  command.add_option("--model", arguments.model, "Model that petrel's policies score by");
  command.add_flag("--list", arguments.list, "Scenarios and policies");
  command.add_flag("--compare", arguments.compare,
                   "Each scenario under each policy, with intervals over seeds");
  command.add_flag("--boundary", arguments.boundary,
                   "The longest cause that the service recovers from by itself");
  command
      .add_option_function<std::vector<std::string>>(
          "--json",
          [&arguments](const std::vector<std::string>& file) {
            arguments.json = file.empty() ? "" : file.front();
          },
          "As JSON, to a file or to stdout")
      ->expected(0, 1)
      ->type_name("[FILE]");
}

}  // namespace

void add_simulate(CLI::App& app, Action& action) {
  auto arguments = std::make_shared<SimulateArguments>();
  CLI::App* command = app.add_subcommand(
      "simulate",
      "Scenarios and policies on a model of clients, balancers and backends: no root needed");
  add_options(*command, *arguments);
  command->callback([arguments, command, &action] {
    arguments->command = "petrel simulate";
    for (const CLI::Option* option : command->parse_order()) {
      arguments->command += " " + option->get_name();
      if (option->get_expected_max() == 0) continue;  // a flag
      std::string values;
      for (const std::string& value : option->results()) {
        if (!value.empty()) values += (values.empty() ? " " : ",") + value;
      }
      arguments->command += values;
    }
    action = [arguments] { return run_simulate(*arguments); };
  });
}

}  // namespace petrel::cli
