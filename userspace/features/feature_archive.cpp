// SPDX-License-Identifier: MIT
// FeatureState as lines of text: one a backend and a service, with what the last tick published.
#include "base/state.hpp"
#include "features/feature_state.hpp"

namespace petrel {
namespace {

template <class Fields>
void archive_view(Fields& fields, BackendView& view) {
  fields("view_waiting_excess_q16", view.waiting_excess_q16);
  fields("view_response_log2_q16", view.usual_response_log2_q16);
  fields("view_silence_ns", view.silence_ns);
  fields("view_failure_share_q16", view.failure_share_q16);
  fields("view_others_failure_share_q16", view.others_failure_share_q16);
  fields("view_connect_failure_share_q16", view.connect_failure_share_q16);
  fields("view_reset_share_q16", view.reset_share_q16);
  fields("view_error_share_q16", view.error_share_q16);
  fields("view_trouble_share_q16", view.trouble_share_q16);
  fields("view_other_zone", view.other_zone);
}

template <class Fields>
void archive_view(Fields& fields, ServiceView& view) {
  fields("view_response_log2_q16", view.usual_response_log2_q16);
  fields("view_spread_q16", view.response_spread_q16);
  fields("view_connect_log2_q16", view.usual_connect_log2_q16);
  fields("view_patience_log2_q16", view.patience_log2_q16);
  fields("view_srtt_log2_q16", view.usual_srtt_log2_q16);
  fields("view_retry_odds_log2_q16", view.retry_odds_log2_q16);
  fields("view_day_sine_q16", view.day_sine_q16);
  fields("view_day_cosine_q16", view.day_cosine_q16);
  for (size_t i = 0; i <= RARITY_OCTAVES; i++) {
    fields("view_rarity_" + std::to_string(i) + "_q16", view.rarity_q16[i]);
  }
}

}  // namespace

template <class State>
void FeatureState::archive(State& state) {
  auto snapshot = std::make_shared<Snapshot>(*snapshot_);
  std::size_t backends = backends_.size();
  std::size_t services = services_.size();
  state.line("features", [&](auto& fields) {
    fields("last_tick_ns", last_tick_ns_);
    fields("newest_event_ns", newest_event_ns_);
    fields("snapshot_ns", snapshot->time_ns);
    fields("wall_offset_ns", wall_offset_ns_);
    fields("backends", backends);
    fields("services", services);
  });
  backends_.resize(std::min<std::size_t>(backends, MAX_BACKENDS));
  services_.resize(std::min<std::size_t>(services, MAX_SERVICES));
  snapshot->backends.resize(backends_.size());
  snapshot->services.resize(services_.size());
  for (std::size_t id = 0; id < backends_.size(); ++id) {
    Backend& each = backends_[id];
    BackendView& view = snapshot->backends[id];
    state.line("features/backend/" + std::to_string(id), [&](auto& fields) {
      fields("service_id", each.service_id);
      fields("waiting", each.waiting);
      fields("silent_since_ns", each.silent_since_ns);
      fields("last_answer_ns", each.last_answer_ns);
      fields("other_zone", each.other_zone);
      fields("outcomes_q16", each.outcomes_q16);
      fields("failures_q16", each.failures_q16);
      fields("connect_failures_q16", each.connect_failures_q16);
      fields("resets_q16", each.resets_q16);
      fields("errors_q16", each.errors_q16);
      each.waiting_log2.archive(fields, "waiting_log2");
      each.response_log2.archive(fields, "response_log2");
      archive_view(fields, view);
    });
  }
  for (std::size_t id = 0; id < services_.size(); ++id) {
    Service& each = services_[id];
    ServiceView& view = snapshot->services[id];
    state.line("features/service/" + std::to_string(id), [&](auto& fields) {
      each.usual.archive(fields);
      fields("failures_q16", each.failures_q16);
      fields("outcomes_q16", each.outcomes_q16);
      archive_view(fields, view);
    });
  }
  snapshot_ = std::move(snapshot);
}

template void FeatureState::archive(StateOut&);
template void FeatureState::archive(StateIn&);

}  // namespace petrel
