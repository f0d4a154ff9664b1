// SPDX-License-Identifier: MIT
// Which events count for the self-check, and for which group; predictions by service.
#include "watch/self_check.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "watch/service_scores.hpp"

namespace petrel {
namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;

bpf::event answer(std::uint64_t syn_ns, std::uint32_t request = 1) {
  bpf::event event{};
  event.type = bpf::EVENT_ANSWER;
  event.syn_ns = syn_ns;
  event.time_ns = syn_ns + 1000;
  event.request = request;
  event.key.client_port_be = 1;
  return event;
}

bpf::event retry(std::uint64_t failed_syn_ns, std::uint32_t of_request = 1,
                 std::uint8_t type = bpf::EVENT_RETRY) {
  bpf::event event{};
  event.type = type;
  event.previous_syn_ns = failed_syn_ns;
  event.previous_request = of_request;
  event.previous_port_be = 2;
  event.key.client_port_be = 1;
  return event;
}

class SelfCheckTest : public testing::Test {
 protected:
  std::uint64_t requests(std::uint64_t now_ns) const {
    return check_.minute().measure(now_ns).rest;
  }
  std::uint64_t retried(std::uint64_t now_ns) const {
    return check_.minute().measure(now_ns).rest_retried;
  }
  SelfCheck check_;
};

TEST_F(SelfCheckTest, OnlyWhatWasPlacedWhileWeightsDifferedCounts) {
  EXPECT_TRUE(check_.is_idle());
  check_.on_event(answer(5 * kSecond), false, 5 * kSecond);
  check_.on_tick(true, 10 * kSecond);
  check_.on_event(answer(9 * kSecond), false, 11 * kSecond);  // placed before
  check_.on_event(answer(11 * kSecond), false, 11 * kSecond);
  check_.on_tick(false, 12 * kSecond);
  check_.on_event(answer(11 * kSecond + 1), false, 13 * kSecond);  // ends after
  check_.on_event(answer(12 * kSecond), false, 13 * kSecond);      // placed after
  EXPECT_EQ(requests(13 * kSecond), 2u);
  check_.on_event(retry(11 * kSecond), false, 14 * kSecond);
  check_.on_event(retry(12 * kSecond), false, 14 * kSecond);
  EXPECT_EQ(retried(14 * kSecond), 1u);
  check_.on_event(retry(11 * kSecond, 1, bpf::EVENT_NO_RETRY), false, 14 * kSecond);
  EXPECT_EQ(retried(14 * kSecond), 0u);
  check_.on_tick(false, 80 * kSecond);
  EXPECT_TRUE(check_.is_idle());
}

TEST_F(SelfCheckTest, AConnectionCountsOnceByItsFirstRequest) {
  check_.on_tick(true, kSecond);
  check_.on_event(answer(2 * kSecond, 1), false, 2 * kSecond);
  check_.on_event(answer(2 * kSecond, 2), false, 2 * kSecond);
  check_.on_event(retry(2 * kSecond, 2), false, 2 * kSecond);
  bpf::event end = answer(3 * kSecond, 0);  // a handshake that failed
  end.type = bpf::EVENT_END;
  end.failure = bpf::FAILURE_REFUSED;
  check_.on_event(end, false, 3 * kSecond);
  end.failure = bpf::FAILURE_NONE;  // a good close
  check_.on_event(end, false, 3 * kSecond);
  end.type = bpf::EVENT_MOVED;  // it goes on elsewhere
  end.failure = bpf::FAILURE_REFUSED;
  check_.on_event(end, false, 3 * kSecond);
  EXPECT_EQ(requests(3 * kSecond), 2u);
  EXPECT_EQ(retried(3 * kSecond), 0u);
}

TEST_F(SelfCheckTest, RetriesCountAsWhatTheyAreOfOnly) {
  check_.on_tick(true, kSecond);
  bpf::event second = answer(2 * kSecond);
  second.attempt = 2;
  check_.on_event(second, false, 2 * kSecond);
  bpf::event third = retry(2 * kSecond);
  third.attempt = 3;
  check_.on_event(third, false, 2 * kSecond);
  EXPECT_EQ(requests(2 * kSecond), 0u);
  EXPECT_EQ(retried(2 * kSecond), 0u);
}

TEST_F(SelfCheckTest, ARetryIsOfTheGroupOfWhatFailed) {
  EXPECT_EQ(SelfCheck::connection_of(retry(kSecond)).client_port_be, 2);
  EXPECT_EQ(SelfCheck::connection_of(retry(kSecond, 1, bpf::EVENT_NO_RETRY)).client_port_be, 2);
  EXPECT_EQ(SelfCheck::connection_of(answer(kSecond)).client_port_be, 1);
}

TEST_F(SelfCheckTest, HarmIsFoundByTheMinuteAndReleased) {
  check_.on_tick(true, kSecond);
  bool found = false;
  for (std::uint64_t second = 2; second < 20 && !found; ++second) {
    for (std::uint64_t i = 0; i < 100; ++i) {
      const std::uint64_t now_ns = second * kSecond + i;
      const bool held = i < 30;
      check_.on_event(answer(now_ns), held, now_ns);
      if (!held && i % 2 == 0) check_.on_event(retry(now_ns), false, now_ns);
    }
    found = check_.judge((second + 1) * kSecond);
  }
  EXPECT_TRUE(found);
  EXPECT_TRUE(check_.is_harmed());
  EXPECT_GT(check_.last_minute().difference, 0.4);
  EXPECT_LT(check_.last_minute().avoided(), 0);
  check_.release();
  EXPECT_FALSE(check_.is_harmed());
  EXPECT_FALSE(check_.last_hour().known);
}

LabelledRow row(std::uint32_t service_id, std::uint64_t connection, bool retried) {
  LabelledRow row;
  row.service_id = service_id;
  row.connection_id = connection;
  row.retried = retried;
  return row;
}

TEST(ServiceScoresTest, EachServiceHasItsOwnFigures) {
  ServiceScores scores(std::chrono::seconds(60));
  for (std::uint64_t i = 0; i < 100; ++i) {
    scores.add(row(1, i, i < 80), 52429, kSecond);  // 0.8
    scores.add(row(2, i, i < 80), 6554, kSecond);   // 0.1
  }
  const WatchMeasures good = scores.measure(1, kSecond), bad = scores.measure(2, kSecond);
  EXPECT_EQ(good.rows, 100u);
  EXPECT_NEAR(good.ece, 0, 0.001);
  EXPECT_EQ(good.alarms, 100u);
  EXPECT_DOUBLE_EQ(good.precision, 0.8);
  EXPECT_DOUBLE_EQ(good.recall, 1);
  EXPECT_NEAR(bad.ece, 0.7, 0.001);
  EXPECT_EQ(bad.alarms, 0u);
  EXPECT_TRUE(std::isnan(bad.precision));
  EXPECT_DOUBLE_EQ(bad.recall, 0);
  EXPECT_EQ(scores.measure(3, kSecond).rows, 0u);
  // What has left the window is forgotten.
  scores.add(row(1, 1, false), 6554, 59 * kSecond);
  EXPECT_EQ(scores.measure(1, 59 * kSecond).rows, 101u);
  EXPECT_EQ(scores.measure(1, 62 * kSecond).rows, 1u);
}

}  // namespace
}  // namespace petrel
