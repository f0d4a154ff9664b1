// SPDX-License-Identifier: MIT
#include "simulate/simulation.hpp"

#include <algorithm>
#include <cmath>

namespace petrel::simulate {
namespace {

constexpr std::uint64_t kTickNs = 100'000'000;
// TCP_TIMEOUT_INIT is 1 s, and a timer of the kernel is late by up to a tick (4 ms): a client that
// waits one second leaves before it.
constexpr std::uint64_t kSynRepeatNs = 1'004'000'000;
constexpr std::size_t kShownBackends = 16;  // whose weights are told of second by second

std::uint64_t milliseconds_ns(double milliseconds) {
  return static_cast<std::uint64_t>(milliseconds * 1e6);
}

}  // namespace

Simulation::Simulation(const Scenario& scenario, const PolicyMaker& make_policy, RunOptions options)
    : scenario_(scenario),
      options_(std::move(options)),
      meter_(scenario),
      connect_([this](std::uint32_t backend) { return connect(backend); }),
      deliveries_(static_cast<std::uint64_t>(scenario.connect_us * 1000)),
      timeouts_(milliseconds_ns(scenario.clients.timeout_ms)),
      syn_repeats_(kSynRepeatNs),
      arrivals_(options_.seed, 1),
      clients_(options_.seed, 2),
      service_(options_.seed, 3),
      faults_(options_.seed, 4) {
  set_up_backends();
  for (std::uint32_t i = 0; i < scenario.balancers; ++i) {
    policies_.push_back(
        make_policy(BalancerView(cluster_, i, connect_), Random(options_.seed, 1000 + i)));
  }
  for (BackendState& backend : cluster_.backends) {
    backend.keeps_latencies = policies_.front()->asks_servers();
  }
  set_up_events();
}

void Simulation::set_up_backends() {
  cluster_.backends.resize(scenario_.backends);
  for (std::size_t i = 0; i < cluster_.backends.size(); ++i) {
    const double size = i < scenario_.sizes.size() ? scenario_.sizes[i] : 1.0;
    cluster_.backends[i].concurrency =
        static_cast<std::uint32_t>(std::max(1.0, std::floor(scenario_.concurrency * size)));
  }
  cluster_.pairs.resize(std::size_t{scenario_.balancers} * scenario_.backends);
  cluster_.inflight.resize(scenario_.balancers);
}

void Simulation::set_up_events() {
  arrivals_end_ns_ = time_ns(scenario_.duration_s);
  for (std::uint32_t i = 0; i < scenario_.faults.size(); ++i) {
    heap_.push(event(kFaultBegin, time_ns(scenario_.faults[i].from_s), i));
    heap_.push(event(kFaultEnd, time_ns(scenario_.faults[i].until_s), i));
  }
  // Balancers do not tick at once.
  for (std::uint32_t i = 0; i < scenario_.balancers; ++i) {
    heap_.push(event(kTick, kBeginNs + kTickNs * (i + 1) / scenario_.balancers, i));
  }
  arrival_.time_ns = kBeginNs;
  schedule_arrival();
}

Event Simulation::take_next() {
  const Event* first = &heap_.front();  // never empty: balancers tick
  DelayLine* line = nullptr;
  for (DelayLine* each : {&deliveries_, &timeouts_, &syn_repeats_}) {
    if (each->empty() || !each->front().before(*first)) continue;
    first = &each->front();
    line = each;
  }
  if (arrival_.time_ns < arrivals_end_ns_ && arrival_.before(*first)) {
    const Event taken = arrival_;
    schedule_arrival();
    return taken;
  }
  const Event taken = *first;
  line != nullptr ? line->pop() : heap_.pop();
  return taken;
}

Outcome Simulation::run() {
  while (arrival_.time_ns < arrivals_end_ns_ || open_ > 0) {
    const Event next = take_next();
    cluster_.now_ns = next.time_ns;
    while (seconds(next.time_ns) >= next_second_) count_second();
    handle(next);
  }
  for (const std::int64_t inflight : cluster_.inflight) conservation_.inflight += inflight;
  for (const Attempt& attempt : cluster_.attempts) conservation_.listed += attempt.listed ? 1 : 0;
  Outcome outcome = meter_.outcome();
  double churn = 0;
  for (const auto& policy : policies_) {
    if (policy->slots() == 0) continue;
    churn += static_cast<double>(policy->moved_slots()) / static_cast<double>(policy->slots());
  }
  outcome.ring_churn_per_min = churn / scenario_.balancers / (seconds(cluster_.now_ns) / 60);
  return outcome;
}

void Simulation::count_second() {
  if (scenario_.backends <= kShownBackends && next_second_ <= meter_.seconds().size()) {
    Second& second = meter_.seconds()[next_second_ - 1];
    for (std::uint32_t i = 0; i < scenario_.backends; ++i) {
      second.factors.push_back(policies_.front()->factor(i));
    }
  }
  if (options_.progress) options_.progress(next_second_);
  ++next_second_;
}

void Simulation::handle(const Event& event_in) {
  const std::uint32_t subject = event_in.subject;
  const auto is_current = [&] {
    return cluster_.attempts[subject].generation == event_in.generation &&
           cluster_.attempts[subject].phase != Phase::kFree;
  };
  switch (event_in.kind) {
    case kArrival:
      on_arrival();
      break;
    case kDeliver:
      if (is_current()) deliver(subject);
      break;
    case kTimeout:
      if (is_current()) on_timeout(subject);
      break;
    case kFirstSynRepeat:
    case kSynRepeat:
      if (is_current()) repeat_syn(subject);
      break;
    case kCompletion:
      if (is_current()) complete(subject);
      break;
    case kRetry:
      begin_attempt(subject);
      break;
    case kTick:
      policies_[subject]->tick();
      heap_.push(event(kTick, event_in.time_ns + kTickNs, subject));
      break;
    case kFaultBegin:
      begin_fault(subject);
      break;
    case kFaultEnd:
      end_fault(subject);
      break;
    case kSpeedWalk:
      walk_speeds(subject);
      break;
    default:
      break;
  }
}

void Simulation::settle(std::uint32_t index, bpf::event_type type, bpf::failure_kind failure) {
  Attempt& attempt = cluster_.attempts[index];
  cluster_.unlist(index);
  --cluster_.pair(attempt.balancer, attempt.backend).inflight;
  --cluster_.inflight[attempt.balancer];
  Seen seen;
  seen.time_ns = cluster_.now_ns;
  seen.syn_ns = attempt.syn_ns;
  seen.connect_ns = attempt.request_ns == 0 ? 0 : attempt.request_ns - attempt.sent_ns;
  seen.waited_ns =
      cluster_.now_ns - (attempt.request_ns == 0 ? attempt.sent_ns : attempt.request_ns);
  seen.backend = attempt.backend;
  seen.attempt = attempt.number;
  seen.syn_repeats = attempt.syn_repeats;
  seen.type = type;
  seen.failure = failure;
  policies_[attempt.balancer]->on_seen(seen);

  const std::uint32_t request_index = attempt.request;
  attempt.request = kNobody;
  if (failure == bpf::FAILURE_NONE) {
    end_request(request_index, true);
    return;
  }
  Request& request = requests_[request_index];
  request.failed_ns = cluster_.now_ns;
  request.failed_balancer = attempt.balancer;
  request.failed_backend = attempt.backend;
  request.failed_number = attempt.number;
  request.failure = failure;
  fail(request_index);
}

Outcome simulate(const Scenario& scenario, const PolicyMaker& make_policy, RunOptions options) {
  return Simulation(scenario, make_policy, std::move(options)).run();
}

}  // namespace petrel::simulate
