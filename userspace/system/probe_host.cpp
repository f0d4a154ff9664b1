// SPDX-License-Identifier: MIT
// The kernel, what BPF it takes, and what this process may do.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>
#include <linux/magic.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/unique_fd.hpp"
#include "maps/programs.hpp"
#include "system/probes.hpp"

namespace petrel {
namespace fs = std::filesystem;
namespace {

void probe_kernel(HostFacts& host) {
  utsname name{};
  if (::uname(&name) == 0) host.kernel_release = name.release;
  std::sscanf(host.kernel_release.c_str(), "%u.%u", &host.kernel.major, &host.kernel.minor);
  host.btf = ::access("/sys/kernel/btf/vmlinux", R_OK) == 0;
}

std::uint64_t effective_capabilities() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("CapEff:")) return std::stoull(line.substr(7), nullptr, 16);
  }
  return 0;
}

// The smallest program, which lets everything pass; invalid where the kernel does not take it.
UniqueFd load_smallest(bpf_prog_type type, const bpf_prog_load_opts* options) {
  const bpf_insn instructions[] = {
      {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = XDP_PASS},
      {.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0},
  };
  return UniqueFd(bpf_prog_load(type, "petrel_check", "Dual MIT/GPL", instructions,
                                std::size(instructions), options));
}

// Its image shows whether the JIT is on: the sysctl of that name is not there in network
// namespaces other than the first.
std::optional<bool> probe_jit() {
  const UniqueFd program = load_smallest(BPF_PROG_TYPE_XDP, nullptr);
  bpf_prog_info info{};
  std::uint32_t size = sizeof info;
  if (!program || bpf_obj_get_info_by_fd(program.get(), &info, &size) != 0) return {};
  return info.jited_prog_len > 0;
}

// As the sensor does it. libbpf's own probe asks for fentry, which takes more of a kernel.
bool probe_tracing() {
  const int id = libbpf_find_vmlinux_btf_id("inet_sock_set_state", BPF_TRACE_RAW_TP);
  if (id <= 0) return false;
  LIBBPF_OPTS(bpf_prog_load_opts, options, .expected_attach_type = BPF_TRACE_RAW_TP,
              .attach_btf_id = static_cast<std::uint32_t>(id));
  return static_cast<bool>(load_smallest(BPF_PROG_TYPE_TRACING, &options));
}

void probe_loadable(HostFacts& host) {
  const auto program = [](bpf_prog_type type) {
    return libbpf_probe_bpf_prog_type(type, nullptr) == 1;
  };
  host.program_types = {{"xdp", program(BPF_PROG_TYPE_XDP)},
                        {"tracing", probe_tracing()},
                        {"sock_ops", program(BPF_PROG_TYPE_SOCK_OPS)}};
  const auto map = [](bpf_map_type type) { return libbpf_probe_bpf_map_type(type, nullptr) == 1; };
  host.map_types = {{"lru_hash", map(BPF_MAP_TYPE_LRU_HASH)},
                    {"ringbuf", map(BPF_MAP_TYPE_RINGBUF)},
                    {"lpm_trie", map(BPF_MAP_TYPE_LPM_TRIE)},
                    {"perf_event_array", map(BPF_MAP_TYPE_PERF_EVENT_ARRAY)}};
}

bool on_bpffs(fs::path path) {
  std::error_code code;
  while (!fs::exists(path, code) && path.has_parent_path() && path != path.root_path()) {
    path = path.parent_path();
  }
  struct statfs found {};
  return ::statfs(path.c_str(), &found) == 0 &&
         static_cast<std::uint64_t>(found.f_type) == BPF_FS_MAGIC;
}

std::string find_cgroup2(const std::string& configured) {
  if (!configured.empty()) {
    struct statfs found {};
    const bool is_one = ::statfs(configured.c_str(), &found) == 0 &&
                        static_cast<std::uint64_t>(found.f_type) == CGROUP2_SUPER_MAGIC;
    return is_one ? configured : "";
  }
  std::ifstream mounts("/proc/self/mounts");
  for (std::string line; std::getline(mounts, line);) {
    std::istringstream fields(line);
    std::string device;
    std::string point;
    std::string type;
    if (fields >> device >> point >> type && type == "cgroup2") return point;
  }
  return {};
}

}  // namespace

std::optional<std::uint32_t> read_sysctl(const std::string& path) {
  std::ifstream file("/proc/sys/" + path);
  std::uint32_t value = 0;
  if (!(file >> value)) return {};
  return value;
}

HostFacts probe_host(const AgentConfig& agent) {
  HostFacts host;
  probe_kernel(host);
  host.capabilities = effective_capabilities();
  host.jit = probe_jit();
  // Without capabilities every probe fails, which would tell nothing about the kernel.
  if (host.jit || ::geteuid() == 0) {
    probe_loadable(host);
    host.atomics = program_set() == ProgramSet::kCurrent;
  }
  host.pin_path_on_bpffs = on_bpffs(agent.pin_path);
  rlimit limit{};
  if (::getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
    host.memlock_bytes = limit.rlim_cur;
  }
  host.cgroup2 = find_cgroup2(agent.cgroup);
  std::error_code code;
  host.executable = fs::read_symlink("/proc/self/exe", code).string();
  const auto flag = [](const std::string& path) -> std::optional<bool> {
    const auto value = read_sysctl(path);
    if (!value) return {};
    return *value != 0;
  };
  host.forwarding_v4 = flag("net/ipv4/ip_forward");
  host.forwarding_v6 = flag("net/ipv6/conf/all/forwarding");
  return host;
}

}  // namespace petrel
