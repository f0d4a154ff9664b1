// SPDX-License-Identifier: MIT
#include <arpa/inet.h>
#include <fmt/format.h>

#include <boost/json.hpp>

#include "config/address.hpp"
#include "inspect/where_report.hpp"
#include "inspect/words.hpp"

namespace petrel::inspect {
namespace {

namespace json = boost::json;

constexpr double kOneQ16 = 65536;

double milliseconds(std::uint64_t ns) { return static_cast<double>(ns) / 1e6; }

json::array words(const std::vector<std::string_view>& names) {
  json::array array;
  for (const std::string_view name : names) array.emplace_back(name);
  return array;
}

json::value backend_json(const Answer& it, std::uint32_t id) {
  if (id == 0) return nullptr;
  const BackendFacts* backend = it.facts.find(id);
  if (backend == nullptr) {
    return {{"id", id}, {"name", nullptr}, {"address", nullptr}, {"state", "gone"}};
  }
  const auto port = ntohs(backend->backend.port_be);
  return {{"id", id},
          {"name", backend->name},
          {"address",
           endpoint_text(backend->backend.address, port == 0 ? it.question.port : port)},
          {"state", backend_state_name(backend->backend.state)}};
}

json::value search_json(const Answer& it, const std::optional<Search>& search) {
  if (!search) return nullptr;
  json::array probes;
  for (const Probe& probe : search->probes) {
    probes.push_back({{"slot", probe.slot},
                      {"ring", probe.neutral_ring ? "neutral" : "in_force"},
                      {"backend", backend_json(it, probe.backend_id)},
                      {"outcome", outcome_name(probe.outcome)}});
  }
  return {{"backend", backend_json(it, search->backend_id)}, {"asked", std::move(probes)}};
}

double since_ms(const Answer& it, std::uint64_t ns) {
  return it.now_ns > ns ? milliseconds(it.now_ns - ns) : 0.0;
}

// What both tables know of a flow.
template <class Flow>
json::object flow_json(const Answer& it, const Flow& flow, const char* table) {
  return {{"table", table},
          {"state", connection_state_name(flow.state)},
          {"backend", backend_json(it, flow.backend_id)},
          {"why", words(reasons_of(flow.flags))},
          {"age_ms", since_ms(it, flow.syn_ns)},
          {"connect_ms", flow.synack_ns > flow.syn_ns
                             ? json::value(milliseconds(flow.synack_ns - flow.syn_ns))
                             : json::value(nullptr)},
          {"attempt", flow.attempt},
          {"syn_repeats", flow.syn_repeats},
          {"moves", flow.moves},
          {"previous_backend", backend_json(it, flow.previous_backend_id)},
          {"previous_failure", failure_name(flow.previous_failure)}};
}

json::value connection_json(const Answer& it) {
  if (!it.connection) return nullptr;
  json::object out = flow_json(it, *it.connection, "connections");
  out["requests"] = it.connection->requests;
  out["bytes_in"] = it.connection->bytes_in;
  out["bytes_out"] = it.connection->bytes_out;
  return out;
}

json::value half_open_json(const Answer& it) {
  if (!it.half_open) return nullptr;
  json::object out = flow_json(it, *it.half_open, "half_open");
  out["next"] = search_json(it, it.next);
  return out;
}

json::value retry_json(const Answer& it) {
  if (!it.evidence) return nullptr;
  return {{"attempt", it.attempt.number},
          {"failed_backend", backend_json(it, it.evidence->failed_backend_id)},
          {"failure", failure_name(it.evidence->failure)},
          {"age_ms", milliseconds(it.evidence->age_ns)},
          {"still_waits", it.evidence->still_waits}};
}

json::value load_json(const Answer& it, std::uint32_t id) {
  const BackendFacts* backend = it.facts.find(id);
  if (backend == nullptr) return nullptr;
  return {{"name", backend->name},
          {"inflight", backend->waiting.requests},
          {"limit", backend->waiting.limit},
          {"retry_limit", backend->waiting.retry_limit},
          {"base_weight", backend->weight.base_weight},
          {"factor", backend->weight.factor_q16 / kOneQ16},
          {"risk", backend->weight.risk_q16 / kOneQ16}};
}

json::value second_json(const Answer& it) {
  const auto& second = it.placement.second;
  if (!second) return nullptr;
  return {{"in_force", it.placement.second_counts},
          {"slot", second->slot},
          {"backend", backend_json(it, second->backend_id)},
          {"taken", second->reason == SecondReason::kTaken && it.placement.second_counts},
          {"reason", second_reason_name(second->reason)},
          {"first_load", load_json(it, it.placement.slot_backend_id)},
          {"second_load", load_json(it, second->backend_id)}};
}

json::value budget_json(const Answer& it) {
  if (!it.facts.has(bpf::SERVICE_BUDGET)) return nullptr;
  return {{"tokens", it.facts.tokens},
          {"rate_per_s", it.budget.rate_q16 / kOneQ16},
          {"burst", static_cast<double>(it.budget.burst_q16) / kOneQ16},
          {"admitted", it.budget.admitted},
          {"refused", it.budget.refused}};
}

json::value placement_json(const Answer& it) {
  const Placement& placement = it.placement;
  return {{"backend", backend_json(it, placement.backend_id)},
          {"hash", fmt::format("{:016x}", placement.hash)},
          {"slot", placement.slot},
          {"slots", it.facts.service.slots},
          {"ring", placement.neutral_ring ? "neutral" : "in_force"},
          {"slot_backend", backend_json(it, placement.slot_backend_id)},
          {"slot_usable", placement.slot_usable},
          {"neutral_slot_backend", backend_json(it, it.facts.neutral.at(placement.slot))},
          {"instead", search_json(it, placement.instead)},
          {"retry", retry_json(it)},
          {"steered", search_json(it, placement.steered)},
          {"second_choice", second_json(it)},
          {"admission", admission_name(placement.admission)},
          {"below_limit", search_json(it, placement.below_limit)},
          {"service_inflight",
           {{"requests", it.facts.waiting.requests},
            {"limit", it.facts.waiting.limit},
            {"retry_limit", it.facts.waiting.retry_limit}}},
          {"budget", budget_json(it)}};
}

}  // namespace

std::string where_json(const Answer& it, const std::string& service_name) {
  const PinnedService& service = it.service;
  const bool range = service.last_port != service.port();
  return json::serialize(json::object{
      {"schema", "petrel/where/v1"},
      {"client", endpoint_text(it.question.client, it.question.client_port)},
      {"asked", endpoint_text(it.question.vip, it.question.port)},
      {"protocol", protocol_name(it.question.protocol)},
      {"service",
       {{"id", service.value.service_id},
        {"name", service_name.empty() ? json::value(nullptr) : json::value(service_name)},
        {"address", endpoint_text(service.key.vip, service.port(), service.last_port)},
        {"match", range ? "range" : "port"},
        {"ready", it.facts.has(bpf::SERVICE_READY)},
        {"flags", words(abilities_of(service.value.flags))}}},
      {"agent",
       {{"silent", it.agent.silent},
        {"heartbeat_age_ms", it.agent.age_ns ? json::value(milliseconds(*it.agent.age_ns))
                                             : json::value(nullptr)},
        {"heartbeat_limit_ms", milliseconds(it.agent.limit_ns)}}},
      {"has", backend_json(it, it.held_by())},
      {"connection", connection_json(it)},
      {"half_open", half_open_json(it)},
      {"placement", placement_json(it)}});
}

}  // namespace petrel::inspect
