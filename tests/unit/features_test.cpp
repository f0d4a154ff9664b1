// SPDX-License-Identifier: MIT
// Features: what each point may see, that no view sees its future, and the robustness of "usual".
#include <gtest/gtest.h>

#include <random>

#include "bpf/model.h"
#include "features/feature_state.hpp"

namespace petrel {
namespace {

constexpr uint64_t kMs = 1'000'000;
constexpr uint64_t kSecond = 1'000 * kMs;
constexpr uint32_t kService = 1;

int32_t get(const FeatureVector& vector, Feature feature) {
  return vector[static_cast<size_t>(feature)];
}

bpf::event answer(uint64_t time_ns, uint32_t backend_id, uint64_t waited_ns, uint8_t failure = 0) {
  bpf::event event{};
  event.type = bpf::EVENT_ANSWER;
  event.time_ns = time_ns;
  event.key.service_id = kService;
  event.backend_id = backend_id;
  event.waited_ns = waited_ns;
  event.connect_ns = kMs;
  event.request = 1;
  event.attempt = 1;
  event.failure = failure;
  event.status = failure == bpf::FAILURE_SERVER_ERROR ? 503 : 200;
  return event;
}

Observation waiting(uint64_t elapsed_ns, uint32_t backend_id = 1) {
  Observation seen;
  seen.point = Point::kWaitingResponse;
  seen.elapsed_ns = elapsed_ns;
  seen.backend_id = backend_id;
  seen.service_id = kService;
  return seen;
}

// Two backends answering in response_ns, ten answers a tick of 100 ms, for a number of ticks.
uint64_t feed(FeatureState& state, uint64_t now_ns, int ticks, uint64_t first_ns,
              uint64_t second_ns) {
  for (int tick = 0; tick < ticks; tick++) {
    for (int i = 0; i < 5; i++) {
      state.on_event(answer(now_ns + 1, 1, first_ns));
      state.on_event(answer(now_ns + 1, 2, second_ns));
    }
    now_ns += 100 * kMs;
    const BackendWaiting waiting[] = {{1, kService, 3}, {2, kService, 3}};
    state.on_tick(now_ns, waiting);
  }
  return now_ns;
}

TEST(Features, NamesAreUniqueAndDocumented) {
  for (size_t i = 0; i < kFeatureCount; i++) {
    EXPECT_FALSE(kFeatures[i].name.empty());
    EXPECT_FALSE(kFeatures[i].doc.empty());
    for (size_t j = 0; j < i; j++) EXPECT_NE(kFeatures[i].name, kFeatures[j].name);
  }
  static_assert(kFeatureCount <= MODEL_MAX_FEATURES);
}

TEST(Features, EventsAfterTheTickChangeNothingUntilTheNextOne) {
  FeatureState state;
  const uint64_t now = feed(state, kSecond, 50, 10 * kMs, 10 * kMs);
  const FeatureVector before = state.compute(waiting(50 * kMs));
  const auto kept = state.snapshot();
  for (int i = 0; i < 100; i++) {
    state.on_event(answer(now + kMs, 1, 2 * kSecond, bpf::FAILURE_SERVER_ERROR));
  }
  EXPECT_EQ(state.compute(waiting(50 * kMs)), before);
  const BackendWaiting many[] = {{1, kService, 100}, {2, kService, 3}};
  state.on_tick(now + 100 * kMs, many);
  EXPECT_NE(state.compute(waiting(50 * kMs)), before);
  EXPECT_EQ(compute(*kept, waiting(50 * kMs)), before);
}

TEST(Features, ASnapshotIsNoOlderThanTheNewestEventInIt) {
  FeatureState state;
  state.on_event(answer(5 * kSecond, 1, kMs));
  state.on_tick(4 * kSecond, {});
  EXPECT_EQ(state.snapshot()->time_ns, 5 * kSecond);
}

TEST(Features, WaitingPointsIgnoreWhatLiveScoringCannotKnow) {
  FeatureState state;
  feed(state, kSecond, 20, 10 * kMs, 10 * kMs);
  Observation all = waiting(100 * kMs);
  all.attempt = 3;
  all.syn_repeats = 2;
  all.status = 503;
  all.failure = bpf::FAILURE_SERVER_ERROR;
  all.closed_by = bpf::CLOSED_BY_CLIENT_RST;
  all.connect_ns = kSecond;
  EXPECT_EQ(state.compute(all), state.compute(waiting(100 * kMs)));
}

TEST(Features, AgeGrowsByOneForEachDoubling) {
  FeatureState state;
  EXPECT_EQ(get(state.compute(waiting(kMs)), Feature::kWaitingAge), 0);
  const int32_t age8 = get(state.compute(waiting(8 * kMs)), Feature::kWaitingAge);
  const int32_t age16 = get(state.compute(waiting(16 * kMs)), Feature::kWaitingAge);
  EXPECT_NEAR(age8, 3 * Q16_ONE, 2);
  EXPECT_NEAR(age16 - age8, Q16_ONE, 2);
}

TEST(Features, AnOutcomeSetsItsOwnFlagOnly) {
  const FeatureState state;
  const std::pair<uint8_t, Feature> cases[] = {
      {bpf::FAILURE_REFUSED, Feature::kRefused},
      {bpf::FAILURE_HANDSHAKE_TIMEOUT, Feature::kHandshakeTimeout},
      {bpf::FAILURE_RESET, Feature::kReset},
      {bpf::FAILURE_EMPTY, Feature::kEmpty},
      {bpf::FAILURE_OVERLOAD, Feature::kOverload},
      {bpf::FAILURE_SERVER_ERROR, Feature::kServerError},
  };
  for (const auto& [failure, feature] : cases) {
    bpf::event event = answer(kSecond, 1, 40 * kMs, failure);
    event.type = bpf::EVENT_END;
    FeatureVector expected{};
    expected[static_cast<size_t>(feature)] = Q16_ONE;
    expected[static_cast<size_t>(Feature::kFailed)] = Q16_ONE;
    expected[static_cast<size_t>(Feature::kFailedRetryOdds)] =
        Snapshot().unknown_service.retry_odds_log2_q16;
    EXPECT_EQ(state.compute(observe(event)), expected) << int{failure};
    event.attempt = 2;
    expected[static_cast<size_t>(Feature::kAttempt)] = Q16_ONE;
    EXPECT_EQ(state.compute(observe(event)), expected) << int{failure};
  }
}

TEST(Features, AGoodAnswerIsAnsweredAndAFailedOneIsNot) {
  const FeatureState state;
  EXPECT_EQ(get(state.compute(observe(answer(1, 1, kMs))), Feature::kAnswered), Q16_ONE);
  const bpf::event failed = answer(1, 1, kMs, bpf::FAILURE_SERVER_ERROR);
  EXPECT_EQ(get(state.compute(observe(failed)), Feature::kAnswered), 0);
}

TEST(Features, AnIncidentMovesTheUsualByAThirdOfAnOctaveInTenSeconds) {
  FeatureState state;
  uint64_t now = feed(state, kSecond, 600, 10 * kMs, 10 * kMs);
  const int32_t before = state.snapshot()->service(kService).usual_response_log2_q16;
  EXPECT_NEAR(before, bpf::log2_q16(10 * kMs), Q16_ONE / 16);
  feed(state, now, 100, 4 * kSecond, 4 * kSecond);
  const int32_t after = state.snapshot()->service(kService).usual_response_log2_q16;
  EXPECT_GT(after, before);
  EXPECT_LE(after - before, Q16_ONE / 3 + 100);
}

TEST(Features, FailedAnswersDoNotTeachTheUsual) {
  FeatureState state;
  const uint64_t now = feed(state, kSecond, 50, 10 * kMs, 10 * kMs);
  const int32_t before = state.snapshot()->service(kService).usual_response_log2_q16;
  for (int i = 0; i < 100; i++) {
    state.on_event(answer(now + 1, 1, kSecond, bpf::FAILURE_SERVER_ERROR));
    state.on_event(answer(now + 1, 1, kSecond, bpf::FAILURE_OVERLOAD));
  }
  state.on_tick(now + 100 * kMs, {});
  EXPECT_EQ(state.snapshot()->service(kService).usual_response_log2_q16, before);
}

TEST(Features, AFailingBackendStandsOutFromTheOthersAndRecovers) {
  FeatureState state;
  uint64_t now = feed(state, kSecond, 50, 10 * kMs, 10 * kMs);
  for (int i = 0; i < 200; i++) {
    state.on_event(answer(now + 1, 1, kMs, bpf::FAILURE_SERVER_ERROR));
  }
  state.on_tick(now += 100 * kMs, {});
  const FeatureVector bad = state.compute(waiting(50 * kMs, 1));
  const FeatureVector good = state.compute(waiting(50 * kMs, 2));
  EXPECT_GT(get(bad, Feature::kBackendFailures), Q16_ONE / 2);
  EXPECT_GT(get(bad, Feature::kBackendFailuresExcess), Q16_ONE / 2);
  EXPECT_EQ(get(good, Feature::kBackendFailures), 0);
  EXPECT_EQ(get(good, Feature::kBackendFailuresExcess), 0);
  feed(state, now, 200, 10 * kMs, 10 * kMs);
  EXPECT_LT(get(state.compute(waiting(50 * kMs, 1)), Feature::kBackendFailures), Q16_ONE / 50);
}

TEST(Features, SilenceCountsOnlyWhileSomethingWaits) {
  FeatureState state;
  uint64_t now = feed(state, kSecond, 50, 10 * kMs, 10 * kMs);
  const BackendWaiting stuck[] = {{1, kService, 4}, {2, kService, 0}};
  for (int tick = 0; tick < 20; tick++) state.on_tick(now += 100 * kMs, stuck);
  EXPECT_GT(get(state.compute(waiting(50 * kMs, 1)), Feature::kBackendSilence), 7 * Q16_ONE);
  EXPECT_EQ(get(state.compute(waiting(50 * kMs, 2)), Feature::kBackendSilence), 0);
  // One request after a long quiet spell is no silence.
  const BackendWaiting fresh[] = {{1, kService, 4}, {2, kService, 1}};
  state.on_tick(now += 100 * kMs, fresh);
  EXPECT_EQ(get(state.compute(waiting(50 * kMs, 2)), Feature::kBackendSilence), 0);
}

TEST(Features, IdsOutOfRangeAreIgnored) {
  FeatureState state;
  bpf::event event = answer(kSecond, UINT32_MAX, kMs);
  state.on_event(event);
  event.backend_id = 1;
  event.key.service_id = UINT16_MAX;
  state.on_event(event);
  const BackendWaiting wild[] = {{UINT32_MAX, kService, 1}, {1, UINT32_MAX, 1}, {0, 0, 1}};
  state.on_tick(2 * kSecond, wild);
  EXPECT_LE(state.snapshot()->backends.size(), 2U);
}

TEST(Features, AForgottenBackendIsAsNew) {
  FeatureState state;
  state.on_event(answer(kSecond, 1, kMs, bpf::FAILURE_SERVER_ERROR));
  state.forget_backend(1);
  state.forget_backend(UINT32_MAX);
  state.on_tick(2 * kSecond, {});
  EXPECT_EQ(state.snapshot()->backend(1).failure_share_q16, 0);
}

TEST(Features, AnyEventsKeepEveryFeatureInItsRange) {
  FeatureState state;
  std::mt19937_64 random(4);
  uint64_t now = 1;
  for (int i = 0; i < 20'000; i++) {
    bpf::event event{};
    event.type = static_cast<uint8_t>(random() % 5);
    event.failure = static_cast<uint8_t>(random() % 16);
    event.time_ns = now + random() % kSecond;
    event.backend_id = static_cast<uint32_t>(random() % 6);
    event.key.service_id = static_cast<uint16_t>(random() % 4);
    event.waited_ns = random() >> (random() % 64);
    event.connect_ns = random() >> (random() % 64);
    event.request = static_cast<uint32_t>(random() % 3);
    event.syn_repeats = static_cast<uint8_t>(random());
    event.attempt = static_cast<uint8_t>(random());
    event.request_bytes = static_cast<uint32_t>(random());
    event.srtt_us = static_cast<uint32_t>(random());
    event.rtos = static_cast<uint16_t>(random());
    event.repeats = static_cast<uint16_t>(random());
    event.method = static_cast<uint8_t>(random());
    state.on_event(event);
    if (i % 50 == 0) {
      const BackendWaiting waiting[] = {{1 + static_cast<uint32_t>(random() % 5),
                                         1 + static_cast<uint32_t>(random() % 3),
                                         static_cast<uint32_t>(random())}};
      state.on_tick(now += random() % (10 * kSecond), waiting);
    }
    Observation seen = observe(event);
    seen.point = static_cast<Point>(random() % kPointCount);
    const FeatureVector vector = state.compute(seen);
    for (size_t f = 0; f < kFeatureCount; f++) {
      const bool flag = kFeatures[f].unit == "flag" || kFeatures[f].unit == "share";
      ASSERT_LE(std::abs(vector[f]), (flag ? 1 : 22) * Q16_ONE) << kFeatures[f].name;
    }
  }
}

}  // namespace
}  // namespace petrel
