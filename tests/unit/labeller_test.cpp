// SPDX-License-Identifier: MIT
// The labeller: which rows a stream of events becomes, their labels, and the CSV they are kept in.
#include "telemetry/labeller.hpp"

#include <gtest/gtest.h>

#include <sstream>

#include "features/feature_state.hpp"
#include "telemetry/csv.hpp"

namespace petrel {
namespace {

constexpr uint64_t kMs = 1'000'000;
constexpr uint64_t kSecond = 1'000 * kMs;
constexpr uint64_t kStart = 100 * kSecond;

class LabellerTest : public testing::Test {
 protected:
  // Ticks each 100 ms up to a time.
  void run_until(uint64_t time_ns) {
    while (now_ + 100 * kMs <= time_ns) {
      now_ += 100 * kMs;
      state_.on_tick(now_, {});
      labeller_.on_tick(state_.snapshot(), now_);
    }
  }

  void send(const bpf::event& event) {
    labeller_.on_event(event);
    state_.on_event(event);
  }

  static bpf::event event(bpf::event_type type, uint64_t time_ns, uint16_t port, uint32_t request) {
    bpf::event result{};
    result.type = type;
    result.time_ns = time_ns;
    result.syn_ns = kStart + port;
    result.key.client.bytes[15] = 7;
    result.key.client_port_be = port;
    result.key.service_id = 1;
    result.backend_id = 2;
    result.request = request;
    result.attempt = 1;
    result.state = bpf::CONNECTION_ESTABLISHED;
    return result;
  }

  static bpf::event failed_end(uint64_t time_ns, uint16_t port, uint32_t request) {
    bpf::event end = event(bpf::EVENT_END, time_ns, port, request);
    end.failure = bpf::FAILURE_RESET;
    return end;
  }

  static bpf::event retry_of(const bpf::event& failed, uint64_t time_ns) {
    bpf::event result = event(bpf::EVENT_RETRY, time_ns, 999, 0);
    result.previous_port_be = failed.key.client_port_be;
    result.previous_syn_ns = failed.syn_ns;
    result.previous_request = failed.request;
    result.previous_backend_id = failed.backend_id;
    return result;
  }

  std::vector<uint64_t> ages(Point point) const {
    std::vector<uint64_t> result;
    for (const LabelledRow& row : rows_) {
      if (row.point == point) result.push_back(row.elapsed_ns / kMs);
    }
    return result;
  }

  LabellerOptions options_;
  FeatureState state_;
  std::vector<LabelledRow> rows_;
  Labeller labeller_{options_, [this](const LabelledRow& row) { rows_.push_back(row); }};
  uint64_t now_ = kStart - kSecond;
};

TEST_F(LabellerTest, ARetryLabelsTheRowsOfTheRequestItNamesAndNoOthers) {
  run_until(kStart + kSecond);
  const bpf::event failed = event(bpf::EVENT_ANSWER, kStart + kSecond, 1, 2);
  send(event(bpf::EVENT_ANSWER, kStart + kSecond, 1, 1));
  send(failed);
  send(event(bpf::EVENT_ANSWER, kStart + kSecond, 2, 2));
  bpf::event other_client = failed;
  other_client.key.client.bytes[15] = 8;
  send(other_client);
  bpf::event earlier = failed;  // the same port, used before
  earlier.syn_ns--;
  send(earlier);
  send(retry_of(failed, kStart + 2 * kSecond));
  run_until(kStart + 20 * kSecond);
  ASSERT_EQ(rows_.size(), 5U);
  for (size_t i = 0; i < rows_.size(); i++) EXPECT_EQ(rows_[i].retried, i == 1) << i;
  EXPECT_EQ(labeller_.held_rows(), 0U);
}

TEST_F(LabellerTest, ARetryAfterTheWindowLabelsNothing) {
  run_until(kStart + kSecond);
  const bpf::event failed = failed_end(kStart + kSecond, 1, 1);
  send(failed);
  run_until(kStart + 6 * kSecond);
  send(retry_of(failed, kStart + 6 * kSecond + 1));
  run_until(kStart + 20 * kSecond);
  ASSERT_EQ(rows_.size(), 1U);
  EXPECT_FALSE(rows_[0].retried);
  EXPECT_EQ(labeller_.counters().retries_unmatched, 1U);
}

TEST_F(LabellerTest, ALabelBringsItsEvidenceAndConfidence) {
  run_until(kStart + kSecond);
  const bpf::event failed = failed_end(kStart + kSecond, 1, 1);
  send(failed);
  send(failed_end(kStart + kSecond, 2, 1));
  bpf::event retry = retry_of(failed, kStart + 2 * kSecond);
  retry.evidence = bpf::EVIDENCE_FAILURE | bpf::EVIDENCE_NEAR_PORT;
  retry.confidence = 200;
  send(retry);
  run_until(kStart + 20 * kSecond);
  ASSERT_EQ(rows_.size(), 2U);
  EXPECT_EQ(rows_[0].evidence, bpf::EVIDENCE_FAILURE | bpf::EVIDENCE_NEAR_PORT);
  EXPECT_EQ(rows_[0].confidence, 200);
  EXPECT_EQ(rows_[1].evidence, 0);  // nothing came that might have been its retry
  EXPECT_EQ(rows_[1].confidence, 255);
}

TEST_F(LabellerTest, ALabelIsTakenBackWhereAnotherRequestIsAskedFor) {
  run_until(kStart + kSecond);
  const bpf::event failed = failed_end(kStart + kSecond, 1, 1);
  const bpf::event other = failed_end(kStart + kSecond, 2, 1);
  send(failed);
  send(other);
  for (const bpf::event& each : {failed, other}) send(retry_of(each, kStart + 2 * kSecond));
  bpf::event no_retry = retry_of(failed, kStart + 2 * kSecond + kMs);
  no_retry.type = bpf::EVENT_NO_RETRY;
  no_retry.evidence = bpf::EVIDENCE_OTHER_REQUEST;
  no_retry.confidence = 240;
  send(no_retry);
  run_until(kStart + 20 * kSecond);
  ASSERT_EQ(rows_.size(), 2U);
  EXPECT_FALSE(rows_[0].retried);
  EXPECT_EQ(rows_[0].evidence, bpf::EVIDENCE_OTHER_REQUEST);
  EXPECT_EQ(rows_[0].confidence, 240);
  EXPECT_TRUE(rows_[1].retried);
  EXPECT_EQ(labeller_.counters().withdrawn, 1U);
}

TEST_F(LabellerTest, ARetryAfterOneThatWasTakenBackLabelsAgain) {
  run_until(kStart + kSecond);
  const bpf::event failed = failed_end(kStart + kSecond, 1, 1);
  send(failed);
  send(retry_of(failed, kStart + 2 * kSecond));
  bpf::event no_retry = retry_of(failed, kStart + 2 * kSecond + kMs);
  no_retry.type = bpf::EVENT_NO_RETRY;
  send(no_retry);
  send(retry_of(failed, kStart + 3 * kSecond));
  run_until(kStart + 20 * kSecond);
  ASSERT_EQ(rows_.size(), 1U);
  EXPECT_TRUE(rows_[0].retried);
}

TEST_F(LabellerTest, ARetryAtTheEndOfTheWindowStillLabels) {
  run_until(kStart + kSecond);
  const bpf::event failed = failed_end(kStart + kSecond, 1, 1);
  send(failed);
  run_until(kStart + 6 * kSecond);
  send(retry_of(failed, kStart + 6 * kSecond));
  run_until(kStart + 20 * kSecond);
  ASSERT_EQ(rows_.size(), 1U);
  EXPECT_TRUE(rows_[0].retried);
}

TEST_F(LabellerTest, ARetryReadBeforeItsFailureLabelsItAllTheSame) {
  run_until(kStart + kSecond);
  const bpf::event failed = failed_end(kStart + kSecond, 1, 0);
  send(retry_of(failed, kStart + kSecond + 1));
  send(failed);
  run_until(kStart + 20 * kSecond);
  ASSERT_EQ(rows_.size(), 1U);
  EXPECT_TRUE(rows_[0].retried);
}

TEST_F(LabellerTest, ARetryDoesNotLabelAnEventThatCameMuchLater) {
  run_until(kStart + kSecond);
  const bpf::event later = failed_end(kStart + 4 * kSecond, 1, 1);
  send(retry_of(later, kStart + kSecond));
  run_until(kStart + 4 * kSecond);
  send(later);
  run_until(kStart + 20 * kSecond);
  ASSERT_EQ(rows_.size(), 1U);
  EXPECT_FALSE(rows_[0].retried);
  EXPECT_EQ(labeller_.counters().retries_unmatched, 1U);
}

TEST_F(LabellerTest, WaitingRowsAreAtEachAgeThatWasPassed) {
  run_until(kStart + kSecond);
  bpf::event slow = event(bpf::EVENT_ANSWER, kStart + kSecond, 1, 3);
  slow.waited_ns = 64 * kMs;  // not passed: it was answered at this age
  send(slow);
  run_until(kStart + 20 * kSecond);
  EXPECT_EQ(ages(Point::kWaitingResponse), (std::vector<uint64_t>{8, 16, 32}));
  EXPECT_EQ(ages(Point::kAnswer), (std::vector<uint64_t>{64}));
  for (const LabelledRow& row : rows_) {
    EXPECT_EQ(row.time_ns, kStart + kSecond - 64 * kMs + row.elapsed_ns);
    EXPECT_EQ(row.attempt, row.point == Point::kAnswer ? 1 : 0);
  }
}

TEST_F(LabellerTest, TheHandshakeIsLabelledWithTheFirstRequestAndComesOnce) {
  run_until(kStart + kSecond);
  bpf::event first = event(bpf::EVENT_ANSWER, kStart + kSecond, 1, 1);
  first.connect_ns = 20 * kMs;
  bpf::event end = event(bpf::EVENT_END, kStart + kSecond + 1, 1, 1);
  end.connect_ns = 20 * kMs;
  send(first);
  send(end);
  send(retry_of(first, kStart + 2 * kSecond));
  run_until(kStart + 20 * kSecond);
  EXPECT_EQ(ages(Point::kWaitingSyn), (std::vector<uint64_t>{8, 16}));
  for (const LabelledRow& row : rows_) EXPECT_TRUE(row.retried);
  EXPECT_EQ(rows_[0].request, 0U);
  EXPECT_EQ(rows_[0].time_ns, first.syn_ns + 8 * kMs);
}

TEST_F(LabellerTest, TheEndOfAnAnsweredRequestYieldsNoRow) {
  run_until(kStart + kSecond);
  send(event(bpf::EVENT_ANSWER, kStart + kSecond, 1, 1));
  send(event(bpf::EVENT_END, kStart + kSecond + 1, 1, 1));
  run_until(kStart + 20 * kSecond);
  EXPECT_TRUE(ages(Point::kEnd).empty());
  EXPECT_EQ(ages(Point::kAnswer).size(), 1U);
}

TEST_F(LabellerTest, AnUnansweredSynYieldsSynRowsOnly) {
  run_until(kStart + kSecond);
  bpf::event end = failed_end(kStart + kSecond, 1, 0);
  end.state = bpf::CONNECTION_SYN;
  end.failure = bpf::FAILURE_HANDSHAKE_TIMEOUT;
  end.waited_ns = 900 * kMs;
  send(end);
  run_until(kStart + 20 * kSecond);
  EXPECT_EQ(ages(Point::kWaitingSyn), (std::vector<uint64_t>{8, 16, 32, 64, 128, 256, 512}));
  EXPECT_TRUE(ages(Point::kWaitingResponse).empty());
}

TEST_F(LabellerTest, WaitingRowsSeeTheSnapshotOfTheirOwnTime) {
  run_until(kStart);
  for (int tick = 0; tick < 10; tick++) {
    // The backend begins to fail at kStart, so each tick's snapshot is worse than the one before.
    bpf::event failed = failed_end(now_ + kMs, 50, 1);
    failed.failure = bpf::FAILURE_RESET;
    for (int i = 0; i < 3; i++) state_.on_event(failed);
    run_until(now_ + 100 * kMs);
  }
  bpf::event slow = event(bpf::EVENT_ANSWER, kStart + kSecond, 1, 2);
  slow.waited_ns = 1'000 * kMs;
  send(slow);
  run_until(kStart + 20 * kSecond);
  const auto share = static_cast<size_t>(Feature::kBackendFailures);
  ASSERT_EQ(rows_.size(), 8U);
  EXPECT_EQ(rows_[0].features[share], 0);                         // 8 ms: before the first tick
  EXPECT_EQ(rows_[3].features[share], 0);                         // 64 ms
  EXPECT_GT(rows_[4].features[share], 0);                         // 128 ms
  EXPECT_GT(rows_[6].features[share], rows_[5].features[share]);  // 512 ms, 256 ms
}

TEST_F(LabellerTest, TheSameEventsBeforeADifferentFutureGiveTheSameFeatures) {
  run_until(kStart + kSecond);
  bpf::event slow = event(bpf::EVENT_ANSWER, kStart + kSecond, 1, 1);
  slow.waited_ns = 500 * kMs;
  send(slow);
  run_until(kStart + 2 * kSecond);
  for (int i = 0; i < 100; i++) {
    bpf::event worse = failed_end(now_, 60, 1);
    worse.failure = bpf::FAILURE_RESET;
    state_.on_event(worse);
  }
  run_until(kStart + 20 * kSecond);
  FeatureState calm;
  calm.on_tick(kStart, {});
  Observation seen;
  seen.point = Point::kWaitingResponse;
  seen.service_id = 1;
  seen.backend_id = 2;
  seen.elapsed_ns = 256 * kMs;
  EXPECT_EQ(rows_.at(5).elapsed_ns, 256 * kMs);
  EXPECT_EQ(rows_.at(5).features, calm.compute(seen));
}

TEST_F(LabellerTest, RowsWithoutASnapshotAreCountedNotGuessed) {
  send(event(bpf::EVENT_ANSWER, kStart, 1, 1));
  EXPECT_EQ(labeller_.counters().dropped_no_snapshot, 1U);
  run_until(kStart + 60 * kSecond);
  bpf::event stuck = failed_end(kStart + 60 * kSecond, 1, 1);
  stuck.waited_ns = 50 * kSecond;  // its first ages lie before the history
  send(stuck);
  EXPECT_EQ(labeller_.counters().dropped_no_snapshot, 1U + 12U);
}

TEST_F(LabellerTest, TheEndOfACaptureDropsRowsWhoseWindowIsOpen) {
  run_until(kStart + kSecond);
  send(event(bpf::EVENT_ANSWER, kStart + kSecond, 1, 1));
  run_until(kStart + 4 * kSecond);
  labeller_.finish(now_);
  EXPECT_TRUE(rows_.empty());
  EXPECT_EQ(labeller_.counters().dropped_unfinished, 1U);
}

TEST_F(LabellerTest, MemoryIsBoundedAndTheOldestRowsGoFirst) {
  std::vector<LabelledRow> rows;
  Labeller small({.max_held_rows = 10}, [&rows](const LabelledRow& row) { rows.push_back(row); });
  FeatureState state;
  state.on_tick(kStart, {});
  small.on_tick(state.snapshot(), kStart);
  for (uint16_t port = 1; port <= 30; port++) {
    small.on_event(event(bpf::EVENT_ANSWER, kStart + port, port, 1));
  }
  EXPECT_EQ(small.held_rows(), 10U);
  EXPECT_EQ(small.counters().dropped_full, 20U);
  small.finish(kStart + 30 * kSecond);
  ASSERT_EQ(rows.size(), 10U);
  EXPECT_EQ(rows.front().time_ns, kStart + 21);
}

LabelledRow some_row() {
  LabelledRow row;
  row.time_ns = UINT64_MAX;
  row.service_id = 1;
  row.backend_id = 2;
  row.client_hash = 3;
  row.connection_id = UINT64_MAX;
  row.point = Point::kWaitingSyn;
  row.features[0] = -5;
  row.features[kFeatureCount - 1] = INT32_MAX;
  row.retried = true;
  row.evidence = 3;
  row.confidence = 7;
  return row;
}

TEST(Csv, RowsReadBackAsTheyWereWritten) {
  const LabelledRow row = some_row();
  LabelledRow other;
  std::istringstream in(csv_header() + "\n" + csv_line("a", row) + "\n" + csv_line("b", other) +
                        "\n" + csv_line("a", other) + "\n");
  std::vector<petrel::Run> runs = {{"b", {row}}};
  ASSERT_TRUE(read_csv(in, "x.csv", runs));
  ASSERT_EQ(runs.size(), 2U);
  EXPECT_EQ(runs[0].rows, (std::vector<LabelledRow>{row, other}));
  EXPECT_EQ(runs[1].name, "a");
  EXPECT_EQ(runs[1].rows, (std::vector<LabelledRow>{row, other}));
}

TEST(Csv, WhatIsWrongIsNamedByLineAndColumn) {
  const std::string header = csv_header() + "\n";
  const std::string good = csv_line("a", some_row());
  const std::pair<std::string, std::string> cases[] = {
      {"", "x.csv: line 1: expected a header, found nothing"},
      {"run,time\n", "x.csv: line 1: column 2 (time_ns): expected this name, found \"time\""},
      {header + good + "\n" + good + ",1\n",
       "x.csv: line 3: after the last column: expected the end of the line, found more"},
      {header + "a,1,1\n",
       "x.csv: line 2: column 4 (backend): expected an integer, found the end of the line"},
      {header + "a,-1,1\n",
       "x.csv: line 2: column 2 (time_ns): expected an integer from 0 to "
       "18446744073709551615, found \"-1\""},
      {header + "a b,1\n",
       "x.csv: line 2: column 1 (run): expected a run's name (letters, "
       "digits, '.', '_', '-'), found \"a b\""},
      {header + "a,1,1,1,1,1,1,never\n",
       "x.csv: line 2: column 8 (point): expected waiting_syn, waiting_response, answer or end, "
       "found \"never\""},
      {header + good, "x.csv: line 2: expected a newline, found the end of file"},
      {header + good.substr(0, good.size() - 5) + "2,3,7\n",
       "x.csv: line 2: column " + std::to_string(12 + kFeatureCount + 1) +
           " (retried): expected an integer from 0 to 1, found \"2\""},
      {header + good.substr(0, good.size() - 1) + "256\n",
       "x.csv: line 2: column " + std::to_string(12 + kFeatureCount + 3) +
           " (confidence): expected an integer from 0 to 255, found \"256\""},
  };
  for (const auto& [text, message] : cases) {
    std::istringstream in(text);
    std::vector<petrel::Run> runs;
    const Result<void> result = read_csv(in, "x.csv", runs);
    ASSERT_FALSE(result) << text;
    EXPECT_EQ(result.error().message(), message);
    EXPECT_EQ(result.error().kind(), ExitCode::kInput);
    EXPECT_TRUE(runs.empty());
  }
}

TEST(Csv, AMissingFileIsAnInputErrorThatNamesIt) {
  std::vector<petrel::Run> runs;
  const Result<void> result = read_csv("does-not-exist.csv", runs);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind(), ExitCode::kInput);
  EXPECT_NE(result.error().message().find("does-not-exist.csv: ENOENT"), std::string::npos);
}

}  // namespace
}  // namespace petrel
