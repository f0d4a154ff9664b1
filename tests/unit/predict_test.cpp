// SPDX-License-Identifier: MIT
// What users say of a request, to features as the agent computes them, to a probability.
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <cmath>

#include "capture/words.hpp"
#include "predict/csv_rows.hpp"
#include "predict/predictor.hpp"
#include "predict/report.hpp"
#include "score/score.hpp"

namespace petrel {
namespace {

constexpr uint64_t kMs = 1'000'000;

Model sample_model(bool medians = true) {
  Model model;
  model.name = "sample";
  model.bias = -2;
  for (size_t i = 0; i < kFeatureCount; i++) {
    model.features[i] = {.mean = 0.5, .scale = 1, .coefficient = i % 2 == 0 ? 0.25 : -0.5};
    model.features[i].min_q16 = -10 * Q16_ONE;
    model.features[i].max_q16 = 16 * Q16_ONE;
    if (medians) model.features[i].median_q16 = Q16_ONE / 4;
  }
  EXPECT_TRUE(quantize(model));
  return model;
}

Request request_of(std::initializer_list<std::pair<const char*, const char*>> given) {
  Request request;
  for (const auto& [name, text] : given) {
    const auto index = find_quantity(name);
    EXPECT_TRUE(index) << name;
    const auto value = read_quantity(quantities()[*index], text);
    EXPECT_TRUE(value) << name << " " << text;
    request.set(*index, *value);
  }
  return request;
}

Prediction predicted(const Model& model, const Request& request) {
  Predictor predictor(model);
  Prediction prediction;
  EXPECT_FALSE(predictor.predict(request, prediction));
  return prediction;
}

const PredictedFeature& feature(const Prediction& prediction, Feature wanted) {
  for (const PredictedFeature& each : prediction.features) {
    if (each.feature == static_cast<size_t>(wanted)) return each;
  }
  throw std::logic_error("no such feature");
}

bool is_among(std::string_view name, uint64_t bits) {
  return (bits >> *find_quantity(name) & 1) != 0;
}

// All that the agent would know of it.
TEST(Predictor, AWholeRequestHasTheFeaturesThatTheAgentComputes) {
  const Model model = sample_model();
  Situation situation;
  situation.seen = {
      .point = Point::kWaitingResponse, .attempt = 2, .backend_id = 1, .service_id = 1};
  situation.seen.elapsed_ns = 900 * kMs;
  situation.service().usual_response_log2_q16 = bpf::log2_q16(20 * kMs);
  BackendView& backend = situation.backend();
  backend.waiting_excess_q16 = 2 * Q16_ONE;
  backend.silence_ns = 400 * kMs;
  backend.failure_share_q16 = Q16_ONE / 2;
  backend.others_failure_share_q16 = Q16_ONE / 8;
  backend.connect_failure_share_q16 = Q16_ONE / 4;
  backend.reset_share_q16 = Q16_ONE / 8;
  backend.error_share_q16 = Q16_ONE / 16;
  backend.trouble_share_q16 = Q16_ONE / 2;
  backend.other_zone = 1;
  situation.service().day_cosine_q16 = Q16_ONE;
  situation.rarity_q16 = 3 * Q16_ONE;
  const FeatureVector expected = situation.features();
  const Request request = request_of({{"waiting_ms", "900"},
                                      {"attempt", "2"},
                                      {"usual_response_ms", "20"},
                                      {"backend_waiting_ratio", "4"},
                                      {"backend_silence_ms", "400"},
                                      {"backend_failure_share", "0.5"},
                                      {"others_failure_share", "0.125"},
                                      {"backend_connect_failure_share", "0.25"},
                                      {"backend_reset_share", "0.125"},
                                      {"backend_error_share", "0.0625"},
                                      {"trouble_share", "0.5"},
                                      {"other_zone", "yes"},
                                      {"rarity", "8"},
                                      {"hour", "0"}});
  const Prediction prediction = predicted(model, request);
  for (const PredictedFeature& each : prediction.features) {
    EXPECT_EQ(each.value_q16, expected[each.feature]) << kFeatures[each.feature].name;
    EXPECT_EQ(each.source, Source::kRequest) << kFeatures[each.feature].name;
  }
  EXPECT_EQ(prediction.probability_q16, probability_q16(model, expected));
}

TEST(Predictor, WhatHangsOnWhatIsNotGivenTakesTheMedianAndNothingElseDoes) {
  const Prediction prediction =
      predicted(sample_model(), request_of({{"status", "500"}, {"response_time_ms", "750"}}));
  for (const PredictedFeature& each : prediction.features) {
    const auto which = static_cast<Feature>(each.feature);
    const bool unknown =
        which == Feature::kSynRepeats || which == Feature::kAttempt ||
        which == Feature::kSegmentRepeats || which == Feature::kRtos ||
        which == Feature::kSrttChange || which == Feature::kConnectBeyondUsual ||
        which == Feature::kNotIdempotent || which == Feature::kRequestBytes ||
        which == Feature::kDaySine || which == Feature::kDayCosine;
    EXPECT_EQ(each.source, unknown ? Source::kMedian : Source::kRequest)
        << kFeatures[each.feature].name;
    if (unknown) {
      EXPECT_EQ(each.value_q16, Q16_ONE / 4);
    }
  }
  EXPECT_EQ(feature(prediction, Feature::kServerError).value_q16, Q16_ONE);
}

TEST(Predictor, AModelWithoutMediansGivesMeansAndSaysSo) {
  const Model model = sample_model(false);
  const Request request = request_of({{"status", "500"}});
  const Prediction prediction = predicted(model, request);
  EXPECT_EQ(feature(prediction, Feature::kSynRepeats).source, Source::kMean);
  EXPECT_EQ(feature(prediction, Feature::kSynRepeats).value_q16, Q16_ONE / 2);
  EXPECT_NE(
      prediction_text(Predictor(model), request, prediction).find("the model file has no medians"),
      std::string::npos);
}

TEST(Predictor, OfARequestOfWhichNothingIsKnownAllIsTheMedian) {
  const Prediction prediction = predicted(sample_model(), Request());
  for (const PredictedFeature& each : prediction.features) {
    EXPECT_EQ(each.source, Source::kMedian) << kFeatures[each.feature].name;
  }
}

TEST(Predictor, WhatNoFeatureUsesIsSaid) {
  const Model model = sample_model();
  const Request request = request_of({{"status", "200"},
                                      {"bytes_received", "1024"},
                                      {"closed_by", "timeout"},
                                      {"attempt", "2"}});
  const Prediction prediction = predicted(model, request);
  for (const char* name : {"bytes_received", "closed_by"}) {
    EXPECT_TRUE(is_among(name, prediction.unused)) << name;
    EXPECT_NE(prediction_text(Predictor(model), request, prediction)
                  .find(std::string(name) + ": not used by model sample v1\n"),
              std::string::npos);
  }
  EXPECT_FALSE(is_among("status", prediction.unused));
  // Used, but not of an answer that is a good one.
  EXPECT_FALSE(is_among("attempt", prediction.unused));
  EXPECT_TRUE(is_among("attempt", prediction.plan.idle_quantities));
}

TEST(Predictor, AnAnomalyScoreTakesThePlaceOfWhatTheTimesSay) {
  const Model model = sample_model();
  const Request by_time = request_of({{"status", "500"}, {"response_time_ms", "750"}});
  const Request by_score = request_of(
      {{"status", "500"}, {"response_time_ms", "750"}, {"anomaly_score", "2.5"}});
  const auto computed = feature(predicted(model, by_time), Feature::kAnomalyScore);
  EXPECT_EQ(computed.source, Source::kRequest);
  EXPECT_GT(computed.value_q16, 5 * Q16_ONE);
  EXPECT_EQ(feature(predicted(model, by_score), Feature::kAnomalyScore).value_q16,
            5 * Q16_ONE / 2);
}

TEST(Predictor, TheMomentIsFoundFromWhatIsGiven) {
  struct Case {
    std::initializer_list<std::pair<const char*, const char*>> given;
    std::optional<Point> point;
    std::optional<uint8_t> failure;
  };
  const Case cases[] = {
      {{}, std::nullopt, std::nullopt},
      {{{"attempt", "2"}}, std::nullopt, std::nullopt},
      {{{"status", "200"}}, Point::kAnswer, bpf::FAILURE_NONE},
      {{{"status", "429"}}, Point::kAnswer, bpf::FAILURE_OVERLOAD},
      {{{"status", "503"}}, Point::kAnswer, bpf::FAILURE_SERVER_ERROR},
      {{{"response_time_ms", "1"}}, Point::kAnswer, bpf::FAILURE_NONE},
      {{{"waiting_ms", "1"}}, Point::kWaitingResponse, bpf::FAILURE_NONE},
      {{{"syn_waiting_ms", "1"}}, Point::kWaitingSyn, bpf::FAILURE_NONE},
      {{{"waiting_ms", "1"}, {"failure", "abandoned"}}, Point::kEnd, bpf::FAILURE_ABANDONED},
      {{{"failure", "refused"}}, Point::kEnd, bpf::FAILURE_REFUSED},
      {{{"failure", "overload"}}, Point::kAnswer, bpf::FAILURE_OVERLOAD},
      {{{"point", "end"}}, Point::kEnd, std::nullopt},
  };
  for (const Case& each : cases) {
    Moment moment;
    ASSERT_FALSE(find_moment(request_of(each.given), moment));
    EXPECT_EQ(moment.point, each.point);
    EXPECT_EQ(moment.failure, each.failure);
  }
}

TEST(Predictor, WhatContradictsItselfIsRefused) {
  const std::pair<Request, const char*> cases[] = {
      {request_of({{"waiting_ms", "1"}, {"status", "200"}}),
       "status: expected nothing beside waiting_ms, found 200"},
      {request_of({{"syn_waiting_ms", "1"}, {"response_time_ms", "2.5"}}),
       "response_time_ms: expected nothing beside syn_waiting_ms, found 2.5"},
      {request_of({{"syn_waiting_ms", "1"}, {"waiting_ms", "2"}}),
       "syn_waiting_ms: expected nothing beside waiting_ms, found 1"},
      {request_of({{"waiting_ms", "1"}, {"failure", "server_error"}}),
       "failure: expected nothing beside waiting_ms, found server_error"},
  };
  const Model model = sample_model();
  for (const auto& [request, expected] : cases) {
    Predictor predictor(model);
    Prediction prediction;
    const auto problem = predictor.predict(request, prediction);
    ASSERT_TRUE(problem);
    EXPECT_EQ(problem->text(), expected);
  }
}

TEST(Predictor, ContributionsAddUpAndTheLargestComesFirst) {
  const Prediction prediction =
      predicted(sample_model(), request_of({{"failure", "abandoned"}, {"waiting_ms", "3000"}}));
  double sum = -2;
  for (size_t i = 0; i < prediction.features.size(); i++) {
    sum += prediction.features[i].log_odds;
    if (i > 0) {
      EXPECT_GE(std::abs(prediction.features[i - 1].log_odds),
                std::abs(prediction.features[i].log_odds));
    }
  }
  EXPECT_NEAR(sum, prediction.log_odds, 1e-3);
}

TEST(Predictor, WhatLiesOutsideTheTrainedRangeIsNamedClampedAndExtrapolated) {
  Model model = sample_model();
  model.features[static_cast<size_t>(Feature::kWaitingAge)].max_q16 = 10 * Q16_ONE;
  const Request request = request_of({{"waiting_ms", "4000"}});
  const Prediction outside = predicted(model, request);
  EXPECT_TRUE(feature(outside, Feature::kWaitingAge).outside);
  EXPECT_FALSE(feature(outside, Feature::kWaitingBeyondUsual).outside);
  ASSERT_TRUE(outside.extrapolated);
  EXPECT_GT(*outside.extrapolated, outside.probability_q16 / double{Q16_ONE});
  EXPECT_NE(prediction_text(Predictor(model), request, outside)
                .find("waiting_age is 11.9658, trained on -10 to 10"),
            std::string::npos);
  EXPECT_FALSE(predicted(model, request_of({{"waiting_ms", "900"}})).extrapolated);
}

TEST(Predictor, AFeatureThatIsGivenStandsWhateverTheRestSays) {
  Request request = request_of({{"status", "200"}});
  request.set_feature(static_cast<size_t>(Feature::kServerError), Q16_ONE / 2);
  const Prediction prediction = predicted(sample_model(), request);
  EXPECT_EQ(feature(prediction, Feature::kServerError).value_q16, Q16_ONE / 2);
  EXPECT_EQ(feature(prediction, Feature::kServerError).source, Source::kFeature);
}

TEST(Predictor, AStreamScoresAsASinglePredictionDoes) {
  const Model model = sample_model();
  Predictor predictor(model);
  const Request requests[] = {request_of({{"status", "200"}, {"response_time_ms", "90"}}),
                              request_of({{"waiting_ms", "700"}}), Request(),
                              request_of({{"failure", "reset"}, {"attempt", "3"}})};
  for (const Request& request : requests) {
    Scored scored;
    ASSERT_FALSE(predictor.score(request, scored));
    EXPECT_EQ(scored.probability_q16, predicted(model, request).probability_q16);
  }
}

TEST(Quantities, EachIsReadableAndItsProbesFit) {
  for (const Quantity& quantity : quantities()) {
    EXPECT_FALSE(quantity.doc.empty()) << quantity.name;
    for (const double probe : quantity.probes) {
      const std::string text = value_text(quantity, probe);
      EXPECT_EQ(read_quantity(quantity, text), probe) << quantity.name << " " << text;
    }
    EXPECT_FALSE(read_quantity(quantity, "")) << quantity.name;
    EXPECT_FALSE(read_quantity(quantity, "1x")) << quantity.name;
    EXPECT_FALSE(read_quantity(quantity, "nan")) << quantity.name;
    EXPECT_FALSE(read_quantity(quantity, "1e300")) << quantity.name;
  }
}

TEST(Quantities, WordsAreThoseOfACapture) {
  const auto& failures = quantities()[*find_quantity("failure")].words;
  for (size_t i = 0; i < failures.size(); i++) {
    EXPECT_EQ(failures[i], capture_failure(static_cast<uint8_t>(i)));
  }
  const auto& methods = quantities()[*find_quantity("method")].words;
  for (size_t i = 0; i < methods.size(); i++) {
    EXPECT_EQ(methods[i], capture_method(static_cast<uint8_t>(i)));
  }
  const auto& ends = quantities()[*find_quantity("closed_by")].words;
  for (size_t i = 0; i < ends.size(); i++) {
    EXPECT_EQ(ends[i], capture_closed_by(static_cast<uint8_t>(i)));
  }
  const auto& points = quantities()[*find_quantity("point")].words;
  for (size_t i = 0; i < points.size(); i++)
    EXPECT_EQ(points[i], point_name(static_cast<Point>(i)));
}

std::string json_problem(const char* text) {
  Request request;
  std::optional<InputProblem> problem;
  read_request(boost::json::parse(text), request, problem);
  return problem ? problem->text() : "none";
}

TEST(RequestJson, WhatIsWrongIsNamed) {
  EXPECT_EQ(json_problem(R"({"status": 200, "attempt": null, "features": {"empty": 1}})"), "none");
  EXPECT_EQ(json_problem("[]"), "document: expected an object, found []");
  EXPECT_EQ(json_problem(R"({"status": 7})"),
            "status: expected an integer from 100 to 599, found 7");
  EXPECT_EQ(json_problem(R"({"attempt": 1.5})"),
            "attempt: expected an integer from 1 to 255 (count), found 1.5E0");
  EXPECT_EQ(json_problem(R"({"status": "200"})"),
            "status: expected an integer from 100 to 599, found \"200\"");
  EXPECT_EQ(json_problem(R"({"statsu": 200})"),
            "statsu: expected a name that `petrel predict --help` lists, found 200");
  EXPECT_EQ(json_problem(R"({"features": {"nothing": 1}})"),
            "features.nothing: expected a feature of the model, found 1");
  EXPECT_EQ(json_problem(R"({"features": {"empty": 1e9}})"),
            "features.empty: expected a number from -32767 to 32767, found 1E9");
}

class CsvTest : public ::testing::Test {
 protected:
  std::string open(std::string_view header, const CsvOptions& options = {}) {
    const auto problem = CsvRows::open(header, options, rows_);
    return problem ? problem->text() : "none";
  }
  std::string line(std::string_view text) {
    std::string out;
    const auto problem = rows_.append(predictor_, text, out);
    return problem ? problem->text() : out;
  }
  std::string probability_of(const Request& request) {
    return std::to_string(predicted(model_, request).probability_q16 / double{Q16_ONE});
  }

  Model model_ = sample_model();
  Predictor predictor_{model_};
  CsvRows rows_;
};

TEST_F(CsvTest, RowsAreThoseOfSinglePredictions) {
  ASSERT_EQ(open("status,id,response_time_ms,feature:empty", {.carried = {"id"}}), "none");
  EXPECT_EQ(rows_.header(), "status,id,response_time_ms,feature:empty,probability,outside");
  EXPECT_EQ(line("200,a,50,"),
            "200,a,50,," +
                probability_of(request_of({{"status", "200"}, {"response_time_ms", "50"}})) +
                ",\n");
  EXPECT_EQ(line(",\"b,\"\"c\",50,"),
            ",\"b,\"\"c\",50,," + probability_of(request_of({{"response_time_ms", "50"}})) + ",\n");
  Request request = request_of({{"status", "500"}});
  request.set_feature(static_cast<size_t>(Feature::kEmpty), 17 * Q16_ONE);
  EXPECT_EQ(line("\"500\",,,17"), "\"500\",,,17," + probability_of(request) + ",empty\n");
}

TEST_F(CsvTest, ProbabilitiesMayStandAlone) {
  ASSERT_EQ(open("status", {.alone = true}), "none");
  EXPECT_EQ(rows_.header(), "probability,outside");
  EXPECT_EQ(line("200"), probability_of(request_of({{"status", "200"}})) + ",\n");
}

TEST_F(CsvTest, ACapturesRowsAreScoredByTheirFeatures) {
  std::string header = "run,status";
  std::string row = "r1,what";
  FeatureVector features{};
  for (size_t i = 0; i < kFeatureCount; i++) {
    header += "," + std::string(kFeatures[i].name);
    features[i] = static_cast<int32_t>(i * 1000);
    row += "," + std::to_string(features[i]);
  }
  ASSERT_EQ(open(header, {.alone = true}), "none");
  EXPECT_TRUE(rows_.has_features());
  EXPECT_EQ(line(row), std::to_string(probability_q16(model_, features) / double{Q16_ONE}) + ",\n");
  EXPECT_EQ(line("r1,what,x" + row.substr(row.find(",0,") + 2)),
            "waiting_syn: expected an integer from -2147483648 to 2147483647 (Q16), found \"x\"");
}

TEST_F(CsvTest, WhatIsWrongIsNamed) {
  EXPECT_EQ(open("status,id"),
            "header: expected columns that `petrel predict --help` lists, or that --carry names, "
            "found \"id\"");
  EXPECT_EQ(open("status,status"), "status: expected each column once, found a second one");
  EXPECT_EQ(open("status,feature:none"),
            "header: expected columns that `petrel predict --help` lists, or that --carry names, "
            "found \"feature:none\"");
  EXPECT_EQ(open("status", {.carried = {"id"}}),
            "header: expected a column id to carry, found none");
  ASSERT_EQ(open("status,response_time_ms,waiting_ms,failure"), "none");
  EXPECT_EQ(line("200,1"), "waiting_ms: expected 4 fields, found 2");
  EXPECT_EQ(line(""), "response_time_ms: expected 4 fields, found 1");
  EXPECT_EQ(line("200,1,,,"), "after the last column: expected 4 fields, found more");
  EXPECT_EQ(line("200 ,1,,"), "status: expected an integer from 100 to 599, found \"200 \"");
  EXPECT_EQ(line("200,-1,,"),
            "response_time_ms: expected a number from 0 to 1e+09 (ms), found \"-1\"");
  EXPECT_EQ(line("\"200,1,,"),
            "status: expected a quoted field that is closed, then a comma, found none");
  EXPECT_EQ(line("200,,5,"), "status: expected nothing beside waiting_ms, found 200");
  EXPECT_EQ(line(",1,,lost"),
            "failure: expected none, refused, handshake_timeout, reset, abandoned, empty, overload "
            "or server_error, found \"lost\"");
}

}  // namespace
}  // namespace petrel
