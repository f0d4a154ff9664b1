// SPDX-License-Identifier: MIT
// petrel explain: why a backend's weight is what it is.
#include <fmt/format.h>

#include <boost/json.hpp>
#include <iostream>
#include <memory>

#include "api/client.hpp"
#include "cli/verbs.hpp"

namespace petrel::cli {
namespace {

namespace json = boost::json;

struct ExplainArguments {
  AgentAddress address;
  std::string backend;
  std::string service;
  bool as_json = false;
};

std::string text(const json::value& value) { return value.as_string().c_str(); }
double number(const json::value& value) { return value.to_number<double>(); }

// What each reason code means, for people.
std::string sentence_of(const std::string& reason) {
  if (reason == "base") return "nothing is amiss: it has its configured weight";
  if (reason == "risk") return "its own risk stands out of its peers': its weight is being lowered";
  if (reason == "floor") return "its own risk took it to the least weight, which keeps it observed";
  if (reason == "quarantine") return "it refuses or never answers: weight 0 until a probe succeeds";
  if (reason == "recovering") return "it is on its way back";
  if (reason == "panic") return "too much of the service looks bad: all backends get their base weight";
  if (reason == "shared") return "the trouble is the whole service's: moving traffic would not help";
  if (reason == "capped") return "lowering it further would push another past its growth cap";
  if (reason == "neutral") return "the service's mode writes no weights";
  if (reason == "samples") return "it looks bad, on too few samples to act on";
  if (reason == "draining") return "it drains: no new flows";
  if (reason == "by_hand") return "set by hand (`petrel weight`)";
  if (reason == "frozen") return "held by hand (`petrel freeze`), whatever happens";
  if (reason == "harm") return "learned weights did harm: configured ones for a while (self-check)";
  return reason;
}

void print_explanation(const json::object& it) {
  const json::object& law = it.at("law").as_object();
  const json::object& parts = it.at("risk_parts").as_object();
  fmt::print("{} of {} ({}), mode {}\n", text(it.at("name")), text(it.at("service")),
             text(it.at("address")), text(it.at("mode")));
  fmt::print("weight   {:.1f} % of its base {} ({:.1f} % of the ring): {}\n",
             100 * number(it.at("factor")), number(it.at("base_weight")),
             100 * number(it.at("share")), sentence_of(text(it.at("reason"))));
  if (text(it.at("mode")) != "act") {
    fmt::print("would be {:.1f} % in mode act\n", 100 * number(it.at("wanted_factor")));
  }
  fmt::print("risk     {:.3f} from {:.0f} samples (fast {:.3f}, slow {:.3f}); peers {:.3f}, "
             "difference {:+.3f}, gate {:.2f}\n",
             number(it.at("risk")), number(it.at("samples")), number(parts.at("fast")),
             number(parts.at("slow")), number(law.at("peers_risk")), number(law.at("difference")),
             number(law.at("gate")));
  const std::string rails = text(it.at("rails"));
  fmt::print("rails    {}\n", rails.empty() ? "none held" : rails);
  fmt::print("probe    {}\n", text(it.at("probe")));
  if (const double lost = number(it.at("lost_events_share")); lost > 0) {
    fmt::print("sampled  {:.1f} % of late events were lost: all of this is built on the rest\n",
               100 * lost);
  }
  const json::array& pushes = it.at("contributions").as_array();
  if (pushes.empty()) {
    fmt::print("features: nothing was scored lately\n");
    return;
  }
  fmt::print("features that pushed it, mean log-odds over the last {:.0f} observations:\n",
             number(it.at("observations")));
  for (const json::value& item : pushes) {
    const json::object& push = item.as_object();
    if (std::abs(number(push.at("log_odds"))) < 0.005) continue;
    fmt::print("  {:+7.2f}  {:<26} {:>8.3f} {:<6} {}\n", number(push.at("log_odds")),
               text(push.at("feature")), number(push.at("value")), text(push.at("unit")),
               text(push.at("meaning")));
  }
}

std::string value_text(const json::value& value) {
  if (value.is_string()) return text(value);
  return value.is_null() ? "-" : fmt::format("{:.1f} %", 100 * number(value));
}

// The latest of the decisions about it.
void print_decisions(const json::array& decisions) {
  fmt::print("{}\n", decisions.empty() ? "decisions: none since the agent started"
                                       : "last decisions (`petrel log` has all):");
  for (const json::value& item : decisions) {
    const json::object& it = item.as_object();
    std::string features;
    for (const json::value& feature : it.at("features").as_array()) {
      features += fmt::format("{}{} {:+.2f}", features.empty() ? "  " : ", ",
                              text(feature.at("feature")), number(feature.at("log_odds")));
    }
    fmt::print("  {}  {} {} -> {}{}  {}{}{}{}\n", text(it.at("time")), text(it.at("kind")),
               value_text(it.at("before")), value_text(it.at("after")),
               it.at("in_force").as_bool() ? "" : " (not in force)", text(it.at("reason")),
               text(it.at("rails")).empty() ? "" : " [" + text(it.at("rails")) + "]", features,
               text(it.at("note")).empty() ? "" : "  " + text(it.at("note")));
  }
}

int run_explain(const ExplainArguments& arguments) {
  auto socket = arguments.address.resolve();
  if (!socket) return fail(socket.error());
  std::string target = "/v1/explain?backend=" + arguments.backend;
  if (!arguments.service.empty()) target += "&service=" + arguments.service;
  auto body = api_get(*socket, target);
  if (!body) return fail(body.error());
  if (arguments.as_json) {
    std::cout << *body << '\n';
  } else {
    const json::value explanation = json::parse(*body);
    print_explanation(explanation.as_object());
    print_decisions(explanation.at("decisions").as_array());
  }
  return 0;
}

}  // namespace

void add_explain(CLI::App& app, Action& action) {
  auto arguments = std::make_shared<ExplainArguments>();
  CLI::App* command =
      app.add_subcommand("explain", "Say why a backend's weight is what it is");
  command->add_option("backend", arguments->backend, "Backend's name")->required();
  command->add_option("--service", arguments->service, "Its service, if the name is not unique");
  arguments->address.add_options(*command);
  command->add_flag("--json", arguments->as_json, "Print petrel/explain/v1");
  command->callback(
      [arguments, &action] { action = [arguments] { return run_explain(*arguments); }; });
}

}  // namespace petrel::cli
