// SPDX-License-Identifier: MIT
#include "maps/waiting_audit.hpp"

#include <algorithm>

namespace petrel {
namespace {

// Two seconds short of where the ledgers carry over: an audit takes less.
constexpr std::uint64_t kOldSlots = WAITING_YOUNG_SLOTS - (2'000'000'000ULL >> WAITING_SLOT_SHIFT);

}  // namespace

WaitingAudit::WaitingAudit(std::uint64_t begun_ns, std::size_t backend_ids)
    : begun_ns_(begun_ns), requests_(backend_ids), syns_(backend_ids) {}

void WaitingAudit::count(std::vector<Seen>& of, std::uint32_t backend_id, std::uint64_t start_ns) {
  if (backend_id >= of.size()) return;
  const std::uint64_t slot = start_ns >> WAITING_SLOT_SHIFT;
  const std::uint64_t now = begun_ns_ >> WAITING_SLOT_SHIFT;
  if (slot + kOldSlots <= now) ++of[backend_id].old;
  if (slot + WAITING_SLOTS > now) ++of[backend_id].slots[slot & (WAITING_SLOTS - 1)];
}

void WaitingAudit::see(const bpf::connection& connection) {
  const bool closed = connection.state == bpf::CONNECTION_CLOSED;
  ++(closed ? closed_ : open_);
  // A request that began as its connection was closed on another CPU has nobody to end it.
  if (closed || (connection.flags & bpf::CONNECTION_WAITING) == 0) return;
  count(requests_, connection.backend_id, connection.request_ns);
  const auto queued = std::min<std::size_t>(connection.queued, QUEUED_REQUESTS);
  for (std::size_t i = 0; i < queued; ++i) {
    count(requests_, connection.backend_id, connection.queued_ns[i]);
  }
}

void WaitingAudit::see(const bpf::half_open& flow) {
  if (flow.key.service_id == 0 || (flow.flags & bpf::CONNECTION_WAITING_SYN) == 0) return;
  count(syns_, flow.backend_id, flow.sent_ns);
}

std::uint64_t OldWaits::leaked(std::int64_t carried, std::uint64_t waited_out, std::uint64_t seen) {
  const std::int64_t unexplained =
      carried - static_cast<std::int64_t>(waited_out) - static_cast<std::int64_t>(seen);
  if (!known_) settled_ = unexplained;
  known_ = true;
  const std::int64_t leaked = std::max<std::int64_t>(0, unexplained - settled_);
  settled_ += leaked;
  return static_cast<std::uint64_t>(leaked);
}

Leaks heal(const WaitingAudit& audit, std::uint32_t backend_id, const bpf::backend_stats& stats,
           WaitingLedgers ledgers) {
  const WaitingAudit::Seen& requests = audit.requests(backend_id);
  const WaitingAudit::Seen& syns = audit.syns(backend_id);
  Leaks leaks;
  // After a restart what has waited for long lies in slots that look young: no leak.
  if (!ledgers.requests.is_settled() || (ledgers.syns && !ledgers.syns->is_settled())) return leaks;
  leaks.evicted = ledgers.requests.heal(audit.begun_ns(), stats.waiting, requests.slots);
  // SYNs of sockets are in no table, and need none: no socket ends unseen.
  if (ledgers.syns == nullptr) return leaks;
  leaks.syns = ledgers.syns->heal(audit.begun_ns(), stats.waiting_syn, syns.slots);
  leaks.evicted += ledgers.old.leaked(ledgers.requests.carried() + ledgers.syns->carried(),
                                      stats.waited_out, requests.old + syns.old);
  return leaks;
}

}  // namespace petrel
