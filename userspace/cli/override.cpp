// SPDX-License-Identifier: MIT
// petrel weight, freeze, neutral, release: what a person orders of weights.
#include <fmt/format.h>

#include <boost/json.hpp>
#include <charconv>
#include <iostream>
#include <memory>
#include <optional>

#include "api/client.hpp"
#include "cli/order_options.hpp"
#include "cli/verbs.hpp"

namespace petrel::cli {
namespace {

namespace json = boost::json;

struct OverrideArguments {
  AgentAddress address;
  OrderOptions order;
  std::string service;
  std::string backend;
  std::string percent;
  bool as_json = false;
};

std::string text(const json::value& value) { return value.as_string().c_str(); }
double number(const json::value& value) { return value.to_number<double>(); }

// "by alice (uid 0) until 2026-01-01T00:00:00.000Z: why"
std::string terms(const json::object& it) {
  std::string out = it.at("until").is_null() ? "until released" : "until " + text(it.at("until"));
  out += fmt::format(", by {} (uid {})", text(it.at("by")), number(it.at("uid")));
  if (const std::string reason = text(it.at("reason")); !reason.empty()) out += ": " + reason;
  return out;
}

std::string subject(const json::object& it) {
  const std::string kind = text(it.at("kind")), service = text(it.at("service"));
  if (kind == "freeze") return service + ": all weights are held as they are";
  if (kind == "neutral") return service + ": configured weights";
  const std::string backend = text(it.at("backend")) + " of " + service;
  if (kind == "drain") return backend + ": drained";
  return fmt::format("{}: {:g} % of its configured weight", backend, number(it.at("percent")));
}

int print_warnings(const json::value& reply) {
  const json::array& warnings = reply.at("warnings").as_array();
  for (const json::value& line : warnings) {
    std::cerr << "petrel: warning: " << text(line) << '\n';
  }
  return static_cast<int>(warnings.empty() ? ExitCode::kGood : ExitCode::kWarnings);
}

// Posts an order and says what is in force then.
int give(const OverrideArguments& arguments, const std::string& verb) {
  auto query = arguments.order.query();
  if (!query) return fail(query.error());
  auto socket = arguments.address.resolve();
  if (!socket) return fail(socket.error());
  std::string target = "/v1/" + verb + "?service=" + percent_encode(arguments.service) + *query;
  if (!arguments.backend.empty()) target += "&backend=" + percent_encode(arguments.backend);
  if (verb == "weight") {
    target += "&percent=" +
              percent_encode(std::string_view(arguments.percent).substr(0, arguments.percent.size() - 1));
  }
  const auto body = api_post(*socket, target);
  if (!body) return fail(body.error());
  const json::value reply = json::parse(*body);
  if (arguments.as_json) {
    std::cout << *body << '\n';
  } else if (verb == "release") {
    for (const json::value& it : reply.at("released").as_array()) {
      fmt::print("released: {}\n", subject(it.as_object()));
    }
    if (reply.at("self_check_lifted").as_bool()) {
      fmt::print("released: {}: learned weights act again\n", arguments.service);
    }
  } else {
    const json::object& it = reply.at("override").as_object();
    fmt::print("{} {}\n", subject(it), terms(it));
  }
  return print_warnings(reply);
}

const json::object* find_named(const json::array& list, const std::string& name) {
  for (const json::value& item : list) {
    if (item.at("name").as_string() == name) return &item.as_object();
  }
  return nullptr;
}

void print_weights(const json::object& service, const std::string& only) {
  fmt::print("{:<15} {:>10} {:>8} {:>8} {:>7}  {}\n", "backend", "configured", "by hand", "in force",
             "share", "reason");
  for (const json::value& item : service.at("backends").as_array()) {
    const json::object& backend = item.as_object();
    if (!only.empty() && text(backend.at("name")) != only) continue;
    const json::value& hand = backend.at("by_hand");
    fmt::print("{:<15} {:>10} {:>8} {:>7.1f}% {:>6.1f}%  {}\n", text(backend.at("name")),
               number(backend.at("base_weight")),
               hand.is_null() ? "-" : fmt::format("{:.1f}%", 100 * number(hand)),
               100 * number(backend.at("factor")), 100 * number(backend.at("share")),
               text(backend.at("reason")));
  }
  for (const json::value& item : service.at("overrides").as_array()) {
    fmt::print("{} {}\n", subject(item.as_object()), terms(item.as_object()));
  }
}

int show_weights(const OverrideArguments& arguments) {
  auto socket = arguments.address.resolve();
  if (!socket) return fail(socket.error());
  const auto body = api_get(*socket, "/v1/status");
  if (!body) return fail(body.error());
  const json::value status = json::parse(*body);
  const json::object* service = find_named(status.at("services").as_array(), arguments.service);
  if (service == nullptr) {
    return fail(Error(ExitCode::kUsage, "no service is called '" + arguments.service + "'"));
  }
  const json::array& backends = service->at("backends").as_array();
  if (!arguments.backend.empty() && find_named(backends, arguments.backend) == nullptr) {
    return fail(Error(ExitCode::kUsage, "no backend of " + arguments.service + " is called '" +
                                            arguments.backend + "'"));
  }
  if (arguments.as_json) {
    std::cout << json::serialize(json::object{{"schema", "petrel/weights/v1"},
                                              {"service", arguments.service},
                                              {"order", service->at("order")},
                                              {"backends", backends},
                                              {"overrides", service->at("overrides")}})
              << '\n';
  } else {
    print_weights(*service, arguments.backend);
  }
  return 0;
}

int run_weight(const OverrideArguments& arguments) {
  const std::string& given = arguments.percent;
  if (given.empty()) return show_weights(arguments);
  double percent = 0;
  const char* const end = given.data() + given.size();
  const auto [stopped, failure] = std::from_chars(given.data(), end, percent, std::chars_format::fixed);
  const bool whole = failure == std::errc{} && stopped + 1 == end && *stopped == '%';
  if (whole && percent >= 0 && percent <= 100) return give(arguments, "weight");
  return fail(Error(ExitCode::kUsage,
                    "weight: expected a percentage of the configured weight from 0% to 100%, such as "
                    "30%, found '" + given + "'"));
}

std::shared_ptr<OverrideArguments> add_common(CLI::App& command, const char* schema) {
  auto arguments = std::make_shared<OverrideArguments>();
  command.add_option("service", arguments->service, "Service's name")->required();
  arguments->address.add_options(command);
  command.add_flag("--json", arguments->as_json, std::string("Print petrel/") + schema + "/v1");
  return arguments;
}

}  // namespace

void add_weight(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand(
      "weight",
      "Set a backend's weight by hand, in each mode and over restarts: control goes on from there, "
      "and still takes it off a backend that fails. Without a percentage: show the weights");
  auto arguments = add_common(*command, "override");
  command->add_option("backend", arguments->backend, "Backend's name");
  command->add_option("percent", arguments->percent, "Of its configured weight: 0% to 100%");
  arguments->order.add(*command, "forever");
  command->callback(
      [arguments, &action] { action = [arguments] { return run_weight(*arguments); }; });
}

void add_overrides(CLI::App& app, Action& action) {
  const auto add = [&](const std::string& verb, const char* help) {
    CLI::App* command = app.add_subcommand(verb, help);
    auto arguments = add_common(*command, verb == "release" ? "release" : "override");
    command->callback([verb, arguments, &action] {
      action = [verb, arguments] { return give(*arguments, verb); };
    });
    return std::pair(command, arguments);
  };
  // An hour: one that is forgotten leaves the service without what petrel is there for.
  for (const auto& [verb, help] :
       {std::pair("freeze", "Hold all weights of a service as they are now, whatever happens"),
        std::pair("neutral", "Give a service its configured weights, whatever happens")}) {
    const auto [command, arguments] = add(verb, help);
    arguments->order.add(*command, "1h");
  }
  const auto [release, arguments] =
      add("release", "End what was ordered of a service by hand, or of one of its backends: weight, "
                     "freeze, neutral, drain; and what its self-check has found");
  release->add_option("backend", arguments->backend, "Only what was ordered of this backend");
  arguments->order.lasts = "forever";
}

}  // namespace petrel::cli
