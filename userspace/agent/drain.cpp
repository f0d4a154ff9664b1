// SPDX-License-Identifier: MIT
// Draining: a backend that takes no new flows keeps its old ones until a deadline; one that the
// configuration has no longer gives its id back once no entry names it.
#include <algorithm>

#include "agent/agent.hpp"
#include "base/clock.hpp"

namespace petrel {
namespace {

// Flows of a removed backend that have said nothing for so long after its deadline: nobody is there
// to be reset or moved.
constexpr std::uint64_t kLastWordNs = 60'000'000'000;

// Of the time between two counts at most so much goes into counting.
constexpr std::uint64_t kCountingShare = 10;

}  // namespace

Result<void> Agent::drain(ServiceLoop& service, BackendLoop& backend, std::uint64_t drained_ns) {
  service.set_drain(backend, drained_ns);
  publish_orders(service);
  if (failure_) return *failure_;
  return {};
}

// While anything drains: how many connections are left of each backend, and which entries have to go.
void Agent::count_connections(std::uint64_t now_ns) {
  if (now_ns < next_count_ns_) return;
  const bool drains = std::ranges::any_of(services_, [](const ServiceLoop& service) {
    return service.is_leaving() ||
           std::ranges::any_of(service.backends(), [](const BackendLoop& b) { return b.drains(); });
  });
  if (!drains) return;

  // Removed backends: true for those whose time is up.
  std::map<std::uint32_t, bool> gone;
  for (const ServiceLoop& service : services_) {
    for (const BackendLoop& backend : service.backends()) {
      if (!backend.leaving || !backend.is_past_deadline(now_ns)) continue;
      gone[backend.config.id] = now_ns - backend.drained_ns > kLastWordNs;
    }
  }
  std::map<std::uint32_t, std::uint64_t> open, entries;
  std::vector<std::pair<bpf::connection_key, bpf::connection>> ended;
  const auto read = for_each_connection(
      path_.map_fd("connections"),
      [&](const bpf::connection_key& key, const bpf::connection& connection) {
        const bool closed = connection.state == bpf::CONNECTION_CLOSED;
        if (!closed) ++open[connection.backend_id];
        const auto removed = gone.find(connection.backend_id);
        if (removed == gone.end()) return;
        ++entries[connection.backend_id];
        if (closed || removed->second) ended.emplace_back(key, connection);
      });
  if (!read) {
    failure_ = read.error();
    return;
  }
  for (const auto& [key, connection] : ended) {
    tables_->end_connection(key, connection);
    --entries[connection.backend_id];
  }
  for (ServiceLoop& service : services_) {
    for (BackendLoop& backend : service.backends()) {
      backend.connections = backend.drains() ? open[backend.config.id] : 0;
    }
  }
  forget_gone(entries, now_ns);
  next_count_ns_ = monotonic_ns() + kCountingShare * (monotonic_ns() - now_ns);
}

// Removed backends that no entry names, then services without backends.
void Agent::forget_gone(const std::map<std::uint32_t, std::uint64_t>& entries,
                        std::uint64_t now_ns) {
  bool forgotten = false;
  for (ServiceLoop& service : services_) {
    std::vector<std::uint32_t> ids;
    for (const BackendLoop& backend : service.backends()) {
      const std::uint32_t id = backend.config.id;
      const auto left = entries.find(id);
      // A tick must have said REMOVED: else packets may still be making entries.
      if (!backend.leaving || !backend.is_past_deadline(now_ns) ||
          backend.state != bpf::BACKEND_REMOVED || (left != entries.end() && left->second > 0)) {
        continue;
      }
      ids.push_back(id);
    }
    for (const std::uint32_t id : ids) {
      if (auto freed = tables_->forget_backend(id); !freed) failure_ = freed.error();
      backend_reader_->forget(id);
      features_.forget_backend(id);
      service.forget(id);
      forgotten = true;
    }
  }
  std::erase_if(services_, [](const ServiceLoop& service) {
    return service.is_leaving() && service.backends().empty();
  });
  if (!forgotten) return;
  ask_checkpoints();
  if (auto pruned = tables_->forget_others(services_in_use()); !pruned) failure_ = pruned.error();
}

// Half-open, and its backend has been removed: nobody will answer.
bool Agent::is_gone(const bpf::half_open& flow, std::uint64_t now_ns) {
  ServiceLoop* service = find_service(flow.key.service_id);
  const BackendLoop* backend = service == nullptr ? nullptr : service->find(flow.backend_id);
  return backend != nullptr && backend->leaving && backend->is_past_deadline(now_ns);
}

}  // namespace petrel
