// SPDX-License-Identifier: MIT
// What a service's events teach of its clients, its times and its backends, as features see it.
#include <gtest/gtest.h>

#include "features/feature_state.hpp"

namespace petrel {
namespace {

constexpr uint64_t kMs = 1'000'000;
constexpr uint64_t kSecond = 1'000 * kMs;
constexpr uint32_t kService = 1;
constexpr int64_t kHourNs = 3'600 * static_cast<int64_t>(kSecond);

class ServiceFeatures : public ::testing::Test {
 protected:
  static bpf::event event(uint8_t type, uint8_t failure = bpf::FAILURE_NONE) {
    bpf::event made{};
    made.type = type;
    made.failure = failure;
    made.key.service_id = kService;
    made.backend_id = 1;
    made.request = 1;
    made.attempt = 1;
    made.connect_ns = kMs;
    made.waited_ns = 10 * kMs;
    return made;
  }

  void feed(bpf::event made, int count = 1) {
    made.time_ns = now_ns_;
    for (int i = 0; i < count; i++) state_.on_event(made);
  }

  void pass(uint64_t elapsed_ns) {
    for (const uint64_t end_ns = now_ns_ + elapsed_ns; now_ns_ < end_ns;) {
      now_ns_ += 100 * kMs;
      const BackendWaiting waiting[] = {{1, kService, 1, zone_[0]}, {2, kService, 1, zone_[1]}};
      state_.on_tick(now_ns_, waiting);
    }
  }

  int32_t waiting(Feature feature, uint64_t elapsed_ns, uint32_t backend_id = 1) const {
    Observation seen;
    seen.point = Point::kWaitingResponse;
    seen.elapsed_ns = elapsed_ns;
    seen.backend_id = backend_id;
    seen.service_id = kService;
    return of(seen, feature);
  }

  int32_t of(const bpf::event& made, Feature feature) const { return of(observe(made), feature); }
  int32_t of(const Observation& seen, Feature feature) const {
    return state_.compute(seen)[static_cast<size_t>(feature)];
  }

  FeatureState state_;
  uint64_t now_ns_ = kSecond;
  bool zone_[2] = {false, false};
};

TEST_F(ServiceFeatures, ClientsThatLeaveTeachHowLongTheyWait) {
  bpf::event left = event(bpf::EVENT_END, bpf::FAILURE_ABANDONED);
  left.waited_ns = 250 * kMs;
  feed(left, 64);
  pass(kSecond);
  EXPECT_NEAR(waiting(Feature::kWaitingBeyondPatience, 250 * kMs), 0, Q16_ONE / 8);
  EXPECT_NEAR(waiting(Feature::kWaitingBeyondPatience, 500 * kMs), Q16_ONE, Q16_ONE / 8);
}

TEST_F(ServiceFeatures, WhoLeavesAtOnceTeachesNoPatience) {
  pass(kSecond);
  const int32_t before = waiting(Feature::kWaitingBeyondPatience, 250 * kMs);
  bpf::event left = event(bpf::EVENT_END, bpf::FAILURE_ABANDONED);
  left.waited_ns = kMs;
  feed(left, 64);
  pass(kSecond);
  EXPECT_EQ(waiting(Feature::kWaitingBeyondPatience, 250 * kMs), before);
}

TEST_F(ServiceFeatures, RetriesRaiseTheOddsAndTheirAbsenceLowersThem) {
  pass(kSecond);
  const int32_t at_first = waiting(Feature::kRetryOdds, 10 * kMs);
  feed(event(bpf::EVENT_END, bpf::FAILURE_RESET), 40);
  feed(event(bpf::EVENT_RETRY, bpf::FAILURE_RESET), 40);
  pass(kSecond);
  const int32_t retrying = waiting(Feature::kRetryOdds, 10 * kMs);
  EXPECT_GT(retrying, at_first + 2 * Q16_ONE);

  feed(event(bpf::EVENT_END, bpf::FAILURE_RESET), 400);
  pass(10 * kSecond);
  EXPECT_LT(waiting(Feature::kRetryOdds, 10 * kMs), at_first - 3 * Q16_ONE);
}

TEST_F(ServiceFeatures, AFailureIsNotYetUnretriedWhileItsRetryMayCome) {
  feed(event(bpf::EVENT_END, bpf::FAILURE_RESET), 40);
  pass(100 * kMs);
  EXPECT_GT(waiting(Feature::kRetryOdds, 10 * kMs), 0);
}

TEST_F(ServiceFeatures, ARetryThatWasNoneIsTakenBack) {
  feed(event(bpf::EVENT_END, bpf::FAILURE_RESET), 40);
  feed(event(bpf::EVENT_RETRY, bpf::FAILURE_RESET), 40);
  feed(event(bpf::EVENT_NO_RETRY, bpf::FAILURE_RESET), 40);
  pass(10 * kSecond);
  EXPECT_LT(waiting(Feature::kRetryOdds, 10 * kMs), -2 * Q16_ONE);
}

TEST_F(ServiceFeatures, ASynThatWasMovedFailsNobody) {
  pass(kSecond);
  const int32_t before = waiting(Feature::kRetryOdds, 10 * kMs);
  feed(event(bpf::EVENT_MOVED, bpf::FAILURE_REFUSED), 100);
  pass(10 * kSecond);
  EXPECT_EQ(waiting(Feature::kRetryOdds, 10 * kMs), before);
}

TEST_F(ServiceFeatures, RarityIsTheShareOfAnswersThatTakeAsLong) {
  bpf::event quick = event(bpf::EVENT_ANSWER);
  bpf::event slow = event(bpf::EVENT_ANSWER);
  slow.waited_ns = 200 * kMs;
  feed(quick, 1023);
  feed(slow, 341);
  pass(100 * kMs);
  EXPECT_EQ(waiting(Feature::kRarity, 2 * kMs), 0);
  EXPECT_NEAR(waiting(Feature::kRarity, 100 * kMs), 2 * Q16_ONE, Q16_ONE / 16);  // one in four
  EXPECT_GT(waiting(Feature::kRarity, 2 * kSecond), 8 * Q16_ONE);
  EXPECT_EQ(of(slow, Feature::kRarity), waiting(Feature::kRarity, 200 * kMs));
  slow.failure = bpf::FAILURE_SERVER_ERROR;
  EXPECT_EQ(of(slow, Feature::kRarity), 0);
}

TEST_F(ServiceFeatures, TheSameDelayIsMoreOfAnAnomalyWhereTimesHardlyVary) {
  const auto score = [](uint64_t low_ns, uint64_t high_ns) {
    FeatureState state;
    for (const uint64_t time_ns : {low_ns, high_ns}) {
      bpf::event answer = event(bpf::EVENT_ANSWER);
      answer.waited_ns = time_ns;
      for (int i = 0; i < 32; i++) state.on_event(answer);
    }
    state.on_tick(kSecond, {});
    const Observation late{.point = Point::kWaitingResponse,
                           .backend_id = 1,
                           .service_id = kService,
                           .elapsed_ns = 100 * kMs};
    return state.compute(late)[static_cast<size_t>(Feature::kAnomalyScore)];
  };
  const int32_t steady = score(20 * kMs, 20 * kMs);
  const int32_t varying = score(5 * kMs, 80 * kMs);
  EXPECT_GT(steady, 2 * varying);
  EXPECT_GT(varying, 0);
}

TEST_F(ServiceFeatures, AQuickAnswerIsBelowUsualButAYoungWaitIsNot) {
  feed(event(bpf::EVENT_ANSWER), 64);
  pass(kSecond);
  bpf::event quick = event(bpf::EVENT_ANSWER);
  quick.waited_ns = kMs;
  EXPECT_LT(of(quick, Feature::kAnomalyScore), -Q16_ONE);
  EXPECT_EQ(waiting(Feature::kAnomalyScore, kMs), 0);
}

TEST_F(ServiceFeatures, ASlowBackendIsSlowForItsServiceAndNotForItself) {
  bpf::event slow = event(bpf::EVENT_ANSWER);
  slow.backend_id = 2;
  slow.waited_ns = 160 * kMs;
  for (int i = 0; i < 20; i++) {
    feed(event(bpf::EVENT_ANSWER), 10);
    feed(slow, 1);
    pass(100 * kMs);
  }
  EXPECT_GT(of(slow, Feature::kAnswerBeyondUsual), 2 * Q16_ONE);
  EXPECT_LT(of(slow, Feature::kAnswerBeyondBackend), Q16_ONE / 4);
  slow.backend_id = 1;
  EXPECT_GT(of(slow, Feature::kAnswerBeyondBackend), 3 * Q16_ONE);
}

TEST_F(ServiceFeatures, FailuresAreToldByKind) {
  feed(event(bpf::EVENT_END, bpf::FAILURE_REFUSED), 4);
  feed(event(bpf::EVENT_END, bpf::FAILURE_EMPTY), 2);
  feed(event(bpf::EVENT_ANSWER, bpf::FAILURE_OVERLOAD), 2);
  feed(event(bpf::EVENT_END, bpf::FAILURE_ABANDONED), 4);
  now_ns_ += 1;
  state_.on_tick(now_ns_, {});
  // 12 outcomes and 4 good ones that are always added.
  EXPECT_EQ(waiting(Feature::kBackendFailures, kMs), Q16_ONE * 12 / 16);
  EXPECT_EQ(waiting(Feature::kBackendConnectFailures, kMs), Q16_ONE * 4 / 16);
  EXPECT_EQ(waiting(Feature::kBackendResets, kMs), Q16_ONE * 2 / 16);
  EXPECT_EQ(waiting(Feature::kBackendErrors, kMs), Q16_ONE * 2 / 16);
  EXPECT_EQ(waiting(Feature::kTroubleShare, kMs), Q16_ONE * 12 / 13);
  EXPECT_EQ(waiting(Feature::kTroubleShare, kMs, 2), 0);
}

TEST_F(ServiceFeatures, AnotherZoneIsSeenWhileWaiting) {
  zone_[1] = true;
  pass(kSecond);
  EXPECT_EQ(waiting(Feature::kOtherZone, kMs, 1), 0);
  EXPECT_EQ(waiting(Feature::kOtherZone, kMs, 2), Q16_ONE);
}

TEST_F(ServiceFeatures, WhatWasAskedForCountsOnceItFailed) {
  bpf::event failed = event(bpf::EVENT_END, bpf::FAILURE_RESET);
  failed.method = bpf::METHOD_POST;
  failed.request_bytes = 4096;
  failed.attempt = 4;
  EXPECT_EQ(of(failed, Feature::kNotIdempotent), Q16_ONE);
  EXPECT_EQ(of(failed, Feature::kRequestBytes), 2 * Q16_ONE);
  EXPECT_EQ(of(failed, Feature::kAttempt), 2 * Q16_ONE);
  failed.method = bpf::METHOD_PUT;
  failed.request_bytes = 200;
  EXPECT_EQ(of(failed, Feature::kNotIdempotent), 0);
  EXPECT_EQ(of(failed, Feature::kRequestBytes), 0);
  bpf::event good = event(bpf::EVENT_ANSWER);
  good.method = bpf::METHOD_POST;
  good.request_bytes = 4096;
  EXPECT_EQ(of(good, Feature::kNotIdempotent), 0);
  EXPECT_EQ(of(good, Feature::kRequestBytes), 0);
}

TEST_F(ServiceFeatures, TheTransportsTroubleIsSeen) {
  bpf::event good = event(bpf::EVENT_ANSWER);
  good.srtt_us = 500;
  feed(good, 64);
  pass(kSecond);
  good.srtt_us = 4000;
  good.rtos = 2;
  good.repeats = 3;
  good.connect_ns = 8 * kMs;
  EXPECT_NEAR(of(good, Feature::kSrttChange), 3 * Q16_ONE, Q16_ONE / 8);
  EXPECT_EQ(of(good, Feature::kRtos), 2 * Q16_ONE);
  EXPECT_EQ(of(good, Feature::kSegmentRepeats), 2 * Q16_ONE);
  EXPECT_NEAR(of(good, Feature::kConnectBeyondUsual), 3 * Q16_ONE, Q16_ONE / 8);
  good.srtt_us = 0;  // no socket told
  EXPECT_EQ(of(good, Feature::kSrttChange), 0);
}

TEST_F(ServiceFeatures, TheTimeOfDayTurnsOnceADay) {
  // A service whose first event has come; the clock tells the rest.
  feed(event(bpf::EVENT_ANSWER));
  const std::pair<int64_t, std::pair<int, int>> hours[] = {
      {0, {0, 1}}, {6, {1, 0}}, {12, {0, -1}}, {18, {-1, 0}}};
  for (const auto& [hour, expected] : hours) {
    state_.set_wall_offset(20'000 * 24 * kHourNs + hour * kHourNs -
                           static_cast<int64_t>(now_ns_ + 100 * kMs));
    pass(100 * kMs);
    EXPECT_NEAR(waiting(Feature::kDaySine, kMs), expected.first * Q16_ONE, 200) << hour;
    EXPECT_NEAR(waiting(Feature::kDayCosine, kMs), expected.second * Q16_ONE, 200) << hour;
  }
}

TEST(FeatureConstants, AMillisecondIsWhatTheLogarithmSays) {
  EXPECT_EQ(bpf::log2_q16(kMs), LOG2_NS_PER_MS_Q16);
}

}  // namespace
}  // namespace petrel
