// SPDX-License-Identifier: MIT
// One service's loop with a holdout: what it leaves alone, and what harm does.
#include <gtest/gtest.h>

#include <chrono>

#include "bpf/hash.h"
#include "loop/loop.hpp"

namespace petrel {
namespace {

using namespace std::chrono_literals;

ServiceConfig service_config(double holdout) {
  ServiceConfig service;
  service.id = 1;
  service.name = "web";
  service.mode = ServiceMode::kAct;
  service.holdout = holdout;
  for (std::uint32_t id = 1; id <= 4; ++id) {
    BackendConfig backend;
    backend.id = id;
    backend.name = "b" + std::to_string(id);
    backend.address.bytes[15] = static_cast<std::uint8_t>(id);
    backend.port = 80;
    service.backends.push_back(backend);
  }
  return service;
}

bpf::connection_key key_of(std::uint32_t number) {
  bpf::connection_key key{};
  key.client.bytes[14] = static_cast<std::uint8_t>(number >> 8);
  key.client.bytes[15] = static_cast<std::uint8_t>(number);
  key.client_port_be = static_cast<std::uint16_t>(number * 7919);
  key.service_port_be = 80;
  key.service_id = 1;
  return key;
}

std::uint32_t backend_of(const std::vector<std::uint32_t>& ring, const bpf::connection_key& key) {
  const std::uint64_t hash = bpf::hash_flow(&key, kRingHashSeed, false);
  return ring[bpf::hash_slot(hash, static_cast<std::uint32_t>(ring.size()))];
}

class ServiceHoldoutTest : public testing::Test {
 protected:
  std::vector<RingChange> tick(ServiceLoop& loop, std::uint32_t bad,
                               ProbeResult probe = ProbeResult::kUnknown) {
    for (BackendLoop& backend : loop.backends()) {
      const bool is_bad = backend.config.id == bad;
      loop.score(backend, model_, {&features_, is_bad ? 65536U : 0U, 20, false});
      backend.probe = is_bad ? probe : ProbeResult::kUnknown;
    }
    now_ns_ += 100'000'000;
    return loop.end_tick(now_ns_, 100ms);
  }
  void run(ServiceLoop& loop, std::uint32_t bad, int ticks,
           ProbeResult probe = ProbeResult::kUnknown) {
    for (int i = 0; i < ticks; ++i) tick(loop, bad, probe);
  }

  Model model_;
  FeatureVector features_{};
  std::uint64_t now_ns_ = 1;
};

TEST_F(ServiceHoldoutTest, FlowsOfTheHoldoutGoWhereNothingWasLearned) {
  ServiceLoop loop(service_config(0.1), {});
  EXPECT_FALSE(loop.weights_differ());
  run(loop, 2, 30);
  EXPECT_TRUE(loop.weights_differ());
  int held = 0, held_bad = 0, rest_bad = 0;
  constexpr int kFlows = 20000;
  for (std::uint32_t i = 0; i < kFlows; ++i) {
    const bpf::connection_key key = key_of(i);
    const std::uint32_t backend = backend_of(loop.in_force(), key);
    if (loop.in_holdout(key)) {
      EXPECT_EQ(backend, backend_of(loop.neutral(), key));
      ++held;
      held_bad += backend == 2;
    } else {
      rest_bad += backend == 2;
    }
  }
  EXPECT_NEAR(held, 0.1 * kFlows, 0.02 * kFlows);
  EXPECT_NEAR(held_bad, held / 4, held / 10);
  EXPECT_EQ(rest_bad, 0);  // the holdout shows more of it than its least weight would
}

TEST_F(ServiceHoldoutTest, WithoutOneNoFlowIsInIt) {
  ServiceLoop loop(service_config(0), {});
  run(loop, 2, 30);
  for (std::uint32_t i = 0; i < 1000; ++i) EXPECT_FALSE(loop.in_holdout(key_of(i)));
  ServiceConfig sockets = service_config(0.5);
  sockets.placement = Placement::kClient;
  const ServiceLoop seen(sockets, {});
  for (std::uint32_t i = 0; i < 1000; ++i) EXPECT_FALSE(seen.in_holdout(key_of(i)));
}

TEST_F(ServiceHoldoutTest, ABackendThatRefusesIsSparedTheHoldoutToo) {
  ServiceLoop loop(service_config(0.1), {});
  run(loop, 2, 5, ProbeResult::kRefuses);
  EXPECT_EQ(loop.find(2)->slots, 0u);
  loop.set_drain(*loop.find(3), 1);
  loop.settle();
  EXPECT_EQ(loop.find(3)->slots, 0u);
}

TEST_F(ServiceHoldoutTest, AHealthyServiceMovesNothingAndARecoveredOneIsNeutral) {
  ServiceLoop loop(service_config(0.1), {});
  for (int i = 0; i < 50; ++i) EXPECT_TRUE(tick(loop, 0).empty());
  run(loop, 2, 30);
  run(loop, 0, 200);
  EXPECT_EQ(loop.in_force(), loop.neutral());
}

TEST_F(ServiceHoldoutTest, HarmMakesItNeutralWithAReasonUntilItIsLifted) {
  ServiceLoop loop(service_config(0.1), {});
  run(loop, 2, 30);
  loop.set_harmed(true);
  loop.settle();
  EXPECT_FALSE(loop.acts());
  EXPECT_EQ(loop.in_force(), loop.neutral());
  EXPECT_EQ(loop.in_force_weight(*loop.find(2)).factor_q16, kWholeWeight);
  EXPECT_EQ(loop.in_force_weight(*loop.find(2)).reason, kReasonHarm);
  for (int i = 0; i < 30; ++i) EXPECT_TRUE(tick(loop, 2).empty());
  EXPECT_FALSE(loop.weights_differ());
  loop.set_harmed(false);
  loop.settle();
  EXPECT_TRUE(loop.weights_differ());
}

TEST_F(ServiceHoldoutTest, AReplayLeavesTheSameFlowsAlone) {
  Loop loop(model_);
  ServiceConfig config = service_config(0.1);
  config.affinity = Affinity::kClient;
  loop.services().emplace_back(config, WeightSettings{});
  run(loop.services()[0], 2, 10);
  StateOut out;
  loop.save(out);
  StateIn in({out.lines().begin(), out.lines().end()});
  auto loaded = Loop::load(in);
  ASSERT_TRUE(loaded) << loaded.error().message();
  ServiceLoop& first = loop.services()[0];
  ServiceLoop& second = loaded->services()[0];
  for (std::uint32_t i = 0; i < 1000; ++i) {
    EXPECT_EQ(first.in_holdout(key_of(i)), second.in_holdout(key_of(i)));
  }
  for (int i = 0; i < 20; ++i) {
    tick(first, 3);
    now_ns_ -= 100'000'000;
    tick(second, 3);
    EXPECT_EQ(first.in_force(), second.in_force());
  }
}

}  // namespace
}  // namespace petrel
