// SPDX-License-Identifier: MIT
// How early requests' retries are predicted, of requests whose rows are written out.
#include "trainer/lead_time.hpp"

#include <gtest/gtest.h>

namespace petrel {
namespace {

constexpr uint64_t kMs = 1'000'000;

// One run's rows and the probabilities that a model would have for them.
class Requests {
 public:
  explicit Requests(std::string name) { run_.name = std::move(name); }

  Requests& waits(uint64_t connection, uint32_t request, uint64_t time_ms, double probability,
                  bool retried) {
    add(connection, request, request == 0 ? Point::kWaitingSyn : Point::kWaitingResponse, time_ms,
        retried);
    probabilities_.push_back(probability);
    return *this;
  }
  Requests& ends(uint64_t connection, uint32_t request, uint64_t time_ms, bool retried) {
    add(connection, request, Point::kEnd, time_ms, retried);
    probabilities_.push_back(1);  // an outcome's own probability is no lead
    return *this;
  }

  const Run& run() const { return run_; }
  const std::vector<double>& probabilities() const { return probabilities_; }

 private:
  void add(uint64_t connection, uint32_t request, Point point, uint64_t time_ms, bool retried) {
    LabelledRow row;
    row.connection_id = connection;
    row.request = request;
    row.point = point;
    row.time_ns = time_ms * kMs;
    row.retried = retried;
    run_.rows.push_back(row);
  }

  Run run_;
  std::vector<double> probabilities_;
};

LeadTime measured(const std::vector<Requests>& all, size_t resamples = 0) {
  std::vector<const Run*> runs;
  std::vector<std::vector<double>> probabilities;
  for (const Requests& each : all) {
    runs.push_back(&each.run());
    probabilities.push_back(each.probabilities());
  }
  return measure_lead_time(runs, probabilities, 0.5, RunResamples(runs.size(), resamples, 1));
}

TEST(LeadTime, BeginsAtTheFirstWaitingRowFromTheWorkingPointOn) {
  Requests requests("run");
  requests.ends(7, 1, 1100, true);  // rows may come in any order
  requests.waits(7, 1, 1008, 0.1, true).waits(7, 1, 1016, 0.49, true).waits(7, 1, 1032, 0.5, true);
  requests.waits(7, 1, 1064, 0.3, true);  // and may fall again
  const LeadTime lead = measured({requests});
  EXPECT_EQ(lead.retried.requests, 1U);
  EXPECT_EQ(lead.retried.crossed, 1U);
  EXPECT_DOUBLE_EQ(lead.median_ms.value, 68);
  EXPECT_EQ(lead.others.requests, 0U);
  EXPECT_FALSE(lead.others.share_crossed.has_value());
}

TEST(LeadTime, TellsWhoWaitedFromWhoFailedAtOnceAndTrueAlarmsFromFalseOnes) {
  Requests requests("run");
  requests.ends(1, 1, 3, true);                               // at once
  requests.waits(2, 1, 8, 0.2, true).ends(2, 1, 20, true);    // not predicted
  requests.waits(3, 1, 8, 0.9, true).ends(3, 1, 20, true);    // 12 ms
  requests.waits(4, 1, 8, 0.9, true).ends(4, 1, 108, true);   // 100 ms
  requests.waits(5, 1, 8, 0.9, false).ends(5, 1, 20, false);  // false alarm
  requests.waits(6, 1, 8, 0.1, false).ends(6, 1, 20, false);
  requests.waits(9, 1, 8, 0.9, true);  // no outcome was seen
  const LeadTime lead = measured({requests});
  EXPECT_EQ(lead.retried.requests, 4U);
  EXPECT_EQ(lead.retried.waited, 3U);
  EXPECT_EQ(lead.retried.crossed, 2U);
  EXPECT_DOUBLE_EQ(lead.retried.share_crossed.value, 0.5);
  EXPECT_DOUBLE_EQ(lead.retried.share_crossed_of_waited.value, 2.0 / 3);
  EXPECT_EQ(lead.others.requests, 2U);
  EXPECT_DOUBLE_EQ(lead.others.share_crossed.value, 0.5);
  EXPECT_DOUBLE_EQ(lead.median_ms.value, 12);
  EXPECT_DOUBLE_EQ(lead.p90_ms.value, 100);
}

TEST(LeadTime, AHandshakeIsItsFirstRequestsAndLaterRequestsAreTheirOwn) {
  Requests requests("run");
  requests.waits(1, 0, 8, 0.9, true).ends(1, 1, 58, true);     // 50 ms
  requests.waits(1, 2, 108, 0.1, true).ends(1, 2, 120, true);  // not predicted
  requests.waits(2, 0, 8, 0.9, true).waits(2, 0, 16, 0.9, true).ends(2, 0, 38, true);  // 30 ms
  const LeadTime lead = measured({requests});
  EXPECT_EQ(lead.retried.requests, 3U);
  EXPECT_EQ(lead.retried.crossed, 2U);
  EXPECT_DOUBLE_EQ(lead.median_ms.value, 30);
  EXPECT_DOUBLE_EQ(lead.p90_ms.value, 50);
}

TEST(LeadTime, ConnectionsOfTwoRunsAreTwo) {
  Requests first("first");
  first.waits(1, 1, 8, 0.9, true).ends(1, 1, 20, true);
  Requests second("second");
  second.ends(1, 1, 4, true);
  const LeadTime lead = measured({first, second});
  EXPECT_EQ(lead.retried.requests, 2U);
  EXPECT_EQ(lead.retried.waited, 1U);
}

TEST(LeadTime, HasIntervalsOverRuns) {
  std::vector<Requests> all;
  for (uint64_t run = 0; run < 6; run++) {
    Requests& requests = all.emplace_back("run-" + std::to_string(run));
    for (uint64_t i = 0; i < 20; i++) {
      const bool crosses = i >= 2 * run;
      requests.waits(i, 1, 8, crosses ? 0.9 : 0.1, true).ends(i, 1, 18 + 10 * run, true);
    }
  }
  const LeadTime lead = measured(all, 200);
  const Estimate& share = lead.retried.share_crossed;
  EXPECT_DOUBLE_EQ(share.value, 90.0 / 120);
  ASSERT_TRUE(share.has_interval());
  EXPECT_LT(share.low, share.value);
  EXPECT_GT(share.high, share.value);
  ASSERT_TRUE(lead.median_ms.has_interval());
  EXPECT_LE(lead.median_ms.low, lead.median_ms.value);
  EXPECT_GE(lead.median_ms.high, lead.median_ms.value);
}

}  // namespace
}  // namespace petrel
