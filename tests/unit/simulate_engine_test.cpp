// SPDX-License-Identifier: MIT
// The simulator against what is known without it: queueing theory, conservation, determinism.
#include <algorithm>
#include <cmath>
#include <fstream>
#include <regex>
#include <sstream>

#include "simulate/comparison.hpp"
#include "simulate/data_path.hpp"
#include "tests/unit/simulate_fixture.hpp"

namespace petrel::simulate {
namespace {

// One server, clients that wait for ever.
Scenario queueing(double load, std::uint32_t servers, ServiceTime service_time) {
  Scenario scenario;
  scenario.name = "queueing";
  scenario.duration_s = 2000;
  scenario.backends = 1;
  scenario.concurrency = servers;
  scenario.queue = 1'000'000;
  scenario.service_time = service_time;
  scenario.connect_us = 0.001;
  scenario.clients.timeout_ms = 1e6;
  scenario.clients.retry.kind = RetryKind::kNone;
  scenario.clients.rate_per_s = load * scenario.capacity_per_s();
  scenario.measured_from_s = 50;
  return scenario;
}

double mean_ms(const Scenario& scenario) {
  Simulation simulation(scenario, make_policy_maker("static", scenario, {}), {1, {}});
  simulation.run();
  return simulation.meter().latencies().mean_ms();
}

TEST(SimulateEngine, MeanTimeIsThatOfMM1) {
  const Scenario scenario = queueing(0.7, 1, {Distribution::kExponential, 10, 0});
  EXPECT_NEAR(mean_ms(scenario), 10 / (1 - 0.7), 1.3);
}

TEST(SimulateEngine, MeanTimeIsThatOfMM4ByErlangC) {
  const Scenario scenario = queueing(0.8, 4, {Distribution::kExponential, 10, 0});
  const double offered = 3.2;  // Erlang
  double sum = 0, term = 1;
  for (int k = 0; k < 4; ++k) {
    sum += term;
    term *= offered / (k + 1);
  }
  const double waits = term / (1 - 0.8) / (sum + term / (1 - 0.8));
  EXPECT_NEAR(mean_ms(scenario), 10 + waits * 10 / (4 - offered), 0.7);
}

TEST(SimulateEngine, MeanTimeIsThatOfPollaczekAndKhinchine) {
  const Scenario scenario = queueing(0.7, 1, {Distribution::kLognormal, 10, 0.5});
  const double variation = std::exp(0.5 * 0.5) - 1;  // squared coefficient of a lognormal's
  EXPECT_NEAR(mean_ms(scenario), 10 + 0.7 * 10 * (1 + variation) / (2 * (1 - 0.7)), 1.1);
}

TEST(SimulateEngine, LoadIsServedAtItsRate) {
  const Outcome outcome = run("healthy", "static");
  EXPECT_NEAR(static_cast<double>(outcome.requests), 24000, 600);
  EXPECT_EQ(outcome.never_served, 0U);
  EXPECT_DOUBLE_EQ(outcome.amplification, 1);
  EXPECT_NEAR(outcome.p50_ms, 10 * std::exp(-0.125) + 0.1, 0.3);  // a lognormal's median
}

TEST(SimulateEngine, EachRequestEndsOnceAndNothingIsLeftInFlight) {
  for (const Scenario& scenario : scenarios()) {
    if (scenario.duration_s > 60 || scenario.name == "scale") continue;
    for (const std::string_view policy : {"static", "petrel", "prequal"}) {
      Scenario shorter = scenario;
      shorter.duration_s = std::min(scenario.duration_s, std::max(12.0, scenario.cause_from_s + 4));
      Simulation simulation(shorter, make_policy_maker(policy, shorter, test_settings()), {3, {}});
      const Outcome outcome = simulation.run();
      const Conservation& it = simulation.conservation();
      EXPECT_EQ(it.begun, it.served + it.given_up) << scenario.name << ' ' << policy;
      if (scenario.clients.hammers == 0) {  // of theirs nothing is told
        EXPECT_EQ(it.begun, outcome.requests) << scenario.name << ' ' << policy;
        EXPECT_EQ(it.given_up, outcome.never_served) << scenario.name << ' ' << policy;
      }
      EXPECT_EQ(it.inflight, 0) << scenario.name << ' ' << policy;
      EXPECT_EQ(it.listed, 0U) << scenario.name << ' ' << policy;
    }
  }
}

std::vector<std::optional<double>> all_figures(const Outcome& outcome) {
  std::vector<std::optional<double>> values;
  for (const Figure& figure : figures()) values.push_back(figure.of(outcome));
  return values;
}

TEST(SimulateEngine, SameSeedGivesTheSameFiguresAndAnotherOneDoesNot) {
  for (const PolicyInfo& policy : policies()) {
    const auto first = all_figures(run("crawl", policy.name, 5));
    EXPECT_EQ(first, all_figures(run("crawl", policy.name, 5))) << policy.name;
    EXPECT_NE(first, all_figures(run("crawl", policy.name, 6))) << policy.name;
  }
}

TEST(SimulateEngine, PoliciesMeetTheSameRequests) {
  const Outcome outcome = run("hang", "static");
  for (const PolicyInfo& policy : policies()) {
    EXPECT_EQ(run("hang", policy.name).requests, outcome.requests) << policy.name;
  }
}

// What a backend does for clients that have left is waste, and it does none where it notices.
TEST(SimulateEngine, BackendsWorkOnForClientsThatHaveLeftUnlessTheyNotice) {
  Scenario scenario = scenario_named("hang");
  scenario.faults[0].kind = FaultKind::kStall;
  const Outcome unnoticed = run(scenario, "static");
  EXPECT_NEAR(unnoticed.wasted_share, 1040.0 / 24800, 0.01);  // a full queue, of all requests
  scenario.notices_leaving = true;
  EXPECT_LT(run(scenario, "static").wasted_share, 0.1 * unnoticed.wasted_share);
}

// A SYN that is lost comes again after a second: who waits no longer than that never sees it.
TEST(SimulateEngine, LostSynIsRepeatedForClientsThatWait) {
  Scenario scenario = scenario_named("blackhole");
  scenario.clients.retry.kind = RetryKind::kNone;
  scenario.cause_until_s = scenario.faults[0].until_s = scenario.cause_from_s + 0.5;
  const Outcome impatient = run(scenario, "static");
  scenario.clients.timeout_ms = 3000;
  const Outcome patient = run(scenario, "static");
  EXPECT_NEAR(static_cast<double>(impatient.never_served), 100, 40);
  EXPECT_LT(patient.never_served, impatient.never_served / 5);  // those whose answer was lost
  EXPECT_GT(patient.p999_ms, 1000);
}

std::uint64_t constant_in(const std::string& file, const std::string& pattern) {
  std::ifstream in(std::string(PETREL_SOURCE) + "/bpf/" + file);
  std::stringstream text;
  text << in.rdbuf();
  std::smatch found;
  const std::string all = text.str();
  if (!std::regex_search(all, found, std::regex(pattern))) return 0;
  return std::stoull(found[1]);
}

TEST(SimulateEngine, ConstantsAreTheDataPaths) {
  EXPECT_EQ(constant_in("place.bpf.h", R"(#define PLACE_TRIES (\d+))"), kPlaceTries);
  EXPECT_EQ(constant_in("place.bpf.h", R"(#define SECOND_RISK_Q16 (\d+))"), kSecondRiskQ16);
  EXPECT_EQ(constant_in("client.bpf.h", R"(failover_after_ns = (\d+)ULL)"), kFailoverAfterNs);
}

TEST(SimulateEngine, EstimateCountsRunsWithoutAFigureAsTheLargest) {
  const std::vector<std::optional<double>> values = {3.0, 1.0, std::nullopt, 2.0, std::nullopt};
  const SeedEstimate some = estimate(values);
  EXPECT_EQ(some.median, 3.0);
  EXPECT_EQ(some.mean, 2.0);
  EXPECT_EQ(some.missing, 2U);
  EXPECT_FALSE(some.high.has_value());
  const std::vector<std::optional<double>> none(3);
  EXPECT_FALSE(estimate(none).median.has_value());
}

TEST(SimulateEngine, CauseOfAnotherLengthMovesItsFaultsAndTheRunsEnd) {
  Scenario scenario = scenario_named("capacity-drop");
  const double after_s = scenario.duration_s - scenario.cause_until_s;
  scenario.set_cause_duration(4);
  EXPECT_DOUBLE_EQ(scenario.cause_until_s, scenario.cause_from_s + 4);
  EXPECT_DOUBLE_EQ(scenario.faults[0].until_s, scenario.cause_until_s);
  EXPECT_DOUBLE_EQ(scenario.duration_s - scenario.cause_until_s, after_s);
}

}  // namespace
}  // namespace petrel::simulate
