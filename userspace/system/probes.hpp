// SPDX-License-Identifier: MIT
// The parts of gather(), and what they share.
#pragma once

#include <optional>
#include <string>

#include "base/error.hpp"
#include "config/config.hpp"
#include "system/facts.hpp"
#include "system/netlink.hpp"

namespace petrel {

HostFacts probe_host(const AgentConfig& agent);

InterfaceFacts probe_interface(const AgentConfig& agent, const std::string& name,
                               const RouteTables& tables);
XdpFacts probe_xdp(const std::string& pin_path, const std::string& interface,
                   std::uint32_t ifindex);

// The peer of a veth: here if `namespace_id` is none, else in the namespace of that id.
std::optional<PeerFacts> probe_peer(const RouteTables& tables, std::uint32_t ifindex,
                                    std::optional<int> namespace_id);

// By ethtool's ioctl, in the calling thread's network namespace; empty or 0 where there is no
// answer.
std::string driver_of(const std::string& interface);
std::uint32_t receive_queues_of(const std::string& interface);
Offloads offloads_of(const std::string& interface);

// /proc/sys/<path> as a number; nullopt if there is none. net/ is the caller's namespace's.
std::optional<std::uint32_t> read_sysctl(const std::string& path);

}  // namespace petrel
