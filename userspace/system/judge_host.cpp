// SPDX-License-Identifier: MIT
// The kernel, BPF and what this process may do with them.
#include <linux/capability.h>

#include <filesystem>

#include "system/judges.hpp"

namespace petrel {
namespace {

constexpr KernelVersion kOldestKernel{5, 10};       // the oldest that is tried
constexpr KernelVersion kLiveFrames{5, 18};         // of programs that are run by hand
constexpr KernelVersion kMemlockUnneeded{5, 11};    // BPF memory is charged to the memory cgroup
constexpr std::uint64_t kMemlockBytes = 512 << 20;  // maps at their largest, with room

std::string joined(const std::vector<Loadable>& types) {
  std::string text;
  for (const Loadable& type : types) text += (text.empty() ? "" : ", ") + type.name;
  return text;
}

void judge_kernel(const HostFacts& host, Checks& checks) {
  if (host.kernel < kOldestKernel) {
    checks.push_back(fatal("kernel.version", "", host.kernel_release,
                           "petrel has never run on one before 5.10: boot a newer kernel", ""));
  } else {
    checks.push_back(good("kernel.version", "", host.kernel_release));
  }
  if (host.atomics) {
    checks.push_back(good("kernel.atomics", "", "atomic operations answer"));
  } else {
    checks.push_back(degraded("kernel.atomics", "", "no atomic operations that answer (Linux 5.12)",
                              "the programs for old kernels are used: what two CPUs end at once may be "
                              "counted twice; no tap, no scores in the kernel, no resets at sockets",
                              ""));
  }
  if (host.kernel >= kOldestKernel && host.kernel < kLiveFrames) {
    checks.push_back(degraded("kernel.live_frames", "", "programs run no live frames (Linux 5.18)",
                              "no SYN is hedged: one that waits far too long for its backend is moved "
                              "only when its client sends it again",
                              ""));
  } else if (host.kernel >= kLiveFrames) {
    checks.push_back(good("kernel.live_frames", "", host.kernel_release));
  }
  if (host.btf) {
    checks.push_back(good("kernel.btf", "", "/sys/kernel/btf/vmlinux"));
  } else {
    checks.push_back(fatal("kernel.btf", "", "no /sys/kernel/btf/vmlinux",
                           "the programs cannot be fitted to this kernel: boot one that was built "
                           "with CONFIG_DEBUG_INFO_BTF=y",
                           ""));
  }
}

void judge_capabilities(const HostFacts& host, Checks& checks) {
  const auto has = [&](int capability) { return ((host.capabilities >> capability) & 1) != 0; };
  // CAP_SYS_ADMIN stands in for the two that were split from it in 5.8, not for CAP_NET_ADMIN.
  std::string missing;
  if (!has(CAP_NET_ADMIN)) missing += " CAP_NET_ADMIN";
  if (!has(CAP_BPF) && !has(CAP_SYS_ADMIN)) missing += " CAP_BPF";
  if (!has(CAP_PERFMON) && !has(CAP_SYS_ADMIN)) missing += " CAP_PERFMON";
  if (missing.empty()) {
    checks.push_back(good("process.capabilities", "", "CAP_NET_ADMIN, CAP_BPF, CAP_PERFMON"));
    return;
  }
  checks.push_back(fatal("process.capabilities", "", "without" + missing,
                         "programs cannot be loaded and attached; checks that need them are left "
                         "out here. Or run as root",
                         "setcap cap_net_admin,cap_bpf,cap_perfmon+ep " + host.executable));
}

void judge_loadable(const AgentConfig& agent, const HostFacts& host, Checks& checks) {
  bool all = true;
  for (const Loadable& type : host.program_types) {
    if (type.works) continue;
    all = false;
    if (type.name == "xdp") {
      checks.push_back(fatal("bpf.programs", "", "no program of type xdp can be loaded",
                             "there is no balancer: boot a kernel built with CONFIG_BPF_SYSCALL=y "
                             "and CONFIG_NET=y, and see whether a lockdown or seccomp is in force",
                             ""));
    } else if (agent.socket_sensor) {
      checks.push_back(
          degraded("bpf.programs", "", "no program of type " + type.name + " can be loaded",
                   "the socket sensor goes without: the wire sensor alone is left", ""));
    }
  }
  if (all && !host.program_types.empty()) {
    checks.push_back(good("bpf.programs", "", joined(host.program_types)));
  }
  all = true;
  for (const Loadable& type : host.map_types) {
    if (type.works) continue;
    all = false;
    checks.push_back(fatal("bpf.maps", "", "no map of type " + type.name + " can be made",
                           "the balancer cannot be loaded", ""));
  }
  if (all && !host.map_types.empty())
    checks.push_back(good("bpf.maps", "", joined(host.map_types)));
}

void judge_jit(const HostFacts& host, Checks& checks) {
  if (!host.jit) return;
  if (*host.jit) {
    checks.push_back(good("bpf.jit", "", "on"));
  } else {
    checks.push_back(degraded("bpf.jit", "", "off: programs are interpreted",
                              "each packet costs several times as much",
                              "sysctl -w net.core.bpf_jit_enable=1"));
  }
}

void judge_bpffs(const AgentConfig& agent, const HostFacts& host, Checks& checks) {
  if (host.pin_path_on_bpffs) {
    checks.push_back(good("bpf.bpffs", "", agent.pin_path));
    return;
  }
  const std::string usual = "/sys/fs/bpf";
  const bool in_usual = agent.pin_path.starts_with(usual + "/");
  const std::string mount =
      in_usual ? usual : std::filesystem::path(agent.pin_path).parent_path().string();
  checks.push_back(
      fatal("bpf.bpffs", "", agent.pin_path + " is on no BPF file system",
            "maps and links cannot be pinned: the agent does not start",
            (in_usual ? "" : "mkdir -p " + mount + " && ") + "mount -t bpf bpf " + mount));
}

void judge_memlock(const HostFacts& host, Checks& checks) {
  if (host.kernel >= kMemlockUnneeded) return;
  if (!host.memlock_bytes || *host.memlock_bytes >= kMemlockBytes) {
    checks.push_back(good("process.memlock", "", "locked memory is limited far enough up"));
    return;
  }
  checks.push_back(fatal(
      "process.memlock", "", std::to_string(*host.memlock_bytes) + " bytes may be locked",
      "kernels before 5.11 charge maps to this limit: they cannot be made", "ulimit -l unlimited"));
}

void judge_cgroup(const AgentConfig& agent, const HostFacts& host, Checks& checks) {
  if (!agent.socket_sensor) return;
  if (!host.cgroup2.empty()) {
    checks.push_back(good("cgroup.v2", "", host.cgroup2));
    return;
  }
  // Beside /sys/fs/cgroup, which may be a version 1 hierarchy, in which no folder can be made.
  const std::string mount = agent.cgroup.empty() ? "/run/cgroup2" : agent.cgroup;
  checks.push_back(
      degraded("cgroup.v2", "",
               "no cgroup v2 is mounted" + (agent.cgroup.empty() ? "" : " at " + agent.cgroup),
               "sockops has nothing to hang on: no round-trip times of sockets",
               "mkdir -p " + mount + " && mount -t cgroup2 cgroup2 " + mount));
}

}  // namespace

void judge_host(const AgentConfig& agent, const HostFacts& host, Checks& checks) {
  judge_kernel(host, checks);
  judge_capabilities(host, checks);
  judge_loadable(agent, host, checks);
  judge_jit(host, checks);
  judge_bpffs(agent, host, checks);
  judge_memlock(host, checks);
  judge_cgroup(agent, host, checks);
}

}  // namespace petrel
