// SPDX-License-Identifier: MIT
// The audit: what waits according to waiting[] and inflight, against what the flows themselves say.
//
// Runs beside the tick, a piece of the table at a time. What it finds has leaked by flows that were
// evicted while they waited; it is given back, counted and said.
#include <spdlog/spdlog.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <chrono>

#include "agent/agent.hpp"
#include "base/clock.hpp"
#include "maps/waiting_audit.hpp"

namespace petrel {
namespace asio = boost::asio;
namespace {

constexpr auto kEvery = std::chrono::seconds(5);

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
  ConnectionScan scan(path_.map_fd("connections"));
  std::uint64_t work_ns = monotonic_ns() - begun_ns;
  for (bool more = true; more;) {
    co_await asio::post(context_, asio::use_awaitable);
    // A reload may have replaced maps and ids: the next audit is whole again.
    if (stopping_ || replacing_ || facts_.reloads != generation) co_return;
    const std::uint64_t piece_ns = monotonic_ns();
    auto step = scan.step(
        [&](const bpf::connection_key&, const bpf::connection& flow) { audit.see(flow); });
    if (!step) {
      spdlog::warn("{}: waiting requests were not audited", step.error().message());
      co_return;
    }
    more = *step;
    work_ns += monotonic_ns() - piece_ns;
  }
  const std::uint64_t healing_ns = monotonic_ns();
  heal(audit);
  work_ns += monotonic_ns() - healing_ns;
  ++facts_.audits;
  facts_.audit_us = work_ns / 1000;
  facts_.connections_open = audit.open();
  facts_.connections_closed = audit.closed();
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
      spdlog::warn("{} {}: {} requests waited in connections that were evicted, {} SYNs in no entry: "
                   "given back",
                   service.config().name, backend.config.name, leaks.evicted, leaks.syns);
    }
  }
}

}  // namespace petrel
