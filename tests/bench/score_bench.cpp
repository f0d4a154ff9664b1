// SPDX-License-Identifier: MIT
// petrel-bench-score: scores and features a second on one core, by Google Benchmark (its options).
#include <benchmark/benchmark.h>

#include <random>
#include <vector>

#include "score/score.hpp"

namespace petrel {
namespace {

constexpr std::size_t kVectors = 1024;  // they and the model lie in the cache, as in a stream of rows

Model made_model() {
  Model model;
  model.bias_q16 = -2 * Q16_ONE;
  for (std::size_t i = 0; i < kFeatureCount; i++) {
    model.coefficients[i] = {(static_cast<std::int32_t>(i % 5) - 2) << 28, 30};
    model.features[i].max_q16 = 10 * Q16_ONE;
  }
  return model;
}

std::vector<FeatureVector> made_vectors(bool half_are_zero) {
  std::mt19937 random(1);
  std::vector<FeatureVector> vectors(kVectors);
  for (FeatureVector& vector : vectors) {
    for (std::size_t i = 0; i < kFeatureCount; i++) {
      const bool zero = half_are_zero && i / SCORING_GROUP % 2 != 0;
      vector[i] = zero ? 0 : static_cast<std::int32_t>(random() % (10 * Q16_ONE));
    }
  }
  return vectors;
}

void score(benchmark::State& state, bool half_are_zero) {
  const bpf::scoring_model model = make_scoring_model(made_model());
  const std::vector<FeatureVector> vectors = made_vectors(half_are_zero);
  std::size_t at = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(probability_q16(model, vectors[at]));
    at = (at + 1) % kVectors;
  }
  state.SetItemsProcessed(state.iterations());
}

void features(benchmark::State& state) {
  const Snapshot snapshot;
  Observation seen;
  seen.point = Point::kAnswer;
  seen.failure = bpf::FAILURE_SERVER_ERROR;
  seen.elapsed_ns = 90'000'000;
  seen.connect_ns = 700'000;
  seen.request_bytes = 5000;
  seen.attempt = 2;
  for (auto _ : state) {
    seen.elapsed_ns += 1000;
    benchmark::DoNotOptimize(compute(snapshot, seen));
  }
  state.SetItemsProcessed(state.iterations());
}

BENCHMARK_CAPTURE(score, half_zero, true);
BENCHMARK_CAPTURE(score, none_zero, false);
BENCHMARK(features);

}  // namespace
}  // namespace petrel

BENCHMARK_MAIN();
