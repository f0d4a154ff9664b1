// SPDX-License-Identifier: MIT
// Scores that the balancer gives its events: bit for bit the agent's own, of the same views.
#include <gtest/gtest.h>

#include <random>
#include <set>

#include "score/score.hpp"
#include "tests/bpf/conversation.hpp"

namespace petrel::test {
namespace {

constexpr std::uint32_t kTwoChoices =
    bpf::SERVICE_READY | bpf::SERVICE_ACT | bpf::SERVICE_TWO_CHOICES;
constexpr std::uint32_t kGeneration = 0x30007;  // an event has the low 16 bits

// As a trained one: coefficients to a quarter, ranges to 16 on either side.
Model random_model(std::mt19937_64& random) {
  Model model;
  model.bias_q16 = static_cast<std::int32_t>(random() % (4 * Q16_ONE)) - 2 * Q16_ONE;
  for (std::size_t i = 0; i < kFeatureCount; i++) {
    model.coefficients[i] = {static_cast<std::int32_t>(random()) >> 2,
                             static_cast<std::uint32_t>(31 + random() % 4)};
    model.features[i].min_q16 = -static_cast<std::int32_t>(random() % (16 * Q16_ONE));
    model.features[i].max_q16 = static_cast<std::int32_t>(random() % (16 * Q16_ONE));
  }
  return model;
}

bpf::backend_view random_backend(std::mt19937_64& random) {
  const auto share = [&] { return static_cast<std::int32_t>(random() % (Q16_ONE + 1)); };
  bpf::backend_view view{};
  view.waiting_excess_q16 = static_cast<std::int32_t>(random() % (20 * Q16_ONE)) - 10 * Q16_ONE;
  view.usual_response_log2_q16 = static_cast<std::int32_t>(random() % (30 * Q16_ONE));
  view.silence_ns = random() >> (random() % 64);
  view.failure_share_q16 = share();
  view.others_failure_share_q16 = share();
  view.trouble_share_q16 = share();
  view.other_zone = random() % 2;
  return view;
}

bpf::service_view random_service(std::mt19937_64& random) {
  const auto log2 = [&](int most) { return static_cast<std::int32_t>(random() % (most * Q16_ONE)); };
  bpf::service_view view{};
  view.usual_response_log2_q16 = log2(34);
  view.response_spread_q16 = log2(4);
  view.usual_connect_log2_q16 = log2(34);
  view.patience_log2_q16 = log2(36);
  view.usual_srtt_log2_q16 = log2(24);
  view.retry_odds_log2_q16 = log2(8) - 4 * Q16_ONE;
  view.day_sine_q16 = log2(2) - Q16_ONE;
  view.day_cosine_q16 = log2(2) - Q16_ONE;
  std::int32_t rarity = 0;
  for (std::int32_t& each : view.rarity_q16) each = rarity += log2(1);
  return view;
}

struct KernelScore : BalancerTest {
  explicit KernelScore(const LoadOptions& options = {.score_in_kernel = true})
      : BalancerTest(options) {}

  const Hosts& h = v4();
  std::mt19937_64 random{11};
  Model model;
  Snapshot snapshot;
  std::uint16_t port = 40000;
  std::set<std::uint32_t> scores;  // a test that sees few of them proves little

  void SetUp() override {
    BalancerTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    snapshot.backends.resize(16);
    snapshot.services.resize(8);
    draw();
  }

  // Another model and other views, in the kernel and here.
  void draw(std::uint32_t at = 1, std::uint32_t generation = kGeneration) {
    model = random_model(random);
    lb.set_model(make_scoring_model(model, generation), at);
    for (const std::uint32_t id : {h.b1, h.b2, h.b3}) {
      snapshot.backends[id] = random_backend(random);
      snapshot.services[h.service] = random_service(random);
      lb.set_views(id, snapshot.backends[id], h.service, snapshot.services[h.service]);
    }
    for (const std::uint32_t id : {h.b1, h.b2, h.b3}) {
      lb.set_views(id, snapshot.backends[id], h.service, snapshot.services[h.service]);
    }
  }

  // Checks each event that came since the last call; returns how many say how a request went.
  int expect_scores() {
    int outcomes = 0;
    for (const bpf::event& event : lb.events()) {
      SCOPED_TRACE("event type " + std::to_string(event.type) + ", failure " +
                   std::to_string(event.failure));
      if (event.type == bpf::EVENT_RETRY || !is_outcome(event)) {
        EXPECT_EQ(event.score_model, 0);
        EXPECT_EQ(event.score_q16, 0U);
        continue;
      }
      outcomes++;
      EXPECT_EQ(event.score_model, kGeneration & 0xffff);
      EXPECT_EQ(event.score_q16, probability_q16(model, compute(snapshot, observe(event))));
      scores.insert(event.score_q16);
    }
    return outcomes;
  }

  // A client that nobody knows yet, so that nothing is a retry.
  Conversation stranger() {
    Endpoint client = h.client;
    client.address.bytes[14] = static_cast<std::uint8_t>(++port >> 8);
    client.address.bytes[15] = static_cast<std::uint8_t>(port);
    return Conversation(lb, h, client, h.vip, h.service);
  }
};

TEST_F(KernelScore, OfAnAnswerIsThatOfTheAgent) {
  for (int round = 0; round < 40; round++) {
    draw();
    auto conversation = stranger();
    conversation.open().request();
    lb.pass(std::chrono::nanoseconds(random() >> (random() % 40 + 24)));
    conversation.answer(round % 3 == 0 ? 503 : round % 3 == 1 ? 429 : 200);
    EXPECT_EQ(expect_scores(), 1);
    conversation.client_fin();  // says nothing new
    EXPECT_EQ(expect_scores(), 0);
  }
  EXPECT_GT(scores.size(), 30U);
}

TEST_F(KernelScore, OfARequestWithoutAnAnswerIsThatOfTheAgent) {
  for (int round = 0; round < 10; round++) {
    draw();
    stranger().open().request().client_fin();
    EXPECT_EQ(expect_scores(), 1);
    stranger().open().request("POST /form HTTP/1.1\r\nHost: a\r\n\r\n").backend_rst();
    EXPECT_EQ(expect_scores(), 1);
    auto emptied = stranger();
    emptied.open().request();
    emptied.repeat_client();
    emptied.backend_fin();
    EXPECT_EQ(expect_scores(), 1);
  }
}

TEST_F(KernelScore, OfARefusalIsThatOfTheAgent) {
  auto conversation = stranger();
  conversation.syn();
  conversation.repeat_client();
  conversation.backend_rst();
  EXPECT_EQ(expect_scores(), 1);
}

TEST_F(KernelScore, OfARetryThereIsNone) {
  Conversation(lb, h, 40001).syn().backend_rst();
  EXPECT_EQ(expect_scores(), 1);
  Conversation(lb, h, 40002).syn();
  const auto events = lb.events();
  ASSERT_EQ(events.size(), 1U);
  EXPECT_EQ(events[0].type, bpf::EVENT_RETRY);
  EXPECT_EQ(events[0].score_model, 0);
}

TEST_F(KernelScore, IsByTheModelInForce) {
  const std::uint32_t other = kGeneration + 0x10000;  // the same low bits
  for (const std::uint32_t at : {2U, 1U, 2U}) {
    draw(at, other);
    stranger().open().request().answer(503);
    EXPECT_EQ(expect_scores(), 1);
  }
  lb.set_model(make_scoring_model(model, 9), 1);
  stranger().open().request().answer(503);
  const auto events = lb.events();
  ASSERT_EQ(events.size(), 1U);
  EXPECT_EQ(events[0].score_model, 9);
}

TEST_F(KernelScore, WithoutAModelIsNone) {
  lb.reset();
  write_defaults(h);
  stranger().open().request().answer(503);
  const auto events = lb.events();
  ASSERT_EQ(events.size(), 1U);
  EXPECT_EQ(events[0].score_model, 0);
  EXPECT_EQ(events[0].score_q16, 0U);
  EXPECT_EQ(lb.kernel_risk(h.b1).risk_q16, 0U);
}

struct NoKernelScore : KernelScore {
  NoKernelScore() : KernelScore(LoadOptions{}) {}
};

TEST_F(NoKernelScore, IsTheDefault) {
  stranger().open().request().answer(503);
  stranger().open().request().client_fin();
  stranger().syn().backend_rst();
  const auto events = lb.events();
  EXPECT_EQ(events.size(), 3U);
  for (const bpf::event& event : events) {
    EXPECT_EQ(event.score_model, 0);
    EXPECT_EQ(event.score_q16, 0U);
  }
  EXPECT_EQ(lb.kernel_risk(h.b1).risk_q16, 0U);
}

// Two choices: the ring names b1, the neutral ring b2. Failures are worth 0.95, all else 0.05.
struct KernelRisk : KernelScore {
  using KernelScore::KernelScore;

  void SetUp() override {
    KernelScore::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    // A risk halves as the clock passes a multiple of 2^30 ns: not in the middle of a test.
    lb.pass(std::chrono::nanoseconds((1 << 30) - lb.now_ns() % (1 << 30)));
    lb.set_service(h, kTwoChoices);
    lb.fill_neutral(h.service, {h.b2});
    Model simple;
    simple.bias_q16 = -3 * Q16_ONE;
    for (const auto feature : {bpf::FEATURE_SERVER_ERROR, bpf::FEATURE_REFUSED}) {
      simple.coefficients[feature] = {6 << 20, 20};
      simple.features[feature].max_q16 = Q16_ONE;
    }
    lb.set_model(make_scoring_model(simple, kGeneration));
  }

  // Without two choices meanwhile.
  void fail(std::uint32_t backend_id, int times, int status = 503) {
    lb.set_service(h, bpf::SERVICE_READY | bpf::SERVICE_ACT);
    lb.fill_ring(h.service, {backend_id});
    for (int i = 0; i < times; i++) {
      auto conversation = stranger();
      conversation.open().request().answer(status);
      EXPECT_EQ(conversation.backend_id(), backend_id);
    }
    lb.fill_ring(h.service, {h.b1});
    lb.set_service(h, kTwoChoices);
  }

  std::uint32_t next_backend() {
    auto conversation = stranger();
    conversation.syn();
    return conversation.backend_id();
  }
};

TEST_F(KernelRisk, FollowsTheOutcomes) {
  EXPECT_EQ(next_backend(), h.b1);
  fail(h.b1, 5);  // 0.95 * (1 - (7/8)^5) is 0.46
  EXPECT_EQ(next_backend(), h.b1);
  fail(h.b1, 1);
  EXPECT_GT(lb.kernel_risk(h.b1).risk_q16, Q16_ONE / 2U);
  EXPECT_EQ(next_backend(), h.b2);
}

TEST_F(KernelRisk, ThatBothHaveChangesNothing) {
  fail(h.b1, 8);
  fail(h.b2, 8);
  EXPECT_EQ(next_backend(), h.b1);
}

TEST_F(KernelRisk, OfTheSecondKeepsTheFirst) {
  lb.set_inflight(h.b1, 40);
  EXPECT_EQ(next_backend(), h.b2);  // which has less to do
  fail(h.b2, 8);
  lb.set_inflight(h.b1, 40);
  EXPECT_EQ(next_backend(), h.b1);
}

TEST_F(KernelRisk, IsForgottenWithTime) {
  fail(h.b1, 12);
  EXPECT_EQ(next_backend(), h.b2);
  lb.pass(1200ms);  // it halves in about a second
  EXPECT_EQ(next_backend(), h.b1);
}

TEST_F(KernelRisk, GoesDownWithGoodAnswers) {
  fail(h.b1, 12);
  fail(h.b1, 4, 200);
  EXPECT_LT(lb.kernel_risk(h.b1).risk_q16, Q16_ONE / 2U);
  EXPECT_EQ(next_backend(), h.b1);
}

struct NoKernelRisk : KernelRisk {
  NoKernelRisk() : KernelRisk(LoadOptions{}) {}
};

TEST_F(NoKernelRisk, IsTheDefault) {
  fail(h.b1, 12);
  EXPECT_EQ(next_backend(), h.b1);
}

}  // namespace
}  // namespace petrel::test
