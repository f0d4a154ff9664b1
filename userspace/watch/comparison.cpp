// SPDX-License-Identifier: MIT
#include "watch/comparison.hpp"

#include <cmath>
#include <cstdio>

#include "watch/drift_judge.hpp"

namespace petrel {
namespace {

struct Pair {
  ScoreTable live;
  ScoreTable shadow;
};

// By point; last: all of them.
using Pairs = std::array<Pair, kPointCount + 1>;

struct Resampled {
  std::vector<double> auc, log_loss, brier, ece;

  void add(const WatchMeasures& live, const WatchMeasures& shadow) {
    auc.push_back(shadow.auc - live.auc);
    log_loss.push_back(shadow.log_loss - live.log_loss);
    brier.push_back(shadow.brier - live.brier);
    ece.push_back(shadow.ece - live.ece);
  }
};

void add_part(Pairs& pairs, const ModelWatch::Part& part, std::uint32_t times) {
  for (std::size_t i = 0; i < kPointCount; ++i) {
    pairs[i].live.add(part.live[i], times);
    pairs[i].shadow.add(part.shadow[i], times);
  }
}

void sum_points(Pairs& pairs) {
  for (std::size_t i = 0; i < kPointCount; ++i) {
    pairs[kPointCount].live.add(pairs[i].live);
    pairs[kPointCount].shadow.add(pairs[i].shadow);
  }
}

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.3g", value);
  return text;
}

}  // namespace

Comparison compare(const ModelWatch& watch, std::size_t resamples, std::uint64_t seed) {
  const auto parts = watch.shadowed_parts();
  Comparison comparison;
  comparison.parts = parts.size();
  Pairs sums;
  for (const ModelWatch::Part* part : parts) add_part(sums, *part, 1);
  sum_points(sums);

  std::array<Resampled, kPointCount + 1> resampled;
  if (parts.size() >= ModelWatch::kLeastParts) {
    const RunResamples draws(parts.size(), resamples, seed);
    for (std::size_t i = 0; i < draws.count(); ++i) {
      Pairs drawn;
      const auto weights = draws.weights(i);
      for (std::size_t p = 0; p < parts.size(); ++p) {
        if (weights[p] != 0) add_part(drawn, *parts[p], weights[p]);
      }
      sum_points(drawn);
      for (std::size_t p = 0; p < drawn.size(); ++p) {
        resampled[p].add(drawn[p].live.measure(), drawn[p].shadow.measure());
      }
    }
  }
  for (std::size_t p = 0; p < sums.size(); ++p) {
    WatchCompared& compared = p == kPointCount ? comparison.all : comparison.points[p];
    const WatchMeasures live = sums[p].live.measure();
    const WatchMeasures shadow = sums[p].shadow.measure();
    Resampled& draws = resampled[p];
    compared = {live,
                shadow,
                {estimate(shadow.auc - live.auc, std::move(draws.auc), parts.size()),
                 estimate(shadow.log_loss - live.log_loss, std::move(draws.log_loss), parts.size()),
                 estimate(shadow.brier - live.brier, std::move(draws.brier), parts.size()),
                 estimate(shadow.ece - live.ece, std::move(draws.ece), parts.size())}};
  }
  return comparison;
}

std::string objection(const Comparison& comparison, double ece_limit) {
  const WatchMeasures& shadow = comparison.all.shadow;
  if (shadow.rows < DriftJudge::kLeastRows) {
    return "the shadow has been seen on " + std::to_string(shadow.rows) + " rows, needs " +
           std::to_string(DriftJudge::kLeastRows);
  }
  if (static_cast<double>(shadow.retried) < DriftJudge::kLeastRetries) {
    return "the shadow has been seen on " + std::to_string(shadow.retried) +
           " retried rows, needs " +
           std::to_string(static_cast<unsigned>(DriftJudge::kLeastRetries));
  }
  if (comparison.parts < ModelWatch::kLeastParts) {
    return "the shadow has been seen in " + std::to_string(comparison.parts) +
           " parts of the window, needs " + std::to_string(ModelWatch::kLeastParts);
  }
  if (proven_ece(shadow) > ece_limit) {
    return "the shadow's calibration error is " + number(shadow.ece) + ", limit " +
           number(ece_limit);
  }
  const Estimate& worse = comparison.all.differences.log_loss;
  if (worse.has_interval() && worse.low > 0) {
    return "the shadow is clearly worse: its log loss is larger by " + number(worse.value) + " (" +
           number(worse.low) + " to " + number(worse.high) + ")";
  }
  return "";
}

}  // namespace petrel
