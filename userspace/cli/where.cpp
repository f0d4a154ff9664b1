// SPDX-License-Identifier: MIT
// petrel where: which backend a connection has, or would get, and why: from the pinned maps alone.
#include <netinet/in.h>

#include <iostream>
#include <memory>

#include "cli/pinned_maps.hpp"
#include "cli/verbs.hpp"
#include "config/address.hpp"
#include "inspect/where_report.hpp"

namespace petrel::cli {
namespace {

struct WhereArguments {
  std::string client;
  std::string asked;
  std::string protocol = "tcp";
  PinnedMaps maps;
  bool as_json = false;
};

Result<inspect::Question> question_of(const WhereArguments& arguments) {
  const auto client = inspect::parse_endpoint(arguments.client);
  if (!client) return client.error();
  const auto asked = inspect::parse_endpoint(arguments.asked);
  if (!asked) return asked.error();
  if (is_v4(client->first) != is_v4(asked->first)) {
    return Error(ExitCode::kInput, arguments.client + " and " + arguments.asked +
                                       " are of different address families");
  }
  return inspect::Question{
      .client = client->first,
      .vip = asked->first,
      .client_port = client->second,
      .port = asked->second,
      .protocol = static_cast<std::uint8_t>(arguments.protocol == "udp" ? IPPROTO_UDP
                                                                        : IPPROTO_TCP)};
}

int run_where(const WhereArguments& arguments) {
  const auto question = question_of(arguments);
  if (!question) return fail(question.error());
  const auto maps = arguments.maps.resolve();
  if (!maps) return fail(maps.error());
  const auto snapshot = inspect::Snapshot::open(maps->pin_path);
  if (!snapshot) return fail(snapshot.error());
  const auto answer = inspect::where(*snapshot, *question);
  if (!answer) return fail(answer.error());
  const std::string name = maps->service_name(answer->service);
  if (arguments.as_json) {
    std::cout << inspect::where_json(*answer, name) << '\n';
  } else {
    std::cout << inspect::where_text(*answer, name);
  }
  return 0;
}

}  // namespace

void add_where(CLI::App& app, Action& action) {
  auto arguments = std::make_shared<WhereArguments>();
  CLI::App* command = app.add_subcommand(
      "where", "Say which backend a connection has, which one a new one would get, and why");
  command->add_option("client", arguments->client, "Client's ADDRESS:PORT; [ADDRESS]:PORT of IPv6")
      ->required();
  command->add_option("service", arguments->asked, "ADDRESS:PORT that it connects to")->required();
  command->add_option("--protocol", arguments->protocol, "tcp or udp")
      ->check(CLI::IsMember({"tcp", "udp"}))
      ->capture_default_str();
  arguments->maps.add_options(*command);
  command->add_flag("--json", arguments->as_json, "Print petrel/where/v1");
  command->footer("Exit codes: 0, 3 no such address, 6 nothing is pinned, 8 no service of ours.");
  command->callback(
      [arguments, &action] { action = [arguments] { return run_where(*arguments); }; });
}

}  // namespace petrel::cli
