// SPDX-License-Identifier: MIT
// The fixed-point functions in BPF (score_check.bpf.c) against the same ones here, bit for bit: a
// million random vectors, and corners. The first difference is named with its vector.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <random>
#include <sstream>

#include "score/score.hpp"
#include "tests/bpf/score_check.h"

// The skeleton names them without a namespace.
using petrel::bpf::score_case;
using petrel::bpf::score_result;
using petrel::bpf::scoring_model;

#include "score_check.skel.h"

namespace petrel::test {
namespace {

using bpf::check_operands;

constexpr int32_t kLeast = INT32_MIN;
constexpr int32_t kMost = INT32_MAX;
constexpr uint32_t kBatches = 256;  // of SCORE_CASES: 1,048,576 random vectors

// SplitMix64: fast where nothing is optimised, too.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t operator()() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  uint32_t below(uint32_t bound) { return static_cast<uint32_t>((*this)() % bound); }
  // Of any magnitude: each number of bits as often.
  int32_t any_s32() { return static_cast<int32_t>((*this)()) >> below(32); }

 private:
  uint64_t state_;
};

void write_calibration(bpf::scoring_model& model, Random& random) {
  int32_t at = CALIBRATION_FIRST_Q16 * 2;
  for (int32_t& knot : model.knots_q16) {
    knot = at;
    at += static_cast<int32_t>(random.below(3 << CALIBRATION_STEP_SHIFT));
  }
}

// Coefficients at all shifts, ranges of every size, 0 within them or not.
bpf::scoring_model random_model(Random& random) {
  Model model;
  model.bias_q16 = random.any_s32();
  for (size_t i = 0; i < kFeatureCount; i++) {
    const auto shift = MODEL_LEAST_SHIFT + random.below(MODEL_MAX_SHIFT - MODEL_LEAST_SHIFT + 1);
    model.coefficients[i] = {static_cast<int32_t>(random()) >> 1, shift};
    const int32_t a = random.any_s32(), b = random.any_s32();
    model.features[i].min_q16 = std::min(a, b);
    model.features[i].max_q16 = std::max(a, b);
  }
  bpf::scoring_model scoring = make_scoring_model(model);
  write_calibration(scoring, random);
  return scoring;
}

// Terms for all of MODEL_MAX_FEATURES, as no file could have them: functions are total.
bpf::scoring_model arbitrary_model(Random& random) {
  bpf::scoring_model model{};
  auto* words = reinterpret_cast<uint32_t*>(&model);
  for (size_t i = 0; i < sizeof(model) / sizeof(*words); i++) {
    words[i] = static_cast<uint32_t>(random.any_s32());
  }
  return model;
}

bpf::scoring_model extreme_model() {
  bpf::scoring_model model{};
  model.shift = 63;
  model.base = INT64_MAX;
  for (bpf::scoring_group& group : model.groups) {
    for (int i = 0; i < SCORING_GROUP; i++) {
      group.min_q16[i] = kLeast;
      group.span_q16[i] = UINT32_MAX;
      group.factor[i] = i % 2 == 0 ? INT64_MAX : INT64_MIN;
    }
    group.at_zero = INT64_MIN;
  }
  for (int knot = 0; knot < CALIBRATION_KNOTS; knot++) {
    model.knots_q16[knot] = knot % 2 == 0 ? kLeast : kMost;  // they rise and fall
  }
  return model;
}

struct Destroy {
  void operator()(score_check_bpf* skeleton) const { score_check_bpf__destroy(skeleton); }
};

struct ScoreInBpf : testing::Test {
  void SetUp() override {
    libbpf_set_print([](libbpf_print_level level, const char* format, va_list arguments) {
      return level == LIBBPF_WARN ? std::vfprintf(stderr, format, arguments) : 0;
    });
    skeleton_.reset(score_check_bpf__open());
    ASSERT_TRUE(skeleton_);
    const int rc = score_check_bpf__load(skeleton_.get());
    if (rc == -EPERM || rc == -EACCES) {
      GTEST_SKIP() << "SKIPPED, nothing was tested: " << std::strerror(-rc) << ": run as root";
    }
    ASSERT_EQ(rc, 0) << "load: " << std::strerror(-rc);
    Random random(1);
    models_ = {extreme_model()};
    for (int i = 0; i < 8; i++) models_.push_back(random_model(random));
    for (int i = 0; i < 5; i++) models_.push_back(arbitrary_model(random));
  }

  bpf::score_case& next_case() { return skeleton_->bss->cases[used_++]; }

  void run_bpf() {
    std::array<uint8_t, 64> packet{};
    LIBBPF_OPTS(bpf_test_run_opts, options);
    options.data_in = packet.data();
    options.data_size_in = packet.size();
    ASSERT_EQ(bpf_prog_test_run_opts(bpf_program__fd(skeleton_->progs.score_check), &options), 0);
  }

  // Both sides compute all cases; "" or the first that differs. The cases are used up.
  std::string first_difference(const bpf::scoring_model& model) {
    skeleton_->bss->model = model;
    run_bpf();
    for (uint32_t i = 0; i < used_; i++) {
      const bpf::score_case& seen = skeleton_->bss->cases[i];
      bpf::score_result here{};
      check_operands(&model, &seen, &here);
      here.log2_q16 = bpf::log2_q16(seen.value);
      here.log_odds_q16 =
          bpf::scoring_log_odds_q16(&model, seen.features_q16, MODEL_MAX_FEATURES);
      here.probability_q16 =
          bpf::score_probability_q16(&model, seen.features_q16, MODEL_MAX_FEATURES);
      const bpf::score_result& there = skeleton_->bss->results[i];
      if (std::memcmp(&here, &there, sizeof(here)) != 0) return describe(seen, here, there);
    }
    used_ = 0;
    return "";
  }

  static std::string describe(const bpf::score_case& seen, const bpf::score_result& here,
                              const bpf::score_result& there) {
    std::ostringstream out;
    const auto compare = [&](const char* name, auto left, auto right) {
      if (left != right) out << name << ": " << left << " here, " << right << " in BPF\n";
    };
    compare("mul_shift_saturating", here.product, there.product);
    compare("add_saturating", here.sum, there.sum);
    compare("subtract_saturating", here.difference, there.difference);
    compare("log2_q16", here.log2_q16, there.log2_q16);
    compare("sigmoid_q16", here.sigmoid_q16, there.sigmoid_q16);
    compare("calibrate_log_odds_q16", here.calibrated_q16, there.calibrated_q16);
    compare("scoring_log_odds_q16", here.log_odds_q16, there.log_odds_q16);
    compare("score_probability_q16", here.probability_q16, there.probability_q16);
    out << "left " << seen.left << ", right " << seen.right << ", shift " << seen.shift
        << ", value " << seen.value << ", features";
    for (const int32_t feature : seen.features_q16) out << ' ' << feature;
    return out.str();
  }

  // Features as they come (some 0, within the range), beside its ends, and of any bits.
  void draw_case(const bpf::scoring_model& model, Random& random) {
    bpf::score_case& drawn = next_case();
    const uint64_t zeros = random() & random();
    const uint32_t kind = random.below(4);
    for (uint32_t i = 0; i < MODEL_MAX_FEATURES; i++) {
      const bpf::scoring_group& group = model.groups[i / SCORING_GROUP];
      const uint32_t min = static_cast<uint32_t>(group.min_q16[i % SCORING_GROUP]);
      const uint32_t span = group.span_q16[i % SCORING_GROUP];
      const auto bits = static_cast<uint32_t>(random());
      int32_t value = random.any_s32();
      if (kind == 0) value = static_cast<int32_t>(bits);
      if (kind == 1) value = static_cast<int32_t>(min + (span == UINT32_MAX ? bits : bits % (span + 1)));
      if (kind == 2) value = static_cast<int32_t>(min + (bits & 4 ? span : 0) + (bits & 3) - 1);
      drawn.features_q16[i] = zeros >> (i / SCORING_GROUP) & 1 ? 0 : value;
    }
    drawn.left = random.any_s32();
    drawn.right = random.any_s32();
    drawn.value = random() >> random.below(64);
    drawn.shift = random.below(2) != 0 ? random.below(64) : static_cast<uint32_t>(random());
  }

  std::unique_ptr<score_check_bpf, Destroy> skeleton_;
  std::vector<bpf::scoring_model> models_;
  uint32_t used_ = 0;
};

TEST_F(ScoreInBpf, OfAMillionRandomVectorsIsTheSame) {
  Random random(2);
  for (uint32_t batch = 0; batch < kBatches; batch++) {
    const bpf::scoring_model& model = models_[batch % models_.size()];
    while (used_ < SCORE_CASES) draw_case(model, random);
    ASSERT_EQ(first_difference(model), "") << "batch " << batch;
  }
}

TEST_F(ScoreInBpf, OfTheShippedModelIsTheSame) {
  const Result<Model> shipped = load_model(PETREL_SHIPPED_MODEL);
  ASSERT_TRUE(shipped) << shipped.error().message();
  const bpf::scoring_model model = make_scoring_model(*shipped);
  Random random(4);
  for (int batch = 0; batch < 16; batch++) {
    while (used_ < SCORE_CASES) draw_case(model, random);
    ASSERT_EQ(first_difference(model), "") << "batch " << batch;
  }
}

// Each feature at each corner, all others at 0 or at one corner.
TEST_F(ScoreInBpf, OfAllCornerVectorsIsTheSame) {
  for (const bpf::scoring_model& model : models_) {
    for (uint32_t at = 0; at < MODEL_MAX_FEATURES; at++) {
      const int32_t min = model.groups[at / SCORING_GROUP].min_q16[at % SCORING_GROUP];
      const auto max = static_cast<int32_t>(
          static_cast<uint32_t>(min) + model.groups[at / SCORING_GROUP].span_q16[at % SCORING_GROUP]);
      const auto beside = [](int32_t value, int by) {
        return static_cast<int32_t>(static_cast<uint32_t>(value) + static_cast<uint32_t>(by));
      };
      for (const int32_t value :
           {kLeast, kLeast + 1, -1, 0, 1, kMost - 1, kMost, min, beside(min, -1), beside(min, 1), max,
            beside(max, -1), beside(max, 1)}) {
        for (const int32_t others : {0, kLeast, kMost, 1}) {
          bpf::score_case& corner = next_case();
          std::fill_n(corner.features_q16, MODEL_MAX_FEATURES, others);
          corner.features_q16[at] = value;
        }
      }
    }
    ASSERT_LE(used_, uint32_t{SCORE_CASES});
    ASSERT_EQ(first_difference(model), "");
  }
}

TEST_F(ScoreInBpf, OfCornerOperandsIsTheSame) {
  std::vector<int32_t> corners{0, kLeast, kMost};
  for (int bit = 0; bit < 31; bit++) {
    for (const int by : {-1, 0, 1}) corners.push_back((1 << bit) + by), corners.push_back(-(1 << bit) + by);
  }
  for (int knot = -17; knot <= 17; knot++) {  // and beside each step of the sigmoid and the calibration
    for (const int by : {-1, 0, 1}) corners.push_back((knot << CALIBRATION_STEP_SHIFT) + by);
  }
  for (int step = -SIGMOID_STEPS - 1; step <= SIGMOID_STEPS + 1; step++) {
    for (const int by : {-1, 0, 1}) corners.push_back(step * (1 << SIGMOID_STEP_SHIFT) + by);
  }
  const std::vector<int32_t> factors{kLeast, kLeast + 1, -3, -1, 0, 1, 2, 3, kMost - 1, kMost};
  uint32_t shift = 0;
  size_t number = 0;
  for (const int32_t left : corners) {
    for (const int32_t right : factors) {
      for (int turn = 0; turn < 7; turn++) {
        bpf::score_case& corner = next_case();
        corner = {};
        corner.left = left;
        corner.right = right;
        corner.shift = shift++ % 65;
        const uint64_t bit = 1ULL << (number % 64);
        corner.value = number % 3 == 0 ? bit : number % 3 == 1 ? bit - 1 : bit + 1;
        number++;
        if (used_ == SCORE_CASES) {
          ASSERT_EQ(first_difference(models_[number % models_.size()]), "");
        }
      }
    }
  }
  EXPECT_EQ(first_difference(models_[0]), "");
}

// A program that computes otherwise is found out, by each of the ways in which it may do so.
TEST_F(ScoreInBpf, ThatIsComputedOtherwiseIsFoundOut) {
  for (const bpf::score_mutation mutation :
       {bpf::MUTATION_ROUNDS_DOWN, bpf::MUTATION_SHIFTS_ZEROS_IN, bpf::MUTATION_SKIPS_LAST}) {
    Random random(3);
    skeleton_->bss->mutation = mutation;
    const bpf::scoring_model model = arbitrary_model(random);
    while (used_ < SCORE_CASES) draw_case(model, random);
    EXPECT_NE(first_difference(model), "") << mutation;
    used_ = 0;
    skeleton_->bss->mutation = bpf::MUTATION_NONE;
    while (used_ < SCORE_CASES) draw_case(model, random);
    EXPECT_EQ(first_difference(model), "") << mutation;
  }
}

}  // namespace
}  // namespace petrel::test
