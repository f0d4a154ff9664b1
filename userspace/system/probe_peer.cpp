// SPDX-License-Identifier: MIT
// The far end of a veth pair, in whichever network namespace it is.
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <sys/stat.h>

#include <filesystem>
#include <set>
#include <thread>

#include "base/unique_fd.hpp"
#include "system/probes.hpp"

namespace petrel {
namespace fs = std::filesystem;
namespace {

std::optional<PeerFacts> look_at(std::uint32_t ifindex) {
  char name[IF_NAMESIZE];
  if (::if_indextoname(ifindex, name) == nullptr) return {};
  PeerFacts peer;
  peer.name = name;
  peer.offloads = offloads_of(peer.name);
  std::uint32_t program_id = 0;
  peer.has_xdp =
      bpf_xdp_query_id(static_cast<int>(ifindex), 0, &program_id) == 0 && program_id != 0;
  return peer;
}

// In a thread of its own, which ends in the other namespace: nobody has to find the way back.
std::optional<PeerFacts> look_at_in(int namespace_fd, std::uint32_t ifindex) {
  std::optional<PeerFacts> peer;
  std::thread([&] {
    if (::setns(namespace_fd, CLONE_NEWNET) == 0) peer = look_at(ifindex);
  }).join();
  return peer;
}

bool is_number(const std::string& text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
}

// Named network namespaces first, then those that only a process holds (containers).
std::vector<std::string> namespace_files() {
  std::vector<std::string> files;
  std::error_code code;
  for (const auto& entry : fs::directory_iterator("/run/netns", code))
    files.push_back(entry.path());
  for (const auto& entry : fs::directory_iterator("/proc", code)) {
    if (is_number(entry.path().filename())) files.push_back(entry.path() / "ns/net");
  }
  return files;
}

}  // namespace

std::optional<PeerFacts> probe_peer(const RouteTables& tables, std::uint32_t ifindex,
                                    std::optional<int> namespace_id) {
  if (!namespace_id) return look_at(ifindex);
  std::set<ino_t> seen;
  for (const std::string& file : namespace_files()) {
    const UniqueFd opened(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
    struct stat status {};
    if (!opened || ::fstat(opened.get(), &status) != 0 || !seen.insert(status.st_ino).second) {
      continue;
    }
    if (tables.namespace_id(opened.get()) != namespace_id) continue;
    auto peer = look_at_in(opened.get(), ifindex);
    if (peer) peer->enter = "nsenter --net=" + file + " ";
    return peer;
  }
  return {};
}

}  // namespace petrel
