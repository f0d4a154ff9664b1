// SPDX-License-Identifier: MIT
// DriftJudge: whether a model may still be believed, from the watch's figures.
//
// A model has drifted once its calibration error is beyond its limit by more than chance, or its
// PSI is beyond its own. It has recovered once both have been under 0.7 of their limits for a sixth
// of the window, or when somebody says so (reset()). Too few rows are no verdict: what was said
// before stays, and so are few minutes: an incident that has just begun is not the model's. Pure:
// time comes in as a number.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "watch/model_watch.hpp"

namespace petrel {

struct DriftLimits {
  double psi = 3.0;
  double ece = 0.15;
  std::chrono::nanoseconds window = std::chrono::hours(1);
};

enum class ModelState : std::uint8_t {
  kUnproven,  // too few rows yet
  kGood,
  kDrifted,
};
std::string_view to_string(ModelState state);

class DriftJudge {
 public:
  static constexpr std::uint64_t kLeastRows = 1000;
  static constexpr double kLeastRetries = 50;  // seen, or predicted
  static constexpr double kRecoveredPart = 0.7;

  explicit DriftJudge(DriftLimits limits) : limits_(limits) {}

  // Of the live model; each second or so. True where the state has changed.
  bool judge(std::uint64_t now_ns, const WatchReport& report, const PsiMeasures& psi);
  // Another model, or the same one is to be believed again.
  void reset();
  void set_limits(DriftLimits limits) { limits_ = limits; }

  ModelState state() const { return state_; }
  const std::string& reason() const { return reason_; }  // "" but while it is drifted
  const DriftLimits& limits() const { return limits_; }

 private:
  bool set(ModelState state, std::string reason);

  DriftLimits limits_;
  ModelState state_ = ModelState::kUnproven;
  std::string reason_;
  std::uint64_t low_since_ns_ = 0;  // while drifted: since when both are low; 0: they are not
};

// What a calibration error is beyond chance; NaN where too few rows were seen for a verdict.
double proven_ece(const WatchMeasures& measures);

}  // namespace petrel
