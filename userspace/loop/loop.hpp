// SPDX-License-Identifier: MIT
// Loop: events and what waits in, risks, weights and ring moves out. Each tick of the agent, and of
// a replay: the same code.
//
// Events are scored as of the last tick's snapshot, then folded into the features: live scoring,
// training and replay see the same. No I/O, no clock: time comes in as a number. What it remembers
// between two ticks can be saved and loaded, to the last bit.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "base/error.hpp"
#include "base/state.hpp"
#include "features/feature_state.hpp"
#include "loop/service_loop.hpp"
#include "score/model.hpp"

namespace petrel {

// What a tick takes of one backend.
struct BackendTick {
  ProbeResult probe = ProbeResult::kUnknown;
  std::span<const WaitingGroup> waiting_syn;  // by age, youngest first
  std::span<const WaitingGroup> waiting;
};

class Loop {
 public:
  using InputsOf = std::function<BackendTick(const ServiceLoop&, const BackendLoop&)>;
  // Called once for each service, as soon as its part of the tick has been decided.
  using Decided = std::function<void(ServiceLoop&, std::span<const RingChange>)>;

  explicit Loop(Model model) { set_model(std::move(model)); }

  // Any event, in order of arrival. The predicted probability of a retry, in Q16, of those that
  // say how a request went.
  std::optional<std::uint32_t> on_event(const bpf::event& event);

  void tick(std::uint64_t now_ns, std::chrono::nanoseconds elapsed, const InputsOf& inputs_of,
            const Decided& decided);

  // `kernel_generation`: by which the kernel scores events with this model, too; 0: it does not. Its
  // score of an event then counts, live and replayed: it may rest on the views of another tick.
  void set_model(Model model, std::uint32_t kernel_generation = 0);
  const bpf::scoring_model& scoring() const { return scoring_; }
  const Model& model() const { return model_; }
  std::vector<ServiceLoop>& services() { return services_; }
  const std::vector<ServiceLoop>& services() const { return services_; }
  FeatureState& features() { return features_; }
  const FeatureState& features() const { return features_; }
  ServiceLoop* find_service(std::uint32_t service_id);

  // The model has drifted: no service acts on it, each keeps its configured weights. Services that come
  // later are to be told by this again, and settled.
  void hold(bool held);
  bool held() const { return held_; }

  // All that decides: configuration, model, features, risks, weights and rings. Between two ticks.
  void save(StateOut& out);
  static Result<Loop> load(StateIn& in);

 private:
  std::uint32_t score(const bpf::event& event, const FeatureVector& features) const;
  void score_waiting(ServiceLoop& service, BackendLoop& backend, Point point,
                     std::span<const WaitingGroup> groups);

  Model model_;
  bpf::scoring_model scoring_{};  // the same, to score by
  std::uint32_t kernel_generation_ = 0;
  std::vector<ServiceLoop> services_;
  FeatureState features_;
  bool held_ = false;
};

}  // namespace petrel
