// SPDX-License-Identifier: MIT
// petrel reload: the agent reads its configuration again; a bad one changes nothing.
#include <fmt/format.h>

#include <boost/json.hpp>
#include <iostream>
#include <memory>

#include "api/client.hpp"
#include "cli/verbs.hpp"

namespace petrel::cli {
namespace {

namespace json = boost::json;

int run_reload(const AgentAddress& address, bool as_json) {
  auto socket = address.resolve();
  if (!socket) return fail(socket.error());
  const auto body = api_post(*socket, "/v1/reload");
  if (!body) return fail(body.error());
  const json::value report = json::parse(*body);
  const json::array& changes = report.at("changes").as_array();
  const json::array& warnings = report.at("warnings").as_array();
  if (as_json) {
    std::cout << *body << '\n';
  } else {
    for (const json::value& line : changes) fmt::print("{}\n", line.as_string().c_str());
    if (changes.empty()) fmt::print("nothing changed\n");
  }
  for (const json::value& line : warnings) {
    std::cerr << "petrel: warning: " << line.as_string().c_str() << '\n';
  }
  return static_cast<int>(warnings.empty() ? ExitCode::kGood : ExitCode::kWarnings);
}

}  // namespace

void add_reload(CLI::App& app, Action& action) {
  auto address = std::make_shared<AgentAddress>();
  auto as_json = std::make_shared<bool>(false);
  CLI::App* command = app.add_subcommand(
      "reload", "Have the agent read its configuration again; established flows keep their backends");
  // Which file is read is the agent's to know: --config says where the agent is, as for other verbs.
  address->add_options(*command);
  command->add_flag("--json", *as_json, "Print petrel/reload/v1");
  command->callback([address, as_json, &action] {
    action = [address, as_json] { return run_reload(*address, *as_json); };
  });
}

}  // namespace petrel::cli
