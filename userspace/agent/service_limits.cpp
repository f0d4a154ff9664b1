// SPDX-License-Identifier: MIT
#include "agent/service_limits.hpp"

#include <algorithm>
#include <vector>

#include "bpf/odds.h"

namespace petrel {
namespace {

std::uint64_t older_than(const std::vector<WaitingGroup>& groups, std::uint64_t age_ns) {
  std::uint64_t count = 0;
  for (const WaitingGroup& group : groups) {
    if (group.age_ns > age_ns) count += group.count;
  }
  return count;
}

// A reload may have taken a sum back.
std::uint64_t since(std::uint64_t now, std::uint64_t then) { return now > then ? now - then : 0; }

}  // namespace

std::uint64_t ServiceLimits::answered_since_last(const BackendLoop& backend) {
  const bpf::backend_stats& stats = backend.stats;
  const std::uint64_t bad = stats.overloads + stats.server_errors;
  const std::uint64_t good = stats.answers > bad ? stats.answers - bad : 0;
  const auto [before, is_new] = answered_.try_emplace(backend.config.id, good);
  const std::uint64_t since = !is_new && good > before->second ? good - before->second : 0;
  before->second = good;
  return since;
}

void ServiceLimits::tick(const ServiceLoop& service, const bpf::service_stats& stats,
                         std::chrono::nanoseconds elapsed, std::uint64_t patience_ns,
                         std::uint64_t usual_response_ns) {
  const std::uint64_t overdue_ns = admission_.overdue_ns(patience_ns, usual_response_ns);
  std::vector<AdmissionBackend> backends;
  for (const BackendLoop& backend : service.backends()) {
    AdmissionBackend& it = backends.emplace_back();
    it.base_weight = backend.drains() ? 0 : backend.config.weight;
    it.answered = answered_since_last(backend);
    it.waiting = backend.waiting.total() + backend.waiting_syn.total();
    it.overdue = older_than(backend.waiting.groups(), overdue_ns) +
                 older_than(backend.waiting_syn.groups(), overdue_ns);
  }
  const auto elapsed_ns = static_cast<std::uint64_t>(std::max<std::int64_t>(elapsed.count(), 0));
  admission_.tick(elapsed_ns, patience_ns, usual_response_ns, backends);
  EdgeInput input{.elapsed_ns = elapsed_ns,
                  .patience_ns = patience_ns,
                  .usual_response_ns = usual_response_ns};
  for (const AdmissionBackend& it : backends) {
    input.answered += it.answered;
    input.waiting += it.waiting;
  }
  const bpf::service_stats before = before_.value_or(stats);
  before_ = stats;
  follow_edge(stats, before, input);
  follow_failures(stats, before, elapsed);
  allowance_.tick(stats.first_attempts, admission_.decision().saturated, elapsed, retries_due());
}

void ServiceLimits::on_event(const bpf::event& event) {
  if (event.attempt <= 1) return;
  const bool answers = event.type == bpf::EVENT_ANSWER;
  if (!answers && event.failure == bpf::FAILURE_NONE) return;
  // That cost no backend any work, and says nothing of what the next one will.
  if (event.failure == bpf::FAILURE_REFUSED) return;
  if (answers || event.type == bpf::EVENT_END) {
    allowance_.on_retry(event.failure == bpf::FAILURE_NONE);
  }
}

void ServiceLimits::follow_failures(const bpf::service_stats& stats,
                                    const bpf::service_stats& before,
                                    std::chrono::nanoseconds elapsed) {
  RetryForecast::Failures failures{};
  for (std::uint8_t kind = 1; kind < bpf::FAILURE_KINDS; ++kind) {
    failures[bpf::retry_cause(kind)] += since(stats.failures[kind], before.failures[kind]);
  }
  failures[bpf::CAUSE_REFUSED] +=
      since(stats.shed, before.shed) + since(stats.shed_retries, before.shed_retries);
  forecast_.tick(elapsed, failures);
}

void ServiceLimits::follow_edge(const bpf::service_stats& stats, const bpf::service_stats& before,
                                EdgeInput input) {
  input.first_attempts = since(stats.first_attempts, before.first_attempts);
  input.retries = since(stats.retries, before.retries);
  for (std::size_t kind = 1; kind < bpf::FAILURE_KINDS; ++kind) {
    const std::uint64_t more = since(stats.failures[kind], before.failures[kind]);
    input.failures += more;
    const bool leaves = kind == bpf::FAILURE_ABANDONED || kind == bpf::FAILURE_HANDSHAKE_TIMEOUT;
    if (leaves) input.left += more;
  }
  input.refused = since(stats.shed, before.shed) + since(stats.shed_retries, before.shed_retries);
  const AdmissionDecision& decision = admission_.decision();
  input.saturated = decision.saturated;
  input.completes = decision.completes;
  input.capacity_per_s = decision.capacity_per_s;
  edge_.tick(input);
}

}  // namespace petrel
