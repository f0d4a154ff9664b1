// SPDX-License-Identifier: MIT
// One interface: is it there, in which mode XDP can be had on it, and who else has it.
#include <fmt/format.h>

#include <algorithm>

#include "system/judges.hpp"

namespace petrel {
namespace {

// A page less headroom (256), skb_shared_info (320) and the Ethernet header with two tags (22):
// what a driver gives a program that does not take fragmented packets, as ours does not.
constexpr std::uint32_t kMostNativeMtu = 4096 - 256 - 320 - 22;

std::string age_text(std::chrono::seconds age) {
  if (age >= std::chrono::hours(48))
    return fmt::format("{} days ago", age / std::chrono::hours(24));
  if (age >= std::chrono::minutes(120)) return fmt::format("{} h ago", age / std::chrono::hours(1));
  if (age >= std::chrono::seconds(120))
    return fmt::format("{} min ago", age / std::chrono::minutes(1));
  return fmt::format("{} s ago", age.count());
}

const char* mode_text(XdpAttached attached) {
  switch (attached) {
    case XdpAttached::kNative:
      return "native";
    case XdpAttached::kGeneric:
      return "generic";
    case XdpAttached::kHardware:
      return "hardware";
    case XdpAttached::kNone:
      break;
  }
  return "none";
}

std::string detach_command(const InterfaceFacts& interface) {
  if (interface.xdp.link_id != 0) {
    return fmt::format("bpftool link detach id {}", interface.xdp.link_id);
  }
  switch (interface.xdp.attached) {
    case XdpAttached::kGeneric:
      return "ip link set dev " + interface.name + " xdpgeneric off";
    case XdpAttached::kHardware:
      return "ip link set dev " + interface.name + " xdpoffload off";
    default:
      return "ip link set dev " + interface.name + " xdpdrv off";
  }
}

std::string set_mode_command(const std::string& config_path, const char* mode) {
  return fmt::format(R"(sed -i -E 's/^( *xdp_mode *= *).*/\1"{}"/' {})", mode, config_path);
}

void judge_program(const InterfaceFacts& interface, Checks& checks) {
  const XdpFacts& xdp = interface.xdp;
  if (xdp.attached == XdpAttached::kNone) {
    checks.push_back(good("interface.xdp_program", interface.name, "none attached"));
    return;
  }
  if (xdp.ours) {
    checks.push_back(
        good("interface.xdp_program", interface.name,
             fmt::format("petrel's own, id {}, {}", xdp.program_id, mode_text(xdp.attached))));
    return;
  }
  const std::string whose =
      xdp.program_name.empty()
          ? "its name takes CAP_SYS_ADMIN to ask"
          : fmt::format("\"{}\", loaded by {} {}", xdp.program_name, xdp.owner, age_text(xdp.age));
  Check check = fatal(
      "interface.xdp_program", interface.name,
      fmt::format("another program, id {}, {}: {}", xdp.program_id, mode_text(xdp.attached), whose),
      "an interface takes one XDP program: the agent does not start", detach_command(interface));
  check.conflict = true;
  checks.push_back(std::move(check));
}

// A veth has native XDP only with a receive queue for each that its far end sends on, and says so
// only when the program is attached: there is no way back to generic then.
Check unequal_queues(const InterfaceFacts& interface) {
  const std::string peer = interface.peer
                               ? interface.peer->enter + "ethtool -L " + interface.peer->name
                               : "ethtool -L PEER";
  return fatal("interface.xdp_mode", interface.name,
               fmt::format("a veth with {} receive queues, fewer than its far end sends on",
                           interface.receive_queues),
               "native XDP is refused (ENOSPC): the agent does not start",
               fmt::format("{} tx {}", peer, std::max(interface.receive_queues, 1U)));
}

void judge_mode(const AgentConfig& agent, const std::string& config_path,
                const InterfaceFacts& interface, Checks& checks) {
  const bool known = interface.xdp_features.has_value();
  const bool native = known && (*interface.xdp_features & kXdpBasic) != 0;
  const std::string driver = "driver " + (interface.driver.empty() ? "?" : interface.driver);
  if (known && !native && interface.driver == "veth" && agent.xdp_mode != XdpMode::kGeneric) {
    checks.push_back(unequal_queues(interface));
  } else if (known && !native && agent.xdp_mode == XdpMode::kNative) {
    checks.push_back(fatal("interface.xdp_mode", interface.name, driver + " has no native XDP",
                           "agent.xdp_mode asks for it: the agent does not start",
                           set_mode_command(config_path, "auto")));
  } else if (known && !native) {
    checks.push_back(degraded("interface.xdp_mode", interface.name,
                              driver + " has no native XDP: it is generic",
                              "each packet first becomes an sk_buff: several times the cost", ""));
  } else if (agent.xdp_mode == XdpMode::kGeneric) {
    checks.push_back(degraded("interface.xdp_mode", interface.name,
                              driver + (known ? " has native XDP, agent.xdp_mode is generic"
                                              : ": agent.xdp_mode is generic"),
                              "each packet first becomes an sk_buff: several times the cost",
                              set_mode_command(config_path, "auto")));
  } else if (!known) {
    checks.push_back(good("interface.xdp_mode", interface.name, driver + ": native XDP unknown",
                          "kernels before 6.3 do not tell; attaching does"));
  } else {
    checks.push_back(good("interface.xdp_mode", interface.name, driver + ": native"));
  }
}

// Many drivers offer it only while a program is attached, so its absence tells nothing before. A
// veth's depends on its peer: see judge_offloads().
void judge_target(const InterfaceFacts& interface, Checks& checks) {
  if (!interface.xdp_features || interface.xdp.attached != XdpAttached::kNative) return;
  if (interface.driver == "veth") return;
  if ((*interface.xdp_features & kXdpTarget) != 0) {
    checks.push_back(good("interface.xdp_target", interface.name, "takes redirected frames"));
  } else {
    checks.push_back(degraded("interface.xdp_target", interface.name,
                              "driver " + interface.driver + " takes no redirected frames",
                              "what is balanced out of this interface is dropped: let it have "
                              "another driver or be none of agent.interfaces",
                              ""));
  }
}

void judge_own_mtu(const AgentConfig& agent, const InterfaceFacts& interface, Checks& checks) {
  const bool attached = interface.xdp.ours;  // then the driver has taken it
  if (interface.mtu_bytes <= kMostNativeMtu || agent.xdp_mode == XdpMode::kGeneric || attached) {
    checks.push_back(good("interface.mtu", interface.name, fmt::format("{}", interface.mtu_bytes)));
    return;
  }
  if (interface.xdp_features && (*interface.xdp_features & kXdpBuffers) != 0) {
    checks.push_back(good("interface.mtu", interface.name, fmt::format("{}", interface.mtu_bytes),
                          "the driver hands over packets in several buffers"));
    return;
  }
  checks.push_back(degraded(
      "interface.mtu", interface.name, fmt::format("{}", interface.mtu_bytes),
      fmt::format("most drivers refuse native XDP above {}, a page for a packet: the agent may not "
                  "start",
                  kMostNativeMtu),
      fmt::format("ip link set dev {} mtu {}", interface.name, kMostNativeMtu)));
}

}  // namespace

void judge_interface(const AgentConfig& agent, const std::string& config_path,
                     const InterfaceFacts& interface, Checks& checks) {
  if (interface.ifindex == 0) {
    checks.push_back(fatal("interface.exists", interface.name, "there is none of this name",
                           "the agent does not start: see agent.interfaces and `ip link`", ""));
    return;
  }
  if (interface.up) {
    checks.push_back(good("interface.up", interface.name, "up"));
  } else {
    checks.push_back(degraded("interface.up", interface.name, "down",
                              "nothing comes in or goes out here",
                              "ip link set dev " + interface.name + " up"));
  }
  judge_program(interface, checks);
  judge_mode(agent, config_path, interface, checks);
  judge_target(interface, checks);
  judge_own_mtu(agent, interface, checks);
}

}  // namespace petrel
