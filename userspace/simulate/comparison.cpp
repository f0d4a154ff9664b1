// SPDX-License-Identifier: MIT
#include "simulate/comparison.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace petrel::simulate {
namespace {

constexpr int kResamples = 2000;
constexpr double kNever = std::numeric_limits<double>::infinity();

constexpr Figure kFigures[] = {
    {"requests", [](const Outcome& o) { return std::optional(static_cast<double>(o.requests)); }},
    {"first_attempt_failures",
     [](const Outcome& o) { return std::optional(static_cast<double>(o.first_attempt_failures)); }},
    {"retries", [](const Outcome& o) { return std::optional(static_cast<double>(o.retries)); }},
    {"amplification", [](const Outcome& o) { return std::optional(o.amplification); }},
    {"backend_amplification",
     [](const Outcome& o) { return std::optional(o.backend_amplification); }},
    {"never_served",
     [](const Outcome& o) { return std::optional(static_cast<double>(o.never_served)); }},
    {"p50_ms", [](const Outcome& o) { return std::optional(o.p50_ms); }},
    {"p99_ms", [](const Outcome& o) { return std::optional(o.p99_ms); }},
    {"p999_ms", [](const Outcome& o) { return std::optional(o.p999_ms); }},
    {"moved_90_ms", [](const Outcome& o) { return o.moved_90_ms; }},
    {"recovered_ms", [](const Outcome& o) { return o.recovered_ms; }},
    {"goodput_share", [](const Outcome& o) { return std::optional(o.goodput_share); }},
    {"cause_arrivals_per_s",
     [](const Outcome& o) { return std::optional(o.cause_arrivals_per_s); }},
    {"cause_goodput_per_s", [](const Outcome& o) { return std::optional(o.cause_goodput_per_s); }},
    {"after_goodput_share", [](const Outcome& o) { return std::optional(o.after_goodput_share); }},
    {"refused", [](const Outcome& o) { return std::optional(static_cast<double>(o.refused)); }},
    {"refused_firsts",
     [](const Outcome& o) { return std::optional(static_cast<double>(o.refused_firsts)); }},
    {"wasted_share", [](const Outcome& o) { return std::optional(o.wasted_share); }},
    {"ring_churn_per_min", [](const Outcome& o) { return std::optional(o.ring_churn_per_min); }},
};

std::optional<double> finite(double value) {
  return std::isfinite(value) ? std::optional(value) : std::nullopt;
}

double median_of(std::vector<double> values) {
  std::ranges::sort(values);
  const std::size_t middle = values.size() / 2;
  if (values.size() % 2 == 1) return values[middle];
  return (values[middle - 1] + values[middle]) / 2;
}

}  // namespace

std::span<const Figure> figures() {
  return kFigures;
}

SeedEstimate estimate(std::span<const std::optional<double>> by_seed) {
  SeedEstimate result;
  std::vector<double> values;
  double sum = 0;
  for (const std::optional<double>& value : by_seed) {
    values.push_back(value.value_or(kNever));
    sum += value.value_or(0);
    result.missing += value ? 0 : 1;
  }
  if (values.empty()) return result;
  if (result.missing < values.size()) {
    result.mean = sum / static_cast<double>(values.size() - result.missing);
  }
  result.median = finite(median_of(values));
  if (values.size() < 2) return result;
  Random random(values.size(), 7);  // the same resamples for all figures of as many seeds
  std::vector<double> medians;
  std::vector<double> resample(values.size());
  for (int i = 0; i < kResamples; ++i) {
    for (double& value : resample) {
      value = values[random.below(static_cast<std::uint32_t>(values.size()))];
    }
    medians.push_back(median_of(resample));
  }
  std::ranges::sort(medians);
  result.low = finite(medians[kResamples * 25 / 1000]);
  result.high = finite(medians[kResamples * 975 / 1000]);
  return result;
}

SeedEstimate estimate(const Figure& figure, std::span<const Outcome> by_seed) {
  std::vector<std::optional<double>> values;
  for (const Outcome& outcome : by_seed) values.push_back(figure.of(outcome));
  return estimate(values);
}

Boundary find_boundary(const Scenario& scenario, const std::function<Outcome(const Scenario&)>& run,
                       BoundarySearch search) {
  const auto recovers = [&](double seconds) {
    Scenario with = scenario;
    with.set_cause_duration(seconds);
    return run(with).recovered_ms.has_value();
  };
  if (!recovers(search.shortest_s)) return {0, search.shortest_s};
  if (recovers(search.longest_s)) return {search.longest_s, std::nullopt};
  double good = search.shortest_s, bad = search.longest_s;
  while (bad - good > search.grain_s) {
    const double middle = std::round((good + bad) / 2 / search.grain_s) * search.grain_s;
    if (middle <= good || middle >= bad) break;
    (recovers(middle) ? good : bad) = middle;
  }
  return {good, bad};
}

}  // namespace petrel::simulate
