// SPDX-License-Identifier: MIT
// Training on synthetic rows whose true model is known.
#include "trainer/trainer.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "features/feature_state.hpp"
#include "score/score.hpp"
#include "synthetic_runs.hpp"
#include "telemetry/labeller.hpp"
#include "trainer/logistic.hpp"

namespace petrel {
namespace {

TEST(Trainer, RecoversAKnownModel) {
  const Runs runs = synthetic_runs(8, 3000, 1);
  const Result<TrainingReport> report = train(runs, {.date = "2026-01-31"});
  ASSERT_TRUE(report) << report.error().message();
  const Model& model = report->model;
  for (size_t f = 0; f < kTrueCoefficients.size(); f++) {
    const double raw = model.features[f].coefficient / model.features[f].scale;
    EXPECT_NEAR(raw, kTrueCoefficients[f], 0.1) << f;
  }
  EXPECT_NEAR(model.bias_q16 / double{Q16_ONE}, kTrueBias, 0.2);
  EXPECT_GT(report->held_out.auc, 0.8);
  EXPECT_LT(report->held_out.log_loss, report->held_out.base_rate_log_loss);
  EXPECT_LT(report->largest_quantization_difference, 1e-4);
  for (const CalibrationBin& bin : report->held_out.calibration) {
    EXPECT_NEAR(bin.mean_predicted, bin.share_retried, 0.06);
  }
  EXPECT_LT(report->held_out.ece, 0.03);
  ASSERT_TRUE(model.training.fit);
  EXPECT_EQ(model.training.fit->class_weight, 1);
  EXPECT_EQ(model.training.fit->penalty, "l2");
  EXPECT_EQ(report->candidates.size(), 48U);
  ASSERT_EQ(report->baselines.size(), 3U);
  EXPECT_NEAR(report->baselines[0].auc, 0.5, 0.03);
}

TEST(Trainer, AConstantFeatureHasNoCoefficientAndUnitScale) {
  const Result<TrainingReport> report = train(synthetic_runs(4, 500, 2), {});
  ASSERT_TRUE(report);
  for (size_t f = kTrueCoefficients.size(); f < kFeatureCount; f++) {
    EXPECT_EQ(report->model.features[f].coefficient, 0);
    EXPECT_EQ(report->model.features[f].scale, 1);
    EXPECT_EQ(report->model.coefficients[f].mantissa, 0);
  }
}

TEST(Trainer, MediansAreOfTheTrainingRowsAlone) {
  Runs runs = synthetic_runs(4, 501, 2);
  for (LabelledRow& row : runs[3].rows) row.features[0] = 4 * Q16_ONE;
  const Result<TrainingReport> report = train(runs, {.date = "2026-01-31", .held_out_runs = {"run-3"}});
  ASSERT_TRUE(report);
  std::vector<int32_t> values;
  for (size_t r = 0; r < 3; r++) {
    for (const LabelledRow& row : runs[r].rows) values.push_back(row.features[0]);
  }
  std::sort(values.begin(), values.end());
  EXPECT_EQ(report->model.features[0].median_q16, values[(values.size() - 1) / 2]);
  EXPECT_EQ(report->model.features[10].median_q16, 7);
  EXPECT_TRUE(parse_model(serialize_model(report->model), "m.json"));
}

TEST(Trainer, ShuffledLabelsTeachNothing) {
  Runs runs = synthetic_runs(8, 2000, 3);
  std::mt19937_64 random(4);
  for (auto& run : runs) {
    for (LabelledRow& row : run.rows) row.retried = random() % 4 == 0;
  }
  const Result<TrainingReport> report = train(runs, {});
  ASSERT_TRUE(report);
  EXPECT_NEAR(report->held_out.auc, 0.5, 0.04);
  EXPECT_NEAR(report->held_out.log_loss, report->held_out.base_rate_log_loss, 0.01);
}

TEST(Trainer, TheSameRowsGiveTheSameModelInWhateverOrderTheRunsCome) {
  Runs runs = synthetic_runs(5, 500, 5);
  const Result<TrainingReport> first = train(runs, {.date = "2026-01-31", .seed = 9});
  std::reverse(runs.begin(), runs.end());
  const Result<TrainingReport> second = train(runs, {.date = "2026-01-31", .seed = 9});
  ASSERT_TRUE(first && second);
  EXPECT_EQ(serialize_model(first->model), serialize_model(second->model));
}

TEST(Trainer, TheModelCanBeSavedAndItsFactsAreItsOwn) {
  const Runs runs = synthetic_runs(6, 500, 6);
  const Result<TrainingReport> report = train(runs, {.date = "2026-01-31"});
  ASSERT_TRUE(report);
  const Model& model = report->model;
  const Result<Model> again = parse_model(serialize_model(model), "m.json");
  ASSERT_TRUE(again) << again.error().message();
  EXPECT_TRUE(*again == model);
  EXPECT_EQ(model.training.runs.size() + model.training.held_out_runs.size(), 6U);
  EXPECT_EQ(model.training.held_out_runs.size(), 2U);
  for (const std::string& name : model.training.held_out_runs) {
    EXPECT_EQ(std::count(model.training.runs.begin(), model.training.runs.end(), name), 0);
  }
}

TEST(Trainer, RowsCountByTheConfidenceInTheirLabels) {
  Runs runs = synthetic_runs(6, 2000, 8);
  const Result<TrainingReport> clean = train(runs, {.held_out_runs = {"run-0"}});
  // Rows whose labels are wrong, and known to be doubtful, beside those that are right.
  for (auto& run : runs) {
    const std::vector<LabelledRow> rows = run.rows;
    for (LabelledRow row : rows) {
      row.retried = !row.retried;
      row.confidence = 0;
      run.rows.push_back(row);
    }
  }
  const TrainingOptions weighing{.held_out_runs = {"run-0"}, .weigh_by_confidence = true};
  const Result<TrainingReport> weighed = train(runs, weighing);
  const Result<TrainingReport> plain = train(runs, {.held_out_runs = {"run-0"}});
  ASSERT_TRUE(clean && weighed && plain);
  EXPECT_EQ(weighed->model.features, clean->model.features);
  EXPECT_NE(plain->model.features, clean->model.features);
  const Result<TrainingReport> again = train(runs, weighing);
  ASSERT_TRUE(again);
  EXPECT_EQ(serialize_model(again->model), serialize_model(weighed->model));
}

TEST(Trainer, HeldOutRowsDoNotTouchTheModel) {
  Runs runs = synthetic_runs(5, 500, 7);
  const TrainingOptions options{.held_out_runs = {"run-3"}};
  const Result<TrainingReport> before = train(runs, options);
  for (LabelledRow& row : runs[3].rows) {
    row.features[0] *= 2;
    row.retried = !row.retried;
  }
  const Result<TrainingReport> after = train(runs, options);
  ASSERT_TRUE(before && after);
  EXPECT_EQ(before->model.features, after->model.features);
  EXPECT_EQ(before->model.bias_q16, after->model.bias_q16);
  EXPECT_LT(after->held_out.auc, before->held_out.auc);
}

TEST(Trainer, FeaturesLeftOutGetNoWeightWhateverTheyTell) {
  const Runs runs = synthetic_runs(6, 1000, 11);
  const std::string strongest(kFeatures[0].name);
  const Result<TrainingReport> whole = train(runs, {});
  const Result<TrainingReport> report = train(runs, {.without = {strongest}});
  ASSERT_TRUE(whole && report);
  EXPECT_NE(whole->model.features[0].coefficient, 0);
  EXPECT_EQ(report->model.features[0].coefficient, 0);
  EXPECT_EQ(report->model.coefficients[0].mantissa, 0);
  EXPECT_EQ(report->model.training.fit->without, std::vector<std::string>{strongest});
  EXPECT_LT(report->held_out.auc, whole->held_out.auc);
  const Result<TrainingReport> unknown = train(runs, {.without = {"nothing"}});
  ASSERT_FALSE(unknown);
  EXPECT_NE(unknown.error().message().find("found nothing"), std::string::npos);
}

// Of features that tell nothing the L1 penalty leaves none: what it is for.
TEST(Trainer, ThePenaltyIsWhatWasAskedFor) {
  Runs runs = synthetic_runs(6, 1500, 12);
  std::mt19937_64 random(13);
  for (auto& run : runs) {
    for (LabelledRow& row : run.rows) {
      for (size_t f = 12; f < 18; f++) row.features[f] = static_cast<int32_t>(random() % Q16_ONE);
    }
  }
  size_t zeros[2] = {};
  for (const Penalty penalty : {Penalty::kL2, Penalty::kL1}) {
    TrainingOptions options;
    options.grid.penalties = {penalty};
    options.grid.class_weights = {ClassWeight::kOne};
    options.grid.cs = {0.005};
    options.calibration = CalibrationMethod::kNone;
    const Result<TrainingReport> report = train(runs, options);
    ASSERT_TRUE(report) << report.error().message();
    EXPECT_EQ(report->model.training.fit->penalty, penalty_name(penalty));
    for (size_t f = 12; f < 18; f++) zeros[static_cast<size_t>(penalty)] += report->model.features[f].coefficient == 0;
  }
  EXPECT_EQ(zeros[0], 0U);
  EXPECT_GE(zeros[1], 4U);
}

TEST(Trainer, AClassWeightComesFromTheSharesOfTheLabels) {
  Runs runs = synthetic_runs(1, 1000, 14);
  for (size_t i = 0; i < 1000; i++) runs[0].rows[i].retried = i % 10 == 0;
  const RunPointers pointers = {runs.data()};
  EXPECT_EQ(class_weight_of(ClassWeight::kOne, pointers), 1);
  EXPECT_EQ(class_weight_of(ClassWeight::kBalanced, pointers), 9);
  EXPECT_EQ(class_weight_of(ClassWeight::kRoot, pointers), 3);
}

TEST(Trainer, OfCandidatesThatAreAlikeTheSimplestIsTaken) {
  const CandidateResult heavy{Penalty::kL2, ClassWeight::kBalanced, 0.1, 0.49995, 0.6, 0.9, {}};
  const CandidateResult sparse{Penalty::kL1, ClassWeight::kOne, 0.1, 0.4999, 0.5, 0.9, {}};
  const CandidateResult plain{Penalty::kL2, ClassWeight::kOne, 0.1, 0.5, 0.5, 0.9, {}};
  const CandidateResult worse{Penalty::kL2, ClassWeight::kOne, 1, 0.51, 0.51, 0.9, {}};
  EXPECT_EQ(best_candidate({sparse, heavy, worse, plain})->log_loss, plain.log_loss);
  EXPECT_EQ(best_candidate({heavy, worse, sparse})->class_weight, ClassWeight::kBalanced);
  const CandidateResult better{Penalty::kL1, ClassWeight::kRoot, 0.1, 0.45, 0.5, 0.9, {}};
  EXPECT_EQ(best_candidate({plain, better})->penalty, Penalty::kL1);
  EXPECT_FALSE(best_candidate({}));
}

// Two runs better by 3, two worse by 1: no proof. All four better by 1: proof.
TEST(Trainer, TheLeastCThatRunsDoNotProveWorseIsTaken) {
  const auto candidate = [](double c, std::vector<double> losses) {
    CandidateResult it{Penalty::kL2, ClassWeight::kOne, c, 0, 0, 0.9, {}};
    for (const double loss : losses) {
      it.of_runs.push_back({loss, 10});
      it.log_loss += loss / 40;
    }
    return it;
  };
  const CandidateResult best = candidate(0.1, {10, 10, 10, 10});
  EXPECT_EQ(best_candidate({best, candidate(0.001, {13, 13, 9, 9})})->c, 0.001);
  EXPECT_EQ(best_candidate({best, candidate(0.001, {11, 11, 11, 11.1})})->c, 0.1);
  EXPECT_EQ(best_candidate({best, candidate(0.001, {11, 11, 11, 11.1}),
                            candidate(0.01, {10, 10.1, 10, 9.95})})->c, 0.01);
}

TEST(Trainer, ThinningKeepsConnectionsWhole) {
  Runs runs = synthetic_runs(2, 4000, 15);
  for (auto& run : runs) {
    for (size_t i = 0; i < run.rows.size(); i++) run.rows[i].connection_id = i / 4;
  }
  const RunPointers pointers = {&runs[0], &runs[1]};
  const Runs thinned = thin_connections(pointers, 2000, 1);
  ASSERT_EQ(thinned.size(), 2U);
  for (const auto& run : thinned) {
    EXPECT_NEAR(static_cast<double>(run.rows.size()), 1000, 200);
    for (size_t i = 0; i + 3 < run.rows.size(); i += 4) {
      EXPECT_EQ(run.rows[i].connection_id, run.rows[i + 3].connection_id);
    }
  }
  EXPECT_EQ(thin_connections(pointers, 8000, 1)[0].rows, runs[0].rows);
}

// Each row is scored by a model that saw no row of its run: what a run's own features give away of
// its labels must not help.
TEST(Trainer, NoRunIsScoredByAModelThatSawIt) {
  Runs runs = synthetic_runs(10, 400, 16);
  std::mt19937_64 random(17);
  for (size_t r = 0; r < runs.size(); r++) {
    // Feature 5 is 1 in one run only, where all were retried; the other features tell nothing.
    for (LabelledRow& row : runs[r].rows) {
      row.features = {};
      row.features[5] = r == 0 ? Q16_ONE : 0;
      row.features[6] = static_cast<int32_t>(random() % Q16_ONE);
      row.retried = r == 0 || uniform(random) < 0.1;
    }
  }
  RunPointers pointers;
  for (const auto& run : runs) pointers.push_back(&run);
  const Result<UnseenRows> unseen = score_unseen(pointers, {.c = 1}, 4000, {});
  ASSERT_TRUE(unseen);
  EXPECT_EQ(unseen->rows.size(), 4000U);
  for (size_t i = 0; i < unseen->rows.size(); i++) {
    EXPECT_LT(unseen->rows[i].log_odds, 0) << unseen->run[i];
  }
}

TEST(Trainer, ReferencesAreSharesOfTheTrainingRowsByPoint) {
  const Runs runs = synthetic_runs(4, 2000, 18);
  const Result<TrainingReport> report = train(runs, {.held_out_runs = {"run-3"}});
  ASSERT_TRUE(report);
  EXPECT_EQ(report->model.references.size(), kTrueCoefficients.size() * kPointCount);
  for (const FeatureReference& reference : report->model.references) {
    ASSERT_EQ(reference.edges_q16.size(), kMostReferenceEdges);
    std::vector<double> counts(reference.shares.size());
    double rows = 0;
    for (size_t r = 0; r < 3; r++) {
      for (const LabelledRow& row : runs[r].rows) {
        if (row.point != reference.point) continue;
        counts[reference_bin(reference, row.features[reference.feature])]++;
        rows++;
      }
    }
    for (size_t i = 0; i < counts.size(); i++) {
      EXPECT_NEAR(counts[i] / rows, reference.shares[i], 1e-8);
      EXPECT_NEAR(reference.shares[i], 0.1, 0.01);
    }
  }
}

TEST(Trainer, TooLittleToTrainOnIsAnInputError) {
  Runs one_class = synthetic_runs(4, 100, 8);
  for (auto& run : one_class) {
    for (LabelledRow& row : run.rows) row.retried = false;
  }
  Runs lonely = one_class;  // all retries in one run: no split has both on both sides
  lonely[0].rows[0].retried = true;
  const Runs good = synthetic_runs(4, 100, 9);
  const std::tuple<Runs, TrainingOptions, const char*> cases[] = {
      {{}, {}, "expected 3 runs or more with rows, found 0"},
      {synthetic_runs(2, 100, 1), {}, "expected 3 runs or more with rows, found 2"},
      {one_class, {}, "expected retried and other rows, found only one of them"},
      {lonely, {}, "found no such split"},
      {good, {.held_out_runs = {"none"}}, "expected a run named none to hold out"},
      {good, {.held_out_runs = {"run-0", "run-1", "run-2"}}, "expected 2 runs or more to train on"},
  };
  for (const auto& [runs, options, expected] : cases) {
    const Result<TrainingReport> report = train(runs, options);
    ASSERT_FALSE(report);
    EXPECT_EQ(report.error().kind(), ExitCode::kInput);
    EXPECT_NE(report.error().message().find(expected), std::string::npos)
        << report.error().message();
  }
}

// One run of 40 s: 100 requests a second over 4 backends, whose clients give up after 1 s. From
// 15 s to 25 s backend 2 answers nothing, and 9 of 10 clients that gave up come again.
class StallSimulation {
 public:
  explicit StallSimulation(uint64_t seed) : random_(seed) {}

  std::vector<LabelledRow> run() {
    for (uint32_t i = 0; i < 4000; i++) request(i);
    std::stable_sort(events_.begin(), events_.end(), [](const auto& left, const auto& right) {
      return left.time_ns < right.time_ns;
    });
    std::vector<LabelledRow> rows;
    Labeller labeller({}, [&rows](const LabelledRow& row) { rows.push_back(row); });
    size_t next = 0;
    for (uint64_t now = kStart; now < kStart + 60'000 * kMs; now += 100 * kMs) {
      for (; next < events_.size() && events_[next].time_ns < now; next++) {
        labeller.on_event(events_[next]);
        state_.on_event(events_[next]);
      }
      tick(now);
      labeller.on_tick(state_.snapshot(), now);
    }
    return rows;
  }

 private:
  static constexpr uint64_t kMs = 1'000'000;
  static constexpr uint64_t kStart = 1'000'000 * kMs;

  void request(uint32_t number) {
    const uint64_t begin_ms = number * 10;
    bpf::event event{};
    event.backend_id = 1 + static_cast<uint32_t>(random_() % 4);
    const bool stalled = event.backend_id == 2 && begin_ms >= 15'000 && begin_ms < 25'000;
    const double response_ms = 4 * std::exp(3 * uniform(random_));
    event.waited_ns = stalled ? 1'000 * kMs : static_cast<uint64_t>(response_ms * kMs);
    event.time_ns = kStart + begin_ms * kMs + event.waited_ns;
    event.syn_ns = kStart + begin_ms * kMs - kMs;
    event.connect_ns = kMs;
    event.type = stalled ? bpf::EVENT_END : bpf::EVENT_ANSWER;
    event.failure = stalled ? bpf::FAILURE_ABANDONED : bpf::FAILURE_NONE;
    event.key.client_port_be = static_cast<uint16_t>(number);
    event.key.service_id = 1;
    event.request = 1;
    event.attempt = 1;
    event.state = bpf::CONNECTION_ESTABLISHED;
    events_.push_back(event);
    if (!stalled || uniform(random_) > 0.9) return;
    bpf::event retry = event;
    retry.type = bpf::EVENT_RETRY;
    retry.time_ns += 10 * kMs;
    retry.previous_syn_ns = event.syn_ns;
    retry.previous_port_be = event.key.client_port_be;
    retry.previous_request = 1;
    events_.push_back(retry);
  }

  void tick(uint64_t now) {
    std::array<BackendWaiting, 4> waiting{};
    for (uint32_t i = 0; i < 4; i++) waiting[i] = {i + 1, 1, 0};
    for (const bpf::event& event : events_) {
      const bool open = event.time_ns - event.waited_ns < now && event.time_ns >= now;
      if (open && event.type != bpf::EVENT_RETRY) waiting[event.backend_id - 1].waiting++;
    }
    state_.on_tick(now, waiting);
  }

  std::mt19937_64 random_;
  std::vector<bpf::event> events_;
  FeatureState state_;
};

TEST(Trainer, LearnsFromEventsWhichWaitingRequestsWillBeRetried) {
  Runs runs;
  for (uint64_t seed = 1; seed <= 5; seed++) {
    runs.push_back({"stall-" + std::to_string(seed), StallSimulation(seed).run()});
  }
  const Result<TrainingReport> report = train(runs, {});
  ASSERT_TRUE(report) << report.error().message();
  const auto& by_point = report->held_out.by_point;
  const PointResult& waiting = by_point[static_cast<size_t>(Point::kWaitingResponse)];
  EXPECT_GT(waiting.rows, 1000U);
  EXPECT_GT(waiting.auc, 0.95);
  EXPECT_LT(report->largest_quantization_difference, 1e-4);
  for (const Baseline& baseline : report->baselines) {
    EXPECT_GT(report->held_out.auc, baseline.auc) << baseline.name;
  }
}

TEST(Metrics, AucCountsTiesHalf) {
  const std::vector<uint8_t> labels = {0, 0, 1, 1};
  EXPECT_DOUBLE_EQ(roc_auc(std::vector<double>{1, 2, 3, 4}, labels), 1);
  EXPECT_DOUBLE_EQ(roc_auc(std::vector<double>{4, 3, 2, 1}, labels), 0);
  EXPECT_DOUBLE_EQ(roc_auc(std::vector<double>{1, 1, 1, 1}, labels), 0.5);
  EXPECT_DOUBLE_EQ(roc_auc(std::vector<double>{1, 2, 2, 3}, labels), 0.875);
  EXPECT_DOUBLE_EQ(roc_auc(std::vector<double>{1, 2}, std::vector<uint8_t>{1, 1}), 0.5);
  EXPECT_DOUBLE_EQ(roc_auc({}, {}), 0.5);
}

TEST(Metrics, LogLossOfCertainErrorIsBounded) {
  EXPECT_NEAR(log_loss(std::vector<double>{0.5, 0.5}, std::vector<uint8_t>{0, 1}), std::log(2),
              1e-12);
  EXPECT_NEAR(log_loss(std::vector<double>{1}, std::vector<uint8_t>{0}), 17 * std::log(2), 1e-9);
}

}  // namespace
}  // namespace petrel
