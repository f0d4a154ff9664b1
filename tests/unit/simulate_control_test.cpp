// SPDX-License-Identifier: MIT
// What petrel's control does for users, in the simulator: the regression test of control, without
// root.
//
// Bounds are those of the project's aims where control reaches them; where it does not, they hold
// what it reaches now, and docs/simulator.md says so.
#include <algorithm>

#include "simulate/comparison.hpp"
#include "tests/unit/simulate_fixture.hpp"

namespace petrel::simulate {
namespace {

constexpr std::uint64_t kSeeds = 3;

double mean_of(const Scenario& scenario, std::string_view policy, std::string_view figure) {
  std::vector<Outcome> outcomes;
  for (std::uint64_t seed = 1; seed <= kSeeds; ++seed)
    outcomes.push_back(run(scenario, policy, seed));
  const auto found = std::ranges::find(figures(), figure, &Figure::name);
  return estimate(*found, outcomes).mean.value();
}

double mean_of(std::string_view scenario, std::string_view policy, std::string_view figure) {
  return mean_of(scenario_named(scenario), policy, figure);
}

TEST(SimulateControl, ShadowChangesNothing) {
  for (const char* scenario : {"hang", "storm", "restart"}) {
    const Outcome with = run(scenario, "petrel-shadow");
    const Outcome without = run(scenario, "static");
    for (const Figure& figure : figures()) {
      EXPECT_EQ(figure.of(with), figure.of(without)) << scenario << ' ' << figure.name;
    }
  }
}

TEST(SimulateControl, FaultOfOneBackendCostsAFifthOfTheRetriesAndHalfTheP99) {
  for (const char* scenario : {"hang", "reset", "refuse", "blackhole", "crawl", "errors-50"}) {
    const double retries = mean_of(scenario, "static", "retries");
    EXPECT_GT(retries, 500) << scenario;
    EXPECT_LE(mean_of(scenario, "petrel", "retries"), 0.2 * retries) << scenario;
    EXPECT_LE(mean_of(scenario, "petrel", "p99_ms"),
              std::max(0.5 * mean_of(scenario, "static", "p99_ms"),
                       1.2 * mean_of("healthy", "static", "p99_ms")))
        << scenario;
  }
}

TEST(SimulateControl, TwoFaultsAtOnceCostAFifthOfTheRetries) {
  EXPECT_LE(mean_of("two-faults", "petrel", "retries"),
            0.2 * mean_of("two-faults", "static", "retries"));
}

TEST(SimulateControl, HealthyTrafficIsLeftAlone) {
  const double p99_ms = mean_of("healthy", "static", "p99_ms");
  EXPECT_NEAR(mean_of("healthy", "petrel", "p99_ms"), p99_ms, 0.02 * p99_ms);
  EXPECT_LT(mean_of("healthy", "petrel", "ring_churn_per_min"), 0.005);
  EXPECT_EQ(mean_of("healthy", "petrel", "never_served"), 0);
}

TEST(SimulateControl, RollingRestartWithDrainLosesNoRequest) {
  EXPECT_EQ(mean_of("restart", "petrel", "never_served"), 0);
  EXPECT_EQ(mean_of("restart", "petrel", "retries"), 0);
}

// A mover that takes all of it off a slow backend puts the other three over what they can carry.
TEST(SimulateControl, MovesAreCutShortBeforeTheyCascade) {
  const double guarded = mean_of("cascade", "petrel-weights", "goodput_share");
  EXPECT_GT(guarded, mean_of("cascade", "petrel-unguarded", "goodput_share"));
  EXPECT_GE(guarded, mean_of("cascade", "static", "goodput_share"));
}

TEST(SimulateControl, OneSlowOfElevenIsAnsweredInTime) {
  EXPECT_NEAR(mean_of("one-slow-of-11", "static", "goodput_share"), 0.955, 0.01);
  EXPECT_GE(mean_of("one-slow-of-11", "petrel", "goodput_share"), 0.995);
}

TEST(SimulateControl, BadZoneCostsNoMoreGoodputThanStatic) {
  EXPECT_GE(mean_of("zone", "petrel", "goodput_share"), mean_of("zone", "static", "goodput_share"));
}

// The aim is static's goodput: the retry budget opens where nothing waits and retries help.
TEST(SimulateControl, WhereAllAreBadGoodputIsNotBelowStatic) {
  const auto shortfall = [](const char* scenario) {
    return mean_of(scenario, "static", "goodput_share") -
           mean_of(scenario, "petrel", "goodput_share");
  };
  EXPECT_LE(shortfall("herd"), 0.01);
  EXPECT_LE(shortfall("all-bad"), 0.005);
}

// The design's trial: neither configured weights nor a budget for retries ends such a storm.
TEST(SimulateControl, CutOfCapacityNeverEndsWithoutAdmission) {
  const Scenario scenario = scenario_named("capacity-drop");
  EXPECT_FALSE(run(scenario, "static").recovered_ms.has_value());
  EXPECT_FALSE(run(scenario, "two-choices").recovered_ms.has_value());
  EXPECT_FALSE(run(scenario, "petrel-budget").recovered_ms.has_value());
}

TEST(SimulateControl, CutOfCapacityEndsWithAdmission) {
  const Scenario scenario = scenario_named("capacity-drop");
  const Outcome outcome = run(scenario, "petrel");
  ASSERT_TRUE(outcome.recovered_ms.has_value());
  EXPECT_LE(*outcome.recovered_ms, 1000);
  // What is left of the capacity is 120 requests a second. It falls short of that: before the first client
  // has left, which takes 3 s, nothing says how long they wait. Those who leave then are ended.
  EXPECT_GE(outcome.cause_goodput_per_s, 1.5 * run(scenario, "static").cause_goodput_per_s);
  EXPECT_GE(mean_of("capacity-drop", "petrel", "goodput_share"),
            3 * mean_of("capacity-drop", "static", "goodput_share"));
}

// How near the edge: a cut from capacity C to c for T leaves a queue of (rate - c) T, which takes
// its part of 1 / C to work off. Where that is longer than clients wait, all that is worked on has
// been left: the storm sustains itself from T = patience * C / (rate - c) on, and retries that come
// before bring it nearer.
TEST(SimulateControl, StormBeginsWhereTheQueueOutlastsPatience) {
  struct Case {
    const char* scenario;
    double left_per_s;  // of the capacity, during the cause
  };
  for (const Case& each : {Case{"capacity-drop", 120}, Case{"storm", 0}}) {
    const Scenario scenario = scenario_named(each.scenario);
    const double edge_s = scenario.clients.timeout_ms / 1000 * scenario.capacity_per_s() /
                          (scenario.clients.rate_per_s - each.left_per_s);
    const Boundary found =
        find_boundary(scenario, [](const Scenario& with) { return run(with, "static"); },
                      {.shortest_s = 0.25, .longest_s = 16, .grain_s = 0.25});
    ASSERT_TRUE(found.fails_from_s.has_value()) << each.scenario;
    EXPECT_LE(found.recovers_s, 1.1 * edge_s) << each.scenario;
    EXPECT_GE(*found.fails_from_s, 0.7 * edge_s) << each.scenario;
  }
}

// At most 3 in flight; counts how often it is asked.
class ThreeAtMost : public InflightLimit {
 public:
  explicit ThreeAtMost(int* asked) : asked_(asked) {}

  InflightLimits tick(const InflightFacts& facts) override {
    if (++*asked_ > kSettled) {
      EXPECT_LE(facts.waiting, 3U);
    }
    return {3, 3};
  }

 private:
  static constexpr int kSettled = 10;  // what came before the first tick has been answered
  int* asked_;
};

TEST(SimulateControl, LimitIsAskedOnceATickAndObeyed) {
  int asked = 0;
  Scenario scenario = scenario_named("healthy");  // 8 in flight
  scenario.duration_s = 5;
  PolicySettings settings = test_settings();
  settings.inflight_limit = [&asked] { return std::make_unique<ThreeAtMost>(&asked); };
  const Outcome outcome =
      simulate(scenario, make_policy_maker("petrel", scenario, settings), {1, {}});
  EXPECT_GT(outcome.refused, 1000U);
  EXPECT_GE(asked, 49);
}

}  // namespace
}  // namespace petrel::simulate
