// SPDX-License-Identifier: MIT
// A connection's begin: its SYN, refused, lost, moved to another backend or answered.
#include "simulate/simulation.hpp"

namespace petrel::simulate {

// The connection is that backend's from now on.
void Simulation::wait_at(Attempt& attempt, std::uint32_t backend) {
  attempt.backend = backend;
  attempt.sent_ns = cluster_.now_ns;
  ++cluster_.pair(attempt.balancer, backend).inflight;
  meter_.on_attempt_placed(seconds(cluster_.now_ns), backend);
}

void Simulation::send_syn(std::uint32_t index) {
  for (;;) {
    Attempt& attempt = cluster_.attempts[index];
    const bool refuses = has_fault(attempt.backend, FaultKind::kRefuse) ||
                         has_fault(attempt.backend, FaultKind::kRestart);
    if (!refuses) break;
    const std::uint32_t other = other_backend(attempt, true);
    if (other == kNobody) {
      settle(index, bpf::EVENT_END, bpf::FAILURE_REFUSED);
      cluster_.free_attempt(index);
      return;
    }
    move_syn(index, other, bpf::FAILURE_REFUSED);
  }
  Attempt& attempt = cluster_.attempts[index];
  if (is_on_path(attempt.backend, FaultKind::kBlackhole, attempt.hash)) {
    attempt.phase = Phase::kSyn;
    if (!attempt.listed) cluster_.list(index, true);
    // Each wait of the client's stack is twice the one before.
    const Event repeat = event(kFirstSynRepeat, cluster_.now_ns, index, attempt.generation);
    if (attempt.syn_repeats == 0) {
      syn_repeats_.push(repeat);
    } else {
      const std::uint64_t wait_ns = 1'000'000'000ULL << attempt.syn_repeats;
      heap_.push(event(kSynRepeat, cluster_.now_ns + wait_ns, index, attempt.generation));
    }
    return;
  }
  cluster_.unlist(index);
  attempt.phase = Phase::kConnecting;
  deliveries_.push(event(kDeliver, cluster_.now_ns, index, attempt.generation));
}

void Simulation::repeat_syn(std::uint32_t index) {
  Attempt& attempt = cluster_.attempts[index];
  if (attempt.phase != Phase::kSyn) return;
  if (attempt.syn_repeats < 6) ++attempt.syn_repeats;
  const std::uint32_t other = other_backend(attempt, false);
  if (other != kNobody) move_syn(index, other, bpf::FAILURE_HANDSHAKE_TIMEOUT);
  send_syn(index);
}

std::uint32_t Simulation::other_backend(const Attempt& attempt, bool refused) {
  StuckSyn syn;
  syn.hash = attempt.hash;
  syn.backend = attempt.backend;
  syn.moved_from[0] = attempt.moved_from[0];
  syn.moved_from[1] = attempt.moved_from[1];
  syn.moves = attempt.moves;
  syn.masked = attempt.masked;
  syn.refused = refused;
  syn.waited_ns = cluster_.now_ns - attempt.sent_ns;
  return policies_[attempt.balancer]->move_syn(syn);
}

void Simulation::move_syn(std::uint32_t index, std::uint32_t backend, bpf::failure_kind failure) {
  Attempt& attempt = cluster_.attempts[index];
  cluster_.unlist(index);
  --cluster_.pair(attempt.balancer, attempt.backend).inflight;
  Seen seen;
  seen.time_ns = cluster_.now_ns;
  seen.syn_ns = attempt.syn_ns;
  seen.waited_ns = cluster_.now_ns - attempt.sent_ns;
  seen.backend = attempt.backend;
  seen.attempt = attempt.number;
  seen.syn_repeats = attempt.syn_repeats;
  seen.type = bpf::EVENT_MOVED;
  seen.failure = failure;
  policies_[attempt.balancer]->on_seen(seen);
  attempt.moved_from[1] = attempt.moved_from[0];
  attempt.moved_from[0] = attempt.backend;
  ++attempt.moves;
  if (failure == bpf::FAILURE_REFUSED) ++attempt.masked;
  wait_at(attempt, backend);
}

// The handshake is over and the request there.
void Simulation::deliver(std::uint32_t index) {
  Attempt& attempt = cluster_.attempts[index];
  attempt.request_ns = cluster_.now_ns;
  const std::uint32_t backend = attempt.backend;
  if (has_fault(backend, FaultKind::kReset)) {
    settle(index, bpf::EVENT_END, bpf::FAILURE_RESET);
    cluster_.free_attempt(index);
    return;
  }
  cluster_.list(index, false);
  if (is_on_path(backend, FaultKind::kBlackhole, attempt.hash) ||
      (!is_paused(backend) && is_on_path(backend, FaultKind::kHang, attempt.hash))) {
    attempt.phase = Phase::kLost;
    return;
  }
  enqueue(index);
}

}  // namespace petrel::simulate
