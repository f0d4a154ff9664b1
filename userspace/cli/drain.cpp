// SPDX-License-Identifier: MIT
// petrel drain: a backend takes no new flows; its old ones may end until a deadline.
#include <fmt/format.h>

#include <boost/json.hpp>
#include <iostream>
#include <memory>
#include <optional>

#include "api/client.hpp"
#include "cli/order_options.hpp"
#include "cli/verbs.hpp"

namespace petrel::cli {
namespace {

namespace json = boost::json;

struct DrainArguments {
  AgentAddress address;
  std::string backend;
  std::string service;
  std::optional<double> deadline_s;
  OrderOptions order;
  bool undo = false;
  bool as_json = false;

  std::string target(const std::string& query) const {
    std::string target = "/v1/drain?backend=" + percent_encode(backend) + query;
    if (!service.empty()) target += "&service=" + percent_encode(service);
    if (deadline_s) target += "&deadline_s=" + fmt::format("{}", *deadline_s);
    return undo ? target + "&undo=1" : target;
  }
};

int run_drain(const DrainArguments& arguments) {
  const auto query = arguments.order.query();
  if (!query) return fail(query.error());
  auto socket = arguments.address.resolve();
  if (!socket) return fail(socket.error());
  const auto body = api_post(*socket, arguments.target(*query));
  if (!body) return fail(body.error());
  const json::value state = json::parse(*body);
  if (arguments.as_json) {
    std::cout << *body << '\n';
  } else if (arguments.undo) {
    fmt::print("{} of {} takes new flows again\n", state.at("backend").as_string().c_str(),
               state.at("service").as_string().c_str());
  } else {
    fmt::print("{} of {} takes no new flows; {} connections have {:.0f} s to end\n",
               state.at("backend").as_string().c_str(), state.at("service").as_string().c_str(),
               state.at("connections").to_number<std::uint64_t>(),
               state.at("left_s").to_number<double>());
  }
  const json::array& warnings = state.at("warnings").as_array();
  for (const json::value& line : warnings) {
    std::cerr << "petrel: warning: " << line.as_string().c_str() << '\n';
  }
  return static_cast<int>(warnings.empty() ? ExitCode::kGood : ExitCode::kWarnings);
}

}  // namespace

void add_drain(CLI::App& app, Action& action) {
  auto arguments = std::make_shared<DrainArguments>();
  CLI::App* command = app.add_subcommand(
      "drain", "Give a backend no new flows; its old ones may end until a deadline, over restarts too");
  command->add_option("backend", arguments->backend, "Backend's name")->required();
  command->add_option("--service", arguments->service, "Its service, if the name is not unique");
  CLI::Option* deadline =
      command
          ->add_option("--deadline", arguments->deadline_s,
                       "Seconds after which its flows are reset or moved, as the service's "
                       "on_removal says; without it the service's drain_deadline_s")
          ->check(CLI::Range(0.0, 86400.0));
  arguments->order.add(*command, "forever");
  command->add_flag("--undo", arguments->undo, "It takes new flows again")->excludes(deadline);
  arguments->address.add_options(*command);
  command->add_flag("--json", arguments->as_json, "Print petrel/drain/v1");
  command->callback(
      [arguments, &action] { action = [arguments] { return run_drain(*arguments); }; });
}

}  // namespace petrel::cli
