// SPDX-License-Identifier: MIT
#include "inspect/words.hpp"

#include <fmt/format.h>
#include <netinet/in.h>

#include <array>

namespace petrel::inspect {
namespace {

struct Word {
  std::uint32_t flag;
  std::string_view name;
  std::string_view meaning;
};

constexpr std::array<Word, 7> kReasons = {{
    {bpf::CONNECTION_STEERED, "steered", "a retry, kept off the backend that failed it"},
    {bpf::CONNECTION_OFF_RING, "off_ring", "two choices, or a limit in flight, took another backend"},
    {bpf::CONNECTION_NEUTRAL, "neutral", "placed by the neutral ring: the agent was silent"},
    {bpf::CONNECTION_FAILED_OVER, "failed_over", "its SYN was moved off a silent backend"},
    {bpf::CONNECTION_MASKED, "masked", "its SYN was moved off a backend that refused it"},
    {bpf::CONNECTION_ADOPTED, "adopted", "taken up in its middle: no SYN was seen"},
    {bpf::CONNECTION_MOVED, "moved", "moved in its middle: its backend was removed"},
}};
constexpr std::string_view kRing = "ring";

constexpr std::array<Word, 12> kAbilities = {{
    {bpf::SERVICE_DSR, "dsr", ""},
    {bpf::SERVICE_ACT, "act", ""},
    {bpf::SERVICE_AFFINITY, "client_affinity", ""},
    {bpf::SERVICE_STEER, "steer_retries", ""},
    {bpf::SERVICE_TWO_CHOICES, "two_choices", ""},
    {bpf::SERVICE_FAILOVER, "failover", ""},
    {bpf::SERVICE_MASK, "mask_refusals", ""},
    {bpf::SERVICE_BUDGET, "retry_budget", ""},
    {bpf::SERVICE_ADMIT, "limits_in_flight", ""},
    {bpf::SERVICE_KEEP_PORT, "keep_port", ""},
    {bpf::SERVICE_AT_CLIENT, "at_client", ""},
    {bpf::SERVICE_AT_BACKEND, "at_backend", ""},
}};

// By position; "unknown" for what this build does not know.
template <std::size_t N>
std::string_view word_of(const std::array<std::string_view, N>& words, std::size_t value) {
  return value < N ? words[value] : "unknown";
}

}  // namespace

std::string_view connection_state_name(std::uint8_t state) {
  return word_of<5>({"none", "syn", "answered", "established", "closed"}, state);
}

std::string_view backend_state_name(std::uint16_t state) {
  return word_of<5>({"unused", "up", "quarantined", "draining", "removed"}, state);
}

std::string_view failure_name(std::uint8_t failure) {
  return word_of<bpf::FAILURE_KINDS>({"none", "refused", "handshake_timeout", "reset", "abandoned",
                                      "empty", "overload", "server_error"},
                                     failure);
}

std::string_view outcome_name(ProbeOutcome outcome) {
  return word_of<4>({"taken", "avoided", "at_limit", "unusable"},
                    static_cast<std::size_t>(outcome));
}

std::string_view second_reason_name(SecondReason reason) {
  return word_of<7>({"taken", "same", "unusable", "riskier", "demoted", "not_busier", "failed_it"},
                    static_cast<std::size_t>(reason));
}

std::string_view admission_name(Admission admission) {
  return word_of<4>({"admitted", "over_limit", "retry_over_limit", "over_budget"},
                    static_cast<std::size_t>(admission));
}

std::string_view protocol_name(std::uint8_t protocol) {
  return protocol == IPPROTO_UDP ? "udp" : "tcp";
}

std::vector<std::string_view> reasons_of(std::uint32_t connection_flags) {
  std::vector<std::string_view> names;
  for (const Word& reason : kReasons) {
    if ((connection_flags & reason.flag) != 0) names.push_back(reason.name);
  }
  if (names.empty()) names.push_back(kRing);
  return names;
}

std::string_view reason_meaning(std::string_view reason) {
  for (const Word& word : kReasons) {
    if (word.name == reason) return word.meaning;
  }
  return "where its ring slot was when it began";
}

std::vector<std::string_view> abilities_of(std::uint32_t service_flags) {
  std::vector<std::string_view> names;
  if ((service_flags & bpf::SERVICE_DSR) == 0) names.push_back("nat");
  for (const Word& ability : kAbilities) {
    if ((service_flags & ability.flag) != 0) names.push_back(ability.name);
  }
  return names;
}

std::string joined(const std::vector<std::string_view>& words, std::string_view between) {
  return fmt::format("{}", fmt::join(words, between));
}

std::string duration_text(std::uint64_t duration_ns) {
  const double seconds = static_cast<double>(duration_ns) / 1e9;
  if (seconds < 1e-3) return fmt::format("{:.0f} us", seconds * 1e6);
  if (seconds < 1) return fmt::format("{:.1f} ms", seconds * 1e3);
  if (seconds < 120) return fmt::format("{:.1f} s", seconds);
  if (seconds < 7200) return fmt::format("{:.0f} min", seconds / 60);
  return fmt::format("{:.1f} h", seconds / 3600);
}

}  // namespace petrel::inspect
