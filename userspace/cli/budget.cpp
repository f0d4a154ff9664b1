// SPDX-License-Identifier: MIT
// petrel budget: what services may still spend on retries, and setting it until the next reload.
#include <fmt/format.h>

#include <boost/json.hpp>
#include <iostream>
#include <memory>
#include <optional>

#include "api/client.hpp"
#include "cli/verbs.hpp"

namespace petrel::cli {
namespace {

namespace json = boost::json;

struct BudgetArguments {
  AgentAddress address;
  std::string service;
  std::optional<double> tokens;
  std::optional<double> ratio;
  std::optional<double> min_per_s;
  std::optional<double> burst_s;
  std::optional<double> idle_ratio;
  bool as_json = false;

  bool sets() const { return tokens || ratio || min_per_s || burst_s || idle_ratio; }
  std::string target() const {
    std::string target = "/v1/budget?";
    const auto add = [&](const char* key, const std::optional<double>& value) {
      if (value) target += fmt::format("{}={}&", key, *value);
    };
    add("tokens", tokens);
    add("ratio", ratio);
    add("min_per_s", min_per_s);
    add("burst_s", burst_s);
    add("idle_ratio", idle_ratio);
    return service.empty() ? target : target + "service=" + percent_encode(service);
  }
};

int run_budget(const BudgetArguments& arguments) {
  auto socket = arguments.address.resolve();
  if (!socket) return fail(socket.error());
  const auto body = arguments.sets() ? api_post(*socket, arguments.target())
                                     : api_get(*socket, arguments.target());
  if (!body) return fail(body.error());
  if (arguments.as_json) {
    std::cout << *body << '\n';
    return 0;
  }
  fmt::print("{:<15} {:<8} {:>8} {:>8} {:>9} {:>8} {:>8} {:>8} {:>8} {:>5} {:>7} {:>9} {:>9} {:>9}\n", "service",
             "state", "rate/s", "tokens", "of burst", "first/s", "due/s", "ratio", "if idle", "open", "min/s",
             "admitted", "refused", "of unfair");
  const json::value parsed = json::parse(*body);
  for (const json::value& budget : parsed.at("services").as_array()) {
    const auto number = [&](const char* key) { return budget.at(key).to_number<double>(); };
    const char* state = !budget.at("enabled").as_bool() ? "off"
                        : budget.at("acts").as_bool()   ? "on"
                                                        : "shadow";
    fmt::print("{:<15} {:<8} {:>8.1f} {:>8.1f} {:>9.1f} {:>8.1f} {:>8.1f} {:>8.3f} {:>8.3f} {:>5.2f} {:>7.1f} {:>9} "
               "{:>9} {:>9}\n",
               budget.at("service").as_string().c_str(), state, number("rate_per_s"),
               number("tokens"), number("burst"), number("first_attempts_per_s"),
               number("due_within_1s"), number("ratio"),
               number("idle_ratio"), number("open"), number("min_per_s"), number("admitted"),
               number("refused"), number("refused_unfair"));
  }
  return 0;
}

}  // namespace

void add_budget(CLI::App& app, Action& action) {
  auto arguments = std::make_shared<BudgetArguments>();
  CLI::App* command = app.add_subcommand(
      "budget", "Show what services may still spend on retries, or set it until the next reload");
  command->add_option("service", arguments->service, "Service's name; without it all");
  command->add_option("--tokens", arguments->tokens, "Retries saved up now, at most its burst")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--ratio", arguments->ratio, "Retries for each first attempt")
      ->check(CLI::Range(0.0, 10.0));
  command->add_option("--idle-ratio", arguments->idle_ratio,
                      "Retries for each first attempt while nothing waits for long and they help")
      ->check(CLI::Range(0.0, 10.0));
  command->add_option("--min-per-s", arguments->min_per_s, "Retries a second in any case")
      ->check(CLI::Range(0.0, 1e6));
  command->add_option("--burst-s", arguments->burst_s, "Seconds of its rate that can be saved up")
      ->check(CLI::Range(0.1, 60.0));
  arguments->address.add_options(*command);
  command->add_flag("--json", arguments->as_json, "Print petrel/budget/v1");
  command->callback(
      [arguments, &action] { action = [arguments] { return run_budget(*arguments); }; });
}

}  // namespace petrel::cli
