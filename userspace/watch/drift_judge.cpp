// SPDX-License-Identifier: MIT
#include "watch/drift_judge.hpp"

#include <cstdio>

namespace petrel {
namespace {

constexpr int kRecoveryParts = 6;  // of the window: for one of them figures must stay low

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.2f", value);
  return text;
}

std::string window_text(std::chrono::nanoseconds window) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(window).count();
  if (seconds == 3600) return "the last hour";
  if (seconds % 60 == 0) return "the last " + std::to_string(seconds / 60) + " minutes";
  return "the last " + std::to_string(seconds) + " s";
}

std::string psi_reason(const PsiMeasures& psi, const DriftLimits& limits) {
  std::string text = "PSI " + number(psi.mean) + " over " + window_text(limits.window) +
                     ", limit " + number(limits.psi);
  const FeatureDrift& worst = psi.drifts.front();
  return text + " (most of it " + std::string(kFeatures[worst.feature].name) + " at " +
         std::string(point_name(worst.point)) + ": " + number(worst.psi) + ")";
}

}  // namespace

std::string_view to_string(ModelState state) {
  switch (state) {
    case ModelState::kUnproven:
      return "unproven";
    case ModelState::kGood:
      return "good";
    case ModelState::kDrifted:
      return "drifted";
  }
  return "unknown";
}

double proven_ece(const WatchMeasures& measures) {
  const bool enough = measures.rows >= DriftJudge::kLeastRows &&
                      (static_cast<double>(measures.retried) >= DriftJudge::kLeastRetries ||
                       measures.predicted >= DriftJudge::kLeastRetries);
  return enough ? measures.ece - measures.ece_chance : WatchMeasures::kNone;
}

bool DriftJudge::judge(std::uint64_t now_ns, const WatchReport& report, const PsiMeasures& psi) {
  const WatchMeasures& all = report.all;
  const bool seen = all.rows >= kLeastRows && report.parts >= ModelWatch::kLeastParts;
  // A comparison with NaN, what is not known, is false.
  const double ece = seen ? proven_ece(all) : WatchMeasures::kNone;
  const double drift = seen && psi.known ? psi.mean : WatchMeasures::kNone;
  if (ece > limits_.ece) {
    low_since_ns_ = 0;
    return set(ModelState::kDrifted, "calibration error " + number(all.ece) + " over " +
                                         window_text(limits_.window) + ", limit " +
                                         number(limits_.ece));
  }
  if (drift > limits_.psi) {
    low_since_ns_ = 0;
    return set(ModelState::kDrifted, psi_reason(psi, limits_));
  }
  if (state_ != ModelState::kDrifted) {
    return set(seen ? ModelState::kGood : ModelState::kUnproven, "");
  }
  // Without a calibration error hardly any retry is seen or predicted: good health.
  const bool low =
      seen && !(ece >= kRecoveredPart * limits_.ece) && !(drift >= kRecoveredPart * limits_.psi);
  if (!low) {
    low_since_ns_ = 0;
    return false;
  }
  if (low_since_ns_ == 0) low_since_ns_ = now_ns;
  const auto needed = static_cast<std::uint64_t>((limits_.window / kRecoveryParts).count());
  if (now_ns - low_since_ns_ < needed) return false;
  return set(ModelState::kGood, "");
}

void DriftJudge::reset() {
  state_ = ModelState::kUnproven;
  reason_.clear();
  low_since_ns_ = 0;
}

// The reason's figures follow the state; only its change is news.
bool DriftJudge::set(ModelState state, std::string reason) {
  const bool changed = state != state_;
  state_ = state;
  reason_ = std::move(reason);
  return changed;
}

}  // namespace petrel
