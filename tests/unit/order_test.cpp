// SPDX-License-Identifier: MIT
// Orders by hand in one service's loop, without a kernel.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>

#include "base/state.hpp"
#include "loop/loop.hpp"

namespace petrel {
namespace {

using namespace std::chrono_literals;

constexpr std::uint32_t kHalf = kWholeWeight / 2;

ServiceConfig service_config(ServiceMode mode) {
  ServiceConfig service;
  service.id = 1;
  service.name = "web";
  service.mode = mode;
  for (std::uint32_t id = 1; id <= 4; ++id) {
    BackendConfig backend;
    backend.id = id;
    backend.name = "b" + std::to_string(id);
    backend.address = v4_address(10, 0, 0, static_cast<std::uint8_t>(id));
    backend.port = 80;
    service.backends.push_back(backend);
  }
  return service;
}

class OrderTest : public testing::Test {
 protected:
  // 20 observations a backend and tick: certain to be retried at the bad ones, never at the others.
  void tick(ServiceLoop& loop, const std::vector<std::uint32_t>& bad, int times = 1) {
    for (int i = 0; i < times; ++i) {
      for (BackendLoop& backend : loop.backends()) {
        const bool is_bad = std::ranges::count(bad, backend.config.id) > 0;
        loop.score(backend, model_, {&features_, is_bad ? 65536U : 0U, 20, false});
      }
      now_ns_ += 100'000'000;
      loop.end_tick(now_ns_, 100ms);
    }
  }
  static double share(const std::vector<std::uint32_t>& ring, std::uint32_t id) {
    return static_cast<double>(std::ranges::count(ring, id)) / static_cast<double>(ring.size());
  }
  static void set_hand(ServiceLoop& loop, std::uint32_t id, std::uint32_t hand_q16) {
    loop.set_hand(*loop.find(id), hand_q16);
    loop.settle();
  }
  static void order(ServiceLoop& loop, ServiceOrder order) {
    loop.set_order(order);
    loop.settle();
  }

  Model model_;
  FeatureVector features_{};
  std::uint64_t now_ns_ = 1;
};

TEST_F(OrderTest, AWeightByHandIsInForceInEachModeAndWithoutAnAgent) {
  for (const ServiceMode mode : {ServiceMode::kAct, ServiceMode::kShadow, ServiceMode::kNeutral}) {
    ServiceLoop loop(service_config(mode), {});
    set_hand(loop, 2, kHalf);
    tick(loop, {}, 10);
    EXPECT_NEAR(share(loop.in_force(), 2), 0.5 / 3.5, 0.002);
    EXPECT_NEAR(share(loop.neutral(), 2), 0.5 / 3.5, 0.002);
    EXPECT_EQ(loop.in_force_weight(*loop.find(2)).factor_q16, kHalf);
    EXPECT_EQ(loop.in_force_weight(*loop.find(2)).reason, kReasonByHand);
    EXPECT_EQ(loop.in_force_weight(*loop.find(1)).factor_q16, kWholeWeight);
    set_hand(loop, 2, kWholeWeight);
    EXPECT_EQ(loop.in_force(), ServiceLoop(service_config(mode), {}).in_force());
  }
}

TEST_F(OrderTest, ControlStartsFromAWeightByHand) {
  ServiceLoop loop(service_config(ServiceMode::kAct), {});
  set_hand(loop, 2, kHalf);
  tick(loop, {2}, 30);
  EXPECT_LT(loop.in_force_weight(*loop.find(2)).factor(), 0.01);
  EXPECT_NE(loop.in_force_weight(*loop.find(2)).reason, kReasonByHand);
  tick(loop, {}, 300);
  EXPECT_EQ(loop.in_force_weight(*loop.find(2)).factor_q16, kHalf);
}

TEST_F(OrderTest, NothingIsSentToOneThatWasSetToZero) {
  for (const ServiceMode mode : {ServiceMode::kAct, ServiceMode::kShadow}) {
    ServiceLoop loop(service_config(mode), {});
    set_hand(loop, 3, 0);
    tick(loop, {1}, 5);
    EXPECT_EQ(share(loop.in_force(), 3), 0);
    EXPECT_EQ(share(loop.neutral(), 3), 0);
  }
}

// Three of four look bad: what is left is spread evenly, among those that take new flows.
TEST_F(OrderTest, PanicSendsNothingToWhatDrainsOrWasSetToZero) {
  ServiceLoop loop(service_config(ServiceMode::kAct), {});
  loop.set_drain(*loop.find(4), 1);
  loop.set_hand(*loop.find(3), 0);
  loop.settle();
  tick(loop, {1}, 3);
  for (int i = 0; i < 60 && !loop.in_panic(); ++i) {
    loop.find(1)->probe = loop.find(2)->probe = ProbeResult::kRefuses;
    tick(loop, {1, 2});
  }
  ASSERT_TRUE(loop.in_panic());
  tick(loop, {1, 2}, 5);
  ASSERT_TRUE(loop.in_panic());
  EXPECT_EQ(loop.in_force_weight(*loop.find(1)).reason, bpf::REASON_PANIC);
  EXPECT_EQ(share(loop.in_force(), 4), 0);
  EXPECT_EQ(share(loop.neutral(), 4), 0);
  EXPECT_EQ(share(loop.in_force(), 3), 0);
  EXPECT_NEAR(share(loop.in_force(), 1), 0.5, 0.01);
  EXPECT_EQ(loop.in_force_weight(*loop.find(4)).reason, bpf::REASON_DRAINING);
}

TEST_F(OrderTest, AFrozenServiceStaysAsItIsAndGoesOnFromWhatControlWants) {
  ServiceLoop loop(service_config(ServiceMode::kAct), {});
  tick(loop, {2}, 3);
  const double lowered = loop.in_force_weight(*loop.find(2)).factor();
  ASSERT_LT(lowered, 1);
  order(loop, ServiceOrder::kFreeze);
  const std::vector<std::uint32_t> ring = loop.in_force();
  tick(loop, {2}, 50);
  EXPECT_EQ(loop.in_force(), ring);
  EXPECT_EQ(loop.in_force_weight(*loop.find(2)).factor(), lowered);
  EXPECT_EQ(loop.in_force_weight(*loop.find(2)).reason, kReasonFrozen);
  EXPECT_LT(loop.find(2)->decision.factor, 0.01);  // computed all the same
  order(loop, ServiceOrder::kNone);
  EXPECT_LT(share(loop.in_force(), 2), 0.01);
}

TEST_F(OrderTest, AFreezeHoldsWhateverTheModelsState) {
  ServiceLoop loop(service_config(ServiceMode::kAct), {});
  tick(loop, {2}, 3);
  order(loop, ServiceOrder::kFreeze);
  const std::vector<std::uint32_t> ring = loop.in_force();
  loop.hold(true);
  loop.settle();
  EXPECT_EQ(loop.in_force(), ring);
}

TEST_F(OrderTest, NeutralIsTheConfiguredWeightsUntilReleased) {
  ServiceLoop loop(service_config(ServiceMode::kAct), {});
  tick(loop, {2}, 30);
  ASSERT_NE(loop.in_force(), loop.neutral());
  order(loop, ServiceOrder::kNeutral);
  EXPECT_EQ(loop.in_force(), loop.neutral());
  EXPECT_EQ(loop.in_force_weight(*loop.find(2)).reason, bpf::REASON_NEUTRAL);
  tick(loop, {2}, 30);
  EXPECT_EQ(loop.in_force(), loop.neutral());
  order(loop, ServiceOrder::kNone);
  EXPECT_LT(share(loop.in_force(), 2), 0.01);
}

TEST_F(OrderTest, ARestartTellsTheHandsPartFromControls) {
  ServiceLoop first(service_config(ServiceMode::kAct), {});
  set_hand(first, 2, kHalf);
  tick(first, {2}, 4);
  std::vector<bpf::weight> weights(5);
  for (const BackendLoop& backend : first.backends()) {
    weights[backend.config.id].base_weight = backend.config.weight;
    weights[backend.config.id].factor_q16 = first.in_force_weight(backend).factor_q16;
    weights[backend.config.id].reason = first.in_force_weight(backend).reason;
  }
  ServiceLoop second(service_config(ServiceMode::kAct), {});
  second.set_hand(*second.find(2), kHalf);
  second.adopt(first.in_force(), weights);
  EXPECT_NEAR(second.find(2)->decision.factor, first.find(2)->decision.factor, 1e-3);
  EXPECT_NEAR(second.in_force_weight(*second.find(2)).factor(),
              first.in_force_weight(*first.find(2)).factor(), 1e-3);
}

TEST_F(OrderTest, ACheckpointHasTheOrders) {
  Loop loop{Model{}};
  loop.services().emplace_back(service_config(ServiceMode::kAct), WeightSettings{});
  ServiceLoop& service = loop.services().front();
  tick(service, {2}, 3);
  service.set_hand(*service.find(3), kHalf);
  service.set_order(ServiceOrder::kFreeze);
  service.settle();
  StateOut out;
  loop.save(out);
  std::map<std::string, std::string> lines(out.lines().begin(), out.lines().end());
  StateIn in(lines);
  auto loaded = Loop::load(in);
  ASSERT_TRUE(loaded) << loaded.error().message();
  ServiceLoop& again = loaded->services().front();
  EXPECT_EQ(again.order(), ServiceOrder::kFreeze);
  EXPECT_EQ(again.in_force(), service.in_force());
  EXPECT_EQ(again.neutral(), service.neutral());
  for (const std::uint32_t id : {1u, 2u, 3u, 4u}) {
    EXPECT_EQ(again.in_force_weight(*again.find(id)).factor_q16,
              service.in_force_weight(*service.find(id)).factor_q16);
  }
}

}  // namespace
}  // namespace petrel
