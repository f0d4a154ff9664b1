// SPDX-License-Identifier: MIT
// FeatureState: what events and ticks tell of backends and services, decayed, in integers.
//
// Events gather between ticks and change no view; a tick folds them in and makes a new Snapshot.
// So whatever is observed between two ticks sees the state as of the earlier one, in training as
// live. Not thread-safe: one owner feeds it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "features/features.hpp"
#include "features/service_state.hpp"
#include "features/usual.hpp"

namespace petrel {

// Requests and SYNs without an answer at a backend, now.
struct BackendWaiting {
  uint32_t backend_id = 0;
  uint32_t service_id = 0;
  uint32_t waiting = 0;
  bool other_zone = false;  // than this host's
};

class FeatureState {
 public:
  FeatureState();

  // Any event; ids out of range are ignored.
  void on_event(const bpf::event& event);

  // Once a tick, with every configured backend; one that is left out has nothing waiting.
  void on_tick(uint64_t now_ns, std::span<const BackendWaiting> waiting);

  // What part of the events of late was lost: the views of the next ticks are built on the rest, and
  // say so.
  void set_lost_share(double share) { lost_share_q16_ = static_cast<uint32_t>(share * 65536); }

  // CLOCK_REALTIME less CLOCK_MONOTONIC: for the time of day. 0: not known, midnight always.
  void set_wall_offset(int64_t offset_ns) { wall_offset_ns_ = offset_ns; }
  int64_t wall_offset_ns() const { return wall_offset_ns_; }

  // The features as of the last tick.
  FeatureVector compute(const Observation& observation) const;

  // What the service's clients wait before they leave, in ns; 0 until some have been seen to.
  uint64_t known_patience_ns(uint32_t service_id) const;

  // The last tick's views, shared so that a capture can keep a history of them cheaply.
  std::shared_ptr<const Snapshot> snapshot() const { return snapshot_; }

  // When a backend id is given to another backend.
  void forget_backend(uint32_t backend_id);

  // All of it, the last tick's views included: StateOut or StateIn of base/state.hpp.
  template <class State>
  void archive(State& state);

 private:
  struct Backend {
    uint32_t service_id = 0;
    uint32_t waiting = 0;
    uint64_t silent_since_ns = 0;  // last answer, or when something began to wait after none did
    uint64_t last_answer_ns = 0;
    bool other_zone = false;
    uint64_t outcomes_q16 = 0;  // decayed counts
    uint64_t failures_q16 = 0;
    uint64_t connect_failures_q16 = 0;  // of these, by kind
    uint64_t resets_q16 = 0;
    uint64_t errors_q16 = 0;
    Usual waiting_log2 = Usual(0);  // log2(1 + waiting)
    Usual response_log2;            // of good answers, in ns
  };
  struct Service {
    ServiceState usual;
    uint64_t failures_q16 = 0;  // sums over its backends, made anew each tick
    uint64_t outcomes_q16 = 0;
  };

  Backend* backend(uint32_t backend_id);
  Service* service(uint32_t service_id);
  void take_waiting(uint64_t now_ns, std::span<const BackendWaiting> waiting);
  static void count(const bpf::event& event, Backend& backend);
  void decay(uint64_t elapsed_ns);
  void sum_services();
  BackendView view_of(const Backend& backend, uint64_t now_ns) const;
  void publish(uint64_t now_ns);

  std::vector<Backend> backends_;  // by id; grows to the highest seen
  std::vector<Service> services_;
  uint64_t last_tick_ns_ = 0;  // 0: none yet
  uint64_t newest_event_ns_ = 0;
  uint32_t lost_share_q16_ = 0;
  int64_t wall_offset_ns_ = 0;
  std::shared_ptr<const Snapshot> snapshot_;
};

}  // namespace petrel
