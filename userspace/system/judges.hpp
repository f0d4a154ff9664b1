// SPDX-License-Identifier: MIT
// The parts of judge(), and what they share.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "system/checks.hpp"

namespace petrel {

using Checks = std::vector<Check>;

// enum netdev_xdp_act (linux/netdev.h, 6.3).
inline constexpr std::uint64_t kXdpBasic = 1 << 0;   // native XDP
inline constexpr std::uint64_t kXdpTarget = 1 << 2;  // NDO_XMIT: frames can be redirected into it
inline constexpr std::uint64_t kXdpBuffers = 1 << 5;  // RX_SG: native XDP with several buffers a packet

inline Check good(std::string id, std::string subject, std::string found, std::string note = "") {
  return {
      std::move(id), CheckState::kGood, std::move(subject), std::move(found), std::move(note), {},
      false};
}
inline Check degraded(std::string id, std::string subject, std::string found,
                      std::string consequence, std::string command) {
  return {std::move(id),
          CheckState::kDegraded,
          std::move(subject),
          std::move(found),
          std::move(consequence),
          std::move(command),
          false};
}
inline Check fatal(std::string id, std::string subject, std::string found, std::string consequence,
                   std::string command) {
  return {std::move(id),
          CheckState::kFatal,
          std::move(subject),
          std::move(found),
          std::move(consequence),
          std::move(command),
          false};
}

void judge_host(const AgentConfig& agent, const HostFacts& host, Checks& checks);

void judge_interface(const AgentConfig& agent, const std::string& config_path,
                     const InterfaceFacts& interface, Checks& checks);
void judge_offloads(const AgentConfig& agent, const InterfaceFacts& interface, Checks& checks);

// What depends on several interfaces, and on where services and backends are.
void judge_mtu(const Config& config, const SystemFacts& facts, Checks& checks);
void judge_forwarding(const Config& config, const SystemFacts& facts, Checks& checks);
void judge_service(const Config& config, const ServiceConfig& service, const ServiceFacts& found,
                   Checks& checks);

// "sysctl -w net.ipv4.conf.eth0.rp_filter=2"; with slashes where the interface's name has a dot.
std::string sysctl_command(const std::string& family, const std::string& interface,
                           const std::string& key, int value);

}  // namespace petrel
