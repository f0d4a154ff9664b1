// SPDX-License-Identifier: MIT
// What the gauge of a storm says in the simulator's storms, against what then happened.
#include <vector>

#include "control/edge.hpp"
#include "tests/unit/simulate_fixture.hpp"

namespace petrel::simulate {
namespace {

struct Moment {
  double now_s = 0;
  std::uint64_t waiting = 0;
  EdgeReading edge;
};

// Sees what the agent's limits see, and limits nothing.
class EdgeProbe : public InflightLimit {
 public:
  explicit EdgeProbe(std::vector<Moment>* moments) : moments_(moments) {}

  InflightLimits tick(const InflightFacts& facts) override {
    const AdmissionDecision decision = admission_.tick(facts.elapsed_ns, facts.known_patience_ns,
                                                       facts.usual_response_ns, facts.backends);
    if (begun_ns_ == 0) begun_ns_ = facts.now_ns - facts.elapsed_ns;
    const EdgeReading& reading = edge_.tick({.elapsed_ns = facts.elapsed_ns,
                                             .first_attempts = facts.first_attempts,
                                             .retries = facts.retries,
                                             .failures = facts.failures,
                                             .refused = facts.refused,
                                             .answered = facts.answered,
                                             .left = facts.abandoned,
                                             .waiting = facts.waiting,
                                             .patience_ns = facts.known_patience_ns,
                                             .usual_response_ns = facts.usual_response_ns,
                                             .saturated = decision.saturated,
                                             .completes = decision.completes,
                                             .capacity_per_s = decision.capacity_per_s});
    moments_->push_back(
        {static_cast<double>(facts.now_ns - begun_ns_) * 1e-9, facts.waiting, reading});
    return {};
  }
  std::uint64_t overdue_ns(std::uint64_t patience_ns, std::uint64_t usual_ns) const override {
    return admission_.overdue_ns(patience_ns, usual_ns);
  }

 private:
  std::vector<Moment>* moments_;
  Admission admission_;
  Edge edge_;
  std::uint64_t begun_ns_ = 0;
};

struct Watched {
  Outcome outcome;
  std::vector<Moment> moments;

  const EdgeReading& at(double now_s) const {
    for (const Moment& moment : moments) {
      if (moment.now_s >= now_s) return moment.edge;
    }
    return moments.back().edge;
  }
};

// Capacity is cut by 80 % for so long. Some paths hang before, so that it is known how long clients
// wait.
Scenario cut_for(double seconds) {
  Scenario scenario = scenario_named("capacity-drop");
  scenario.set_cause_duration(seconds);
  scenario.faults.push_back(
      {.kind = FaultKind::kHang, .from_s = 3, .until_s = 9, .first = 0, .count = 3, .share = 0.01});
  return scenario;
}

Watched watch(const Scenario& scenario, std::uint64_t seed = 1) {
  Watched watched;
  PolicySettings settings = test_settings();
  settings.inflight_limit = [&watched] { return std::make_unique<EdgeProbe>(&watched.moments); };
  watched.outcome = simulate(scenario, make_policy_maker("petrel", scenario, settings), {seed, {}});
  return watched;
}

// From then on until as little waits as before the cause.
double backlog_lasts_s(const Watched& watched, double from_s, double cause_from_s) {
  double before = 0, count = 0;
  for (const Moment& moment : watched.moments) {
    if (moment.now_s < cause_from_s - 5 || moment.now_s >= cause_from_s) continue;
    before += static_cast<double>(moment.waiting);
    ++count;
  }
  for (const Moment& moment : watched.moments) {
    if (moment.now_s < from_s) continue;
    if (static_cast<double>(moment.waiting) <= 2 * before / count) return moment.now_s - from_s;
  }
  return watched.moments.back().now_s - from_s;
}

// Three seconds after a cut it is said when its backlog will be gone. What is left of the capacity
// is a small difference (60 of 600), so one run may be off by half: the mean of ten runs is within
// a quarter.
TEST(SimulateEdge, TheEndOfABacklogIsPredicted) {
  const Scenario scenario = cut_for(2);
  double predicted = 0, lasted = 0;
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    const Watched watched = watch(scenario, seed);
    const double asked_s = scenario.cause_until_s + 3;
    const EdgeReading& edge = watched.at(asked_s);
    ASSERT_TRUE(edge.capacity_per_s.has_value()) << seed;
    EXPECT_NEAR(*edge.capacity_per_s, scenario.capacity_per_s(), 0.15 * scenario.capacity_per_s());
    EXPECT_FALSE(edge.in_storm);
    ASSERT_TRUE(edge.recovery_s.has_value()) << seed;
    predicted += *edge.recovery_s;
    lasted += backlog_lasts_s(watched, asked_s, scenario.cause_from_s);
  }
  EXPECT_NEAR(predicted, lasted, 0.25 * lasted);
  EXPECT_GT(lasted, 10 * 5.0) << "there was something to predict";
}

TEST(SimulateEdge, AStormThatLastsIsSaidToLast) {
  const Scenario scenario = cut_for(8);
  const Watched watched = watch(scenario);
  EXPECT_FALSE(watched.outcome.recovered_ms.has_value());
  const EdgeReading& edge = watched.at(scenario.cause_until_s + 10);
  EXPECT_TRUE(edge.in_storm);
  EXPECT_FALSE(edge.recovery_s.has_value());
  EXPECT_TRUE(edge.can_last);
  // Five attempts a request.
  ASSERT_TRUE(edge.storm_amplification.has_value());
  EXPECT_NEAR(*edge.storm_amplification, 5, 0.25);
  EXPECT_NEAR(watched.at(scenario.cause_until_s + 20).amplification, 5, 0.5);
}

TEST(SimulateEdge, AHealthyServiceIsFarFromItAndSaysWhatIsNotKnown) {
  const Watched watched = watch(scenario_named("healthy"));
  const EdgeReading& edge = watched.moments.back().edge;
  EXPECT_NEAR(edge.amplification, 1, 0.01);
  EXPECT_FALSE(edge.capacity_per_s.has_value());
  EXPECT_FALSE(edge.in_storm);
  EXPECT_EQ(watched.at(10).recovery_s, 0);
}

}  // namespace
}  // namespace petrel::simulate
