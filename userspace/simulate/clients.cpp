// SPDX-License-Identifier: MIT
// The clients' side of a run: arrivals, attempts, patience, retries.
#include <algorithm>

#include "bpf/hash.h"
#include "simulate/simulation.hpp"

namespace petrel::simulate {
namespace {

constexpr std::uint64_t kRetryWindowNs = 5'000'000'000;  // as the agent's
constexpr std::uint32_t kSpreadHash = 0x6c62;            // another hash than a balancer's own

bpf::address client_address(std::uint32_t client) {
  bpf::address address{};
  address.words_be[2] = 0xffff0000;
  address.words_be[3] = client + 0x0a000000;
  return address;
}

}  // namespace

void Simulation::schedule_arrival() {
  const double now_s = seconds(arrival_.time_ns);
  while (rate_step_ < scenario_.rate_steps.size() &&
         scenario_.rate_steps[rate_step_].from_s <= now_s) {
    ++rate_step_;
  }
  const double factor = rate_step_ == 0 ? 1 : scenario_.rate_steps[rate_step_ - 1].factor;
  const double gap_ns = arrivals_.exponential(1e9 / (scenario_.clients.rate_per_s * factor));
  arrival_ = event(kArrival, arrival_.time_ns + static_cast<std::uint64_t>(gap_ns), 0);
}

void Simulation::on_arrival() {
  std::uint32_t index = 0;
  if (free_requests_.empty()) {
    index = static_cast<std::uint32_t>(requests_.size());
    requests_.emplace_back();
  } else {
    index = free_requests_.back();
    free_requests_.pop_back();
    requests_[index] = {};
  }
  Request& request = requests_[index];
  request.arrival_ns = cluster_.now_ns;
  const double hammer_share = rate_step_ == 0 ? 0 : scenario_.rate_steps[rate_step_ - 1].hammer_share;
  // Nothing is drawn where there are none: the other scenarios stay as they are.
  request.hammers = hammer_share > 0 && clients_.uniform() < hammer_share;
  request.client = request.hammers ? scenario_.clients.addresses + clients_.below(scenario_.clients.hammers)
                                   : clients_.below(scenario_.clients.addresses);
  request.port_seed = clients_.bits();
  ++open_;
  ++conservation_.begun;
  if (!request.hammers) meter_.on_request(seconds(cluster_.now_ns));
  begin_attempt(index);
}

// A retry is known as one where the failure was seen, within the window.
Flow Simulation::flow_of(const Request& request, std::uint32_t balancer, std::uint64_t hash) const {
  Flow flow{.hash = hash, .client_hash = static_cast<std::uint32_t>(bpf::hash_again(request.client, 1))};
  if (request.failed_balancer != balancer) return flow;
  if (cluster_.now_ns - request.failed_ns > kRetryWindowNs) return flow;
  flow.attempt = request.failed_number + 1;
  flow.previous = request.failed_backend;
  flow.failed_ns = request.failed_ns;
  flow.failure = request.failure;
  return flow;
}

void Simulation::begin_attempt(std::uint32_t request_index) {
  Request& request = requests_[request_index];
  const double now_s = seconds(cluster_.now_ns);
  if (++request.attempts > 1) meter_.on_retry(now_s, counts(request));
  bpf::connection_key key{};
  key.client = client_address(request.client);
  const std::uint64_t drawn = bpf::hash_again(request.port_seed, request.attempts);
  key.client_port_be = static_cast<__be16>(drawn >> 40);
  const std::uint64_t hash = bpf::hash_flow(&key, 0, false);
  const std::uint64_t spread = scenario_.spread == Spread::kClient
                                   ? bpf::hash_flow(&key, kSpreadHash, true)
                                   : bpf::hash_flow(&key, kSpreadHash, false);
  const std::uint32_t balancer = bpf::hash_slot(spread, scenario_.balancers);
  const Flow flow = flow_of(request, balancer, hash);
  Policy& policy = *policies_[balancer];
  if (flow.attempt > 1) policy.on_retry(flow);
  const Placement placement = policy.place(flow);
  if (placement.backend == kNobody) {
    meter_.on_refused(now_s, request.attempts == 1);
    request.failed_ns = cluster_.now_ns;
    request.failed_balancer = balancer;
    request.failed_backend = flow.previous;
    request.failed_number = flow.attempt;
    request.failure = bpf::FAILURE_REFUSED;
    fail(request_index);
    return;
  }
  const std::uint32_t index = cluster_.take_attempt();
  Attempt& attempt = cluster_.attempts[index];
  attempt.syn_ns = cluster_.now_ns;
  attempt.hash = hash;
  attempt.request = request_index;
  attempt.balancer = balancer;
  attempt.number = static_cast<std::uint16_t>(std::min(flow.attempt, 65535U));
  timeouts_.push(event(kTimeout, cluster_.now_ns, index, attempt.generation));
  ++cluster_.inflight[balancer];
  wait_at(attempt, placement.backend);
  send_syn(index);
}

void Simulation::on_timeout(std::uint32_t index) {
  Attempt& attempt = cluster_.attempts[index];
  if (attempt.request == kNobody) return;  // it has had its outcome
  const bool in_handshake = attempt.request_ns == 0;
  settle(index, bpf::EVENT_END,
         in_handshake ? bpf::FAILURE_HANDSHAKE_TIMEOUT : bpf::FAILURE_ABANDONED);
  leave_backend(index);
}

// An attempt of the request has failed.
void Simulation::fail(std::uint32_t index) {
  const Request& request = requests_[index];
  meter_.on_attempt_failed(seconds(cluster_.now_ns), request.attempts == 1, counts(request));
  const auto delay_ns = scenario_.clients.retry.delay_ns(request.attempts, clients_);
  if (delay_ns) {
    heap_.push(event(kRetry, cluster_.now_ns + *delay_ns, index));
  } else {
    end_request(index, false);
  }
}

void Simulation::end_request(std::uint32_t index, bool served) {
  const Request& request = requests_[index];
  const std::uint64_t latency_ns = cluster_.now_ns - request.arrival_ns;
  ++(served ? conservation_.served : conservation_.given_up);
  if (request.hammers) {
    // Of what it got nothing is told.
  } else if (served) {
    meter_.on_served(seconds(cluster_.now_ns), latency_ns, counts(request));
  } else if (counts(request)) {
    meter_.on_given_up(latency_ns);
  }
  --open_;
  free_requests_.push_back(index);
}

}  // namespace petrel::simulate
