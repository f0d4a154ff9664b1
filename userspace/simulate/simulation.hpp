// SPDX-License-Identifier: MIT
// Simulation: one run of a scenario under one policy, event by event.
//
// Deterministic: the same scenario, policy and seed give the same outcome to the last bit. Streams
// of random numbers are separate, so that another policy meets the same requests at the same times.
#pragma once

#include <functional>
#include <memory>

#include "simulate/cluster.hpp"
#include "simulate/event_queue.hpp"
#include "simulate/outcome.hpp"
#include "simulate/policy.hpp"

namespace petrel::simulate {

struct RunOptions {
  std::uint64_t seed = 1;
  // Once a simulated second, with which it is.
  std::function<void(std::uint32_t second)> progress;
};

// What must hold at the end of each run; a test asks for it.
struct Conservation {
  std::uint64_t begun = 0, served = 0, given_up = 0;  // requests
  std::int64_t inflight = 0;                          // as balancers count it, after the last one
  std::uint64_t listed = 0;                           // attempts that wait, then
};

class Simulation {
 public:
  // `scenario` outlives it.
  Simulation(const Scenario& scenario, const PolicyMaker& make_policy, RunOptions options);

  // Until each request has ended.
  Outcome run();

  const Conservation& conservation() const { return conservation_; }
  Meter& meter() { return meter_; }

 private:
  struct Request {
    std::uint64_t arrival_ns = 0;
    std::uint64_t port_seed = 0;
    std::uint32_t client = 0;
    std::uint32_t attempts = 0;
    // What its last failure is remembered by, and where.
    std::uint64_t failed_ns = 0;
    std::uint32_t failed_balancer = kNobody;
    std::uint32_t failed_backend = kNobody;
    std::uint32_t failed_number = 0;
    bpf::failure_kind failure = bpf::FAILURE_NONE;
    bool hammers = false;
  };
  enum Kind : std::uint8_t {
    kArrival,
    kDeliver,
    kTimeout,
    kFirstSynRepeat,
    kCompletion,
    kRetry,
    kSynRepeat,
    kTick,
    kFaultBegin,
    kFaultEnd,
    kSpeedWalk
  };

  double seconds(std::uint64_t time_ns) const {
    return static_cast<double>(time_ns - kBeginNs) * 1e-9;
  }
  std::uint64_t time_ns(double seconds_in) const {
    return kBeginNs + static_cast<std::uint64_t>(seconds_in * 1e9);
  }
  bool counts(const Request& request) const {
    return !request.hammers && seconds(request.arrival_ns) >= scenario_.measured_from_s;
  }
  void set_up_backends();
  void set_up_events();
  Event event(Kind kind, std::uint64_t at_ns, std::uint32_t subject, std::uint32_t generation = 0) {
    return {at_ns, ++order_, subject, generation, kind};
  }
  Event take_next();
  void handle(const Event& event);
  void count_second();

  // clients.cpp
  void schedule_arrival();
  void on_arrival();
  void begin_attempt(std::uint32_t request);
  Flow flow_of(const Request& request, std::uint32_t balancer, std::uint64_t hash) const;
  void on_timeout(std::uint32_t attempt);
  void fail(std::uint32_t request);
  void end_request(std::uint32_t request, bool served);

  // handshake.cpp
  void send_syn(std::uint32_t attempt);
  void repeat_syn(std::uint32_t attempt);
  std::uint32_t other_backend(const Attempt& attempt, bool refused);
  void move_syn(std::uint32_t attempt, std::uint32_t backend, bpf::failure_kind failure);
  void deliver(std::uint32_t attempt);

  // serving.cpp
  bool has_fault(std::uint32_t backend, FaultKind kind) const;
  bool is_on_path(std::uint32_t backend, FaultKind kind, std::uint64_t hash) const;
  double slowness(std::uint32_t backend) const;
  double error_share(std::uint32_t backend) const;
  bool is_paused(std::uint32_t backend) const;
  void enqueue(std::uint32_t attempt);
  void start_work(std::uint32_t backend);
  void complete(std::uint32_t attempt);
  void leave_backend(std::uint32_t attempt);
  void lose_all(std::uint32_t backend);
  void begin_fault(std::uint32_t fault);
  void end_fault(std::uint32_t fault);
  void walk_speeds(std::uint32_t fault);
  ProbeResult connect(std::uint32_t backend) const;

  // The attempt's outcome, as its balancer and its client see it.
  void settle(std::uint32_t attempt, bpf::event_type type, bpf::failure_kind failure);
  void wait_at(Attempt& attempt, std::uint32_t backend);

  const Scenario& scenario_;
  RunOptions options_;
  Cluster cluster_;
  Meter meter_;
  Conservation conservation_;
  BalancerView::Connect connect_;
  std::vector<std::unique_ptr<Policy>> policies_;
  std::vector<Request> requests_;
  std::vector<std::uint32_t> free_requests_;
  EventHeap heap_;
  DelayLine deliveries_, timeouts_, syn_repeats_;
  Event arrival_;
  std::uint64_t arrivals_end_ns_ = 0;
  std::uint64_t order_ = 0;
  std::uint64_t open_ = 0;  // requests
  std::uint32_t next_second_ = 1;
  std::uint32_t rate_step_ = 0;
  Random arrivals_, clients_, service_, faults_;
};

// One run: what most callers want.
Outcome simulate(const Scenario& scenario, const PolicyMaker& make_policy, RunOptions options);

}  // namespace petrel::simulate
