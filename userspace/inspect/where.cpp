// SPDX-License-Identifier: MIT
#include "inspect/where.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <charconv>

#include "base/clock.hpp"
#include "bpf/odds.h"
#include "config/address.hpp"

namespace petrel::inspect {
namespace {

Error bad_endpoint(const std::string& text, const std::string& why) {
  return Error(ExitCode::kInput, "'" + text + "' is no ADDRESS:PORT (" + why +
                                     "): write 10.0.0.7:51812 or [2001:db8::7]:51812");
}

// What is known of an address where nothing is served, so that the caller need not guess.
Error not_ours(const Snapshot& snapshot, const Question& question) {
  const char* protocol = question.protocol == IPPROTO_UDP ? "udp" : "tcp";
  const std::string what =
      endpoint_text(question.vip, question.port) + " (" + protocol + ") is no service of ours: ";
  std::string served;
  for (const PinnedService& service : snapshot.state().services) {
    if (!same_address(service.key.vip, question.vip)) continue;
    served += (served.empty() ? "" : ", ") +
              endpoint_text(service.key.vip, service.port(), service.last_port) +
              (service.key.protocol == IPPROTO_UDP ? " (udp)" : " (tcp)");
  }
  if (!served.empty()) return Error(ExitCode::kUnhealthy, what + "the address serves " + served);
  for (const PinnedBackend& backend : snapshot.state().backends) {
    if (!same_address(backend.value.address, question.vip)) continue;
    return Error(ExitCode::kUnhealthy,
                 what + "it is a backend of " +
                     endpoint_text(backend.value.vip, ntohs(backend.value.vip_port_be)) +
                     ": ask for that");
  }
  return Error(ExitCode::kUnhealthy, what + "packets to it pass untouched");
}

std::uint32_t ticks(std::uint64_t ns) {
  return static_cast<std::uint32_t>(ns >> 10);
}

// A SYN that waits too long: it will have failed by its client's next one.
bpf::failure failure_of(const bpf::half_open& flow) {
  bpf::failure failure{};
  failure.syn_ns = flow.syn_ns;
  failure.known_at = ticks(flow.syn_ns);
  failure.backend_id = flow.backend_id;
  failure.port_be = flow.key.client_port_be;
  failure.kind = bpf::FAILURE_HANDSHAKE_TIMEOUT;
  failure.attempt = flow.attempt;
  return failure;
}

// What label_syn() will find, if the SYN comes now and nothing but its address tells whose it is:
// the failure that it would most likely answer, if that is likelier than that it answers none.
std::optional<Evidence> find_evidence(const Snapshot& snapshot, const bpf::connection_key& key,
                                      std::uint64_t now_ns) {
  if (!snapshot.constants().wire_sensor) return {};
  const auto odds = snapshot.retry_odds(key.service_id);
  if (!odds) return {};
  const auto since = [&](std::uint64_t ns) { return now_ns > ns ? now_ns - ns : 0; };
  const std::uint64_t window_ns = snapshot.constants().retry_window_ns;
  const auto client = snapshot.client(key);
  const bool failed = client && since(client->failure_ns) <= window_ns;
  std::vector<bpf::failure> failures;
  if (failed) failures.assign(std::begin(client->failures), std::end(client->failures));
  const std::size_t known = failures.size();
  for (const bpf::half_open& flow : snapshot.unanswered(key)) {
    if (flow.key.client_port_be == key.client_port_be) continue;
    if (since(flow.syn_ns) < snapshot.constants().handshake_timeout_ns) continue;
    failures.push_back(failure_of(flow));
  }
  const std::uint32_t now = ticks(now_ns);
  std::uint64_t retries = 0, most = 0;
  std::size_t best = failures.size();
  for (std::size_t i = 0; i < failures.size(); ++i) {
    std::uint64_t hazard = bpf::failure_hazard(&failures[i], &*odds, now, ticks(window_ns));
    if (failures[i].retry_port_be != 0) hazard >>= failures[i].retry_odds_log2 & 31;
    retries += hazard;
    if (hazard <= most) continue;
    most = hazard;
    best = i;
  }
  const auto pending = snapshot.pending(key);
  const std::uint64_t gap = pending && pending->gap != 0
                                ? (std::uint64_t{pending->gap} + odds->usual_gap) / 2
                                : odds->usual_gap;
  std::uint64_t others = failed ? bpf::arrival_rate(client->all_arrivals, now - client->since, gap)
                                : bpf::arrival_rate(0, 0, gap);
  if (pending) others += odds->burst_hazard[bpf::retry_bucket(now - pending->syn_at)];
  if (best == failures.size() || retries <= others) return {};
  const bpf::failure& failure = failures[best];
  return Evidence{failure.backend_id, failure.kind, failure.attempt,
                  std::uint64_t{now - failure.known_at} << 10,
                  best >= known};
}

Attempt attempt_after(const std::optional<Evidence>& evidence) {
  if (!evidence) return {};
  return {std::min(evidence->attempt + 1u, 255u), evidence->failed_backend_id};
}

}  // namespace

std::uint32_t Answer::held_by() const {
  if (connection && connection->state != bpf::CONNECTION_CLOSED) return connection->backend_id;
  if (half_open && half_open->state != bpf::CONNECTION_CLOSED) return half_open->backend_id;
  return 0;
}

Result<Answer> where(const Snapshot& snapshot, const Question& question) {
  const PinnedService* service =
      snapshot.find_service(question.vip, question.port, question.protocol);
  if (service == nullptr) return not_ours(snapshot, question);

  Answer answer;
  answer.question = question;
  answer.now_ns = monotonic_ns();
  answer.service = *service;
  answer.agent = snapshot.agent(answer.now_ns);
  answer.retry_window_ns = snapshot.constants().retry_window_ns;
  auto facts = snapshot.facts(*service, answer.now_ns);
  if (!facts) return facts.error();
  answer.facts = std::move(*facts);
  const auto budget = snapshot.budget(service->value.service_id);
  if (!budget) return budget.error();
  answer.budget = *budget;

  bpf::connection_key key{};
  key.client = question.client;
  key.client_port_be = htons(question.client_port);
  key.service_port_be = htons(question.port);
  key.service_id = static_cast<__u16>(service->value.service_id);
  answer.connection = snapshot.connection(key);
  answer.half_open = snapshot.half_open(key);
  if (answer.half_open && answer.half_open->state == bpf::CONNECTION_SYN &&
      answer.facts.has(bpf::SERVICE_FAILOVER | bpf::SERVICE_MASK)) {
    answer.next = next_backend(answer.facts, *answer.half_open);
  }
  const bool tcp = question.protocol == IPPROTO_TCP;
  if (tcp) answer.evidence = find_evidence(snapshot, key, answer.now_ns);
  answer.attempt = attempt_after(answer.evidence);
  answer.placement = predict(answer.facts, key, answer.attempt, tcp);
  return answer;
}

Result<std::pair<bpf::address, std::uint16_t>> parse_endpoint(const std::string& text) {
  const auto colon = text.rfind(':');
  if (colon == std::string::npos) return bad_endpoint(text, "no port");
  std::string host = text.substr(0, colon);
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  if (!bracketed && host.find(':') != std::string::npos) {
    return bad_endpoint(text, "an IPv6 address without brackets");
  }
  const auto address = parse_address(host);
  if (!address) return bad_endpoint(text, address.error().message());
  std::uint16_t port = 0;
  const char* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data() + colon + 1, end, port);
  if (parsed.ec != std::errc{} || parsed.ptr != end || port == 0) {
    return bad_endpoint(text, "a port is 1 to 65535");
  }
  return std::pair{*address, port};
}

}  // namespace petrel::inspect
