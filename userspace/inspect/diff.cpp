// SPDX-License-Identifier: MIT
#include "inspect/diff.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "config/address.hpp"
#include "inspect/diff_fields.hpp"
#include "inspect/ring_moves.hpp"
#include "inspect/words.hpp"
#include "maps/attachment.hpp"
#include "maps/layout.hpp"
#include "maps/readers.hpp"
#include "ring/ring.hpp"

namespace petrel::inspect {
namespace {

using Ring = std::vector<std::uint32_t>;

// What happens to the flows of a backend that goes, or drains.
std::string fate_of(const ServiceConfig& service, bool at_once) {
  const char* end = service.on_removal == RemovalPolicy::kReset ? "reset" : "moved to others";
  if (at_once || service.drain_deadline.count() == 0) return fmt::format("{} at once", end);
  return fmt::format("go on for up to {} s, then {}", service.drain_deadline.count() / 1000, end);
}

class Comparison {
 public:
  Comparison(const Snapshot& snapshot, const Layout& layout, const ConnectionCounts& connections)
      : snapshot_(snapshot), layout_(layout), connections_(connections) {}

  Diff run();

 private:
  std::uint64_t connections_of(std::uint32_t backend_id) const {
    const auto found = connections_.find(backend_id);
    return found == connections_.end() ? 0 : found->second;
  }
  void stays(const PinnedService& had, const ServiceConfig& wanted);
  void comes(const ServiceConfig& wanted);
  void goes(const PinnedService& had);
  // Backends of the service that the configuration has no longer.
  void add_leaving(std::uint32_t service_id, const ServiceConfig& service, ServiceChange& change);
  std::optional<BackendChange> compare_backend(const ServiceConfig& service,
                                               const BackendConfig& backend) const;
  RingMove move_of(const PinnedService& had, const ServiceConfig& wanted) const;
  std::vector<RingMember> members(const ServiceConfig& service, bool with_factors) const;

  const Snapshot& snapshot_;
  const Layout& layout_;
  const ConnectionCounts& connections_;
  Diff diff_;
};

ServiceChange change_of(Change change, const ServiceConfig& service) {
  return {change,
          service.name,
          endpoint_text(service.address, service.port, service.last_port),
          std::string(protocol_name(service.protocol)),
          {},
          {},
          {}};
}

std::optional<BackendChange> Comparison::compare_backend(const ServiceConfig& service,
                                                         const BackendConfig& backend) const {
  const PinnedBackend* had = snapshot_.state().backend(backend.id);
  const bool was_there = had != nullptr && !had->leaving();
  BackendChange change{was_there ? Change::kChanged : Change::kAdded,
                       backend.name,
                       backend.port == 0 ? to_string(backend.address)
                                         : endpoint_text(backend.address, backend.port),
                       {},
                       connections_of(backend.id),
                       ""};
  if (!was_there) return change;
  change.fields = backend_fields(snapshot_, *had, backend);
  if (change.fields.empty()) return {};
  const bool drains_now = backend.drain && had->weight.drained_ns == 0;
  if (drains_now && change.connections > 0) change.fate = fate_of(service, false);
  return change;
}

void Comparison::add_leaving(std::uint32_t service_id, const ServiceConfig& service,
                             ServiceChange& change) {
  for (const LeavingBackend& leaving : layout_.leaving) {
    const PinnedBackend* had = snapshot_.state().backend(leaving.config.id);
    if (leaving.service_id != service_id || had == nullptr || had->leaving()) continue;
    BackendChange gone{Change::kRemoved,
                       leaving.config.name,
                       leaving.config.port == 0
                           ? to_string(leaving.config.address)
                           : endpoint_text(leaving.config.address, leaving.config.port),
                       {},
                       connections_of(leaving.config.id),
                       ""};
    if (gone.connections > 0) gone.fate = fate_of(service, leaving.at_once);
    change.backends.push_back(std::move(gone));
  }
}

// As the agent's loop has them: drained ones have no part; factors are those in force.
std::vector<RingMember> Comparison::members(const ServiceConfig& service, bool with_factors) const {
  std::vector<RingMember> list;
  for (const BackendConfig& backend : service.backends) {
    if (backend.drain) continue;
    std::uint64_t factor_q16 = 65536;
    const PinnedBackend* had = snapshot_.state().backend(backend.id);
    if (with_factors && had != nullptr && had->weight.base_weight != 0 &&
        had->weight.drained_ns == 0) {
      factor_q16 = had->weight.factor_q16;
    }
    list.push_back({backend.id, ring_seed(backend.address, backend.port),
                    backend.weight * factor_q16});
  }
  return list;
}

RingMove Comparison::move_of(const PinnedService& had, const ServiceConfig& wanted) const {
  const std::uint32_t slots = layout_.places.at(wanted.id).slots;
  const Ring in_force = snapshot_.ring(had.value.ring_offset, had.value.slots);
  const Ring neutral = snapshot_.ring(had.value.neutral_offset, had.value.slots);
  const bool acted = (had.value.flags & bpf::SERVICE_ACT) != 0;
  const bool acts = wanted.mode == ServiceMode::kAct;

  const auto base_members = members(wanted, false);
  const Ring new_neutral = base_members.empty() ? Ring(slots) : build_neutral(base_members, slots);
  Ring after = in_force.size() == new_neutral.size() ? in_force : new_neutral;
  if (base_members.empty()) {
    after = new_neutral;
  } else {
    const auto holdout = choose_holdout(new_neutral, wanted.is_balanced() ? wanted.holdout : 0);
    for (const RingChange& change : reweigh(after, new_neutral, members(wanted, acts), holdout)) {
      after[change.slot] = change.backend_id;
    }
  }
  return {had.value.slots, slots,
          moved_share(acted ? in_force : neutral, acts ? after : new_neutral),
          moved_share(in_force, new_neutral), moved_share(neutral, new_neutral)};
}

void Comparison::stays(const PinnedService& had, const ServiceConfig& wanted) {
  ServiceChange change = change_of(Change::kChanged, wanted);
  change.fields = service_fields(snapshot_, had, wanted);
  for (const BackendConfig& backend : wanted.backends) {
    if (auto differs = compare_backend(wanted, backend)) {
      change.backends.push_back(std::move(*differs));
    }
  }
  add_leaving(wanted.id, wanted, change);
  if (change.fields.empty() && change.backends.empty()) return;
  change.ring = move_of(had, wanted);
  diff_.services.push_back(std::move(change));
}

void Comparison::comes(const ServiceConfig& wanted) {
  ServiceChange change = change_of(Change::kAdded, wanted);
  for (const BackendConfig& backend : wanted.backends) {
    change.backends.push_back(*compare_backend(wanted, backend));
  }
  diff_.services.push_back(std::move(change));
}

void Comparison::goes(const PinnedService& had) {
  ServiceConfig gone;
  gone.name = "";  // the maps do not know it
  gone.address = had.key.vip;
  gone.port = had.port();
  gone.last_port = had.last_port;
  gone.protocol = had.key.protocol;
  if ((had.value.flags & bpf::SERVICE_RESET_GONE) == 0) gone.on_removal = RemovalPolicy::kMove;
  ServiceChange change = change_of(Change::kRemoved, gone);
  add_leaving(had.value.service_id, gone, change);
  // Nothing new: it was removed before, and its last flows are ending.
  if (change.backends.empty()) return;
  diff_.services.push_back(std::move(change));
}

Diff Comparison::run() {
  diff_.agent = agent_fields(snapshot_, layout_.config.agent);
  for (const ServiceConfig& service : layout_.config.services) {
    const PinnedService* had = snapshot_.state().service(service.id);
    if (had == nullptr) {
      comes(service);
    } else {
      stays(*had, service);
    }
  }
  for (const PinnedService& had : snapshot_.state().services) {
    const bool wanted = std::ranges::any_of(
        layout_.config.services,
        [&](const ServiceConfig& service) { return service.id == had.value.service_id; });
    if (!wanted) goes(had);
  }
  for (const auto& [id, count] : connections_) diff_.connections += count;
  for (const ServiceChange& service : diff_.services) {
    for (const BackendChange& backend : service.backends) {
      if (!backend.fate.empty()) diff_.leaving += backend.connections;
    }
  }
  return std::move(diff_);
}

}  // namespace

Result<ConnectionCounts> count_connections(const Snapshot& snapshot) {
  ConnectionCounts counts;
  const auto counted = for_each_connection(
      snapshot.connections_fd(),
      [&](const bpf::connection_key&, const bpf::connection& connection) {
        if (connection.state == bpf::CONNECTION_ESTABLISHED) ++counts[connection.backend_id];
      });
  if (!counted) return counted.error();
  return counts;
}

Result<Diff> compare(const Snapshot& snapshot, const Config& config,
                     const ConnectionCounts& connections) {
  const auto layout = plan_layout(config, snapshot.state());
  if (!layout) return layout.error();
  return Comparison(snapshot, *layout, connections).run();
}

std::vector<std::string> pinned_interfaces(const std::string& pin_path) {
  constexpr std::string_view kPrefix = "xdp_";
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(links_path(pin_path), error)) {
    const std::string name = entry.path().filename();
    if (name.starts_with(kPrefix)) names.push_back(name.substr(kPrefix.size()));
  }
  std::ranges::sort(names);
  return names;
}

std::string_view change_name(Change change) {
  constexpr std::string_view kNames[] = {"same", "added", "removed", "changed"};
  return kNames[static_cast<std::size_t>(change)];
}

}  // namespace petrel::inspect
