// SPDX-License-Identifier: MIT
// One interface, and the XDP program that it has.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/if_link.h>
#include <pwd.h>

#include <algorithm>
#include <ctime>

#include "base/unique_fd.hpp"
#include "system/probes.hpp"

namespace petrel {
namespace {

// As DataPath pins it: bpffs refuses names with a dot.
std::string link_pin(const std::string& pin_path, std::string interface) {
  std::replace(interface.begin(), interface.end(), '.', '_');
  return pin_path + "/links/xdp_" + interface;
}

std::optional<bpf_link_info> link_info(int link_fd) {
  bpf_link_info info{};
  std::uint32_t size = sizeof info;
  if (bpf_obj_get_info_by_fd(link_fd, &info, &size) != 0) return {};
  return info;
}

// The BPF link that holds a program on an interface: only its end takes the program off.
std::uint32_t find_link(std::uint32_t ifindex, std::uint32_t program_id) {
  for (std::uint32_t id = 0; bpf_link_get_next_id(id, &id) == 0;) {
    const UniqueFd link(bpf_link_get_fd_by_id(id));
    const auto info = link ? link_info(link.get()) : std::nullopt;
    // Interface numbers repeat in other network namespaces, program numbers do not.
    if (info && info->type == BPF_LINK_TYPE_XDP && info->xdp.ifindex == ifindex &&
        info->prog_id == program_id) {
      return id;
    }
  }
  return 0;
}

std::string user_name(std::uint32_t uid) {
  const passwd* user = ::getpwuid(uid);
  return user != nullptr ? user->pw_name : "uid " + std::to_string(uid);
}

// load_time counts from boot, time spent suspended included.
std::chrono::seconds since_boot(std::uint64_t load_time_ns) {
  timespec now{};
  ::clock_gettime(CLOCK_BOOTTIME, &now);
  return std::chrono::seconds(now.tv_sec) -
         std::chrono::duration_cast<std::chrono::seconds>(std::chrono::nanoseconds(load_time_ns));
}

XdpAttached attached_mode(std::uint8_t mode) {
  switch (mode) {
    case XDP_ATTACHED_DRV:
      return XdpAttached::kNative;
    case XDP_ATTACHED_SKB:
      return XdpAttached::kGeneric;
    case XDP_ATTACHED_HW:
      return XdpAttached::kHardware;
    case XDP_ATTACHED_MULTI:
      return XdpAttached::kNative;  // several: the native one runs first
    default:
      return XdpAttached::kNone;
  }
}

}  // namespace

XdpFacts probe_xdp(const std::string& pin_path, const std::string& interface,
                   std::uint32_t ifindex) {
  XdpFacts facts;
  LIBBPF_OPTS(bpf_xdp_query_opts, query);
  if (bpf_xdp_query(static_cast<int>(ifindex), 0, &query) != 0) return facts;
  facts.attached = attached_mode(query.attach_mode);
  if (facts.attached == XdpAttached::kNone) return facts;
  facts.program_id = query.attach_mode == XDP_ATTACHED_MULTI ? query.drv_prog_id : query.prog_id;
  facts.link_id = find_link(ifindex, facts.program_id);

  const UniqueFd program(bpf_prog_get_fd_by_id(facts.program_id));  // takes CAP_SYS_ADMIN
  bpf_prog_info info{};
  std::uint32_t size = sizeof info;
  if (program && bpf_obj_get_info_by_fd(program.get(), &info, &size) == 0) {
    facts.program_name = info.name[0] != '\0' ? info.name : "(unnamed)";
    facts.owner = user_name(info.created_by_uid);
    facts.age = since_boot(info.load_time);
  }
  const UniqueFd pinned(bpf_obj_get(link_pin(pin_path, interface).c_str()));
  const auto held = pinned ? link_info(pinned.get()) : std::nullopt;
  facts.ours = held && held->prog_id == facts.program_id;
  return facts;
}

InterfaceFacts probe_interface(const AgentConfig& agent, const std::string& name,
                               const RouteTables& tables) {
  InterfaceFacts facts;
  facts.name = name;
  const auto link = tables.link(name);
  if (!link) return facts;
  facts.ifindex = link->ifindex;
  facts.up = link->up;
  facts.mtu_bytes = link->mtu_bytes;
  facts.driver = driver_of(name);
  facts.receive_queues = receive_queues_of(name);
  facts.xdp_features = tables.xdp_features(facts.ifindex);
  facts.xdp = probe_xdp(agent.pin_path, name, facts.ifindex);
  facts.offloads = offloads_of(name);
  if (facts.driver == "veth" && link->peer_ifindex != 0) {
    facts.peer = probe_peer(tables, link->peer_ifindex, link->peer_namespace_id);
  }
  const std::string conf = "net/ipv4/conf/";
  const auto of_both = [&](const char* key) {
    return std::max(read_sysctl(conf + "all/" + key).value_or(0),
                    read_sysctl(conf + name + "/" + key).value_or(0));
  };
  if (const auto forwarding = read_sysctl(conf + name + "/forwarding")) {
    facts.forwarding_v4 = *forwarding != 0;
  }
  facts.rp_filter = of_both("rp_filter");
  facts.accept_local = of_both("accept_local") != 0;
  return facts;
}

}  // namespace petrel
