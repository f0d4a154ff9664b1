// SPDX-License-Identifier: MIT
#include "agent/service_limits.hpp"

#include <algorithm>
#include <vector>

namespace petrel {
namespace {

constexpr std::chrono::seconds kWindow{10};

std::uint64_t older_than(const std::vector<WaitingGroup>& groups, std::uint64_t age_ns) {
  std::uint64_t count = 0;
  for (const WaitingGroup& group : groups) {
    if (group.age_ns > age_ns) count += group.count;
  }
  return count;
}

}  // namespace

void ServiceLimits::count_first_attempts(std::uint64_t first, std::chrono::nanoseconds elapsed) {
  const std::uint64_t more = counted_ && first > first_counted_ ? first - first_counted_ : 0;
  const bool begins = !counted_;
  first_counted_ = first;
  counted_ = true;
  if (begins || elapsed.count() <= 0) return;
  attempts_.push_back({elapsed, more});
  attempts_elapsed_ += elapsed;
  attempts_in_window_ += more;
  while (attempts_.size() > 1 && attempts_elapsed_ - attempts_.front().elapsed >= kWindow) {
    attempts_elapsed_ -= attempts_.front().elapsed;
    attempts_in_window_ -= attempts_.front().first;
    attempts_.pop_front();
  }
}

double ServiceLimits::first_attempts_per_s() const {
  const double seconds = std::chrono::duration<double>(attempts_elapsed_).count();
  // A service that has just begun has no rate yet: its first second counts as a whole one.
  return static_cast<double>(attempts_in_window_) / std::max(seconds, 1.0);
}

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
  count_first_attempts(stats.first_attempts, elapsed);
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
  admission_.tick(static_cast<std::uint64_t>(std::max<std::int64_t>(elapsed.count(), 0)),
                  patience_ns, usual_response_ns, backends);
}

}  // namespace petrel
