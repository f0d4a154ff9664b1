// SPDX-License-Identifier: MIT
// petrel status: what the agent sees and does, as tables or as the API's JSON.
#include <fmt/format.h>

#include <boost/json.hpp>
#include <iostream>
#include <memory>

#include "api/client.hpp"
#include "cli/drops.hpp"
#include "cli/verbs.hpp"

namespace petrel::cli {
namespace {

namespace json = boost::json;

std::string text(const json::value& value) { return value.as_string().c_str(); }
double number(const json::value& value) { return value.to_number<double>(); }

// What somebody has ordered by hand, and for how long yet.
void print_override(const json::object& it) {
  std::string what = text(it.at("kind"));
  if (!it.at("backend").is_null()) what += " " + text(it.at("backend"));
  if (!it.at("percent").is_null()) what += fmt::format(" {:g} %", number(it.at("percent")));
  const std::string reason = text(it.at("reason"));
  fmt::print("  BY HAND {}, by {} (uid {}) since {}, {}{}\n", what, text(it.at("by")),
             number(it.at("uid")), text(it.at("since")),
             it.at("left_s").is_null() ? "until released"
                                       : fmt::format("{:.0f} s left", number(it.at("left_s"))),
             reason.empty() ? "" : ": " + reason);
}

std::string percent_of(const json::object& group) {
  const double requests = number(group.at("requests"));
  return fmt::format("{:.1f} % of {}", requests > 0 ? 100 * number(group.at("retried")) / requests : 0,
                     requests);
}

// What learned weights are worth, by flows that go without them; and what predictions are.
void print_self_check(const json::object& it, const std::string& service) {
  if (text(it.at("state")) == "off") return;
  if (it.at("harm").as_bool()) {
    const json::object& evidence = it.at("evidence").as_object();
    const json::object& learned = evidence.at("learned").as_object();
    // Of what an earlier agent found only that it did is known.
    const std::string found =
        number(learned.at("requests")) > 0
            ? fmt::format("retried {} requests, without them {}", percent_of(learned),
                          percent_of(evidence.at("holdout").as_object()))
            : std::string("an agent before this one found it");
    fmt::print("  SELF-CHECK: learned weights did HARM: {}. Configured weights for {:.0f} s more, or until "
               "`petrel release {}`\n",
               found, number(it.at("neutral_left_s")), service);
  }
  const json::object& hour = it.at("last_hour").as_object();
  if (!hour.at("avoided").is_null()) {
    fmt::print("  self-check: learned weights avoided {:.0f} retries in an hour ({:.0f} to {:.0f}): retried {} "
               "requests, without them {}\n",
               number(hour.at("avoided")), number(hour.at("avoided_low")), number(hour.at("avoided_high")),
               percent_of(hour.at("learned").as_object()), percent_of(hour.at("holdout").as_object()));
  }
  const json::object& predictions = it.at("predictions").as_object();
  if (number(predictions.at("rows")) == 0) return;
  const json::value& precision = predictions.at("precision");
  fmt::print("  predictions: {:.1f} retries expected, {} happened, of {} rows; calibration error {:.3f}; {}\n",
             number(predictions.at("predicted")), number(predictions.at("retried")),
             number(predictions.at("rows")), number(predictions.at("ece")),
             precision.is_null() ? std::string("none predicted at 0.5")
                                 : fmt::format("precision at 0.5 {:.2f} of {}", number(precision),
                                               number(predictions.at("alarms"))));
}

// How near it is to a storm that sustains itself; nothing of it where nothing happens.
void print_edge(const json::object& it) {
  if (number(it.at("first_attempts_per_s")) <= 0) return;
  const auto known = [&](const char* name, const char* format) {
    const json::value& value = it.at(name);
    return value.is_null() ? std::string("unknown") : fmt::format(fmt::runtime(format), number(value));
  };
  fmt::print("  edge: {:.2f} attempts a request, {} in a storm", number(it.at("amplification")),
             known("storm_amplification", "{:.1f}"));
  if (it.at("capacity_per_s").is_null()) {
    fmt::print("; capacity unknown, at least {:.0f}/s; headroom unknown",
               number(it.at("capacity_at_least_per_s")));
  } else {
    fmt::print("; capacity {:.0f}/s ({:.0f} s ago), headroom {:.0f} %", number(it.at("capacity_per_s")),
               number(it.at("capacity_age_s")), 100 * number(it.at("headroom")));
  }
  if (it.at("in_storm").as_bool()) {
    fmt::print("; IN A STORM that sustains itself\n");
    return;
  }
  fmt::print("; a stop survived: {}; recovered in {}\n",
             it.at("storm_can_last").as_bool() ? known("stop_survived_s", "{:.1f} s") : "any",
             known("recovery_s", "{:.1f} s"));
}

void print_service(const json::object& service) {
  const std::string placement = text(service.at("placement"));
  fmt::print("\nservice {}  {}  {}mode {}{}\n", text(service.at("name")),
             text(service.at("address")),
             placement == "balancer" ? "" : "seen by this host's sockets (" + placement + ")  ",
             text(service.at("mode")), service.at("panic").as_bool() ? "  PANIC" : "");
  fmt::print("  first attempts {}  retries {}  steered {}  off ring {}  placed neutrally {}\n",
             number(service.at("first_attempts")), number(service.at("retries")),
             number(service.at("steered")), number(service.at("off_ring")),
             number(service.at("neutral_placements")));
  if (const double unseen = number(service.at("unseen_retries_share")); unseen > 0) {
    fmt::print("  about {:.1f} % of all retries cannot be seen: on kept connections that are no "
               "HTTP/1.x\n",
               100 * unseen);
  }
  const json::object& admission = service.at("admission").as_object();
  if (const double limit = number(admission.at("limit")); limit > 0) {
    fmt::print("  ADMISSION: asked for more than it answers in time ({:.0f}/s). Beyond {} in flight new "
               "connections {} refused, retries first\n",
               number(admission.at("capacity_per_s")), limit,
               admission.at("acts").as_bool() ? "are" : "would be");
    fmt::print("  of clients that ask for more than their share {} were refused before that\n",
               number(admission.at("refused_unfair")));
  }
  print_edge(service.at("edge").as_object());
  print_self_check(service.at("self_check").as_object(), text(service.at("name")));
  for (const json::value& it : service.at("overrides").as_array()) print_override(it.as_object());
  fmt::print("  {:<15} {:>7} {:>7} {:>7} {:<11} {:>8} {:>8} {:>7} {:>8} {:>9} {:>9} {:>9} {:>10}\n", "backend",
             "weight", "share", "risk", "reason", "asked/s", "most/s", "waiting", "conns", "answers", "failures",
             "conn p50", "resp p50");
  for (const json::value& item : service.at("backends").as_array()) {
    const json::object& backend = item.as_object();
    const json::object& wire = backend.at("wire").as_object();
    double failures = 0;
    for (const char* kind : {"refused", "handshake_timeouts", "resets", "abandoned", "empty",
                             "overloads", "server_errors"}) {
      failures += number(wire.at(kind));
    }
    fmt::print("  {:<15} {:>6.1f}% {:>6.1f}% {:>7.3f} {:<11} {:>8.1f} {:>8} {:>7} {:>8} {:>9} {:>9} {:>6.0f} us "
               "{:>7.2f} ms\n",
               text(backend.at("name")), 100 * number(backend.at("factor")),
               100 * number(backend.at("share")), number(backend.at("risk")),
               text(backend.at("reason")), number(backend.at("asked_per_s")),
               backend.at("capacity_per_s").is_null()
                   ? std::string("unknown")
                   : fmt::format("{:.0f}", number(backend.at("capacity_per_s"))),
               number(backend.at("waiting")) + number(backend.at("waiting_syn")),
               number(wire.at("connections")), number(wire.at("answers")), failures,
               number(wire.at("connect_p50_us")), number(wire.at("response_p50_ms")));
    if (backend.at("drain").is_null()) continue;
    const json::object& drain = backend.at("drain").as_object();
    fmt::print("  {:<15} {}: {} connections, {:.0f} s left\n", "", text(drain.at("state")),
               number(drain.at("connections")), number(drain.at("left_s")));
  }
}

std::string figure(const json::value& value) {
  return value.is_null() ? "-" : fmt::format("{:.3f}", number(value));
}

// Whether the model is believed, and by what figures.
void print_model(const json::object& model) {
  const std::string state = text(model.at("state"));
  if (state == "untrained") return;
  const json::object& watch = model.at("watch").as_object();
  const json::object& psi = watch.at("psi").as_object();
  if (state == "drifted") {
    fmt::print("model DRIFTED: {}; {}\n", text(model.at("reason")),
               model.at("weights_held").as_bool()
                   ? "configured weights until it fits again, or `petrel model accept`"
                   : "reported only (drift_action)");
  }
  fmt::print("model {}: calibration error {} (limit {:.3g})  PSI {} (limit {:.3g})  AUC {}  log loss "
             "{}  of {} rows, {} retried, in {} s ({:.3g} % of connections)\n",
             state, figure(watch.at("ece")), number(watch.at("ece_limit")),
             psi.at("references").as_bool() ? figure(psi.at("mean")) : "not known to the model file",
             number(psi.at("limit")), figure(watch.at("auc")), figure(watch.at("log_loss")),
             number(watch.at("rows")), number(watch.at("retried")), number(watch.at("window_s")),
             100 * number(watch.at("sampled_share")));
  if (const json::value& shadow = model.at("shadow"); !shadow.is_null()) {
    const json::object& seen = shadow.at("watch").as_object();
    fmt::print("shadow {} v{} ({}): calibration error {}  AUC {}  log loss {}  of {} rows\n",
               text(shadow.at("name")), number(shadow.at("version")), text(shadow.at("checksum")),
               figure(seen.at("ece")), figure(seen.at("auc")), figure(seen.at("log_loss")),
               number(seen.at("rows")));
  }
}

void print_verdicts(const json::object& verdicts) {
  fmt::print("\npackets:");
  for (const auto& item : verdicts) {
    if (number(item.value()) > 0) fmt::print("  {} {}", std::string_view(item.key()), number(item.value()));
  }
  fmt::print("\n");
}

// What was not seen of what happened: every rate above is to be read beside it.
void print_losses(const json::object& losses, const json::object& audit) {
  fmt::print("\nnot seen: {:.2f} % of late events ({} ever)  records {}  out of order {} (worst {:.1f} ms)  "
             "clock steps {}  suspends {}\n",
             100 * number(losses.at("lost_events_share")), number(losses.at("events_lost")),
             number(losses.at("records_lost")), number(losses.at("events_out_of_order")),
             number(losses.at("worst_disorder_ms")), number(losses.at("clock_steps")),
             number(losses.at("suspends")));
  fmt::print("tables: {} connections open and {} closed of {}  half-open evicted {}  evicted with "
             "a request {}  no entry {}  adopted {}  waits leaked {}  "
             "unaccounted {}\n",
             number(audit.at("connections_open")), number(audit.at("connections_closed")),
             number(audit.at("connections_size")), number(losses.at("half_open_evicted")),
             number(losses.at("evicted")), number(losses.at("table_full")), number(losses.at("adopted")),
             number(losses.at("waits_leaked")), number(audit.at("unaccounted")));
}

// Where decisions go, and what of them is lost.
void print_decision_log(const json::object& log) {
  fmt::print("\ndecisions: {}  lost: queue {}  sqlite {}  json {}{}\n", number(log.at("decisions")),
             number(log.at("lost_full")), number(log.at("sqlite_lost")), number(log.at("json_lost")),
             log.at("error").is_null() ? "" : "  NOT WRITTEN: " + text(log.at("error")));
}

int run_status(const AgentAddress& address, bool as_json) {
  auto socket = address.resolve();
  if (!socket) return fail(socket.error());
  auto body = api_get(*socket, "/v1/status");
  if (!body) return fail(body.error());
  if (as_json) {
    std::cout << *body << '\n';
    return 0;
  }
  const json::value parsed = json::parse(*body);
  const json::object& status = parsed.as_object();
  const json::object& loop = status.at("loop").as_object();
  const json::object& model = status.at("model").as_object();
  fmt::print("petrel {}  up {:.0f} s  model {} v{} ({}, held-out AUC {:.3f})\n",
             text(status.at("version")), number(loop.at("uptime_s")), text(model.at("name")),
             number(model.at("version")), text(model.at("checksum")),
             number(model.at("held_out_auc")));
  print_model(model);
  fmt::print("ticks {}  late {}  last {} us  worst {} us  events {}  lost {}  retries seen {}  "
             "predicted {:.0f}\n",
             number(loop.at("ticks")), number(loop.at("late_ticks")),
             number(loop.at("last_tick_us")), number(loop.at("worst_tick_us")),
             number(loop.at("events")), number(status.at("verdicts").at("event_lost")),
             number(loop.at("retries_seen")), number(loop.at("retries_predicted")));
  for (const json::value& line : status.at("degraded").as_array()) {
    fmt::print("degraded: {}\n", text(line));
  }
  for (const json::value& service : status.at("services").as_array()) {
    print_service(service.as_object());
  }
  print_decision_log(status.at("decision_log").as_object());
  print_losses(status.at("losses").as_object(), status.at("audit").as_object());
  print_verdicts(status.at("verdicts").as_object());
  return 0;
}

int run_metrics(const AgentAddress& address) {
  const auto socket = address.resolve();
  if (!socket) return fail(socket.error());
  const auto body = api_get(*socket, "/metrics");
  if (!body) return fail(body.error());
  std::cout << *body;
  return 0;
}

}  // namespace

void add_status(CLI::App& app, Action& action) {
  struct StatusArguments {
    AgentAddress address;
    DropsOptions drops;
    bool show_drops = false;
    bool metrics = false;
  };
  auto arguments = std::make_shared<StatusArguments>();
  DropsOptions& drops = arguments->drops;
  CLI::App* command = app.add_subcommand("status", "Show services, backends, weights and risks");
  arguments->address.add_options(*command);
  command->add_flag("--json", drops.as_json, "Print petrel/status/v1, or drops/v1");
  command->add_flag("--metrics", arguments->metrics,
                    "Print figures of services in Prometheus' text format");
  CLI::Option* show =
      command->add_flag("--drops", arguments->show_drops,
                        "Show how packets left the balancer, by service, and what that means");
  command->add_option("--service", drops.service, "With --drops: of this service only")
      ->needs(show);
  command->add_flag("--all", drops.all, "With --drops: what never happened too")->needs(show);
  command
      ->add_option("--interval", drops.interval_s,
                   "With --drops: what happens in so many seconds from now")
      ->check(CLI::Range(0.1, 3600.0))
      ->needs(show);
  command->callback([arguments, &action] {
    action = [arguments] {
      if (arguments->metrics) return run_metrics(arguments->address);
      if (!arguments->show_drops) return run_status(arguments->address, arguments->drops.as_json);
      const auto socket = arguments->address.resolve();
      if (!socket) return fail(socket.error());
      return run_drops(*socket, arguments->drops);
    };
  });
}

}  // namespace petrel::cli
