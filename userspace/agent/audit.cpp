// SPDX-License-Identifier: MIT
// The audit: what waits according to waiting[] and inflight, against what the flows themselves say.
//
// Runs beside the tick, a piece of the table at a time. What it finds has leaked by flows that were
// evicted while they waited; it is given back, counted and said.
//
// A socket that closed while no sensor was attached leaves its request waiting. Whether that is so
// cannot be known: the sensor sees the sockets of all network namespaces, an entry does not say of
// which, and the kernel tells of this one's alone. So such entries are counted, and left.
#include <arpa/inet.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <chrono>

#include "agent/agent.hpp"
#include "base/clock.hpp"
#include "maps/socket_table.hpp"
#include "maps/waiting_audit.hpp"

namespace petrel {
namespace asio = boost::asio;
namespace {

constexpr auto kEvery = std::chrono::seconds(5);
// What a sensor that has just been attached may not have heard of yet.
constexpr std::uint64_t kSettledNs = 5'000'000'000;
// Each is a question to the kernel, of some µs: the tick must not wait for many.
constexpr std::size_t kMostAsked = 1000;

}  // namespace

asio::awaitable<void> Agent::audit_loop() {
  while (!stopping_) {
    audit_timer_.expires_after(kEvery);
    auto [error] = co_await audit_timer_.async_wait(asio::as_tuple(asio::use_awaitable));
    if (error) co_return;
    co_await audit();
  }
}

asio::awaitable<void> Agent::audit() {
  const std::uint64_t generation = facts_.reloads;
  const std::uint64_t begun_ns = monotonic_ns();
  WaitingAudit audit(begun_ns, MAX_BACKENDS);
  tables_->for_each_half_open([&](const bpf::half_open& flow) { audit.see(flow); });
  Flows doubtful;
  ConnectionScan scan(path_.map_fd("connections"));
  std::uint64_t work_ns = monotonic_ns() - begun_ns;
  for (bool more = true; more;) {
    co_await asio::post(context_, asio::use_awaitable);
    // A reload may have replaced maps and ids: the next audit is whole again.
    if (stopping_ || replacing_ || facts_.reloads != generation) co_return;
    const std::uint64_t piece_ns = monotonic_ns();
    auto step = scan.step([&](const bpf::connection_key& key, const bpf::connection& flow) {
      audit.see(flow);
      if (may_have_closed_unseen(key, flow, begun_ns)) doubtful.emplace_back(key, flow);
    });
    if (!step) {
      spdlog::warn("{}: waiting requests were not audited", step.error().message());
      co_return;
    }
    more = *step;
    work_ns += monotonic_ns() - piece_ns;
  }
  const std::uint64_t healing_ns = monotonic_ns();
  heal(audit);
  count_unaccounted(doubtful);
  work_ns += monotonic_ns() - healing_ns;
  ++facts_.audits;
  facts_.audit_us = work_ns / 1000;
  facts_.connections_open = audit.open();
  facts_.connections_closed = audit.closed();
}

bool Agent::may_have_closed_unseen(const bpf::connection_key& key, const bpf::connection& flow,
                                   std::uint64_t now_ns) const {
  return key.backend_id != 0 && flow.state != bpf::CONNECTION_CLOSED &&
         (flow.flags & bpf::CONNECTION_WAITING) != 0 && flow.request_ns < sensor_since_ns_ &&
         flow.request_ns + kSettledNs < now_ns;
}

void Agent::count_unaccounted(const Flows& doubtful) {
  facts_.unaccounted = doubtful.size();
  if (doubtful.empty()) return;
  const auto table = SocketTable::open();
  if (!table) {
    spdlog::warn("{}: which sockets wait is not known", table.error().message());
    return;
  }
  const std::size_t asked = std::min(doubtful.size(), kMostAsked);
  for (std::size_t i = 0; i < asked; ++i) {
    const auto ends = ends_of(doubtful[i].first, doubtful[i].second);
    if (!ends) continue;
    const auto found = table->has(*ends);
    if (!found) {
      spdlog::warn("{}: which sockets wait is not known", found.error().message());
      return;
    }
    if (*found) --facts_.unaccounted;
  }
}

// Of the socket that owns the flow; none: its backend is not configured any more.
std::optional<SocketEnds> Agent::ends_of(const bpf::connection_key& key,
                                         const bpf::connection& flow) const {
  for (const ServiceLoop& service : services_) {
    for (const BackendLoop& backend : service.backends()) {
      if (backend.config.id != flow.backend_id) continue;
      const std::uint16_t port_be =
          backend.config.port != 0 ? htons(backend.config.port) : key.service_port_be;
      SocketEnds ends{key.client, backend.config.address, key.client_port_be, port_be};
      if (flow.owner == bpf::SENSOR_ACCEPTING) {
        std::swap(ends.local, ends.remote);
        std::swap(ends.local_port_be, ends.remote_port_be);
      }
      return ends;
    }
  }
  return std::nullopt;
}

void Agent::heal(const WaitingAudit& audit) {
  auto sums = backend_reader_->read();
  if (!sums) {
    spdlog::warn("{}: waiting requests were not audited", sums.error().message());
    return;
  }
  for (ServiceLoop& service : services_) {
    for (BackendLoop& backend : service.backends()) {
      const std::uint32_t id = backend.config.id;
      const Leaks leaks =
          petrel::heal(audit, id, (**sums)[id],
                       {.requests = backend.waiting,
                        .syns = service.config().is_balanced() ? &backend.waiting_syn : nullptr,
                        .old = backend.old_waits});
      const std::uint64_t leaked = leaks.total();
      if (leaked == 0) continue;
      tables_->give_back_inflight(id, service.config().id, leaked);
      backend.waits_leaked += leaked;
      facts_.waits_leaked += leaked;
      facts_.evicted += leaks.evicted;
      spdlog::warn(
          "{} {}: {} requests waited in connections that were evicted, {} SYNs in no entry: "
          "given back",
          service.config().name, backend.config.name, leaks.evicted, leaks.syns);
    }
  }
}

}  // namespace petrel
