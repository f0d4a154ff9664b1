// SPDX-License-Identifier: MIT
// petrel log: what was decided, when and why. Read from the agent's SQLite file, with or without an
// agent.
#include <fmt/format.h>

#include <boost/json.hpp>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <memory>
#include <thread>

#include "api/client.hpp"
#include "cli/duration.hpp"
#include "cli/verbs.hpp"
#include "decisions/decision_store.hpp"

namespace petrel::cli {
namespace {

namespace json = boost::json;

constexpr std::chrono::milliseconds kPollPeriod{200};

volatile std::sig_atomic_t g_stopped = 0;
void on_signal(int) { g_stopped = 1; }

struct LogArguments {
  AgentAddress address;
  std::string file;
  std::string since = "1h";
  DecisionQuery query;
  bool follow = false;
  bool as_json = false;
};

// The file named, else where the agent says that it writes, else where the configuration says.
Result<std::string> log_path(const LogArguments& arguments) {
  if (!arguments.file.empty()) return arguments.file;
  auto socket = arguments.address.resolve();
  if (!socket) return socket.error();
  const auto status = api_get(*socket, "/v1/status");
  if (status) {
    const json::value path = json::parse(*status).at("decision_log").at("sqlite");
    if (path.is_string()) return std::string(path.as_string());
    return Error(ExitCode::kInput, "the agent writes no decisions.db: [log] sqlite is false");
  }
  if (status.error().kind() != ExitCode::kUnreachable) return status.error();
  // Somebody named an agent, which is not there.
  if (!arguments.address.socket.empty()) return status.error();
  AgentConfig agent;
  const std::string& named = arguments.address.config_path;
  if (!named.empty() || std::filesystem::exists(kDefaultConfig)) {
    auto config = load_config(named.empty() ? kDefaultConfig : named);
    if (!config) return config.error().error();
    agent = config->agent;
  }
  return decisions_db(agent.state_dir);
}

void print(const Decision& decision, bool as_json) {
  if (as_json) {
    std::cout << json::serialize(decision_json(decision)) << '\n';
  } else {
    std::cout << decision_text(decision) << '\n';
  }
}

int run_log(LogArguments arguments) {
  const auto since_s = parse_duration_s(arguments.since);
  if (!since_s) {
    return fail(Error(ExitCode::kUsage,
                      "--since: expected a duration such as 90s, 10m, 2h or 7d, found '" +
                          arguments.since + "'"));
  }
  const auto path = log_path(arguments);
  if (!path) return fail(path.error());
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  DecisionQuery& query = arguments.query;
  query.since_ns = std::chrono::duration_cast<std::chrono::nanoseconds>(now).count() -
                   static_cast<std::int64_t>(*since_s * 1e9);
  std::signal(SIGINT, on_signal);
  std::signal(SIGTERM, on_signal);
  for (;;) {
    const auto found = read_decisions(*path, query);
    if (!found) return fail(found.error());
    for (const auto& [id, decision] : *found) {
      print(decision, arguments.as_json);
      query.after_id = id;
    }
    std::cout.flush();
    if (!arguments.follow || g_stopped != 0 || !std::cout) return 0;
    query.last = 0;
    std::this_thread::sleep_for(kPollPeriod);
  }
}

}  // namespace

void add_log(CLI::App& app, Action& action) {
  auto arguments = std::make_shared<LogArguments>();
  CLI::App* command = app.add_subcommand(
      "log", "Show what was decided, when and why: weights, budgets, states, panic, orders, models");
  command->add_option("--since", arguments->since, "From so long ago: 90s, 10m, 2h, 7d")
      ->capture_default_str();
  command->add_option("--service", arguments->query.service, "Of this service only");
  command->add_option("--backend", arguments->query.backend, "Of backends of this name only");
  command->add_option("--kind", arguments->query.kind, "Of this kind only")
      ->check(CLI::IsMember(std::vector<std::string>(kDecisionKinds.begin(), kDecisionKinds.end())));
  command->add_option("-n,--last", arguments->query.last, "The last so many only");
  command->add_flag("-f,--follow", arguments->follow, "Go on with what is decided from now on");
  command->add_option("--file", arguments->file, "A decisions.db, instead of the agent's");
  arguments->address.add_options(*command);
  command->add_flag("--json", arguments->as_json, "A line of petrel/decision/v1 for each");
  command->callback([arguments, &action] { action = [arguments] { return run_log(*arguments); }; });
}

}  // namespace petrel::cli
