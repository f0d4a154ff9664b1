// SPDX-License-Identifier: MIT
// The model file, read whole or refused, and the score made of it.
#include "score/model.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <boost/json.hpp>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <random>

#include "score/exactness.hpp"
#include "score/model_sheet.hpp"
#include "score/score.hpp"

namespace petrel {
namespace {

namespace json = boost::json;

Model sample_model() {
  Model model;
  model.name = "sample";
  model.version = 3;
  model.bias = -4.25;
  for (size_t i = 0; i < kFeatureCount; i++) {
    const auto n = static_cast<double>(i);
    model.features[i] = {.mean = round_to_file_digits(n / 7),
                         .scale = round_to_file_digits(0.3 + n / 3),
                         .coefficient = i == 4 ? 0 : round_to_file_digits(std::sin(n) * 2),
                         .min_q16 = 0,
                         .max_q16 = 10 * Q16_ONE};
  }
  model.training = {.date = "2026-01-31",
                    .seed = 7,
                    .c = 0.1,
                    .runs = {"calm-1", "storm-1"},
                    .rows = 1000,
                    .positive_share = 0.125,
                    .held_out_runs = {"storm-2"},
                    .held_out_rows = 300,
                    .held_out_positive_share = 0.1,
                    .held_out_auc = 0.97,
                    .held_out_log_loss = 0.05};
  EXPECT_TRUE(quantize(model));
  return model;
}

std::string message_of(const std::string& text) {
  const Result<Model> model = parse_model(text, "m.json");
  if (model) return "parsed";
  EXPECT_EQ(model.error().kind(), ExitCode::kInput);
  return model.error().message();
}

// The sample's text after a change of its JSON; the checksum is left as it was.
template <class Change>
std::string changed(Change change) {
  json::value document = json::parse(serialize_model(sample_model()));
  change(document.as_object());
  return json::serialize(document);
}

TEST(ModelFile, ReadsBackAsItWasWritten) {
  const Model model = sample_model();
  const Result<Model> again = parse_model(serialize_model(model), "m.json");
  ASSERT_TRUE(again) << again.error().message();
  EXPECT_TRUE(*again == model);
  EXPECT_EQ(serialize_model(*again), serialize_model(model));
}

TEST(ModelFile, MediansAreOptionalAndReadBack) {
  Model model = sample_model();
  const std::string without = serialize_model(model);
  EXPECT_EQ(without.find("median"), std::string::npos);
  model.features[2].median_q16 = 5;
  const Result<Model> again = parse_model(serialize_model(model), "m.json");
  ASSERT_TRUE(again) << again.error().message();
  EXPECT_TRUE(*again == model);
  EXPECT_FALSE(again->features[1].median_q16);
  EXPECT_NE(model_checksum(model), model_checksum(sample_model()));
}

TEST(ModelFile, AMedianOutsideTheTrainedRangeIsRefused) {
  const std::string text = changed([](json::object& model) {
    model["features"].as_array()[2].as_object()["median_q16"] = -1;
  });
  EXPECT_EQ(message_of(text),
            "model m.json: features[2].median_q16: expected an integer from 0 to 655360, found -1");
}

// The sample with all that a file may have.
Model full_model() {
  Model model = sample_model();
  model.calibration_q16.emplace();
  for (size_t i = 0; i < CALIBRATION_KNOTS; i++) {
    // A curve with a level stretch, a steep one and a shift.
    const int32_t at = CALIBRATION_FIRST_Q16 + static_cast<int32_t>(i << CALIBRATION_STEP_SHIFT);
    (*model.calibration_q16)[i] = (at < -Q16_ONE ? at / 2 : at < Q16_ONE ? -Q16_ONE / 2 : at * 3) + 1234;
  }
  model.references = {
      {.feature = 0, .point = Point::kWaitingSyn, .edges_q16 = {0}, .shares = {0.25, 0.75}},
      {.feature = 0, .point = Point::kEnd, .edges_q16 = {-5, 7}, .shares = {0.5, 0.25, 0.25}},
      {.feature = 3, .point = Point::kAnswer, .edges_q16 = {1}, .shares = {0.125, 0.875}}};
  model.training.fit = FitFacts{.penalty = "l1",
                                .class_weight = 2.5,
                                .weigh_by_confidence = true,
                                .without = {std::string(kFeatures[2].name)},
                                .calibration = "isotonic",
                                .log_loss = 0.1,
                                .auc = 0.97,
                                .ece = 0.01,
                                .uncalibrated_log_loss = 0.12,
                                .uncalibrated_ece = 0.05};
  return model;
}

TEST(ModelFile, CalibrationReferencesAndFitReadBackAndAreInTheChecksum) {
  const Model model = full_model();
  const Result<Model> again = parse_model(serialize_model(model), "m.json");
  ASSERT_TRUE(again) << again.error().message();
  EXPECT_TRUE(*again == model);
  EXPECT_EQ(serialize_model(*again), serialize_model(model));
  const std::string checksum = model_checksum(model);
  Model other = model;
  (*other.calibration_q16)[4]++;
  EXPECT_NE(model_checksum(other), checksum);
  EXPECT_FALSE(other == model);
  other = model;
  other.references[1].edges_q16[0]++;
  EXPECT_NE(model_checksum(other), checksum);
  other = model;
  other.training.fit->ece = 0.02;
  EXPECT_NE(model_checksum(other), checksum);
}

TEST(ModelFile, WithoutCalibrationReferencesAndFitItLoadsAsBefore) {
  const std::string text = serialize_model(sample_model());
  for (const char* word : {"calibration", "reference", "fit"}) {
    EXPECT_EQ(text.find(word), std::string::npos) << word;
  }
  const Result<Model> model = parse_model(text, "m.json");
  ASSERT_TRUE(model);
  EXPECT_FALSE(model->calibration_q16);
  EXPECT_TRUE(model->references.empty());
  EXPECT_FALSE(model->training.fit);
  const std::string with_null = changed([](json::object& m) { m["calibration"] = nullptr; });
  EXPECT_EQ(message_of(with_null), "parsed");
}

TEST(ModelFile, WhatIsWrongWithTheNewMembersIsNamed) {
  const auto feature = [](json::object& m, size_t i) -> json::object& {
    return m["features"].as_array()[i].as_object();
  };
  const auto reference = [&feature](json::object& m) -> json::object& {
    return feature(m, 0)["reference"].as_array()[1].as_object();
  };
  const auto knots = [](json::object& m) -> json::array& {
    return m["calibration"].as_object()["knots_q16"].as_array();
  };
  const auto fit = [](json::object& m) -> json::object& {
    return m["training"].as_object()["fit"].as_object();
  };
  const std::pair<std::function<void(json::object&)>, const char*> cases[] = {
      {[](json::object& m) { m["calibration"] = 5; }, "calibration: expected an object, found 5"},
      {[&](json::object& m) { knots(m).pop_back(); },
       "calibration.knots_q16: expected a list of 33, found a list of 32"},
      {[&](json::object& m) { knots(m)[7] = -1 << 30; },
       "calibration.knots_q16[7]: expected an integer from "},
      {[&](json::object& m) { knots(m)[0] = "a"; }, "calibration.knots_q16[0]: expected an integer"},
      {[&](json::object& m) { knots(m)[32] = 1 << 30; },
       "calibration.knots_q16[32]: expected an integer from "},
      {[&](json::object& m) { knots(m)[9] = knots(m)[9].as_int64() + 1; }, "checksum: expected \""},
      {[&](json::object& m) { m["calibration"].as_object()["more"] = 1; },
       "calibration.more: expected no such field"},
      {[&](json::object& m) { feature(m, 0)["reference"] = json::array(); },
       "features[0].reference: expected a list of 1 to 4"},
      {[&](json::object& m) { reference(m)["point"] = "later"; },
       "features[0].reference[1].point: expected a decision point's name"},
      {[&](json::object& m) { reference(m)["point"] = "waiting_syn"; },
       "features[0].reference[1].point: expected a decision point's name, each once"},
      {[&](json::object& m) { reference(m)["edges_q16"] = json::array{7, 7}; },
       "features[0].reference[1].edges_q16[1]: expected an integer from 8"},
      {[&](json::object& m) { reference(m)["edges_q16"] = json::array(); },
       "features[0].reference[1].edges_q16: expected a list of 1 to 9"},
      {[&](json::object& m) { reference(m)["shares"].as_array().pop_back(); },
       "features[0].reference[1].shares: expected a list of 3, found a list of 2"},
      {[&](json::object& m) { reference(m)["shares"].as_array()[0] = 0.6; },
       "features[0].reference[1].shares: expected numbers that add up to 1"},
      {[&](json::object& m) { reference(m)["shares"].as_array()[2] = -0.25; },
       "features[0].reference[1].shares[2]: expected a number from 0 to 1"},
      {[&](json::object& m) { fit(m)["penalty"] = "l3"; },
       "training.fit.penalty: expected l1 or l2, found \"l3\""},
      {[&](json::object& m) { fit(m)["weigh_by_confidence"] = 1; },
       "training.fit.weigh_by_confidence: expected true or false, found 1"},
      {[&](json::object& m) { fit(m).erase("ece"); },
       "training.fit.ece: expected a number from 0 to 1, found nothing"},
  };
  const std::string good = serialize_model(full_model());
  for (const auto& [change, expected] : cases) {
    json::value document = json::parse(good);
    change(document.as_object());
    const std::string found = message_of(json::serialize(document));
    EXPECT_EQ(found.rfind(std::string("model m.json: ") + expected, 0), 0U) << found;
  }
}

TEST(Reference, BinsAreDecilesAndNoneIsEmpty) {
  std::vector<int32_t> values;
  for (int32_t i = 0; i < 1000; i++) values.push_back(999 - i);
  const FeatureReference even = make_reference(1, Point::kEnd, values);
  EXPECT_EQ(even.edges_q16, (std::vector<int32_t>{99, 199, 299, 399, 499, 599, 699, 799, 899}));
  EXPECT_EQ(even.shares, std::vector<double>(10, 0.1));
  EXPECT_EQ(reference_bin(even, 99), 0U);
  EXPECT_EQ(reference_bin(even, 100), 1U);
  EXPECT_EQ(reference_bin(even, INT32_MIN), 0U);
  EXPECT_EQ(reference_bin(even, INT32_MAX), 9U);

  for (const int ones : {50, 950}) {  // a flag, rare or common
    std::vector<int32_t> flags(1000, 0);
    std::fill_n(flags.begin(), ones, Q16_ONE);
    const FeatureReference flag = make_reference(1, Point::kEnd, flags);
    EXPECT_EQ(flag.edges_q16, std::vector<int32_t>{0});
    ASSERT_EQ(flag.shares.size(), 2U);
    EXPECT_NEAR(flag.shares[0], 1 - ones / 1000.0, 1e-9);
    EXPECT_DOUBLE_EQ(flag.shares[1], ones / 1000.0);
  }
  std::vector<int32_t> constant(10, 5);
  EXPECT_TRUE(make_reference(1, Point::kEnd, constant).edges_q16.empty());
}

TEST(ModelFile, WhatIsWrongIsToldInParts) {
  InputProblem problem;
  const std::string text = changed([](json::object& model) { model["version"] = 0; });
  ASSERT_FALSE(parse_model(text, "m.json", &problem));
  EXPECT_EQ(problem.field, "version");
  EXPECT_EQ(problem.expected, "an integer from 1 to 4294967295");
  EXPECT_EQ(problem.found, "0");
  ASSERT_FALSE(load_model("/nowhere/m.json", &problem));
  EXPECT_EQ(problem.found, "ENOENT");
}

TEST(ModelFile, AnyNumbersOfNineDigitsReadBack) {
  std::mt19937_64 random(5);
  std::normal_distribution<double> normal(0, 1);
  for (int i = 0; i < 300; i++) {
    Model model = sample_model();
    for (ModelFeature& feature : model.features) {
      feature.coefficient = round_to_file_digits(normal(random) * std::exp(3 * normal(random)));
      feature.scale = round_to_file_digits(0.001 + std::abs(normal(random)));
      feature.mean = round_to_file_digits(normal(random));
    }
    if (!quantize(model)) continue;
    const Result<Model> again = parse_model(serialize_model(model), "m.json");
    ASSERT_TRUE(again) << again.error().message();
    ASSERT_TRUE(*again == model);
  }
}

TEST(ModelFile, EachFlippedBitIsRefusedOrReadsEqual) {
  const Model model = sample_model();
  const std::string text = serialize_model(model);
  size_t equal = 0;
  for (size_t at = 0; at < text.size(); at++) {
    for (int bit = 0; bit < 8; bit++) {
      std::string corrupt = text;
      corrupt[at] = static_cast<char>(corrupt[at] ^ (1 << bit));
      const Result<Model> result = parse_model(corrupt, "m.json");
      if (!result) continue;
      equal++;
      ASSERT_TRUE(*result == model) << "byte " << at << " bit " << bit;
    }
  }
  EXPECT_LT(equal, text.size());
}

TEST(ModelFile, EachTruncationIsRefused) {
  const std::string text = serialize_model(sample_model());
  for (size_t length = 0; length + 1 < text.size(); length++) {
    ASSERT_FALSE(parse_model(text.substr(0, length), "m.json")) << length;
  }
}

TEST(ModelFile, EachMissingFieldIsNamed) {
  const json::value whole = json::parse(serialize_model(sample_model()));
  for (const auto& member : whole.as_object()) {
    const std::string text = changed([&](json::object& model) { model.erase(member.key()); });
    const std::string name(member.key().data(), member.key().size());
    EXPECT_NE(message_of(text).find("model m.json: " + name + ": expected "), std::string::npos)
        << message_of(text);
  }
  for (const auto& member : whole.at("training").as_object()) {
    const std::string text =
        changed([&](json::object& model) { model["training"].as_object().erase(member.key()); });
    const std::string name(member.key().data(), member.key().size());
    EXPECT_NE(message_of(text).find("training." + name + ": expected "), std::string::npos);
  }
  for (const auto& member : whole.at("features").at(2).as_object()) {
    const std::string text = changed([&](json::object& model) {
      model["features"].as_array()[2].as_object().erase(member.key());
    });
    const std::string name(member.key().data(), member.key().size());
    EXPECT_NE(message_of(text).find("features[2]." + name + ": expected "), std::string::npos);
  }
}

TEST(ModelFile, WhatIsWrongIsNamed) {
  using Change = void (*)(json::object&);
  const std::pair<Change, const char*> cases[] = {
      {[](json::object& m) { m["schema"] = "petrel/model/v2"; },
       "schema: expected \"petrel/model/v1\", found \"petrel/model/v2\""},
      {[](json::object& m) { m["surprise"] = 1; }, "surprise: expected no such field, found 1"},
      {[](json::object& m) { m["version"] = 0; },
       "version: expected an integer from 1 to 4294967295, found 0"},
      {[](json::object& m) { m["version"] = "1"; },
       "version: expected an integer from 1 to 4294967295, found \"1\""},
      {[](json::object& m) { m["bias"] = 1e300; }, "bias: expected a number"},
      {[](json::object& m) { m["bias"] = nullptr; }, "bias: expected a number"},
      {[](json::object& m) { m["features"].as_array().pop_back(); },
       "features: expected a list of 40, found a list of 39"},
      {[](json::object& m) { std::swap(m["features"].as_array()[0], m["features"].as_array()[1]); },
       "features[0].name: expected \"waiting_syn\" (this program's feature list), found "
       "\"waiting_response\""},
      {[](json::object& m) { m["features"].as_array()[3].as_object()["scale"] = 0; },
       "features[3].scale: expected a number"},
      {[](json::object& m) { m["features"].as_array()[3].as_object()["shift"] = 64; },
       "features[3].shift: expected an integer from 0 to 63, found 64"},
      {[](json::object& m) { m["features"].as_array()[3].as_object()["mantissa"] = 12; },
       "features[3].mantissa: expected "},
      {[](json::object& m) { m["features"].as_array()[3].as_object()["min_q16"] = 1 << 30; },
       "features[3].max_q16: expected an integer from 1073741824"},
      {[](json::object& m) { m["features"].as_array()[3] = 5; },
       "features[3]: expected an object, found 5"},
      {[](json::object& m) { m["bias_q16"] = 1; }, "bias_q16: expected "},
      {[](json::object& m) { m["name"] = "other"; }, "checksum: expected \""},
      {[](json::object& m) { m["training"].as_object()["rows"] = -1; }, "training.rows: expected"},
      {[](json::object& m) { m["training"].as_object()["runs"] = json::array{1}; },
       "training.runs: expected strings"},
      {[](json::object& m) { m["training"].as_object()["held_out_auc"] = 1.5; },
       "training.held_out_auc: expected a number from 0 to 1, found 1.5E0"},
  };
  for (const auto& [change, expected] : cases) {
    const std::string found = message_of(changed(change));
    EXPECT_EQ(found.rfind(std::string("model m.json: ") + expected, 0), 0U) << found;
  }
}

TEST(ModelFile, WhatIsNoModelIsRefused) {
  for (const char* text :
       {"", " ", "{}", "[]", "null", "{\"schema\":1}", "NaN", "\xff\xfe", "{\"a\""}) {
    EXPECT_NE(message_of(text), "parsed") << text;
  }
}

TEST(ModelFile, IsSavedWholeAndLoads) {
  const auto path = std::filesystem::temp_directory_path() /
                    ("petrel_model_test_" + std::to_string(::getpid()) + ".json");
  const Model model = sample_model();
  ASSERT_TRUE(save_model(model, path));
  const Result<Model> again = load_model(path);
  ASSERT_TRUE(again) << again.error().message();
  EXPECT_TRUE(*again == model);
  EXPECT_FALSE(std::filesystem::exists(path.string() + ".tmp"));

  Model broken = model;
  broken.bias += 1;  // no longer what was quantized
  EXPECT_FALSE(save_model(broken, path));
  EXPECT_TRUE(*load_model(path) == model);
  std::filesystem::remove(path);
  const Result<Model> missing = load_model(path);
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().kind(), ExitCode::kInput);
}

TEST(Quantize, RefusesWhatDoesNotFit) {
  Model model = sample_model();
  model.features[0].coefficient = 1e12;
  EXPECT_FALSE(quantize(model));
  model.features[0].coefficient = std::nan("");
  EXPECT_FALSE(quantize(model));
  model = sample_model();
  model.bias = 1e6;
  EXPECT_FALSE(quantize(model));
}

TEST(Quantize, KeepsCoefficientsToNineDigits) {
  Model model = sample_model();
  for (const double raw : {1.0, -1.0, 3e-7, -12345.678, 0.999999999, 1e-9}) {
    model.features[0] = {.mean = 0, .scale = 1, .coefficient = raw, .min_q16 = 0, .max_q16 = 1};
    ASSERT_TRUE(quantize(model));
    const bpf::model_coefficient& fixed = model.coefficients[0];
    EXPECT_NEAR(std::ldexp(fixed.mantissa, -static_cast<int>(fixed.shift)), raw,
                std::abs(raw) * 2e-9);
  }
}

ModelSheet sheet_of(const std::string& text) {
  const Result<ModelSheet> sheet = parse_model_sheet(text, "m.json");
  EXPECT_TRUE(sheet) << sheet.error().message();
  return sheet ? *sheet : ModelSheet();
}

TEST(ModelSheet, HasTheChecksumOfWhateverFeaturesThereAre) {
  const ModelSheet good = sheet_of(serialize_model(sample_model()));
  EXPECT_EQ(good.checksum, model_checksum(sample_model()));
  EXPECT_EQ(good.found_checksum, good.checksum);
  EXPECT_FALSE(good.unusable);
  const ModelSheet other = sheet_of(changed([](json::object& model) {
    model["features"].as_array()[0].as_object()["name"] = "other";
  }));
  EXPECT_NE(other.found_checksum, other.checksum);
  ASSERT_TRUE(other.unusable);
  EXPECT_EQ(other.unusable->field, "features[0].name");
}

TEST(ModelSheet, DiffNamesWhatIsAddedRemovedAndChangedAndNothingElse) {
  const ModelSheet before = sheet_of(serialize_model(sample_model()));
  EXPECT_TRUE(compare(before, before).empty());
  const ModelSheet after = sheet_of(changed([](json::object& model) {
    json::array& features = model["features"].as_array();
    features[0].as_object()["name"] = "added";
    features[3].as_object()["median_q16"] = 5;
    model["training"].as_object()["rows"] = 7;
  }));
  const ModelDiff diff = compare(before, after);
  EXPECT_EQ(diff.added, std::vector<std::string>{"added"});
  EXPECT_EQ(diff.removed, std::vector<std::string>{std::string(kFeatures[0].name)});
  EXPECT_FALSE(diff.reordered);
  ASSERT_EQ(diff.facts.size(), 1U);
  EXPECT_EQ(diff.facts[0].field, "training.rows");
  EXPECT_EQ(diff.facts[0].after, json::value(7));
  ASSERT_EQ(diff.changed.size(), 1U);
  EXPECT_EQ(diff.changed[0].feature, kFeatures[3].name);
  EXPECT_TRUE(diff.changed[0].before.is_null());
  const ModelSheet turned = sheet_of(changed([](json::object& model) {
    std::swap(model["features"].as_array()[0], model["features"].as_array()[1]);
  }));
  EXPECT_TRUE(compare(before, turned).reordered);
}

TEST(ModelSheet, WhatIsNoModelIsRefused) {
  const std::pair<std::string, const char*> cases[] = {
      {"{", "document: expected JSON, found "},
      {"[]", "document: expected an object, found []"},
      {changed([](json::object& model) { model.erase("training"); }), "training: expected a value"},
      {changed([](json::object& model) { model["features"] = 1; }),
       "features: expected a list, found 1"},
      {changed([](json::object& model) {
         model["features"].as_array()[1].as_object()["scale"] = "1";
       }),
       "features[1].scale: expected a number"},
      {changed([](json::object& model) {
         model["features"].as_array()[1] = model["features"].as_array()[0];
       }),
       "features[1].name: expected each feature once"},
  };
  for (const auto& [text, expected] : cases) {
    const Result<ModelSheet> sheet = parse_model_sheet(text, "m.json");
    ASSERT_FALSE(sheet) << expected;
    EXPECT_EQ(sheet.error().kind(), ExitCode::kInput);
    EXPECT_EQ(sheet.error().message().find("model m.json: " + std::string(expected)), 0U)
        << sheet.error().message();
  }
}

TEST(Score, AgreesWithFloatingPoint) {
  const Model model = sample_model();
  std::mt19937_64 random(6);
  for (int i = 0; i < 20'000; i++) {
    FeatureVector features{};
    double log_odds = model.bias;
    for (size_t f = 0; f < kFeatureCount; f++) {
      features[f] = static_cast<int32_t>(random() % (3 * Q16_ONE));
      const ModelFeature& feature = model.features[f];
      const double value = features[f] / double{Q16_ONE};
      log_odds += feature.coefficient * (value - feature.mean) / feature.scale;
    }
    const double exact = 1 / (1 + std::exp(-log_odds));
    ASSERT_NEAR(probability_q16(model, features) / double{Q16_ONE}, exact, 1e-4);
  }
}

TEST(Score, ItsErrorOverTheTrainedRangesIsThatOfTheSigmoidTable) {
  const Model model = sample_model();
  const std::vector<FeatureVector> vectors = vectors_within_trained(model, 1, 20'000);
  ASSERT_EQ(vectors.size(), 20'000U);
  for (const FeatureVector& vector : vectors) EXPECT_EQ(clamp_to_trained(model, vector), vector);
  const ScoreError error = score_error(model, vectors);
  EXPECT_GT(error.largest, 0);
  EXPECT_LT(error.largest, 1e-4);
  EXPECT_LE(error.mean, error.largest);
  const double fixed = probability_q16(model, error.worst) / double{Q16_ONE};
  EXPECT_EQ(std::abs(fixed - float_probability(model, error.worst)), error.largest);
  EXPECT_EQ(vectors_within_trained(model, 1, 20'000), vectors);
  EXPECT_NE(vectors_within_trained(model, 2, 20'000), vectors);
}

TEST(Score, FewerBitsForACoefficientLoseMore) {
  Model model = sample_model();
  const std::vector<FeatureVector> vectors = vectors_within_trained(model, 1, 5000);
  double before = 1;
  for (const int bits : {6, 8, 12, 16, 24}) {
    ASSERT_TRUE(quantize(model, bits));
    for (const bpf::model_coefficient& coefficient : model.coefficients) {
      EXPECT_LE(std::abs(coefficient.mantissa), 1 << (bits - 2));
    }
    const double largest = score_error(model, vectors).largest;
    if (bits <= 16) {
      EXPECT_LT(largest, before) << bits;
    }
    before = largest;
  }
  ASSERT_TRUE(quantize(model));
  EXPECT_TRUE(model == sample_model());
}

TEST(Score, CalibrationMovesTheProbabilityAndNotTheContributions) {
  const Model plain = sample_model();
  const Model model = full_model();
  for (const FeatureVector& vector : vectors_within_trained(model, 3, 2000)) {
    const int32_t log_odds = log_odds_q16(model, vector);
    ASSERT_EQ(log_odds, log_odds_q16(plain, vector));
    const int32_t expected =
        bpf::calibrate_log_odds_q16(model.calibration_q16->data(), log_odds);
    ASSERT_EQ(probability_q16(model, vector), bpf::sigmoid_q16(expected));
    ASSERT_NEAR(float_calibrate(model, log_odds / double{Q16_ONE}), expected / double{Q16_ONE}, 2e-5);
  }
  EXPECT_LT(score_error(model, vectors_within_trained(model, 3, 20'000)).largest, 1e-4);
}

// Whatever the sizes of coefficients and ranges: the sum of what the file's mantissas and shifts say.
TEST(Score, OneScaleForAllTermsLosesNothing) {
  std::mt19937_64 random(8);
  for (int round = 0; round < 200; round++) {
    Model model;
    // Every other one as a trained one could be: coefficients to 16, features to 16 or 128.
    const bool usual = round % 2 == 0;
    const int least_shift = usual ? 26 : MODEL_LEAST_SHIFT;
    const auto draw = [&] { return static_cast<int32_t>(random()) >> (usual ? 9 : random() % 31); };
    model.bias_q16 = draw();
    for (size_t i = 0; i < kFeatureCount; i++) {
      model.coefficients[i] = {
          static_cast<int32_t>(random()) >> 2,
          static_cast<uint32_t>(least_shift + random() % (MODEL_MAX_SHIFT - least_shift))};
      const int32_t a = draw(), b = draw();
      model.features[i].min_q16 = std::min(a, b);
      model.features[i].max_q16 = std::max(a, b);
    }
    const bpf::scoring_model scoring = make_scoring_model(model);
    // A coefficient is rounded to half of 2^-shift; a range spans 2^23 at most, or 2^32.
    const double lost =
        kFeatureCount * std::ldexp(usual ? 0x1p22 : 0x1p31, -static_cast<int>(scoring.shift));
    if (usual) {
      ASSERT_LT(lost, 0.1);
    }
    for (int each = 0; each < 100; each++) {
      FeatureVector features{};
      for (int32_t& feature : features) {
        if (random() % 2 != 0) feature = static_cast<int32_t>(random()) >> (random() % 31);
      }
      const FeatureVector clamped = clamp_to_trained(model, features);
      long double exact = model.bias_q16;
      for (size_t i = 0; i < kFeatureCount; i++) {
        exact += std::ldexp(static_cast<long double>(model.coefficients[i].mantissa) * clamped[i],
                            -static_cast<int>(model.coefficients[i].shift));
      }
      const long double most = Q16_S32_MAX, least = Q16_S32_MIN;
      const auto expected = static_cast<double>(std::max(least, std::min(most, exact)));
      const int32_t got = bpf::scoring_log_odds_q16(&scoring, features.data(), kFeatureCount);
      ASSERT_NEAR(got, expected, 0.5 + lost) << "round " << round;
    }
  }
}

TEST(Score, ACoefficientThatDoesNotFitIsRefused) {
  for (const double value : {65535.9, 65536.0, 1e30}) {
    Model model = sample_model();
    model.features[3].scale = 1;
    model.features[3].coefficient = value;
    model.features[3].mean = 0;
    const Result<void> done = quantize(model);
    EXPECT_EQ(bool(done), value < 65536) << value;
    if (!done) {
      EXPECT_NE(done.error().message().find("below 2^16"), std::string::npos);
    }
  }
}

TEST(Score, ClampsFeaturesToTheTrainedRange) {
  const Model model = sample_model();
  FeatureVector at_limit{};
  at_limit[1] = 10 * Q16_ONE;
  FeatureVector beyond = at_limit;
  beyond[1] = INT32_MAX;
  beyond[2] = INT32_MIN;
  EXPECT_EQ(log_odds_q16(model, beyond), log_odds_q16(model, at_limit));
}

TEST(Score, ContributionsAddUpToTheLogOdds) {
  const Model model = sample_model();
  FeatureVector features{};
  for (size_t f = 0; f < kFeatureCount; f++) features[f] = static_cast<int32_t>(f * 10'000);
  const std::vector<Contribution> parts = contributions(model, features);
  int64_t sum = std::lround(model.bias * Q16_ONE);
  for (size_t i = 0; i < parts.size(); i++) {
    sum += parts[i].log_odds_q16;
    EXPECT_NE(parts[i].feature, kFeatures[4].name);  // its coefficient is 0
    if (i > 0) {
      EXPECT_GE(std::abs(parts[i - 1].log_odds_q16), std::abs(parts[i].log_odds_q16));
    }
  }
  EXPECT_NEAR(static_cast<double>(sum), log_odds_q16(model, features), 50);
}

}  // namespace
}  // namespace petrel
