// SPDX-License-Identifier: MIT
// What a backend can carry, learned from a queue; and moves that are cut short by it.
#include "control/capacity.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "control/weights.hpp"

namespace petrel {
namespace {

using namespace std::chrono_literals;

// A backend of `slots` that each take 10 ms a request, in fluid: what is asked beyond its pace queues.
struct Server {
  Capacity capacity = {};
  double slots = 4;
  double service_s = 0.01;
  double queue = 0;
  double risk = 0;
  double done = 0;

  double pace() const { return slots / service_s; }
  void run(double asked_per_s, double seconds) {
    for (double passed = 0; passed < seconds; passed += 0.1) {
      const double answered = std::min(queue + asked_per_s * 0.1, pace() * 0.1);
      queue += asked_per_s * 0.1 - answered;
      for (done += answered; done >= 1; --done) capacity.on_outcome(true);
      const double in_service = std::min(answered * 10 * service_s, slots);
      capacity.tick(static_cast<std::uint64_t>(queue + in_service), risk, 100ms);
    }
  }
};

TEST(Capacity, IsNotKnownWhileThereIsRoom) {
  Server server{.slots = 40};
  server.run(2000, 30);
  EXPECT_EQ(server.capacity.capacity_per_s(), 0);
  EXPECT_FALSE(server.capacity.is_full());
  EXPECT_NEAR(server.capacity.asked_per_s(), 2000, 20);
}

TEST(Capacity, IsWhatAFullBackendAnswers) {
  Server server{.slots = 40};
  server.run(2000, 10);
  server.run(4400, 5);  // a tenth more than it can
  EXPECT_TRUE(server.capacity.is_full());
  EXPECT_NEAR(server.capacity.capacity_per_s(), 4000, 80);
}

TEST(Capacity, GrowsAgainAndIsForgottenOnceThereIsRoom) {
  Server server{.slots = 40};
  server.run(2000, 10);
  server.run(4400, 5);
  server.queue = 0;
  server.run(2000, 10);
  EXPECT_GT(server.capacity.capacity_per_s(), 4500);
  server.run(2000, 30);
  EXPECT_EQ(server.capacity.capacity_per_s(), 0);
}

TEST(Capacity, ABackendThatFailsTellsNothingOfIt) {
  Server server{.slots = 40, .risk = 0.4};
  server.run(2000, 10);
  server.run(4400, 5);
  EXPECT_EQ(server.capacity.capacity_per_s(), 0);
}

TEST(Capacity, ASlowZoneIsNotFull) {
  Server server{.slots = 400, .service_s = 0.1};
  server.run(1000, 60);
  EXPECT_EQ(server.capacity.capacity_per_s(), 0);
}

// --- the rail -----------------------------------------------------------------------------------

BackendInput backend(std::uint32_t id, double risk, double asked_per_s, double capacity_per_s) {
  BackendInput input;
  input.backend_id = id;
  input.base_weight = 100;
  input.risk.risk = input.risk.fresh = risk;
  input.risk.samples = 1000;
  input.risk.answered = 100;
  input.asked_per_s = asked_per_s;
  input.capacity_per_s = capacity_per_s;
  return input;
}

// b1 is in trouble; each of four is asked for 75 a second.
std::vector<WeightDecision> after_ten_seconds(double capacity_per_s) {
  WeightController controller;
  std::vector<WeightDecision> decisions;
  for (std::uint64_t tick = 1; tick <= 100; ++tick) {
    const std::vector<BackendInput> inputs = {
        backend(1, 0.6, 75, capacity_per_s), backend(2, 0.01, 75, capacity_per_s),
        backend(3, 0.01, 75, capacity_per_s), backend(4, 0.01, 75, capacity_per_s)};
    decisions = controller.tick(tick * 100'000'000, inputs);
  }
  return decisions;
}

TEST(CapacityRail, CutsAMoveShortWhereTheOthersCouldNotCarryIt) {
  EXPECT_LT(after_ten_seconds(0)[0].factor, 0.01);  // not known: all is moved
  const auto held = after_ten_seconds(90);
  // 300 a second, 90 each for the three: 30 stay with b1, a third of what it has had.
  EXPECT_NEAR(held[0].factor, 1.0 / 3, 0.01);
  EXPECT_TRUE(held[0].rails & kRailCapacity);
  EXPECT_EQ(held[0].reason, bpf::REASON_CAPPED);
  EXPECT_EQ(held[1].factor, 1);
  EXPECT_LT(after_ten_seconds(100.5)[0].factor, 0.02);  // they can just carry it all
}

TEST(CapacityRail, UndoesNoMoveThatItCannotHelp) {
  // 300 are asked for, and not even base weights could carry that: then all stays spread.
  EXPECT_EQ(after_ten_seconds(50)[0].factor, 1);
}

TEST(CapacityRail, GivesNothingBackToOneThatRefuses) {
  WeightController controller;
  std::vector<WeightDecision> decisions;
  for (std::uint64_t tick = 1; tick <= 20; ++tick) {
    std::vector<BackendInput> inputs = {backend(1, 0.6, 75, 90), backend(2, 0.01, 75, 90),
                                        backend(3, 0.01, 75, 90), backend(4, 0.01, 75, 90)};
    inputs[0].probe = ProbeResult::kRefuses;
    decisions = controller.tick(tick * 100'000'000, inputs);
  }
  EXPECT_EQ(decisions[0].factor, 0);
}

}  // namespace
}  // namespace petrel
