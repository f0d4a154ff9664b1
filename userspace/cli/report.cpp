// SPDX-License-Identifier: MIT
// petrel report: what a service in shadow would have done, and what it would likely have saved.
//
// Counts of flows and labels are the agent's; the changes of weights are the decision log's.
#include <fmt/format.h>

#include <boost/json.hpp>
#include <chrono>
#include <iostream>
#include <map>
#include <memory>

#include "api/client.hpp"
#include "cli/duration.hpp"
#include "cli/verbs.hpp"
#include "decisions/decision_store.hpp"

namespace petrel::cli {
namespace {

namespace json = boost::json;

struct ReportArguments {
  AgentAddress address;
  std::string service;
  std::string since = "1h";
  bool as_json = false;
};

double number(const json::value& value) {
  return value.to_number<double>();
}

// Changes of one backend's weight that were not put in force.
struct Changes {
  std::uint64_t count = 0;
  double least = 1;  // that it would have had
};

Result<std::map<std::string, Changes>> read_changes(const std::string& path,
                                                    const std::string& service, double since_s) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  DecisionQuery query;
  query.since_ns = std::chrono::duration_cast<std::chrono::nanoseconds>(now).count() -
                   static_cast<std::int64_t>(since_s * 1e9);
  query.service = service;
  query.kind = to_string(DecisionKind::kWeight);
  const auto found = read_decisions(path, query);
  if (!found) return found.error();
  std::map<std::string, Changes> changes;
  for (const auto& [id, decision] : *found) {
    if (decision.in_force) continue;
    Changes& of = changes[decision.backend];
    ++of.count;
    if (const double* after = std::get_if<double>(&decision.after)) {
      of.least = std::min(of.least, *after);
    }
  }
  return changes;
}

// With what the log of decisions tells, or why it does not.
void add_changes(json::object& report, double since_s) {
  report["changes"] = nullptr;
  report["changes_by_backend"] = nullptr;
  report["changes_missing"] = nullptr;
  const json::value& path = report.at("decision_log");
  if (!path.is_string()) {
    report["changes_missing"] = "[log] sqlite is false";
    return;
  }
  const auto changes = read_changes(std::string(path.as_string()),
                                    std::string(report.at("service").as_string()), since_s);
  if (!changes) {
    report["changes_missing"] = json::string(changes.error().message());
    return;
  }
  std::uint64_t sum = 0;
  json::array list;
  for (const auto& [backend, of] : *changes) {
    sum += of.count;
    list.push_back({{"backend", backend}, {"changes", of.count}, {"least_factor", of.least}});
  }
  report["changes"] = sum;
  report["changes_by_backend"] = std::move(list);
}

void print_self_check(const json::object& report) {
  const json::object& hour = report.at("self_check").at("last_hour").as_object();
  if (hour.at("avoided").is_null()) {
    fmt::print("its self-check has too few flows yet to say what they avoid\n");
    return;
  }
  fmt::print(
      "in the last hour they avoided {:.0f} retries ({:.0f} to {:.0f}, 95 %), by its self-check\n",
      number(hour.at("avoided")), number(hour.at("avoided_low")), number(hour.at("avoided_high")));
}

void print_changes(const json::object& report) {
  if (report.at("changes").is_null()) {
    fmt::print("changes of weights   not known: {}\n",
               report.at("changes_missing").as_string().c_str());
    return;
  }
  fmt::print("changes of weights   {}\n", number(report.at("changes")));
  for (const json::value& it : report.at("changes_by_backend").as_array()) {
    fmt::print("  {:<18} {}, down to {:.1f} %\n", it.at("backend").as_string().c_str(),
               number(it.at("changes")), 100 * number(it.at("least_factor")));
  }
}

void print_report(const json::object& report) {
  const std::string mode = report.at("mode").as_string().c_str();
  fmt::print("{}: mode {}", report.at("service").as_string().c_str(), mode);
  if (mode != "shadow") {
    fmt::print("\n");
    if (mode == "act") {
      fmt::print("its weights are in force: nothing is left that they would have done\n");
      print_self_check(report);
    } else {
      fmt::print("nothing would be done in this mode\n");
    }
    return;
  }
  fmt::print(", what its weights would have done in the last {:.0f} s (known of {:.0f} s)\n",
             number(report.at("since_s")), number(report.at("covers_s")));
  print_changes(report);
  const double flows = number(report.at("flows")), retried = number(report.at("retried"));
  fmt::print("flows elsewhere      {:.0f} of {}\n", number(report.at("moved_flows")), flows);
  fmt::print(
      "retried              {} first attempts, {:.0f} of them on backends that they would have "
      "left\n",
      retried, number(report.at("retried_left")));
  const json::object& saved = report.at("saved").as_object();
  if (saved.at("low").is_null()) {
    fmt::print("likely saved         {:.0f} retries; too short a time for an interval\n",
               number(saved.at("value")));
  } else {
    fmt::print("likely saved         {:.0f} retries ({:.0f} to {:.0f}, 95 %)\n",
               number(saved.at("value")), number(saved.at("low")), number(saved.at("high")));
  }
  if (const double lost = number(report.at("lost_events_share")); lost > 0) {
    fmt::print("not seen             {:.2f} % of late events\n", 100 * lost);
  }
}

int run_report(const ReportArguments& arguments) {
  const auto since_s = parse_duration_s(arguments.since);
  if (!since_s || *since_s <= 0 || *since_s > 86400) {
    return fail(Error(ExitCode::kUsage,
                      "--since: expected a duration up to a day such as 90s, 10m or 2h, found '" +
                          arguments.since + "'"));
  }
  const auto socket = arguments.address.resolve();
  if (!socket) return fail(socket.error());
  const auto body = api_get(*socket, "/v1/report?service=" + percent_encode(arguments.service) +
                                         "&since_s=" + fmt::format("{:g}", *since_s));
  if (!body) return fail(body.error());
  json::value parsed = json::parse(*body);
  json::object& report = parsed.as_object();
  add_changes(report, *since_s);
  if (arguments.as_json) {
    std::cout << json::serialize(report) << '\n';
  } else {
    print_report(report);
  }
  return 0;
}

}  // namespace

void add_report(CLI::App& app, Action& action) {
  auto arguments = std::make_shared<ReportArguments>();
  CLI::App* command = app.add_subcommand(
      "report", "Show what a service in shadow would have done, and likely saved, from its labels");
  command->add_option("service", arguments->service, "The service")->required();
  command->add_option("--since", arguments->since, "From so long ago, a day at most: 90s, 10m, 2h")
      ->capture_default_str();
  arguments->address.add_options(*command);
  command->add_flag("--json", arguments->as_json, "Print petrel/report/v1");
  command->callback(
      [arguments, &action] { action = [arguments] { return run_report(*arguments); }; });
}

}  // namespace petrel::cli
