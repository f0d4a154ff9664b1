// SPDX-License-Identifier: MIT
#include "cli/simulate_output.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sys/utsname.h>

#include <chrono>
#include <fstream>
#include <iterator>
#include <thread>

namespace petrel::cli {
namespace {

namespace json = boost::json;
using simulate::Cell;
using simulate::Figure;
using simulate::Outcome;
using simulate::SeedEstimate;

json::value or_null(const std::optional<double>& value) {
  return value ? json::value(*value) : json::value(nullptr);
}

bool is_count(const Figure& figure) {
  return figure.name == "requests" || figure.name == "first_attempt_failures" ||
         figure.name == "retries" || figure.name == "never_served" || figure.name == "refused" ||
         figure.name == "refused_firsts";
}

json::object outcome_json(const Outcome& outcome) {
  json::object out;
  for (const Figure& figure : simulate::figures()) {
    const std::optional<double> value = figure.of(outcome);
    if (value && is_count(figure)) {
      out[figure.name] = static_cast<std::uint64_t>(*value);
    } else {
      out[figure.name] = or_null(value);
    }
  }
  return out;
}

// "-": a run never came to it, or there is nothing that it could come to.
std::string number_text(const std::optional<double>& value, int digits) {
  return value ? fmt::format("{:.{}f}", *value, digits) : "-";
}

std::string cpu_model() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  return {};
}

json::object host_json() {
  utsname name{};
  ::uname(&name);
  return {{"kernel", name.release},
          {"cpu", cpu_model()},
          {"cores", std::thread::hardware_concurrency()}};
}

// What a table shows of a cell: a figure's name, its heading and digits.
struct Column {
  std::string_view figure;
  std::string_view heading;
  int width;
  int digits;
};
constexpr Column kColumns[] = {
    {"first_attempt_failures", "first failed", 13, 0},
    {"retries", "retries", 9, 0},
    {"never_served", "unserved", 9, 0},
    {"p50_ms", "p50 ms", 8, 1},
    {"p99_ms", "p99 ms", 9, 1},
    {"p999_ms", "p99.9 ms", 9, 1},
    {"backend_amplification", "amplif.", 8, 3},
    {"goodput_share", "in time %", 10, 2},
    {"cause_goodput_per_s", "cause/s", 9, 1},
    {"moved_90_ms", "moved ms", 9, 0},
    {"recovered_ms", "back ms", 9, 0},
    {"ring_churn_per_min", "churn %", 8, 2},
};

const Figure& figure_named(std::string_view name) {
  return *std::ranges::find(simulate::figures(), name, &Figure::name);
}

double shown(const Column& column, double value) {
  const bool percent = column.heading.ends_with('%');
  return percent ? value * 100 : value;
}

std::string cell_text(const Column& column, const std::optional<double>& value) {
  return number_text(value ? std::optional(shown(column, *value)) : value, column.digits);
}

}  // namespace

std::string catalogue_text() {
  std::string text = fmt::format("{:<16} {}\n", "scenario", "what");
  for (const simulate::Scenario& each : simulate::scenarios()) {
    text += fmt::format("{:<16} {}\n", each.name, each.what);
  }
  text += fmt::format("\n{:<16} {}\n", "policy", "what");
  for (const simulate::PolicyInfo& each : simulate::policies()) {
    text += fmt::format("{:<16} {}\n", each.name, each.what);
  }
  return text;
}

json::object catalogue_json() {
  json::array scenarios, policies;
  for (const simulate::Scenario& each : simulate::scenarios()) {
    scenarios.push_back({{"name", each.name},
                         {"what", each.what},
                         {"duration_s", each.duration_s},
                         {"balancers", each.balancers},
                         {"backends", each.backends},
                         {"rate", each.clients.rate_per_s},
                         {"capacity_per_s", each.capacity_per_s()}});
  }
  for (const simulate::PolicyInfo& each : simulate::policies()) {
    policies.push_back({{"name", each.name}, {"what", each.what}});
  }
  return {{"schema", "petrel/simulate-list/v1"},
          {"scenarios", std::move(scenarios)},
          {"policies", std::move(policies)}};
}

std::string outcomes_heading() {
  std::string text = fmt::format("{:<16} {:<16} {:>8}", "scenario", "policy", "requests");
  for (const Column& column : kColumns)
    text += fmt::format(" {:>{}}", column.heading, column.width);
  return text + "\n";
}

std::string outcome_line(const SimulatedRun& run) {
  std::string text =
      fmt::format("{:<16} {:<16} {:>8}", run.scenario.name, run.policy, run.outcome.requests);
  for (const Column& column : kColumns) {
    text += fmt::format(" {:>{}}", cell_text(column, figure_named(column.figure).of(run.outcome)),
                        column.width);
  }
  return text + "\n";
}

json::object run_json(const SimulatedRun& run) {
  json::array timeline;
  for (std::size_t i = 0; i < run.seconds.size(); ++i) {
    const simulate::Second& second = run.seconds[i];
    json::object weights;
    for (std::size_t backend = 0; backend < second.factors.size(); ++backend) {
      weights["b" + std::to_string(backend + 1)] = second.factors[backend];
    }
    timeline.push_back({{"t_s", i},
                        {"policy", run.policy},
                        {"requests", second.requests},
                        {"served", second.served},
                        {"failures", second.failures},
                        {"retries", second.retries},
                        {"refused", second.refused},
                        {"weights", std::move(weights)}});
  }
  return {{"schema", "petrel/simulate/v1"},
          {"petrel", {{"version", PETREL_VERSION}}},
          {"engine", "simulator"},
          {"scenario", run.scenario.name},
          {"policy", run.policy},
          {"seed", run.seed},
          {"balancers", run.scenario.balancers},
          {"backends", run.scenario.backends},
          {"rate", run.scenario.clients.rate_per_s},
          {"duration_s", run.scenario.duration_s},
          {"outcome", outcome_json(run.outcome)},
          {"timeline", std::move(timeline)}};
}

std::string cells_heading() {
  std::string text = fmt::format("{:<16} {:<16} {:>8}", "scenario", "policy", "seeds");
  for (const Column& column : kColumns)
    text += fmt::format(" {:>{}}", column.heading, column.width);
  return text + "\n";
}

std::string cell_lines(const Cell& cell) {
  std::string text =
      fmt::format("{:<16} {:<16} {:>8}", cell.scenario, cell.policy, cell.outcomes.size());
  std::string low = fmt::format("{:<42}", "  from"), high = fmt::format("{:<42}", "  to");
  for (const Column& column : kColumns) {
    const SeedEstimate it = estimate(figure_named(column.figure), cell.outcomes);
    text += fmt::format(" {:>{}}", cell_text(column, it.median), column.width);
    low += fmt::format(" {:>{}}", cell_text(column, it.low), column.width);
    high += fmt::format(" {:>{}}", cell_text(column, it.high), column.width);
  }
  text += "\n";
  return cell.outcomes.size() > 1 ? text + low + "\n" + high + "\n" : text;
}

json::object cells_json(const std::vector<Cell>& cells, std::uint64_t seed,
                        const std::string& command) {
  json::array list;
  for (const Cell& cell : cells) {
    json::object outcome;
    for (const Figure& figure : simulate::figures()) {
      const SeedEstimate it = estimate(figure, cell.outcomes);
      outcome[figure.name] = {{"median", or_null(it.median)},
                              {"interval", {or_null(it.low), or_null(it.high)}},
                              {"mean", or_null(it.mean)},
                              {"missing", it.missing}};
    }
    list.push_back({{"scenario", cell.scenario},
                    {"policy", cell.policy},
                    {"seeds", cell.outcomes.size()},
                    {"outcome", std::move(outcome)}});
  }
  const auto now = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
  return {
      {"schema", "petrel/compare/v1"},
      {"petrel", {{"version", PETREL_VERSION}, {"commit", nullptr}}},
      {"host", host_json()},
      {"started", fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", now)},
      {"seed", seed},
      {"command", command},
      {"engine", "simulator"},
      {"notes",
       {"a figure is null where a run never came to it (moved, back); the commit is not known to a "
        "built program"}},
      {"cells", std::move(list)}};
}

}  // namespace petrel::cli
