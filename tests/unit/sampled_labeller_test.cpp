// SPDX-License-Identifier: MIT
// A sample of connections keeps what belongs together, and keeps to its rate.
#include "watch/sampled_labeller.hpp"

#include <gtest/gtest.h>

#include <map>

#include "features/feature_state.hpp"
#include "tests/unit/watch_samples.hpp"

namespace petrel::test {
namespace {

constexpr std::uint64_t kTickNs = 100'000'000;

class SampledLabellerTest : public testing::Test {
 protected:
  // A tick with so many connections, each with one answer; each third one fails and is retried in
  // the next tick but one.
  void tick(int connections) {
    for (const bpf::event& retry : due_) labeller_.on_event(retry);
    due_ = std::move(later_);
    later_.clear();
    for (int i = 0; i < connections; ++i) {
      bpf::event answer{};
      answer.type = bpf::EVENT_ANSWER;
      answer.time_ns = now_ns_ + 1 + static_cast<std::uint64_t>(i);
      answer.syn_ns = answer.time_ns - 1;
      answer.key.service_id = 1;
      answer.key.client_port_be = static_cast<std::uint16_t>(++ports_);
      answer.backend_id = 1;
      answer.request = 1;
      answer.status = 200;
      answer.state = bpf::CONNECTION_ESTABLISHED;
      if (i % 3 == 0) {
        answer.status = 503;
        answer.failure = bpf::FAILURE_SERVER_ERROR;
        bpf::event retry{};
        retry.type = bpf::EVENT_RETRY;
        retry.time_ns = answer.time_ns + kTickNs;
        retry.key = answer.key;
        retry.key.client_port_be = static_cast<std::uint16_t>(++ports_);
        retry.previous_port_be = answer.key.client_port_be;
        retry.previous_syn_ns = answer.syn_ns;
        retry.previous_request = 1;
        later_.push_back(retry);
      }
      labeller_.on_event(answer);
      ++connections_;
    }
    now_ns_ += kTickNs;
    state_.on_tick(now_ns_, {});
    labeller_.on_tick(state_.snapshot(), now_ns_);
  }

  std::uint64_t now_ns_ = 1000 * kSecondNs;
  std::uint64_t connections_ = 0;
  std::uint32_t ports_ = 0;
  FeatureState state_;
  std::vector<bpf::event> due_, later_;
  std::uint64_t rows_ = 0, wrong_ = 0;
  SampledLabeller labeller_{{},
                            [this](const LabelledRow& row) {
                              ++rows_;
                              wrong_ += row.retried != (row.status == 503);
                            },
                            500};
};

TEST_F(SampledLabellerTest, ASmallLoadIsWatchedWhole) {
  tick(0);  // before the first tick there is nothing to compute features from
  for (int i = 0; i < 200; ++i) tick(40);
  EXPECT_EQ(labeller_.share(), 1);
  for (int i = 0; i < 60; ++i) tick(0);
  EXPECT_EQ(rows_, connections_);
  EXPECT_EQ(wrong_, 0U);
}

TEST_F(SampledLabellerTest, ALargeLoadIsSampledAtItsRateAndLabelledRight) {
  for (int i = 0; i < 50; ++i) tick(40);
  const std::uint64_t before = rows_;
  for (int i = 0; i < 300; ++i) tick(2000);  // 20,000 a second
  EXPECT_LT(labeller_.share(), 0.05);
  for (int i = 0; i < 80; ++i) tick(0);
  const std::uint64_t of_load = rows_ - before;
  EXPECT_LT(of_load, 30 * 500 * 1.3 + 2 * 2000);  // the first ticks, before it was known
  EXPECT_GT(of_load, 30 * 500 * 0.4);
  EXPECT_EQ(wrong_, 0U);  // though the sample shrank between failures and their retries
}

TEST_F(SampledLabellerTest, TheSampleGrowsBackWithLessLoad) {
  for (int i = 0; i < 100; ++i) tick(2000);
  ASSERT_LT(labeller_.share(), 0.05);
  for (int i = 0; i < 200; ++i) tick(10);
  EXPECT_EQ(labeller_.share(), 1);
  EXPECT_EQ(wrong_, 0U);
}

}  // namespace
}  // namespace petrel::test
