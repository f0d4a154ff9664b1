// SPDX-License-Identifier: MIT
#include "agent/report.hpp"

#include <algorithm>
#include <array>
#include <boost/json.hpp>
#include <cmath>
#include <numeric>

#include "agent/model_report.hpp"
#include "agent/self_check_report.hpp"
#include "base/clock.hpp"
#include "config/address.hpp"
#include "features/unseen_retries.hpp"

namespace petrel {
namespace json = boost::json;
namespace {

constexpr std::array<std::string_view, 14> kReasons = {
    "base",   "risk",    "floor",   "quarantine", "recovering", "panic", "shared",
    "capped", "neutral", "samples", "draining",   "by_hand",    "frozen",
    "harm"};
constexpr std::array<std::string_view, bpf::FAILURE_KINDS> kFailures = {
    "none", "refused", "handshake_timeout", "reset", "abandoned", "empty", "overload",
    "server_error"};
constexpr std::array<std::string_view, bpf::VERDICTS> kVerdicts = {
#define PETREL_VERDICT_NAME(name, text, meaning) text,
    PETREL_VERDICTS(PETREL_VERDICT_NAME)
#undef PETREL_VERDICT_NAME
};
constexpr std::array<std::string_view, 4> kProbes = {"unknown", "answers", "refuses", "silent"};

constexpr std::array<std::string_view, 5> kStates = {"unused", "up", "quarantined", "draining",
                                                     "removed"};

constexpr double kOne = 65536.0;  // Q16

const FeatureInfo& feature_info(std::string_view name) {
  return *std::ranges::find(kFeatures, name, &FeatureInfo::name);
}

json::object failures_json(const bpf::service_stats& stats) {
  json::object out;
  for (std::size_t kind = 1; kind < bpf::FAILURE_KINDS; ++kind) {
    out[kFailures[kind]] = stats.failures[kind];
  }
  return out;
}

double unseen_retries(const bpf::service_stats& stats) {
  return unseen_retry_share({.failures = std::accumulate(std::begin(stats.failures) + 1,
                                                         std::end(stats.failures), std::uint64_t{0}),
                             .retries = stats.retries,
                             .unreadable_failures = stats.unreadable_failures,
                             .unreadable_retries = stats.unreadable_retries});
}

json::object socket_json(const bpf::backend_stats& stats) {
  const double connects = static_cast<double>(stats.socket_connects);
  return {{"connects", stats.socket_connects},
          {"connect_mean_us",
           connects > 0 ? static_cast<double>(stats.socket_connect_ns) / connects / 1000 : 0.0},
          {"srtt_us", stats.socket_srtt_us},
          {"retransmits", stats.socket_retransmits},
          {"synack_retransmits", stats.socket_synack_retransmits},
          {"rtos", stats.socket_rtos},
          {"resets_sent", stats.socket_resets_sent},
          {"resets_received", stats.socket_resets_received},
          {"closes", stats.socket_closes},
          {"bytes_sent", stats.socket_bytes_sent},
          {"bytes_received", stats.socket_bytes_received}};
}

json::object wire_json(const bpf::backend_stats& stats) {
  return {{"connections", stats.connections},
          {"retry_connections", stats.retry_connections},
          {"failovers", stats.failovers},
          {"masked", stats.masked},
          {"established", stats.established},
          {"requests", stats.requests},
          {"answers", stats.answers},
          {"refused", stats.refused},
          {"handshake_timeouts", stats.handshake_timeouts},
          {"resets", stats.resets},
          {"abandoned", stats.abandoned},
          {"empty", stats.empty},
          {"overloads", stats.overloads},
          {"server_errors", stats.server_errors},
          {"status_2xx", stats.status_2xx},
          {"status_3xx", stats.status_3xx},
          {"status_4xx", stats.status_4xx},
          {"closes", stats.closes},
          {"client_resets", stats.client_resets},
          {"syn_repeats", stats.syn_repeats},
          {"client_repeats", stats.client_repeats},
          {"backend_repeats", stats.backend_repeats},
          {"bytes_in", stats.bytes_in},
          {"bytes_out", stats.bytes_out},
          {"connect_p50_us", histogram_quantile_ns(stats.connect_histogram, 0.5) / 1e3},
          {"connect_p99_us", histogram_quantile_ns(stats.connect_histogram, 0.99) / 1e3},
          {"response_p50_ms", histogram_quantile_ns(stats.response_histogram, 0.5) / 1e6},
          {"response_p99_ms", histogram_quantile_ns(stats.response_histogram, 0.99) / 1e6}};
}

json::value order_name(ServiceOrder order) {
  if (order == ServiceOrder::kNone) return nullptr;
  return order == ServiceOrder::kFreeze ? "freeze" : "neutral";
}

json::array overrides_json(const Agent& agent, const ServiceLoop& service) {
  const auto now_ns = static_cast<std::int64_t>(read_clocks().realtime_ns);
  json::array out;
  for (const Override& it : agent.overrides().list()) {
    if (it.service == service.config().name) out.push_back(override_json(it, now_ns));
  }
  return out;
}

// That bounds what is moved to it: set by hand, or learned; null where neither is.
json::value capacity_json(const BackendLoop& backend) {
  const double by_hand = backend.config.capacity_per_s;
  const double per_s = by_hand > 0 ? by_hand : backend.capacity.capacity_per_s();
  return per_s > 0 ? json::value(per_s) : json::value(nullptr);
}

json::object backend_json(const Agent& agent, const ServiceLoop& service,
                          const BackendLoop& backend) {
  const double slots = static_cast<double>(service.in_force().size());
  const WeightInForce in_force = service.in_force_weight(backend);
  return {{"name", backend.config.name},
          {"id", backend.config.id},
          {"address", endpoint_text(backend.config.address, backend.config.port)},
          {"zone", backend.config.zone},
          {"base_weight", backend.config.weight},
          {"by_hand", backend.hand_q16 == kWholeWeight ? json::value(nullptr)
                                                       : json::value(backend.hand_q16 / kOne)},
          {"factor", in_force.factor()},
          {"share", static_cast<double>(backend.slots) / slots},
          {"wanted_factor", backend.decision.factor},
          {"reason", reason_name(in_force.reason)},
          {"drain", backend.drains() ? json::value(drain_json(backend)) : json::value(nullptr)},
          {"rails", rail_names(backend.decision.rails)},
          {"asked_per_s", backend.capacity.asked_per_s()},
          {"capacity_per_s", capacity_json(backend)},
          {"risk", backend.reading.risk},
          {"risk_interval", json::array{backend.reading.low, backend.reading.high}},
          {"samples", backend.reading.samples},
          {"probe", kProbes[static_cast<std::size_t>(backend.probe)]},
          {"waiting_syn", backend.waiting_syn.total()},
          {"waiting", backend.waiting.total()},
          {"inflight", agent.tables().inflight(backend.config.id)},
          {"waits_leaked", backend.waits_leaked},
          {"next_hop_cached", backend.hop.ifindex != 0},
          {"wire", wire_json(backend.stats)},
          {"socket", socket_json(backend.stats)}};
}

json::object verdicts_json(std::span<const std::uint64_t> counts) {
  json::object out;
  for (std::size_t i = 0; i < counts.size(); ++i) out[verdict_name(i)] = counts[i];
  return out;
}

json::object admission_json(const Agent& agent, const ServiceLoop& service) {
  const AdmissionDecision admission = agent.admission(service.config().id);
  const ServiceConfig& config = service.config();
  const Result<bpf::budget> shared = agent.tables().read_admissions(config.id);
  return {{"enabled", config.admission},
          {"acts", config.admission && config.acts(config.modes.admission) && !service.held()},
          {"limit", admission.limit},
          {"max_inflight", config.max_inflight},
          {"capacity_per_s", admission.capacity_per_s},
          {"saturated", admission.saturated},
          {"refused_unfair", shared ? shared->refused_unfair : 0}};
}

json::object service_json(const Agent& agent, const ServiceLoop& service) {
  bpf::service_stats stats{};
  if (service.config().id < agent.service_stats().size()) {
    stats = agent.service_stats()[service.config().id];
  }
  json::array backends;
  for (const BackendLoop& backend : service.backends()) {
    backends.push_back(backend_json(agent, service, backend));
  }
  return {{"name", service.config().name},
          {"id", service.config().id},
          {"address", endpoint_text(service.config().address, service.config().port)},
          {"placement", to_string(service.config().placement)},
          {"mode", to_string(service.config().mode)},
          {"leaving", service.is_leaving()},
          {"order", order_name(service.order())},
          {"overrides", overrides_json(agent, service)},
          {"panic", service.in_panic()},
          {"admission", admission_json(agent, service)},
          {"edge", edge_json(agent.edge(service.config().id))},
          {"self_check", self_check_json(agent, service)},
          {"ring_slots", service.in_force().size()},
          {"moved_slots", service.moved_slots()},
          {"lost_events_share", agent.losses().lost_share()},
          {"first_attempts", stats.first_attempts},
          {"retries", stats.retries},
          {"unseen_retries_share", unseen_retries(stats)},
          {"steered", stats.steered},
          {"off_ring", stats.off_ring},
          {"neutral_placements", stats.neutral},
          {"failures", failures_json(stats)},
          {"shed", stats.shed},
          {"shed_retries", stats.shed_retries},
          {"verdicts", verdicts_json(agent.verdicts(service.config().id))},
          {"backends", std::move(backends)}};
}

json::object loop_json(const Agent& agent) {
  const LoopFacts& facts = agent.facts();
  return {{"uptime_s", static_cast<double>(monotonic_ns() - facts.started_ns) / 1e9},
          {"tick_ms", agent.config().agent.tick.count()},
          {"ticks", facts.ticks},
          {"late_ticks", facts.late_ticks},
          {"last_tick_us", facts.last_tick_us},
          {"worst_tick_us", facts.worst_tick_us},
          {"all_ticks_us", facts.all_ticks_us},
          {"events", facts.events},
          {"expired_handshakes", facts.expired_handshakes},
          {"retries_seen", facts.retries_seen},
          {"retries_predicted", facts.retries_predicted},
          {"took_over", agent.adopted()},
          {"reloads", facts.reloads},
          {"tapping", agent.tapping()}};
}

// What stands beside every rate: how much of what happened was not seen.
json::object losses_json(const Agent& agent) {
  const Losses& losses = agent.losses();
  std::uint64_t evicted = 0, full = 0, adopted = 0;
  for (const ServiceLoop& service : agent.services()) {
    const auto verdicts = agent.verdicts(service.config().id);
    evicted += verdicts[bpf::VERDICT_HALF_OPEN_EVICTED];
    full += verdicts[bpf::VERDICT_TABLE_FULL];
    adopted += verdicts[bpf::VERDICT_ADOPTED];
  }
  return {{"lost_events_share", losses.lost_share()},
          {"events_lost", losses.events_lost()},
          {"records_lost", losses.records_lost()},
          {"events_out_of_order", losses.out_of_order()},
          {"worst_disorder_ms", static_cast<double>(losses.worst_disorder_ns()) / 1e6},
          {"clock_steps", losses.clock_steps()},
          {"suspends", losses.suspends()},
          {"half_open_evicted", evicted},
          {"table_full", full},
          {"adopted", adopted},
          {"evicted", agent.facts().evicted},
          {"waits_leaked", agent.facts().waits_leaked}};
}

json::object decision_log_json(const Agent& agent) {
  const DecisionLog& log = agent.decision_log();
  const DecisionCounts counts = log.counts();
  const auto path = [&](bool written, std::string file) {
    return written ? json::value(file) : json::value(nullptr);
  };
  return {{"sqlite", path(log.settings().sqlite, decisions_db(log.directory()))},
          {"json", path(log.settings().json, decisions_jsonl(log.directory()))},
          {"decisions", counts.decisions},
          {"lost_full", counts.lost_full},
          {"sqlite_lost", counts.sqlite_lost},
          {"json_lost", counts.json_lost},
          {"error", counts.error.empty() ? json::value(nullptr) : json::value(counts.error)}};
}

json::object audit_json(const Agent& agent) {
  const LoopFacts& facts = agent.facts();
  return {{"audits", facts.audits},
          {"work_us", facts.audit_us},
          {"connections_open", facts.connections_open},
          {"connections_closed", facts.connections_closed},
          {"connections_size", agent.config().agent.max_connections},
          {"waits_leaked", facts.waits_leaked},
          {"unaccounted", facts.unaccounted}};
}

}  // namespace

std::string_view state_name(bpf::backend_state state) { return kStates[state]; }

std::string_view reason_name(bpf::weight_reason reason) { return kReasons[reason]; }

std::string_view failure_name(std::uint8_t failure) {
  return failure < kFailures.size() ? kFailures[failure] : "unknown";
}

std::string_view verdict_name(std::size_t verdict) {
  return verdict < kVerdicts.size() ? kVerdicts[verdict] : "unknown";
}

double histogram_quantile_ns(std::span<const std::uint32_t> buckets, double share) {
  const double total = std::accumulate(buckets.begin(), buckets.end(), 0.0);
  if (total == 0) return 0;
  double before = 0;
  for (std::size_t i = 0; i < buckets.size(); ++i) {
    if (before + buckets[i] >= total * share && buckets[i] > 0) {
      // Log-linear: 4 equal parts of an octave; within one, spread evenly.
      const double octave = std::exp2(HISTOGRAM_FIRST_OCTAVE + static_cast<double>(i / 4));
      const double part = (total * share - before) / buckets[i];
      return octave * (1 + (static_cast<double>(i % 4) + part) / 4);
    }
    before += buckets[i];
  }
  return std::exp2(HISTOGRAM_FIRST_OCTAVE + HISTOGRAM_OCTAVES);
}

json::object drain_json(const BackendLoop& backend) {
  const std::uint64_t now_ns = monotonic_ns();
  const double left_s =
      backend.drained_ns > now_ns ? static_cast<double>(backend.drained_ns - now_ns) / 1e9 : 0.0;
  return {{"state", kStates[backend.state]},
          {"left_s", left_s},
          {"connections", backend.connections},
          {"leaving", backend.leaving}};
}

json::object budget_json(const Agent& agent, const ServiceLoop& service,
                         const bpf::budget& budget) {
  const BudgetConfig& settings = service.config().budget;
  const RetryAllowance retries = agent.retries(service.config().id);
  const double rate = budget.rate_q16 / kOne;
  const double burst = static_cast<double>(budget.burst_q16) / kOne;
  const std::uint64_t now_ns = monotonic_ns();
  // The data path adds what time has earned when a retry comes.
  const double idle_s =
      now_ns > budget.filled_ns ? static_cast<double>(now_ns - budget.filled_ns) / 1e9 : 0.0;
  const double tokens =
      std::min(burst, static_cast<double>(budget.tokens_q16) / kOne + idle_s * rate);
  return {{"service", service.config().name},
          {"enabled", settings.enabled},
          {"acts", service.config().acts(service.config().modes.budget)},
          {"ratio", settings.ratio},
          {"min_per_s", settings.min_per_s},
          {"burst_s", settings.burst_s},
          {"idle_ratio", settings.idle_ratio},
          {"open", retries.open()},
          {"first_attempts_per_s", retries.first_attempts_per_s()},
          {"due_within_1s", agent.retries_due(service.config().id)},
          {"lost_events_share", agent.losses().lost_share()},
          {"rate_per_s", rate},
          {"burst", burst},
          {"tokens", tokens},
          {"admitted", budget.admitted},
          {"refused", budget.refused},
          {"refused_unfair", budget.refused_unfair}};
}

json::value status_json(const Agent& agent) {
  json::array services;
  for (const ServiceLoop& service : agent.services()) {
    services.push_back(service_json(agent, service));
  }
  json::object verdicts;
  for (std::size_t i = 0; i < bpf::VERDICTS; ++i) {
    std::uint64_t sum = agent.verdicts(0)[i];
    for (const ServiceLoop& service : agent.services()) {
      sum += agent.verdicts(service.config().id)[i];
    }
    verdicts[verdict_name(i)] = sum;
  }
  json::array degraded;
  for (const std::string& line : agent.degraded()) degraded.push_back(json::string(line));
  if (!agent.hedge_failure().empty()) degraded.push_back(json::string(agent.hedge_failure()));
  return {{"schema", "petrel/status/v1"},
          {"version", PETREL_VERSION},
          {"model", model_status_json(agent.model(), agent.life(), agent.weights_held())},
          {"loop", loop_json(agent)},
          {"losses", losses_json(agent)},
          {"audit", audit_json(agent)},
          {"decision_log", decision_log_json(agent)},
          {"degraded", std::move(degraded)},
          {"services", std::move(services)},
          {"verdicts", std::move(verdicts)},
          {"unserved", verdicts_json(agent.verdicts(0))}};
}

json::value explain_json(const Agent& agent, const ServiceLoop& service,
                         const BackendLoop& backend) {
  json::array pushes;
  for (const Contribution& push : backend.explanation.pushes(agent.model())) {
    const FeatureInfo& info = feature_info(push.feature);
    pushes.push_back({{"feature", info.name},
                      {"log_odds", push.log_odds_q16 / kOne},
                      {"value", push.value_q16 / kOne},
                      {"unit", info.unit},
                      {"meaning", info.doc}});
  }
  const WeightDecision& decision = backend.decision;
  json::object out = backend_json(agent, service, backend);
  out["schema"] = "petrel/explain/v1";
  out["service"] = service.config().name;
  out["mode"] = to_string(service.config().mode);
  out["bias_log_odds"] = agent.model().bias;
  out["law"] = {{"peers_risk", decision.peers_risk},
                {"difference", decision.difference},
                {"gate", decision.gate},
                {"wanted", decision.wanted}};
  out["risk_parts"] = {{"fast", backend.reading.fast},
                       {"slow", backend.reading.slow},
                       {"answered_in_tick", backend.reading.answered},
                       {"waiting_in_tick", backend.reading.waiting}};
  out["observations"] = backend.explanation.observations();
  out["lost_events_share"] = agent.losses().lost_share();
  out["contributions"] = std::move(pushes);
  json::array decisions;
  for (const Decision& it :
       agent.decision_log().recent(service.config().name, backend.config.name)) {
    decisions.push_back(decision_json(it));
  }
  out["decisions"] = std::move(decisions);
  out["changed_ago_s"] = backend.changed_ns == 0
                             ? json::value(nullptr)
                             : json::value(static_cast<double>(monotonic_ns() - backend.changed_ns) / 1e9);
  return out;
}

}  // namespace petrel
