// SPDX-License-Identifier: MIT
// The backends' side of a run: queues, work, and what befalls them.
#include <algorithm>

#include "bpf/hash.h"
#include "simulate/simulation.hpp"

namespace petrel::simulate {
namespace {

constexpr std::uint32_t kPathHash = 0x9a75;

}  // namespace

bool Simulation::has_fault(std::uint32_t backend, FaultKind kind) const {
  return std::ranges::any_of(cluster_.backends[backend].faults, [&](std::uint32_t fault) {
    return scenario_.faults[fault].kind == kind;
  });
}

// A connection's path is its hash's to decide: one of many between balancer and backend.
bool Simulation::is_on_path(std::uint32_t backend, FaultKind kind, std::uint64_t hash) const {
  return std::ranges::any_of(cluster_.backends[backend].faults, [&](std::uint32_t index) {
    const Fault& fault = scenario_.faults[index];
    if (fault.kind != kind) return false;
    const auto drawn = static_cast<double>(bpf::hash_again(hash ^ backend, kPathHash) >> 32);
    return drawn < fault.share * 4294967296.0;
  });
}

double Simulation::slowness(std::uint32_t backend) const {
  double factor = 1;
  for (const std::uint32_t index : cluster_.backends[backend].faults) {
    const Fault& fault = scenario_.faults[index];
    if (fault.kind != FaultKind::kSlow) continue;
    if (!fault.ramp) {
      factor *= fault.factor;
      continue;
    }
    const double part = (seconds(cluster_.now_ns) - fault.from_s) / (fault.until_s - fault.from_s);
    factor *= 1 + (fault.factor - 1) * std::clamp(part, 0.0, 1.0);
  }
  return factor;
}

double Simulation::error_share(std::uint32_t backend) const {
  double good = 1;
  for (const std::uint32_t index : cluster_.backends[backend].faults) {
    const Fault& fault = scenario_.faults[index];
    if (fault.kind == FaultKind::kErrors) good *= 1 - fault.share;
  }
  return 1 - good;
}

// Works on nothing: as a whole, not on some of its paths.
bool Simulation::is_paused(std::uint32_t backend) const {
  return std::ranges::any_of(cluster_.backends[backend].faults, [&](std::uint32_t index) {
    const Fault& fault = scenario_.faults[index];
    return fault.kind == FaultKind::kStall || (fault.kind == FaultKind::kHang && fault.share >= 1);
  });
}

void Simulation::enqueue(std::uint32_t index) {
  Attempt& attempt = cluster_.attempts[index];
  BackendState& backend = cluster_.backends[attempt.backend];
  const bool idle = backend.serving < backend.concurrency && backend.queued == 0;
  if (!idle && backend.queued >= scenario_.queue) {
    settle(index, bpf::EVENT_ANSWER, bpf::FAILURE_SERVER_ERROR);
    cluster_.free_attempt(index);
    return;
  }
  attempt.rif_at_start = backend.rif();
  attempt.phase = Phase::kQueued;
  (backend.queue_last == kNobody ? backend.queue_first
                                 : cluster_.attempts[backend.queue_last].next_queued) = index;
  backend.queue_last = index;
  ++backend.queued;
  start_work(attempt.backend);
}

void Simulation::start_work(std::uint32_t backend_index) {
  BackendState& backend = cluster_.backends[backend_index];
  if (backend.queue_first == kNobody || is_paused(backend_index)) return;
  while (backend.queue_first != kNobody && backend.serving < backend.concurrency) {
    const std::uint32_t index = backend.queue_first;
    Attempt& attempt = cluster_.attempts[index];
    backend.queue_first = attempt.next_queued;
    if (backend.queue_first == kNobody) backend.queue_last = kNobody;
    attempt.next_queued = kNobody;
    if (attempt.cancelled) {
      cluster_.free_attempt(index);
      continue;
    }
    --backend.queued;
    ++backend.serving;
    attempt.phase = Phase::kServing;
    const double work_ns =
        scenario_.service_time.draw_ns(service_) * slowness(backend_index) / backend.speed;
    heap_.push(event(kCompletion, cluster_.now_ns + static_cast<std::uint64_t>(work_ns), index,
                     attempt.generation));
  }
}

void Simulation::complete(std::uint32_t index) {
  Attempt& attempt = cluster_.attempts[index];
  const std::uint32_t backend_index = attempt.backend;
  BackendState& backend = cluster_.backends[backend_index];
  --backend.serving;
  if (backend.keeps_latencies) {
    backend.latencies.add(attempt.rif_at_start,
                          static_cast<double>(cluster_.now_ns - attempt.request_ns));
  }
  const bool wasted = attempt.request == kNobody;
  meter_.on_worked(wasted);
  if (wasted) {
    cluster_.free_attempt(index);
  } else if (is_on_path(backend_index, FaultKind::kBlackhole, attempt.hash)) {
    attempt.phase = Phase::kLost;  // its answer is
  } else {
    const double errors = error_share(backend_index);
    const bool failed = errors > 0 && service_.uniform() < errors;
    settle(index, bpf::EVENT_ANSWER, failed ? bpf::FAILURE_SERVER_ERROR : bpf::FAILURE_NONE);
    cluster_.free_attempt(index);
  }
  start_work(backend_index);
}

// The client has left: what is worked on, or waits at a backend that does not notice, goes on.
void Simulation::leave_backend(std::uint32_t index) {
  Attempt& attempt = cluster_.attempts[index];
  if (attempt.phase == Phase::kServing) return;
  if (attempt.phase != Phase::kQueued) {
    cluster_.free_attempt(index);
    return;
  }
  const bool notices = scenario_.notices_leaving || has_fault(attempt.backend, FaultKind::kHang) ||
                       policies_[attempt.balancer]->ends_abandoned();
  if (!notices) return;
  attempt.cancelled = true;
  --cluster_.backends[attempt.backend].queued;
}

// Everything that the backend holds is reset.
void Simulation::lose_all(std::uint32_t backend_index) {
  BackendState& backend = cluster_.backends[backend_index];
  backend.queue_first = backend.queue_last = kNobody;
  backend.queued = backend.serving = 0;
  for (std::uint32_t index = 0; index < cluster_.attempts.size(); ++index) {
    const Attempt& attempt = cluster_.attempts[index];
    const bool is_held = attempt.phase == Phase::kQueued || attempt.phase == Phase::kServing ||
                         attempt.phase == Phase::kLost;
    if (!is_held || attempt.backend != backend_index) continue;
    if (attempt.request != kNobody) settle(index, bpf::EVENT_END, bpf::FAILURE_RESET);
    cluster_.free_attempt(index);
  }
}

void Simulation::begin_fault(std::uint32_t index) {
  const Fault& fault = scenario_.faults[index];
  for (std::uint32_t backend = fault.first; backend < fault.first + fault.count; ++backend) {
    if (backend >= scenario_.backends) break;
    if (fault.kind == FaultKind::kDrain) {
      for (const auto& policy : policies_) policy->drain(backend, true);
      continue;
    }
    if (fault.kind == FaultKind::kRestart) lose_all(backend);
    cluster_.backends[backend].faults.push_back(index);
  }
  if (fault.kind == FaultKind::kSpeedWalk) walk_speeds(index);
}

void Simulation::end_fault(std::uint32_t index) {
  const Fault& fault = scenario_.faults[index];
  for (std::uint32_t backend = fault.first; backend < fault.first + fault.count; ++backend) {
    if (backend >= scenario_.backends) break;
    if (fault.kind == FaultKind::kDrain) {
      for (const auto& policy : policies_) policy->drain(backend, false);
      continue;
    }
    std::erase(cluster_.backends[backend].faults, index);
    if (fault.kind == FaultKind::kSpeedWalk) cluster_.backends[backend].speed = 1;
    start_work(backend);
  }
}

void Simulation::walk_speeds(std::uint32_t index) {
  const Fault& fault = scenario_.faults[index];
  if (seconds(cluster_.now_ns) >= fault.until_s) return;
  for (std::uint32_t i = fault.first; i < fault.first + fault.count; ++i) {
    const double speed = fault.low + (fault.high - fault.low) * faults_.uniform();
    if (i < scenario_.backends) cluster_.backends[i].speed = speed;
  }
  if (fault.period_s <= 0) return;
  heap_.push(
      event(kSpeedWalk, cluster_.now_ns + static_cast<std::uint64_t>(fault.period_s * 1e9), index));
}

ProbeResult Simulation::connect(std::uint32_t backend) const {
  if (has_fault(backend, FaultKind::kRefuse) || has_fault(backend, FaultKind::kRestart)) {
    return ProbeResult::kRefuses;
  }
  const bool gone =
      std::ranges::any_of(cluster_.backends[backend].faults, [&](std::uint32_t index) {
        const Fault& fault = scenario_.faults[index];
        return fault.kind == FaultKind::kBlackhole && fault.share >= 1;
      });
  return gone ? ProbeResult::kSilent : ProbeResult::kAnswers;
}

}  // namespace petrel::simulate
