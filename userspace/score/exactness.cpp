// SPDX-License-Identifier: MIT
#include "score/exactness.hpp"

#include <cmath>
#include <random>

#include "score/score.hpp"

namespace petrel {
namespace {

constexpr int kSteps = 1024;  // between the corners of least and most log-odds

// The standard fixes this generator's sequence, not its distributions'.
double uniform(std::mt19937_64& random) {
  return static_cast<double>(random() >> 11) / static_cast<double>(1ULL << 53);
}

int32_t between(int32_t from, int32_t to, double part) {
  return static_cast<int32_t>(std::lround(from + part * (double{1} * to - from)));
}

FeatureVector between(const FeatureVector& from, const FeatureVector& to, double part) {
  FeatureVector result{};
  for (size_t i = 0; i < kFeatureCount; i++) result[i] = between(from[i], to[i], part);
  return result;
}

FeatureVector corner(const Model& model, std::mt19937_64& random) {
  FeatureVector result{};
  for (size_t i = 0; i < kFeatureCount; i++) {
    const ModelFeature& feature = model.features[i];
    result[i] = random() % 2 == 0 ? feature.min_q16 : feature.max_q16;
  }
  return result;
}

// The corner at which the log-odds are least (sign -1) or most (1).
FeatureVector extreme(const Model& model, int sign) {
  FeatureVector result{};
  for (size_t i = 0; i < kFeatureCount; i++) {
    const ModelFeature& feature = model.features[i];
    result[i] = feature.coefficient * sign > 0 ? feature.max_q16 : feature.min_q16;
  }
  return result;
}

void add_edges(const Model& model, std::vector<FeatureVector>& vectors) {
  const FeatureVector least = extreme(model, -1);
  const FeatureVector most = extreme(model, 1);
  FeatureVector low{};
  FeatureVector high{};
  for (size_t i = 0; i < kFeatureCount; i++) {
    low[i] = model.features[i].min_q16;
    high[i] = model.features[i].max_q16;
  }
  const FeatureVector middle = between(low, high, 0.5);
  for (size_t i = 0; i < kFeatureCount; i++) {
    for (const FeatureVector& end : {low, high}) {
      vectors.push_back(middle);
      vectors.back()[i] = end[i];
    }
  }
  for (int step = 0; step <= kSteps; step++) {
    vectors.push_back(between(least, most, double{1} * step / kSteps));
  }
}

}  // namespace

std::vector<FeatureVector> vectors_within_trained(const Model& model, uint64_t seed, size_t count) {
  std::vector<FeatureVector> vectors;
  vectors.reserve(count);
  add_edges(model, vectors);
  std::mt19937_64 random(seed);
  while (vectors.size() < count) {
    vectors.push_back(corner(model, random));
    FeatureVector& inside = vectors.emplace_back();
    for (size_t i = 0; i < kFeatureCount; i++) {
      const ModelFeature& feature = model.features[i];
      inside[i] = between(feature.min_q16, feature.max_q16, uniform(random));
    }
    vectors.push_back(between(corner(model, random), corner(model, random), uniform(random)));
  }
  vectors.resize(count);
  return vectors;
}

ScoreError score_error(const Model& model, std::span<const FeatureVector> vectors) {
  ScoreError result{.vectors = vectors.size()};
  const bpf::scoring_model scoring = make_scoring_model(model);
  for (const FeatureVector& vector : vectors) {
    const double fixed = probability_q16(scoring, vector) / double{Q16_ONE};
    const double difference = std::abs(fixed - float_probability(model, vector));
    result.mean += difference;
    if (difference <= result.largest) continue;
    result.largest = difference;
    result.worst = vector;
  }
  if (!vectors.empty()) result.mean /= static_cast<double>(vectors.size());
  return result;
}

}  // namespace petrel
