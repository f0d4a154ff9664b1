// SPDX-License-Identifier: MIT
#include "tests/bpf/fleet.hpp"

namespace petrel::test {
namespace {

constexpr std::uint16_t kFirstPort = 32768;
constexpr std::uint16_t kPorts = 28232;

}  // namespace

std::vector<std::uint8_t> syn_options(std::optional<std::uint32_t> tsval) {
  if (!tsval) return {2, 4, 5, 0xb4, 1, 1, 4, 2, 1, 3, 3, 7};
  std::vector<std::uint8_t> options{2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0, 1, 3, 3, 7};
  for (int i = 0; i < 4; ++i) options[8 + i] = static_cast<std::uint8_t>(*tsval >> (24 - 8 * i));
  return options;
}

HostStack::HostStack(std::uint64_t seed, const Options& options)
    : random_(seed), options_(options), clock_offset_(static_cast<std::uint32_t>(random_())),
      port_(static_cast<std::uint16_t>(kFirstPort + random_() % kPorts / 2 * 2)) {}

std::uint16_t HostStack::next_port() {
  const std::uint64_t on = options_.port_each ? random_() % kPorts : 2 + 2 * (random_() % 8);
  port_ = static_cast<std::uint16_t>(kFirstPort + (port_ - kFirstPort + on) % kPorts);
  return port_;
}

std::vector<std::uint8_t> HostStack::next_options(std::uint64_t now_ns) {
  if (!options_.timestamps) return syn_options(std::nullopt);
  if (options_.clock_each) clock_offset_ = static_cast<std::uint32_t>(random_());
  const std::uint64_t ticks = now_ns / (1'000'000'000 / options_.clock_hz);
  return syn_options(static_cast<std::uint32_t>(ticks) + clock_offset_);
}

Conversation HostStack::connect(Balancer& lb, const Hosts& hosts) {
  Conversation conversation(lb, hosts, next_port());
  conversation.set_sequence(static_cast<std::uint32_t>(random_()));
  conversation.set_syn_options(next_options(lb.now_ns()));
  conversation.syn();
  return conversation;
}

}  // namespace petrel::test
