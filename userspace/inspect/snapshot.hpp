// SPDX-License-Identifier: MIT
// Snapshot: a running petrel as its pinned maps tell of it. Reads only; needs no agent.
//
// Services and backends are as they were at open(); all else is read when it is asked for. Not
// thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "inspect/pinned_map.hpp"
#include "inspect/placement.hpp"
#include "inspect/program_constants.hpp"
#include "maps/pinned_state.hpp"

namespace petrel::inspect {

struct AgentSign {
  bool silent = true;
  std::optional<std::uint64_t> age_ns;  // of its last heartbeat; none: never
  std::uint64_t limit_ns = 0;
};

class Snapshot {
 public:
  // kUnreachable: nothing is pinned there. kConflict: another version's maps.
  static Result<Snapshot> open(const std::string& pin_path);

  const PinnedState& state() const { return state_; }
  // Those of a program that is not there (`attached()` is false) are the defaults.
  const ProgramConstants& constants() const { return constants_; }
  bool attached() const { return attached_; }

  // nullptr: none; as the balancer looks for it, one port before a range.
  const PinnedService* find_service(const bpf::address& vip, std::uint16_t port,
                                    std::uint8_t protocol) const;

  AgentSign agent(std::uint64_t now_ns) const;
  std::vector<std::uint32_t> ring(std::uint32_t offset, std::uint32_t slots) const;
  bpf::inflight inflight(std::uint32_t backend_id) const { return inflight_.at(backend_id); }
  bpf::inflight service_inflight(std::uint32_t id) const { return service_inflight_.at(id); }
  Result<bpf::budget> budget(std::uint32_t service_id) const;
  Result<ServiceFacts> facts(const PinnedService& service, std::uint64_t now_ns) const;

  // nullopt: there is none.
  std::optional<bpf::connection> connection(const bpf::connection_key& key) const;
  std::optional<bpf::half_open> half_open(const bpf::connection_key& key) const;
  std::optional<bpf::client> client(const bpf::connection_key& key) const;
  // When the client's SYNs came of late.
  std::optional<bpf::pending> pending(const bpf::connection_key& key) const;
  // The client's SYNs that are unanswered, from whichever ports.
  std::vector<bpf::half_open> unanswered(const bpf::connection_key& key) const;
  std::optional<bpf::retry_odds> retry_odds(std::uint32_t service_id) const;

  int connections_fd() const { return connections_.fd.get(); }
  std::uint32_t connection_entries() const { return connections_.entries; }
  std::uint32_t client_entries() const { return clients_.entries; }
  std::uint32_t half_open_entries() const { return half_open_.size(); }

 private:
  PinnedState state_;
  ProgramConstants constants_;
  bool attached_ = false;
  PinnedMap connections_;
  PinnedMap clients_;
  PinnedMap pending_;
  PinnedMap retry_odds_;
  PinnedMap budgets_;
  ReadOnlyArray<std::uint32_t> ring_;
  ReadOnlyArray<bpf::control> control_;
  ReadOnlyArray<bpf::inflight> inflight_;
  ReadOnlyArray<bpf::inflight> service_inflight_;
  ReadOnlyArray<bpf::half_open> half_open_;
};

// What the budget holds at `now_ns`, in retries.
double tokens(const bpf::budget& budget, std::uint64_t now_ns);

}  // namespace petrel::inspect
