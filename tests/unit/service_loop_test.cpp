// SPDX-License-Identifier: MIT
// One service's loop without a kernel: scores in, ring moves out.
#include "loop/service_loop.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>

#include "agent/report.hpp"

namespace petrel {
namespace {

using namespace std::chrono_literals;

constexpr std::uint32_t kCertain = 65536;
constexpr std::uint64_t kTickNs = 100'000'000;

ServiceConfig service_config(ServiceMode mode) {
  ServiceConfig service;
  service.id = 1;
  service.name = "web";
  service.mode = mode;
  for (std::uint32_t id = 11; id <= 14; ++id) {  // ids need not begin at 1
    BackendConfig backend;
    backend.id = id;
    backend.name = "b" + std::to_string(id);
    backend.address.bytes[15] = static_cast<std::uint8_t>(id);
    backend.port = 80;
    service.backends.push_back(backend);
  }
  return service;
}

class ServiceLoopTest : public testing::Test {
 protected:
  // 20 observations a backend and tick: `bad` has probability 1, the others 0.
  std::vector<RingChange> tick(ServiceLoop& loop, std::uint32_t bad) {
    for (BackendLoop& backend : loop.backends()) {
      const std::uint32_t probability = backend.config.id == bad ? kCertain : 0;
      loop.score(backend, model_, {&features_, probability, 20, false});
    }
    now_ns_ += kTickNs;
    return loop.end_tick(now_ns_, 100ms);
  }

  Model model_;
  FeatureVector features_{};
  std::uint64_t now_ns_ = 1;
};

TEST_F(ServiceLoopTest, ABadBackendLosesItsSlotsToTheOthers) {
  ServiceLoop loop(service_config(ServiceMode::kAct), {});
  std::vector<RingChange> moved;
  for (int i = 0; i < 30; ++i) {
    const auto changes = tick(loop, 12);
    moved.insert(moved.end(), changes.begin(), changes.end());
  }
  EXPECT_LT(loop.find(12)->decision.factor, 0.01);
  EXPECT_LE(loop.find(12)->slots, loop.in_force().size() / 100);
  EXPECT_GE(loop.find(12)->slots, 1u);  // still observed
  EXPECT_EQ(moved.size(), loop.moved_slots());
  for (const RingChange& change : moved) EXPECT_NE(change.backend_id, 12u);
}

TEST_F(ServiceLoopTest, AHealthyServiceMovesNothing) {
  ServiceLoop loop(service_config(ServiceMode::kAct), {});
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(tick(loop, 0).empty());
  EXPECT_EQ(loop.in_force(), loop.neutral());
}

TEST_F(ServiceLoopTest, ShadowComputesAndMovesNothing) {
  ServiceLoop loop(service_config(ServiceMode::kShadow), {});
  for (int i = 0; i < 30; ++i) EXPECT_TRUE(tick(loop, 12).empty());
  EXPECT_LT(loop.find(12)->decision.factor, 0.01);
  EXPECT_EQ(loop.in_force(), loop.neutral());
}

TEST_F(ServiceLoopTest, AHeldLoopTakesItsRingBackAndMovesItAgainWhenLetGo) {
  ServiceLoop loop(service_config(ServiceMode::kAct), {});
  for (int i = 0; i < 30; ++i) tick(loop, 12);
  ASSERT_NE(loop.in_force(), loop.neutral());
  loop.hold(true);
  loop.settle();
  EXPECT_FALSE(loop.acts());
  EXPECT_EQ(loop.in_force(), loop.neutral());
  for (int i = 0; i < 30; ++i) EXPECT_TRUE(tick(loop, 12).empty());
  EXPECT_LT(loop.find(12)->decision.factor, 0.01);  // computed all the same
  loop.hold(false);
  loop.settle();
  EXPECT_LE(loop.find(12)->slots, loop.in_force().size() / 100);
}

TEST_F(ServiceLoopTest, TheRingIsNeutralAgainAfterRecovery) {
  ServiceLoop loop(service_config(ServiceMode::kAct), {});
  for (int i = 0; i < 30; ++i) tick(loop, 12);
  for (int i = 0; i < 200; ++i) tick(loop, 0);
  EXPECT_EQ(loop.find(12)->decision.factor, 1);
  EXPECT_EQ(loop.in_force(), loop.neutral());
}

TEST_F(ServiceLoopTest, TakesOverTheRingAndWeightsOfAnEarlierAgent) {
  ServiceLoop first(service_config(ServiceMode::kAct), {});
  for (int i = 0; i < 30; ++i) tick(first, 12);
  std::vector<bpf::weight> weights(15);
  for (const BackendLoop& backend : first.backends()) {
    weights[backend.config.id].base_weight = backend.config.weight;
    weights[backend.config.id].factor_q16 = backend.decision.factor_q16;
  }
  ServiceLoop second(service_config(ServiceMode::kAct), {});
  second.adopt(first.in_force(), weights);
  EXPECT_EQ(second.find(12)->slots, first.find(12)->slots);
  tick(second, 12);
  EXPECT_LT(second.find(12)->decision.factor, 0.01);
}

TEST_F(ServiceLoopTest, ADrainedBackendHasNoSlotAndComesBack) {
  ServiceLoop loop(service_config(ServiceMode::kShadow), {});
  tick(loop, 0);
  loop.set_drain(*loop.find(12), 1'000'000);
  loop.settle();
  const auto holds = [&](const std::vector<std::uint32_t>& ring) {
    return std::ranges::count(ring, 12u) > 0;
  };
  EXPECT_FALSE(holds(loop.neutral()));
  EXPECT_FALSE(holds(loop.in_force()));
  EXPECT_TRUE(tick(loop, 12).empty());
  EXPECT_EQ(loop.find(12)->decision.reason, bpf::REASON_DRAINING);
  EXPECT_FALSE(loop.find(12)->is_past_deadline(999'999));
  EXPECT_TRUE(loop.find(12)->is_past_deadline(1'000'000));
  loop.set_drain(*loop.find(12), 0);
  loop.settle();
  EXPECT_TRUE(holds(loop.in_force()));
  EXPECT_EQ(loop.in_force(), ServiceLoop(service_config(ServiceMode::kShadow), {}).in_force());
}

TEST_F(ServiceLoopTest, AllBackendsMayDrain) {
  ServiceLoop loop(service_config(ServiceMode::kAct), {});
  for (BackendLoop& backend : loop.backends()) loop.set_drain(backend, 1);
  loop.settle();
  EXPECT_TRUE(tick(loop, 0).empty());
}

TEST_F(ServiceLoopTest, AReloadInheritsWhatIsKnownById) {
  ServiceLoop earlier(service_config(ServiceMode::kAct), {});
  for (int i = 0; i < 30; ++i) tick(earlier, 12);
  const double factor = earlier.find(12)->decision.factor;
  const double risk = earlier.find(12)->reading.risk;
  const std::vector<std::uint32_t> ring = earlier.in_force();

  ServiceConfig config = service_config(ServiceMode::kAct);
  std::ranges::reverse(config.backends);
  ServiceLoop later(config, {});
  later.inherit(earlier);
  later.settle();
  EXPECT_EQ(later.in_force(), ring);
  EXPECT_EQ(later.find(12)->decision.factor, factor);
  EXPECT_EQ(later.find(12)->reading.risk, risk);
  tick(later, 12);
  EXPECT_LT(later.find(12)->decision.factor, 0.01);
}

TEST_F(ServiceLoopTest, ALeavingBackendKeepsItsFlowsOnly) {
  ServiceConfig config = service_config(ServiceMode::kAct);
  const BackendConfig gone = config.backends.back();
  config.backends.pop_back();
  ServiceLoop loop(config, {});
  loop.add_leaving(gone);
  loop.set_drain(*loop.find(14), 1);
  loop.settle();
  EXPECT_EQ(std::ranges::count(loop.in_force(), 14u), 0);
  EXPECT_EQ(loop.config().backends.size(), 3u);
  EXPECT_EQ(loop.config_in_use().backends.size(), 4u);
  loop.forget(14);
  EXPECT_EQ(loop.find(14), nullptr);
}

TEST_F(ServiceLoopTest, FindsBackendsOfItsOwnOnly) {
  ServiceLoop loop(service_config(ServiceMode::kAct), {});
  EXPECT_EQ(loop.find(10), nullptr);
  EXPECT_EQ(loop.find(15), nullptr);
  ASSERT_NE(loop.find(14), nullptr);
  EXPECT_EQ(loop.find(14)->config.name, "b14");
}

TEST(HistogramQuantile, LiesWithinItsBucket) {
  std::array<std::uint32_t, HISTOGRAM_BUCKETS> buckets{};
  EXPECT_EQ(histogram_quantile_ns(buckets, 0.5), 0);
  buckets[4 * 4 + 2] = 100;  // 2^14 ns, third quarter: 24.6 to 28.7 us
  EXPECT_GE(histogram_quantile_ns(buckets, 0.01), 16384 * 1.5);
  EXPECT_LE(histogram_quantile_ns(buckets, 0.99), 16384 * 1.75);
  buckets[20 * 4] = 1;
  EXPECT_LT(histogram_quantile_ns(buckets, 0.5), 30000);
  EXPECT_GT(histogram_quantile_ns(buckets, 1.0), 1e9);
}

}  // namespace
}  // namespace petrel
