// SPDX-License-Identifier: MIT
// ModelLife: what an agent knows of its models beside their coefficients: how the live one does,
// the shadow, what a rollback would put back, and whether the live one is still to be believed.
//
// Fed with all events and ticks, whether or not somebody captures. Figures for status are made once
// a second, for it may be asked more often. No I/O.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "config/config.hpp"
#include "watch/drift_judge.hpp"
#include "watch/model_watch.hpp"
#include "watch/sampled_labeller.hpp"
#include "watch/service_scores.hpp"

namespace petrel {

class ModelLife {
 public:
  // `trained`: false where the model is none, and there is nothing to judge.
  ModelLife(const ModelWatchConfig& config, std::chrono::nanoseconds retry_window, bool trained);
  ModelLife(ModelLife&&) = delete;  // the labeller calls back

  void on_event(const bpf::event& event) { labeller_->on_event(event); }
  // The new snapshot of each tick. True where should_hold() may have changed.
  bool on_tick(std::shared_ptr<const Snapshot> snapshot, std::uint64_t now_ns);

  // Another configuration; figures begin anew where its window is another one.
  void configure(const ModelWatchConfig& config, std::chrono::nanoseconds retry_window);
  // Another model, or none of this one's past is to count any more.
  void begin(Model live, std::string source, std::optional<Model> previous);
  void set_shadow(std::optional<Model> shadow);
  // The live model is to be believed again, whatever it did.
  void accept();

  // No service is to act on the live model.
  bool should_hold() const {
    return judge_.state() == ModelState::kDrifted && config_.drift_action == DriftAction::kNeutral;
  }

  bool trained() const { return trained_; }
  const ModelWatchConfig& config() const { return config_; }
  const ModelWatch& watch() const { return watch_; }
  const DriftJudge& judge() const { return judge_; }
  const std::optional<Model>& shadow() const { return watch_.shadow(); }
  const std::optional<Model>& previous() const { return previous_; }
  const std::string& source() const { return source_; }
  double sampled_share() const { return labeller_->share(); }
  std::uint64_t drifts() const { return drifts_; }  // since the start

  // As of the last second.
  const WatchMeasures& live_measures() const { return live_measures_; }
  const WatchMeasures& shadow_measures() const { return shadow_measures_; }
  const PsiMeasures& psi() const { return psi_; }
  // Of one service's rows; now.
  WatchMeasures measures_of(std::uint32_t service_id) const {
    return service_scores_.measure(service_id, now_ns_);
  }

 private:
  DriftLimits limits() const;
  void make_labeller(std::chrono::nanoseconds retry_window);
  bool measure(std::uint64_t now_ns);
  void forget_figures();
  void add_row(const LabelledRow& row);

  ModelWatchConfig config_;
  bool trained_;
  ModelWatch watch_;
  ServiceScores service_scores_;
  DriftJudge judge_;
  std::chrono::nanoseconds retry_window_{};
  std::unique_ptr<SampledLabeller> labeller_;
  std::optional<Model> previous_;
  std::string source_;
  std::uint64_t now_ns_ = 0;  // of the last tick
  std::uint64_t measured_ns_ = 0;
  std::uint64_t drifts_ = 0;
  WatchMeasures live_measures_;
  WatchMeasures shadow_measures_;
  PsiMeasures psi_;
};

}  // namespace petrel
