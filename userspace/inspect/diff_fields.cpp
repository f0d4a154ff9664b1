// SPDX-License-Identifier: MIT
#include "inspect/diff_fields.hpp"

#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <netinet/in.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

namespace petrel::inspect {
namespace {

constexpr double kOneQ16 = 65536;
constexpr double kTolerance = 0.02;  // of a budget's rate, which follows the traffic
// Beside what is configured each CPU keeps some entries of `connections` to itself; see the loader.
constexpr std::uint64_t kMostSpareOfCpu = 1024;
constexpr const char* kKeepsSize = "tables of flows keep their size until `petrel detach`";

class Fields {
 public:
  template <class Value>
  void compare(const std::string& field, const Value& from, const Value& to,
               const std::string& note = "") {
    if (from != to) add(field, fmt::format("{}", from), fmt::format("{}", to), note);
  }
  void add(const std::string& field, const std::string& from, const std::string& to,
           const std::string& note = "") {
    changes_.push_back({field, from, to, note});
  }
  std::vector<FieldChange> take() { return std::move(changes_); }

 private:
  std::vector<FieldChange> changes_;
};

std::string limit_text(std::uint64_t limit) {
  return limit == 0 ? "no limit" : std::to_string(limit);
}

std::int64_t milliseconds(std::uint64_t ns) { return static_cast<std::int64_t>(ns / 1'000'000); }

// What acts in the data path of what is configured; see service_flags() in maps/tables.cpp.
struct Ability {
  const char* field;
  std::uint32_t flag;
  bool configured;
  bool nat_tcp_only;
};

void compare_abilities(std::uint32_t flags, const ServiceConfig& wanted, Fields& fields) {
  // Each by a mode of its own; where neither weights nor anything of the file acts there is nothing to
  // compare: `mode` says so.
  const ActuatorModes& modes = wanted.modes;
  const bool own = !(modes == ActuatorModes{});
  if (!own && ((flags & bpf::SERVICE_ACT) == 0 || wanted.mode != ServiceMode::kAct)) return;
  const bool steers = wanted.acts(modes.steering);
  const bool nat_tcp = wanted.forward == Forward::kNat && wanted.protocol == IPPROTO_TCP;
  const Ability abilities[] = {
      {"steer_retries", bpf::SERVICE_STEER, steers && wanted.steer_retries, false},
      {"two_choices", bpf::SERVICE_TWO_CHOICES,
       wanted.acts(modes.two_choices) && wanted.two_choices, false},
      {"failover", bpf::SERVICE_FAILOVER, steers && wanted.failover, true},
      {"mask_refusals", bpf::SERVICE_MASK, steers && wanted.mask_refusals, true},
      {"budget.enabled", bpf::SERVICE_BUDGET,
       wanted.acts(modes.budget) && wanted.budget.enabled, true},
  };
  for (const Ability& ability : abilities) {
    const bool in_force = (flags & ability.flag) != 0;
    fields.compare(ability.field, in_force,
                   ability.configured && (!ability.nat_tcp_only || nat_tcp));
  }
}

// The rate in force is the larger of ratio times the first attempts and min_per_s: below the latter
// it cannot be. How much of it is saved up tells burst_s, but for less than one retry.
void compare_budget(const bpf::budget& budget, const ServiceConfig& wanted, Fields& fields) {
  const double rate = budget.rate_q16 / kOneQ16;
  if (budget.rate_q16 == 0 || !wanted.budget.enabled) return;
  if (rate < wanted.budget.min_per_s * (1 - kTolerance)) {
    fields.add("budget.min_per_s", fmt::format("{:.1f} at most", rate),
               fmt::format("{}", wanted.budget.min_per_s));
  }
  const double burst = static_cast<double>(budget.burst_q16) / kOneQ16;
  if (burst <= 1 && rate * wanted.budget.burst_s <= 1) return;
  const double burst_s = burst / rate;
  if (std::abs(burst_s - wanted.budget.burst_s) > kTolerance * wanted.budget.burst_s) {
    fields.add("budget.burst_s", fmt::format("{:.3g}", burst_s),
               fmt::format("{}", wanted.budget.burst_s));
  }
}

void compare_interfaces(const AgentConfig& agent, Fields& fields) {
  const auto pinned = pinned_interfaces(agent.pin_path);
  const std::set<std::string> had(pinned.begin(), pinned.end());
  std::set<std::string> wanted;
  for (std::string name : agent.interfaces) {
    std::ranges::replace(name, '.', '_');
    wanted.insert(std::move(name));
  }
  if (had == wanted) return;
  fields.add("interfaces", fmt::format("{}", fmt::join(had, ", ")),
             fmt::format("{}", fmt::join(wanted, ", ")));
}

}  // namespace

std::vector<FieldChange> agent_fields(const Snapshot& snapshot, const AgentConfig& agent) {
  Fields fields;
  compare_interfaces(agent, fields);
  const auto limit_ns = snapshot.agent(0).limit_ns;
  if (limit_ns != 0) {
    fields.compare("heartbeat_limit_ms", milliseconds(limit_ns),
                   std::int64_t{agent.heartbeat_limit.count()});
  }
  if (snapshot.attached()) {
    fields.compare("retry_window_ms", milliseconds(snapshot.constants().retry_window_ns),
                   std::int64_t{agent.retry_window.count()});
    fields.compare("handshake_timeout_ms", milliseconds(snapshot.constants().handshake_timeout_ns),
                   std::int64_t{agent.handshake_timeout.count()});
  }
  fields.compare("max_half_open", snapshot.half_open_entries(), agent.max_half_open, kKeepsSize);
  fields.compare("max_clients", snapshot.client_entries(), agent.max_clients, kKeepsSize);
  const std::uint64_t entries = snapshot.connection_entries();
  const std::uint64_t spare =
      kMostSpareOfCpu * static_cast<std::uint64_t>(libbpf_num_possible_cpus());
  if (entries < agent.max_connections || entries > agent.max_connections + spare) {
    fields.add("max_connections", fmt::format("{} with spare ones", entries),
               std::to_string(agent.max_connections), kKeepsSize);
  }
  return fields.take();
}

std::vector<FieldChange> service_fields(const Snapshot& snapshot, const PinnedService& had,
                                        const ServiceConfig& wanted) {
  Fields fields;
  const std::uint32_t flags = had.value.flags;
  const auto has = [&](std::uint32_t flag) { return (flags & flag) != 0; };
  fields.compare("last_port", had.last_port, wanted.last_port);
  fields.compare("forward", to_string(has(bpf::SERVICE_DSR) ? Forward::kDsr : Forward::kNat),
                 to_string(wanted.forward));
  fields.compare("affinity",
                 to_string(has(bpf::SERVICE_AFFINITY) ? Affinity::kClient : Affinity::kFlow),
                 to_string(wanted.affinity));
  if (has(bpf::SERVICE_ACT) != (wanted.mode == ServiceMode::kAct)) {
    fields.add("mode", has(bpf::SERVICE_ACT) ? "act" : "shadow or neutral",
               std::string(to_string(wanted.mode)));
  }
  compare_abilities(flags, wanted, fields);
  const std::uint64_t limit = snapshot.service_inflight(had.value.service_id).limit;
  // Admission may have learned a lower one. Where none is configured a learned one is told as a
  // difference, for it cannot be told from one that was configured before.
  const bool learned = wanted.admission && wanted.acts(wanted.modes.admission) && limit > 0 &&
                       limit < wanted.max_inflight;
  if (limit != wanted.max_inflight && !learned) {
    fields.add("max_inflight", limit_text(limit), limit_text(wanted.max_inflight));
  }
  fields.compare(
      "on_removal",
      to_string(has(bpf::SERVICE_RESET_GONE) ? RemovalPolicy::kReset : RemovalPolicy::kMove),
      to_string(wanted.on_removal));
  if (const auto budget = snapshot.budget(had.value.service_id);
      budget && has(bpf::SERVICE_BUDGET)) {
    compare_budget(*budget, wanted, fields);
  }
  return fields.take();
}

std::vector<FieldChange> backend_fields(const Snapshot& snapshot, const PinnedBackend& had,
                                        const BackendConfig& wanted) {
  Fields fields;
  fields.compare("name", std::string(had.weight.backend,
                                     strnlen(had.weight.backend, sizeof(had.weight.backend))),
                 wanted.name);
  fields.compare("weight", had.weight.base_weight, wanted.weight);
  const std::uint64_t limit = snapshot.inflight(had.id).limit;
  if (limit != wanted.max_inflight) {
    fields.add("max_inflight", limit_text(limit), limit_text(wanted.max_inflight));
  }
  const bool drains = had.weight.drained_ns != 0;
  fields.compare("drain", drains, wanted.drain,
                 drains ? "if the file asked for it: what `petrel drain` asked for goes on until "
                          "`petrel drain --undo`"
                        : "");
  return fields.take();
}

}  // namespace petrel::inspect
