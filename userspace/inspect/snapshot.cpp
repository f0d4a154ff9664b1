// SPDX-License-Identifier: MIT
#include "inspect/snapshot.hpp"

#include <bpf/bpf.h>

#include <algorithm>
#include <cstring>

#include "bpf/hash.h"
#include "config/address.hpp"
#include "maps/bpf_error.hpp"

namespace petrel::inspect {
namespace {

constexpr double kOneQ16 = 65536;

bool same_key(const bpf::connection_key& left, const bpf::connection_key& right) {
  return std::memcmp(&left, &right, sizeof(left)) == 0;
}

template <class Value, class Key>
std::optional<Value> look_up(const PinnedMap& map, const Key& key) {
  Value value{};
  if (bpf_map_lookup_elem(map.fd.get(), &key, &value) != 0) return {};
  return value;
}

std::string name_of(const PinnedBackend& backend) {
  return std::string(backend.weight.backend,
                     strnlen(backend.weight.backend, sizeof(backend.weight.backend)));
}

}  // namespace

Result<Snapshot> Snapshot::open(const std::string& pin_path) {
  Snapshot snapshot;
  Result<void> opened;
  const auto keep = [&](auto& place, auto result) {
    if (!result) {
      if (opened) opened = result.error();
    } else {
      place = std::move(*result);
    }
  };
  keep(snapshot.control_, ReadOnlyArray<bpf::control>::open(pin_path, "control"));
  if (!opened) return opened.error();
  keep(snapshot.ring_, ReadOnlyArray<std::uint32_t>::open(pin_path, "ring"));
  keep(snapshot.inflight_, ReadOnlyArray<bpf::inflight>::open(pin_path, "inflight"));
  keep(snapshot.service_inflight_, ReadOnlyArray<bpf::inflight>::open(pin_path, "svc_inflight"));
  keep(snapshot.half_open_, ReadOnlyArray<bpf::half_open>::open(pin_path, "half_open"));
  keep(snapshot.connections_,
       open_pinned_map<bpf::connection_key, bpf::connection>(pin_path, "connections"));
  keep(snapshot.clients_, open_pinned_map<bpf::client_key, bpf::client>(pin_path, "clients"));
  keep(snapshot.pending_, open_pinned_map<std::uint32_t, bpf::pending>(pin_path, "pending"));
  keep(snapshot.retry_odds_,
       open_pinned_map<std::uint32_t, bpf::retry_odds>(pin_path, "retry_odds"));
  keep(snapshot.budgets_, open_pinned_map<std::uint32_t, bpf::budget>(pin_path, "budgets"));
  if (!opened) return opened.error();
  auto state = read_pinned_state(pin_path);
  if (!state) return state.error();
  snapshot.state_ = std::move(*state);

  // Without a program (its interfaces have gone) the tables say how it would find its entries.
  const auto constants = read_program_constants(pin_path);
  snapshot.attached_ = constants.has_value();
  if (constants) {
    snapshot.constants_ = *constants;
  } else {
    snapshot.constants_.half_open_secret = snapshot.control_.at(0).secret;
    snapshot.constants_.half_open_mask = snapshot.half_open_.size() / HALF_OPEN_WAYS - 1;
    snapshot.constants_.pending_mask = snapshot.pending_.entries - 1;
  }
  return snapshot;
}

const PinnedService* Snapshot::find_service(const bpf::address& vip, std::uint16_t port,
                                            std::uint8_t protocol) const {
  const PinnedService* range = nullptr;
  for (const PinnedService& service : state_.services) {
    if (!same_address(service.key.vip, vip) || service.key.protocol != protocol) continue;
    if (service.port() == port) return &service;
    if (service.port() <= port && port <= service.last_port) range = &service;
  }
  return range;
}

AgentSign Snapshot::agent(std::uint64_t now_ns) const {
  const bpf::control control = control_.at(0);
  AgentSign sign{true, {}, control.heartbeat_limit_ns};
  if (control.heartbeat_ns == 0) return sign;
  sign.age_ns = now_ns > control.heartbeat_ns ? now_ns - control.heartbeat_ns : 0;
  sign.silent = *sign.age_ns > control.heartbeat_limit_ns;
  return sign;
}

std::vector<std::uint32_t> Snapshot::ring(std::uint32_t offset, std::uint32_t slots) const {
  std::vector<std::uint32_t> ids(slots);
  for (std::uint32_t slot = 0; slot < slots; ++slot) ids[slot] = ring_.at(offset + slot);
  return ids;
}

Result<bpf::budget> Snapshot::budget(std::uint32_t service_id) const {
  bpf::budget budget{};
  const int rc =
      bpf_map_lookup_elem_flags(budgets_.fd.get(), &service_id, &budget, BPF_F_LOCK);
  if (rc != 0) return bpf_error(rc, "read a service's retry budget");
  return budget;
}

Result<ServiceFacts> Snapshot::facts(const PinnedService& service, std::uint64_t now_ns) const {
  ServiceFacts facts;
  const std::uint32_t id = service.value.service_id;
  facts.service = service.value;
  facts.in_force = ring(service.value.ring_offset, service.value.slots);
  facts.neutral = ring(service.value.neutral_offset, service.value.slots);
  facts.agent_silent = agent(now_ns).silent;
  facts.waiting = service_inflight_.at(id);
  const auto held = budget(id);
  if (!held) return held.error();
  facts.tokens = tokens(*held, now_ns);
  for (const PinnedBackend& backend : state_.backends) {
    if (backend.value.service_id != id) continue;
    facts.backends[backend.id] = {backend.id, name_of(backend), backend.value, backend.weight,
                                  inflight_.at(backend.id)};
  }
  return facts;
}

std::optional<bpf::connection> Snapshot::connection(const bpf::connection_key& key) const {
  return look_up<bpf::connection>(connections_, key);
}

std::optional<bpf::half_open> Snapshot::half_open(const bpf::connection_key& key) const {
  const std::uint64_t hash = bpf::hash_flow(&key, 0, false) ^ constants_.half_open_secret;
  const std::uint32_t set =
      (static_cast<std::uint32_t>(bpf::hash_mix(hash)) & constants_.half_open_mask) *
      HALF_OPEN_WAYS;
  for (std::uint32_t way = 0; way < HALF_OPEN_WAYS; ++way) {
    const bpf::half_open flow = half_open_.at(set + way);
    if (same_key(flow.key, key) && (flow.flags & bpf::HALF_OPEN_BUSY) == 0) return flow;
  }
  return {};
}

std::optional<bpf::client> Snapshot::client(const bpf::connection_key& key) const {
  return look_up<bpf::client>(clients_, bpf::client_key{key.client, key.service_id, 0});
}

std::optional<bpf::pending> Snapshot::pending(const bpf::connection_key& key) const {
  const std::uint32_t hash = bpf::hash_client(&key.client, key.service_id);
  const std::uint32_t index =
      static_cast<std::uint32_t>(bpf::hash_mix(hash)) & constants_.pending_mask;
  const auto pending = look_up<bpf::pending>(pending_, index);
  return pending && pending->tag == (hash | 1) ? pending : std::nullopt;
}

std::vector<bpf::half_open> Snapshot::unanswered(const bpf::connection_key& key) const {
  std::vector<bpf::half_open> waiting;
  const auto pending = this->pending(key);
  if (!pending) return waiting;
  for (const bpf::waiting_syn& wait : pending->waits) {
    if (wait.client_port_be == 0) continue;
    bpf::connection_key earlier = key;
    earlier.client_port_be = wait.client_port_be;
    earlier.service_port_be = wait.service_port_be;
    const auto flow = half_open(earlier);
    if (flow && static_cast<std::uint32_t>(flow->syn_ns >> 10) == wait.at &&
        (flow->flags & bpf::CONNECTION_WAITING_SYN) != 0) {
      waiting.push_back(*flow);
    }
  }
  return waiting;
}

std::optional<bpf::retry_odds> Snapshot::retry_odds(std::uint32_t service_id) const {
  return look_up<bpf::retry_odds>(retry_odds_, service_id);
}

double tokens(const bpf::budget& budget, std::uint64_t now_ns) {
  const double elapsed_s =
      now_ns > budget.filled_ns ? static_cast<double>(now_ns - budget.filled_ns) / 1e9 : 0;
  const double earned = elapsed_s * budget.rate_q16 / kOneQ16;
  return std::min(static_cast<double>(budget.tokens_q16) / kOneQ16 + earned,
                  static_cast<double>(budget.burst_q16) / kOneQ16);
}

}  // namespace petrel::inspect
