// SPDX-License-Identifier: MIT
// petrel-traffic fault, petrel-traffic stats: talk to a running backend.
#include <boost/json/serialize.hpp>
#include <iostream>
#include <memory>

#include "traffic/command_line.hpp"
#include "traffic/control_client.hpp"
#include "traffic/fault.hpp"

namespace petrel::traffic {

namespace json = boost::json;

namespace {

struct Arguments {
  std::string control_path;
  Fault fault;
  std::uint64_t status = 503;
};

void add_control_option(CLI::App& command, Arguments& arguments) {
  command.add_option("--control", arguments.control_path, "The backend's control socket")
      ->required()
      ->type_name("PATH");
}

}  // namespace

void add_fault_command(CLI::App& app, Command& chosen) {
  CLI::App& command = *app.add_subcommand("fault", "Make a running backend misbehave, or stop it");
  auto arguments = std::make_shared<Arguments>();
  Fault& fault = arguments->fault;
  add_control_option(command, *arguments);
  add_parsed(
      command, "kind", false, parse_fault_kind, [&fault](FaultKind kind) { fault.kind = kind; },
      "none, hang, refuse, reset, blackhole, slow or errors")
      ->required()
      ->type_name("KIND");
  add_number(command, "--factor", fault.factor, 0.001, 1e6, "slow: times the usual service time");
  add_number(command, "--rate", fault.rate, 0, 1, "errors: share of the requests that fail");
  add_count(command, "--status", arguments->status, 400, 599, "errors: the answer's status");
  command.add_flag("--quick", fault.quick, "errors: answer at once, without the service time");
  command.callback([arguments, &chosen] {
    arguments->fault.status = static_cast<unsigned>(arguments->status);
    chosen = [arguments]() -> Result<> {
      json::object request = to_json(arguments->fault);
      request["command"] = "fault";
      const auto answer = ask(arguments->control_path, request);
      if (!answer) return answer.error();
      return {};
    };
  });
}

void add_stats_command(CLI::App& app, Command& chosen) {
  CLI::App& command = *app.add_subcommand("stats", "Print a running backend's counters as JSON");
  auto arguments = std::make_shared<Arguments>();
  add_control_option(command, *arguments);
  command.callback([arguments, &chosen] {
    chosen = [arguments]() -> Result<> {
      const auto answer = ask(arguments->control_path, json::object{{"command", "stats"}});
      if (!answer) return answer.error();
      std::cout << json::serialize(*answer) << std::endl;
      if (!std::cout) return Error(ExitCode::kRuntime, "write to stdout: failed");
      return {};
    };
  });
}

}  // namespace petrel::traffic
