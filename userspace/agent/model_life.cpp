// SPDX-License-Identifier: MIT
#include "agent/model_life.hpp"

#include <spdlog/spdlog.h>

namespace petrel {
namespace {

constexpr std::uint64_t kMeasurePeriodNs = 1'000'000'000;
constexpr std::size_t kMostHeldRows = 100'000;  // far more than the sample's in a retry window

LabellerOptions labeller_options(std::chrono::nanoseconds retry_window) {
  LabellerOptions options;
  options.retry_window = retry_window;
  options.max_held_rows = kMostHeldRows;
  return options;
}

}  // namespace

ModelLife::ModelLife(const ModelWatchConfig& config, std::chrono::nanoseconds retry_window,
                     bool trained)
    : config_(config), trained_(trained), watch_(config.window), service_scores_(config.window), judge_(limits()) {
  make_labeller(retry_window);
}

// What the earlier one holds is lost: some seconds' rows.
void ModelLife::make_labeller(std::chrono::nanoseconds retry_window) {
  retry_window_ = retry_window;
  labeller_ = std::make_unique<SampledLabeller>(
      labeller_options(retry_window), [this](const LabelledRow& row) { add_row(row); });
}

void ModelLife::add_row(const LabelledRow& row) {
  const auto probability_q16 = watch_.add(row, now_ns_);
  if (probability_q16) service_scores_.add(row, *probability_q16, now_ns_);
}

DriftLimits ModelLife::limits() const {
  return {config_.psi_limit, config_.ece_limit, config_.window};
}

bool ModelLife::on_tick(std::shared_ptr<const Snapshot> snapshot, std::uint64_t now_ns) {
  now_ns_ = now_ns;
  watch_.advance(now_ns);
  labeller_->on_tick(std::move(snapshot), now_ns);
  if (now_ns - measured_ns_ < kMeasurePeriodNs) return false;
  measured_ns_ = now_ns;
  return measure(now_ns);
}

bool ModelLife::measure(std::uint64_t now_ns) {
  if (!trained_) return false;
  const WatchReport report = watch_.live_report();
  live_measures_ = report.all;
  shadow_measures_ = watch_.shadow() ? watch_.shadow_report().all : WatchMeasures{};
  psi_ = watch_.psi();
  const ModelState before = judge_.state();
  if (!judge_.judge(now_ns, report, psi_)) return false;
  if (judge_.state() == ModelState::kDrifted) {
    ++drifts_;
    spdlog::warn("the model has drifted: {}{}", judge_.reason(),
                 should_hold() ? ": configured weights from now on" : "");
  } else if (before == ModelState::kDrifted) {
    spdlog::info("the model is believed again: its figures have stayed low");
  }
  return true;
}

void ModelLife::configure(const ModelWatchConfig& config, std::chrono::nanoseconds retry_window) {
  if (retry_window != retry_window_) make_labeller(retry_window);
  const bool other_window = config.window != config_.window;
  config_ = config;
  judge_.set_limits(limits());
  if (!other_window) return;
  std::optional<Model> live = watch_.live();
  std::optional<Model> shadow = watch_.shadow();
  watch_ = ModelWatch(config_.window);
  service_scores_ = ServiceScores(config_.window);
  watch_.advance(now_ns_);
  if (live) watch_.watch_live(std::move(*live));
  watch_.watch_shadow(std::move(shadow));
  forget_figures();
}

void ModelLife::begin(Model live, std::string source, std::optional<Model> previous) {
  watch_.watch_live(std::move(live));
  source_ = std::move(source);
  previous_ = std::move(previous);
  judge_.reset();
  forget_figures();
}

void ModelLife::set_shadow(std::optional<Model> shadow) {
  watch_.watch_shadow(std::move(shadow));
  shadow_measures_ = {};
}

void ModelLife::accept() {
  watch_.watch_live(Model(*watch_.live()));
  judge_.reset();
  forget_figures();
}

void ModelLife::forget_figures() {
  service_scores_.clear();
  live_measures_ = {};
  shadow_measures_ = {};
  psi_ = {};
}

}  // namespace petrel
