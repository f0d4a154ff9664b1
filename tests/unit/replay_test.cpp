// SPDX-License-Identifier: MIT
// A run without a kernel, captured as the agent does it, decides the same when it is replayed.
#include "replay/replay.hpp"

#include <arpa/inet.h>

#include <random>

#include "capture/lines.hpp"
#include "score/model.hpp"
#include "tests/unit/capture_samples.hpp"

namespace petrel::test {
namespace {

constexpr std::uint64_t kTickNs = 100'000'000;

// Weighs what fails and what is silent, so that weights move.
Model test_model() {
  Model model;
  model.name = "test";
  model.bias = -4;
  for (ModelFeature& feature : model.features) {
    feature.min_q16 = -(1 << 22);
    feature.max_q16 = 1 << 22;
  }
  const auto weigh = [&](Feature feature, double coefficient) {
    model.features[static_cast<std::size_t>(feature)].coefficient = coefficient;
  };
  weigh(Feature::kServerError, 6);
  weigh(Feature::kReset, 6);
  weigh(Feature::kBackendFailures, 3);
  weigh(Feature::kBackendSilence, 1);
  weigh(Feature::kWaitingAge, 0.5);
  EXPECT_TRUE(quantize(model));
  return model;
}

ServiceConfig web() {
  ServiceConfig service;
  service.id = 1;
  service.name = "web";
  service.mode = ServiceMode::kAct;
  for (std::uint32_t id : {4, 5, 9}) {
    BackendConfig backend;
    backend.id = id;
    backend.name = "b" + std::to_string(id);
    backend.address.bytes[15] = static_cast<std::uint8_t>(id);
    backend.port = 80;
    service.backends.push_back(backend);
  }
  return service;
}

// An agent's loop under random traffic; writes what a capture would, from when it is told to.
class FakeRun {
 public:
  FakeRun() : loop_(test_model()) { loop_.services().emplace_back(web(), WeightSettings{}); }

  void capture_into(CaptureSink* sink) {
    sink_ = sink;
    checkpoint_ = true;
  }
  void ask_checkpoint() { checkpoint_ = true; }
  void fail(std::uint32_t backend_id) { failing_ = backend_id; }
  void lose_events(bool lose) { lose_events_ = lose; }
  void lose_state(bool lose) { lose_state_ = lose; }
  // From now on events carry scores of a kernel, which is of another mind than the loop.
  void score_in_kernel(std::uint16_t generation) { generation_ = generation; }
  Loop& loop() { return loop_; }

  void run(int ticks) {
    for (int i = 0; i < ticks; ++i) tick();
  }

 private:
  void put(const std::string& line) {
    if (sink_ != nullptr) add_line(*sink_, line);
  }

  bpf::event answer() {
    bpf::event event{};
    event.type = bpf::EVENT_ANSWER;
    event.time_ns = now_ns_ - random_() % kTickNs;
    event.key.service_id = 1;
    event.key.client_port_be = htons(static_cast<std::uint16_t>(random_()));
    event.backend_id = loop_.services()[0].backends()[random_() % 3].config.id;
    event.request = 1;
    event.connect_ns = 20'000 + random_() % 10'000;
    event.waited_ns = 1'000'000 + random_() % 9'000'000;
    event.status = 200;
    if (generation_ != 0) {
      event.score_model = generation_;
      const auto noise = static_cast<std::uint32_t>(random_() % 1000);
      event.score_q16 = event.backend_id == 4 ? 60'000 + noise : noise;
    }
    if (event.backend_id == failing_ && random_() % 3 != 0) {
      event.failure = bpf::FAILURE_SERVER_ERROR;
      event.status = 503;
    }
    return event;
  }

  void tick() {
    now_ns_ += kTickNs + random_() % 1'000'000;
    if (checkpoint_ && sink_ != nullptr) {
      checkpoint_ = false;
      StateOut state;
      loop_.save(state);
      std::vector<std::string> lines = state_lines(tick_, state);
      if (lose_state_) lines.erase(lines.begin() + 3);
      for (const std::string& line : lines) put(line);
    }
    const std::uint64_t events = 20 + random_() % 20;
    for (std::uint64_t i = 0; i < events; ++i) {
      const bpf::event event = answer();
      if (!lose_events_) put(event_line(tick_, event, ClientMask()));
      loop_.on_event(event);
    }
    std::map<std::uint32_t, std::vector<WaitingGroup>> waiting;
    for (const BackendLoop& backend : loop_.services()[0].backends()) {
      if (random_() % 2 == 0) continue;
      waiting[backend.config.id] = {{random_() % 50'000'000, 1 + random_() % 5}};
    }
    const auto inputs = [&](const BackendLoop& backend) {
      const auto& groups = waiting[backend.config.id];
      const auto probe = backend.config.id == failing_ ? ProbeResult::kAnswers : ProbeResult::kUnknown;
      return BackendTick{probe, {}, groups};
    };
    MoveHash moves;
    loop_.tick(now_ns_, std::chrono::nanoseconds(kTickNs),
               [&](const ServiceLoop&, const BackendLoop& backend) { return inputs(backend); },
               [&](const ServiceLoop& service, std::span<const RingChange> changes) {
                 moves.add(service.config().id, changes);
               });
    for (const BackendLoop& backend : loop_.services()[0].backends()) {
      if (lose_events_) continue;
      put(tick_backend_line(tick_, 1, backend.config.id, inputs(backend), Decided::of(backend)));
    }
    put(tick_line({tick_, now_ns_, kTickNs, events, 3, moves.slots(), moves.hash()}));
    moved_ += moves.slots();
    ++tick_;
  }

 public:
  std::uint64_t moved() const { return moved_; }

 private:
  Loop loop_;
  CaptureSink* sink_ = nullptr;
  std::minstd_rand random_{7};
  std::uint64_t now_ns_ = 1'000'000'000'000;
  std::uint64_t tick_ = 100;
  std::uint64_t moved_ = 0;
  std::uint32_t failing_ = 0;
  std::uint16_t generation_ = 0;
  bool checkpoint_ = false;
  bool lose_events_ = false;
  bool lose_state_ = false;
};

class ReplayTest : public CaptureFileTest {
 protected:
  void SetUp() override {
    CaptureFileTest::SetUp();
    auto sink = create_sqlite(path("a.db"));
    ASSERT_TRUE(sink) << sink.error().message();
    sink_ = std::move(*sink);
  }

  // All that a replay does, as text.
  std::string replay(const std::string& name, WhatIf what_if = {}) {
    auto source = open_capture(path(name));
    EXPECT_TRUE(source) << source.error().message();
    auto replay = Replay::open(**source, std::move(what_if));
    EXPECT_TRUE(replay) << replay.error().message();
    std::string text;
    while (replay->step().value()) {
      for (const BackendChange& change : replay->changes()) {
        text += tick_backend_line(replay->tick().tick, change.service_id, change.backend_id, {},
                                  change.decided) + "\n";
      }
      text += tick_line(replay->tick()) + "\n";
    }
    ticks_ = replay->ticks();
    compared_ = replay->compared();
    different_ = replay->different();
    gaps_ = replay->gaps();
    first_ = replay->first_difference() ? replay->first_difference()->what : "";
    return text;
  }

  FakeRun run_;
  std::unique_ptr<CaptureSink> sink_;
  std::uint64_t ticks_ = 0, compared_ = 0, different_ = 0, gaps_ = 0;
  std::string first_;
};

TEST_F(ReplayTest, DecidesWhatWasDecidedLive) {
  run_.run(30);  // what the capture has not seen
  run_.capture_into(sink_.get());
  run_.run(20);
  run_.fail(5);
  run_.run(60);
  run_.fail(0);
  run_.run(60);
  ASSERT_TRUE(sink_->close());
  ASSERT_GT(run_.moved(), 100u);  // something was decided

  replay("a.db");
  EXPECT_EQ(ticks_, 140u);
  EXPECT_EQ(compared_, 140u);
  EXPECT_EQ(different_, 0u) << first_;
  EXPECT_EQ(gaps_, 0u);
}

TEST_F(ReplayTest, TakesTheKernelsScoresWhereTheLoopDid) {
  run_.loop().set_model(test_model(), 0x10007);
  run_.score_in_kernel(7);  // the low bits are what an event has room for
  run_.run(10);
  run_.capture_into(sink_.get());
  run_.run(60);
  ASSERT_TRUE(sink_->close());
  ASSERT_GT(run_.moved(), 100u);  // backend 4 is well, but the kernel says otherwise

  replay("a.db");
  EXPECT_EQ(compared_, 60u);
  EXPECT_EQ(different_, 0u) << first_;
  // Another model's scores are made anew: what the kernel said was by the one before.
  replay("a.db", {.model = test_model()});
  EXPECT_GT(different_, 0u);
}

TEST_F(ReplayTest, OfAnotherModelTheKernelsScoresAreNotTaken) {
  run_.loop().set_model(test_model(), 8);
  run_.score_in_kernel(7);
  run_.capture_into(sink_.get());
  run_.run(60);
  ASSERT_TRUE(sink_->close());
  EXPECT_EQ(run_.moved(), 0u);
  replay("a.db");
  EXPECT_EQ(different_, 0u) << first_;
}

TEST_F(ReplayTest, IsTheSameToTheByteFromSqliteAndFromCsv) {
  run_.capture_into(sink_.get());
  run_.run(20);
  run_.fail(4);
  run_.run(40);
  ASSERT_TRUE(sink_->close());
  auto csv = create_csv_directory(path("csv"));
  ASSERT_TRUE(csv);
  auto source = open_capture(path("a.db"));
  ASSERT_TRUE(source);
  ASSERT_TRUE(copy_capture(**source, **csv));
  ASSERT_TRUE((*csv)->close());

  const std::string once = replay("a.db");
  EXPECT_GT(once.size(), 1000u);
  EXPECT_EQ(replay("a.db"), once);
  EXPECT_EQ(replay("csv"), once);
  EXPECT_EQ(different_, 0u) << first_;
}

TEST_F(ReplayTest, BeginsInTheMiddleOfAFault) {
  run_.run(20);
  run_.fail(5);
  run_.run(25);
  ASSERT_GT(run_.moved(), 0u);
  run_.capture_into(sink_.get());
  run_.run(25);
  run_.fail(0);
  run_.run(30);
  ASSERT_TRUE(sink_->close());
  replay("a.db");
  EXPECT_EQ(compared_, 55u);
  EXPECT_EQ(different_, 0u) << first_;
}

TEST_F(ReplayTest, FollowsADrainByItsCheckpoint) {
  run_.capture_into(sink_.get());
  run_.run(20);
  ServiceLoop& service = run_.loop().services()[0];
  service.set_drain(*service.find(9), 1);
  service.settle();
  run_.ask_checkpoint();
  run_.run(20);
  service.set_drain(*service.find(9), 0);
  service.settle();
  run_.ask_checkpoint();
  run_.run(20);
  ASSERT_TRUE(sink_->close());
  replay("a.db");
  EXPECT_EQ(compared_, 60u);
  EXPECT_EQ(different_, 0u) << first_;
}

TEST_F(ReplayTest, ADrainThatNoCheckpointTellsOfIsSeenAsADifference) {
  run_.capture_into(sink_.get());
  run_.run(20);
  ServiceLoop& service = run_.loop().services()[0];
  service.set_drain(*service.find(9), 1);
  service.settle();
  run_.run(20);
  ASSERT_TRUE(sink_->close());
  replay("a.db");
  EXPECT_GT(different_, 0u);
  EXPECT_NE(first_.find("slots"), std::string::npos) << first_;
}

TEST_F(ReplayTest, ComparesNothingBehindAGapUntilTheNextCheckpoint) {
  run_.capture_into(sink_.get());
  run_.fail(5);
  run_.run(10);
  run_.lose_events(true);
  run_.run(3);
  run_.lose_events(false);
  run_.run(10);
  run_.ask_checkpoint();
  run_.run(10);
  ASSERT_TRUE(sink_->close());
  replay("a.db");
  EXPECT_EQ(ticks_, 33u);
  EXPECT_EQ(compared_, 20u);
  EXPECT_EQ(gaps_, 1u);
  EXPECT_EQ(different_, 0u) << first_;
}

TEST_F(ReplayTest, ACheckpointOfWhichALineIsLostIsNone) {
  run_.lose_state(true);
  run_.capture_into(sink_.get());
  run_.run(5);
  run_.lose_state(false);
  run_.ask_checkpoint();
  run_.run(10);
  run_.lose_state(true);
  run_.ask_checkpoint();
  run_.run(10);  // from where nobody knows: a drain may be in it
  ASSERT_TRUE(sink_->close());
  replay("a.db");
  EXPECT_EQ(ticks_, 20u);
  EXPECT_EQ(compared_, 10u);
  EXPECT_EQ(different_, 0u) << first_;
}

TEST_F(ReplayTest, AModelThatIsNotBelievedAndAnotherThatIsAreFollowed) {
  run_.capture_into(sink_.get());
  run_.fail(5);
  run_.run(30);
  const std::uint64_t before = run_.moved();
  run_.loop().hold(true);
  run_.ask_checkpoint();
  run_.run(20);
  EXPECT_EQ(run_.moved(), before);  // in a tick; the way back was between two
  Model other = test_model();
  other.bias = -3;
  ASSERT_TRUE(quantize(other));
  run_.loop().set_model(other);
  run_.loop().hold(false);
  run_.ask_checkpoint();
  run_.run(20);
  ASSERT_TRUE(sink_->close());
  replay("a.db");
  EXPECT_EQ(compared_, 70u);
  EXPECT_EQ(different_, 0u) << first_;
}

TEST_F(ReplayTest, AnotherModelDecidesOtherwise) {
  run_.capture_into(sink_.get());
  run_.run(10);
  run_.fail(5);
  run_.run(40);
  run_.ask_checkpoint();  // of which only what is configured is taken up
  run_.run(10);
  ASSERT_TRUE(sink_->close());
  Model blind;
  blind.name = "blind";
  blind.bias = -12;
  ASSERT_TRUE(quantize(blind));
  const std::string without = replay("a.db", {.model = blind});
  EXPECT_EQ(ticks_, 60u);
  EXPECT_GT(different_, 0u);
  EXPECT_EQ(replay("a.db", {.model = blind}), without);
}

TEST_F(ReplayTest, AnotherConfigurationDecidesOtherwise) {
  run_.capture_into(sink_.get());
  run_.run(10);
  run_.fail(5);
  run_.run(40);
  ASSERT_TRUE(sink_->close());
  Config config;
  config.services = {web()};
  replay("a.db", {.config = config});
  EXPECT_EQ(different_, 0u) << first_;  // it is the same one
  config.services[0].mode = ServiceMode::kShadow;
  const std::string text = replay("a.db", {.config = config});
  EXPECT_GT(different_, 0u);
  EXPECT_NE(first_.find("slots"), std::string::npos) << first_;
}

TEST_F(ReplayTest, NeedsTheLoopsState) {
  ASSERT_TRUE(sink_->close());
  auto source = open_capture(path("a.db"));
  ASSERT_TRUE(source);
  const auto replay = Replay::open(**source, {});
  ASSERT_FALSE(replay);
  EXPECT_EQ(replay.error().kind(), ExitCode::kInput);
}

TEST_F(ReplayTest, AStateThatIsDamagedIsBadInput) {
  const CaptureTable& state = *find_capture_table("state");
  ASSERT_TRUE(sink_->add(state, {"100", "loop", "services=1"}));
  ASSERT_TRUE(sink_->add(state, {"100", "end", "1"}));
  add_line(*sink_, tick_line({100, 1, 1, 0, 0, 0, 0}));
  ASSERT_TRUE(sink_->close());
  auto source = open_capture(path("a.db"));
  ASSERT_TRUE(source);
  auto replay = Replay::open(**source, {});
  ASSERT_TRUE(replay);
  const auto step = replay->step();
  ASSERT_FALSE(step);
  EXPECT_EQ(step.error().kind(), ExitCode::kInput);
  EXPECT_NE(step.error().message().find("model/name: expected a line of that name"), std::string::npos)
      << step.error().message();
}

TEST_F(ReplayTest, ASavedLoopLoadsAsItWas) {
  run_.fail(5);
  run_.run(40);
  StateOut saved;
  run_.loop().save(saved);
  std::map<std::string, std::string> lines(saved.lines().begin(), saved.lines().end());
  StateIn in(lines);
  auto loaded = Loop::load(in);
  ASSERT_TRUE(loaded) << loaded.error().message();
  StateOut again;
  loaded->save(again);
  ASSERT_EQ(again.lines().size(), saved.lines().size());
  for (std::size_t i = 0; i < saved.lines().size(); ++i) {
    EXPECT_EQ(again.lines()[i], saved.lines()[i]);
  }
  EXPECT_EQ(loaded->services()[0].in_force(), run_.loop().services()[0].in_force());
  EXPECT_EQ(loaded->services()[0].neutral(), run_.loop().services()[0].neutral());
}

}  // namespace
}  // namespace petrel::test
