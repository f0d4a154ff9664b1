// SPDX-License-Identifier: MIT
// When a model is no longer to be believed, and when it is again.
#include "watch/drift_judge.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/unit/watch_samples.hpp"

namespace petrel::test {
namespace {

using namespace std::chrono_literals;

WatchReport seen(std::uint64_t rows, double ece, double chance = 0.01) {
  WatchReport report;
  report.parts = 5;
  WatchMeasures& measures = report.all;
  measures.rows = rows;
  measures.retried = rows / 10;
  measures.predicted = static_cast<double>(rows) / 5;
  measures.ece = ece;
  measures.ece_chance = chance;
  return report;
}

PsiMeasures psi_of(double mean) {
  PsiMeasures psi;
  psi.known = true;
  psi.mean = mean;
  psi.drifts.push_back({2, Point::kAnswer, mean, 1});
  return psi;
}

class DriftJudgeTest : public testing::Test {
 protected:
  DriftJudge judge_{{.psi = 0.5, .ece = 0.15, .window = 1h}};
  const PsiMeasures unknown_;
};

TEST_F(DriftJudgeTest, FewRowsAreNoVerdict) {
  EXPECT_FALSE(judge_.judge(1, seen(999, 0.9), unknown_));
  EXPECT_EQ(judge_.state(), ModelState::kUnproven);
  WatchReport quiet = seen(100'000, 0.9);  // that must be of next to nothing
  quiet.all.retried = 0;
  quiet.all.predicted = 49;
  judge_.judge(2, quiet, unknown_);
  EXPECT_EQ(judge_.state(), ModelState::kGood);
}

TEST_F(DriftJudgeTest, AnIncidentThatHasJustBegunIsNoVerdict) {
  WatchReport fresh = seen(50'000, 0.9);
  fresh.parts = ModelWatch::kLeastParts - 1;
  EXPECT_FALSE(judge_.judge(1, fresh, psi_of(9)));
  EXPECT_EQ(judge_.state(), ModelState::kUnproven);
  ++fresh.parts;
  EXPECT_TRUE(judge_.judge(2, fresh, psi_of(9)));
  EXPECT_EQ(judge_.state(), ModelState::kDrifted);
}

TEST_F(DriftJudgeTest, AnErrorWithinItsLimitOrChanceIsGood) {
  EXPECT_TRUE(judge_.judge(1, seen(5000, 0.1), psi_of(0.4)));
  EXPECT_EQ(judge_.state(), ModelState::kGood);
  EXPECT_FALSE(judge_.judge(2, seen(5000, 0.2, 0.06), psi_of(0.4)));
  EXPECT_EQ(judge_.state(), ModelState::kGood);
  EXPECT_EQ(judge_.reason(), "");
}

TEST_F(DriftJudgeTest, BeyondALimitItHasDriftedAndSaysWhy) {
  EXPECT_TRUE(judge_.judge(1, seen(1000, 0.21), unknown_));
  EXPECT_EQ(judge_.state(), ModelState::kDrifted);
  EXPECT_EQ(judge_.reason(), "calibration error 0.21 over the last hour, limit 0.15");
  EXPECT_FALSE(judge_.judge(2, seen(1000, 0.31), unknown_));  // no news
  EXPECT_EQ(judge_.reason(), "calibration error 0.31 over the last hour, limit 0.15");
  judge_.reset();
  EXPECT_EQ(judge_.state(), ModelState::kUnproven);
  EXPECT_EQ(judge_.reason(), "");
  EXPECT_TRUE(judge_.judge(3, seen(1000, 0.01), psi_of(0.75)));
  EXPECT_EQ(judge_.reason(), "PSI 0.75 over the last hour, limit 0.50 (most of it " +
                                 std::string(kFeatures[2].name) + " at answer: 0.75)");
}

TEST_F(DriftJudgeTest, ItRecoversOnceBothFiguresHaveStayedLow) {
  judge_.judge(0, seen(1000, 0.3), psi_of(0.1));
  ASSERT_EQ(judge_.state(), ModelState::kDrifted);
  const std::uint64_t part = kMinuteNs * 10;
  const auto state_at = [&](std::uint64_t now_ns, double ece, double psi) {
    judge_.judge(now_ns, seen(1000, ece), psi_of(psi));
    return judge_.state();
  };
  std::uint64_t now_ns = kSecondNs;
  EXPECT_EQ(state_at(now_ns, 0.13, 0.1), ModelState::kDrifted);              // under its limit
  EXPECT_EQ(state_at(now_ns += 2 * part, 0.13, 0.1), ModelState::kDrifted);  // not under 0.7 of it
  EXPECT_EQ(state_at(now_ns, 0.05, 0.1), ModelState::kDrifted);
  EXPECT_EQ(state_at(now_ns += part / 2, 0.05, 0.4), ModelState::kDrifted);  // PSI is not low
  EXPECT_EQ(state_at(now_ns += part / 2, 0.05, 0.1), ModelState::kDrifted);
  EXPECT_EQ(state_at(now_ns += part - 1, 0.05, 0.1), ModelState::kDrifted);
  judge_.judge(now_ns, seen(10, 0.05), unknown_);  // too few rows: the time begins anew
  EXPECT_EQ(state_at(now_ns += 1, 0.05, 0.1), ModelState::kDrifted);
  EXPECT_EQ(state_at(now_ns += part, 0.05, 0.1), ModelState::kGood);
  EXPECT_EQ(judge_.reason(), "");
}

}  // namespace
}  // namespace petrel::test
