// SPDX-License-Identifier: MIT
#include <arpa/inet.h>
#include <fmt/format.h>

#include "config/address.hpp"
#include "inspect/where_report.hpp"
#include "inspect/words.hpp"

namespace petrel::inspect {
namespace {

constexpr double kOneQ16 = 65536;

std::string line(std::string_view what, const std::string& text) {
  return fmt::format("  {:<10} {}\n", what, text);
}

class Text {
 public:
  explicit Text(const Answer& answer) : it_(answer) {}

  std::string service(const std::string& name) const;
  std::string agent() const;
  std::string held() const;
  std::string placed() const;

 private:
  std::string short_name(std::uint32_t id) const;
  std::string backend(std::uint32_t id) const;
  std::string since(std::uint64_t ns) const {
    return duration_text(it_.now_ns > ns ? it_.now_ns - ns : 0);
  }
  std::string probes(const Search& search) const;
  std::string flow(std::uint32_t backend_id, std::string_view table, const std::string& state,
                   std::uint32_t flags, const std::string& attempt) const;
  std::string connection() const;
  std::string half_open() const;
  std::string ring() const;
  std::string retry() const;
  std::string second() const;
  std::string admission() const;
  std::string attempt(std::uint32_t number, std::uint32_t previous_id, std::uint8_t failure) const;

  const Answer& it_;
};

std::string Text::short_name(std::uint32_t id) const {
  if (id == 0) return "nobody";
  const BackendFacts* backend = it_.facts.find(id);
  return backend == nullptr ? "#" + std::to_string(id) : backend->name;
}

std::string Text::backend(std::uint32_t id) const {
  const BackendFacts* backend = it_.facts.find(id);
  if (backend == nullptr) return "#" + std::to_string(id) + ", which is no backend of it any more";
  const auto port = ntohs(backend->backend.port_be);
  return fmt::format("{} ({}), {}", backend->name,
                     endpoint_text(backend->backend.address, port == 0 ? it_.question.port : port),
                     backend_state_name(backend->backend.state));
}

std::string Text::service(const std::string& name) const {
  const PinnedService& service = it_.service;
  std::string text = fmt::format(
      "{}{} {}, id {}: {}", name.empty() ? "" : name + " ",
      endpoint_text(service.key.vip, service.port(), service.last_port),
      protocol_name(service.key.protocol), service.value.service_id,
      joined(abilities_of(service.value.flags), ", "));
  if (!it_.facts.has(bpf::SERVICE_READY)) text += "; NOT READY: its packets pass untouched";
  return fmt::format("service    {}\n", text);
}

std::string Text::agent() const {
  const AgentSign& agent = it_.agent;
  if (!agent.age_ns) return "agent      has never ticked: the neutral ring serves\n";
  return fmt::format("agent      {}: its last heartbeat is {} old, the limit {}{}\n",
                     agent.silent ? "SILENT" : "alive", duration_text(*agent.age_ns),
                     duration_text(agent.limit_ns),
                     agent.silent ? ": the neutral ring serves" : "");
}

std::string Text::attempt(std::uint32_t number, std::uint32_t previous_id,
                          std::uint8_t failure) const {
  if (number <= 1) return "1";
  return fmt::format("{}: a retry of what {} failed ({})", number, short_name(previous_id),
                     failure_name(failure));
}

std::string Text::flow(std::uint32_t backend_id, std::string_view table, const std::string& state,
                       std::uint32_t flags, const std::string& number) const {
  std::string text = fmt::format("\nit HAS {}\n", backend(backend_id));
  text += line("state", fmt::format("{} (in {})", state, table));
  text += line("attempt", number);
  for (const std::string_view reason : reasons_of(flags)) {
    text += line("why", fmt::format("{}: {}", reason, reason_meaning(reason)));
  }
  return text;
}

std::string Text::connection() const {
  const bpf::connection& flow_of = *it_.connection;
  const bool closed = flow_of.state == bpf::CONNECTION_CLOSED;
  std::string state = fmt::format("{}, begun {} ago", connection_state_name(flow_of.state),
                                  since(flow_of.syn_ns));
  if (flow_of.synack_ns > flow_of.syn_ns) {
    state += ", answered after " + duration_text(flow_of.synack_ns - flow_of.syn_ns);
  }
  if (closed && flow_of.close_ns != 0) state += ", ended " + since(flow_of.close_ns) + " ago";
  std::string text = flow(flow_of.backend_id, "connections", state, flow_of.flags,
                          attempt(flow_of.attempt, flow_of.previous_backend_id,
                                  flow_of.previous_failure));
  if (closed) text.replace(text.find("HAS"), 3, "HAD");
  return text + line("traffic", fmt::format("{} requests, {} bytes in, {} bytes out",
                                            flow_of.requests, flow_of.bytes_in, flow_of.bytes_out));
}

std::string Text::half_open() const {
  const bpf::half_open& syn = *it_.half_open;
  std::string state = fmt::format("{}, begun {} ago", connection_state_name(syn.state),
                                  since(syn.syn_ns));
  if (syn.synack_ns != 0) state += ", answered " + since(syn.synack_ns) + " ago";
  if (syn.syn_repeats != 0) state += fmt::format(", {} SYNs repeated", syn.syn_repeats);
  std::string text =
      flow(syn.backend_id, "half_open", state, syn.flags,
           attempt(syn.attempt, syn.previous_backend_id, syn.previous_failure));
  if (syn.moves != 0) {
    text += line("moved", fmt::format("{} times, last off {}{}", syn.moves,
                                      short_name(syn.moved_from[0]),
                                      syn.moved_from[1] == 0
                                          ? ""
                                          : " and " + short_name(syn.moved_from[1])));
  }
  if (!it_.next) return text;
  return text + line("next", it_.next->backend_id == 0
                                 ? "nobody: it has moved enough, or no other is usable"
                                 : short_name(it_.next->backend_id) + " if this one refuses, or is "
                                       "still silent when the SYN comes again");
}

std::string Text::held() const {
  std::string text;
  if (it_.connection) text += connection();
  if (it_.half_open && it_.half_open->state != bpf::CONNECTION_CLOSED) text += half_open();
  return text.empty() ? "\nit has no backend: this connection is not known\n" : text;
}

std::string Text::probes(const Search& search) const {
  std::string text;
  for (const Probe& probe : search.probes) {
    text += fmt::format("{}slot {}{} {} ({})", text.empty() ? "" : ", ", probe.slot,
                        probe.neutral_ring ? " neutral" : "", short_name(probe.backend_id),
                        outcome_name(probe.outcome));
  }
  return text;
}

std::string Text::ring() const {
  const Placement& placement = it_.placement;
  std::string text =
      line("hash", fmt::format("{:016x}: slot {} of {}", placement.hash, placement.slot,
                               it_.facts.service.slots));
  const char* reason = it_.agent.silent                     ? "neutral, the agent being silent"
                       : it_.facts.has(bpf::SERVICE_ACT) ? "in force"
                                                            : "neutral, the service not acting";
  std::string slot = fmt::format("{}: the slot names {}", reason,
                                 short_name(placement.slot_backend_id));
  if (!placement.slot_usable) {
    const BackendFacts* named = it_.facts.find(placement.slot_backend_id);
    slot += fmt::format(", which is {}",
                        named == nullptr ? "none of its backends"
                                         : backend_state_name(named->backend.state));
  }
  const auto other = it_.facts.neutral.at(placement.slot);
  if (!placement.neutral_ring && other != placement.slot_backend_id) {
    slot += fmt::format(" (the neutral ring {}: its weight was moved)", short_name(other));
  }
  text += line("ring", slot);
  if (placement.instead) text += line("instead", probes(*placement.instead));
  return text;
}

std::string Text::retry() const {
  if (it_.question.protocol != IPPROTO_TCP) return "";
  if (!it_.evidence) {
    return line("retry", fmt::format("no: this client has no failure within {} that a retry has "
                                     "not answered",
                                     duration_text(it_.retry_window_ns)));
  }
  const Evidence& evidence = *it_.evidence;
  std::string text = fmt::format(
      "yes, attempt {}: {} {} {} ({})", it_.attempt.number,
      evidence.failed_backend_id == 0 ? "petrel" : short_name(evidence.failed_backend_id),
      evidence.still_waits ? "has not answered for" : "failed it",
      duration_text(evidence.age_ns) + (evidence.still_waits ? "" : " ago"),
      failure_name(evidence.failure));
  std::string lines = line("retry", text);
  if (!it_.placement.steered) {
    const bool may = it_.facts.has(bpf::SERVICE_STEER) && !it_.facts.has(bpf::SERVICE_AFFINITY);
    return lines + line("steered", !may                 ? "no: the service does not steer"
                                   : it_.agent.silent ? "no: the agent is silent"
                                                        : "no: its slot is another backend's");
  }
  return lines + line("steered", probes(*it_.placement.steered));
}

std::string Text::second() const {
  if (!it_.placement.second) return "";
  const SecondChoice& second = *it_.placement.second;
  const auto load = [&](std::uint32_t id) {
    const BackendFacts* backend = it_.facts.find(id);
    if (backend == nullptr) return short_name(id);
    return fmt::format("{}: {} waiting, weight {}, {:.1f} % of it given, risk {:.3f}", backend->name,
                       backend->waiting.requests, backend->weight.base_weight,
                       100 * backend->weight.factor_q16 / kOneQ16,
                       backend->weight.risk_q16 / kOneQ16);
  };
  const bool taken = it_.placement.second->reason == SecondReason::kTaken;
  const std::uint32_t first =
      it_.placement.instead ? it_.placement.instead->backend_id : it_.placement.slot_backend_id;
  std::string verdict;
  switch (second.reason) {
    case SecondReason::kTaken: verdict = "markedly less busy"; break;
    case SecondReason::kSame: verdict = "the same backend"; break;
    case SecondReason::kUnusable: verdict = "not usable"; break;
    case SecondReason::kRiskier: verdict = "riskier by more than 0.2"; break;
    case SecondReason::kDemoted: verdict = "less than half of the first's part of its weight"; break;
    case SecondReason::kNotBusier: verdict = "the first is not markedly busier"; break;
    case SecondReason::kFailedIt: verdict = "it failed the request before"; break;
  }
  std::string text = fmt::format("{} (slot {} neutral): {}: {}", short_name(second.backend_id),
                                 second.slot, taken ? "taken" : "not taken", verdict);
  if (!it_.placement.second_counts) {
    text = fmt::format("off; else {}", text);
  }
  std::string lines = line("second", text);
  if (second.backend_id == first) return lines;
  return lines + line("", load(first)) + line("", load(second.backend_id));
}

std::string Text::admission() const {
  const auto limit = [](const bpf::inflight& waiting) {
    if (waiting.limit == 0) return fmt::format("{} in flight, no limit", waiting.requests);
    return fmt::format("{} in flight of {} (retries {})", waiting.requests, waiting.limit,
                       waiting.retry_limit);
  };
  std::string text = line("limits", "service: " + limit(it_.facts.waiting));
  if (const BackendFacts* backend = it_.facts.find(it_.placement.backend_id)) {
    text += line("", backend->name + ": " + limit(backend->waiting));
  }
  if (it_.facts.has(bpf::SERVICE_BUDGET)) {
    text += line("budget", fmt::format("{:.1f} retries saved up of at most {:.1f}, {:.1f} more a "
                                       "second; {} let through, {} refused so far",
                                       it_.facts.tokens,
                                       static_cast<double>(it_.budget.burst_q16) / kOneQ16,
                                       it_.budget.rate_q16 / kOneQ16, it_.budget.admitted,
                                       it_.budget.refused));
  } else {
    text += line("budget", "none: retries are not limited");
  }
  if (it_.placement.below_limit) text += line("moved on", probes(*it_.placement.below_limit));
  return text;
}

std::string Text::placed() const {
  const Placement& placement = it_.placement;
  std::string text = "\na NEW connection from there would ";
  if (!it_.facts.has(bpf::SERVICE_READY)) {
    text += "pass untouched: the service is not ready\n";
  } else if (placement.backend_id != 0) {
    text += "get " + backend(placement.backend_id) + "\n";
  } else if (placement.admission != Admission::kAdmitted) {
    text += fmt::format("be refused with a RST: {}\n", admission_name(placement.admission));
  } else {
    text += "pass untouched: no backend is usable\n";
  }
  return text + ring() + retry() + second() + admission();
}

}  // namespace

std::string where_text(const Answer& answer, const std::string& service_name) {
  const Question& asked = answer.question;
  const Text text(answer);
  return fmt::format("{} -> {} {}\n", endpoint_text(asked.client, asked.client_port),
                     endpoint_text(asked.vip, asked.port), protocol_name(asked.protocol)) +
         text.service(service_name) + text.agent() + text.held() + text.placed();
}

}  // namespace petrel::inspect
