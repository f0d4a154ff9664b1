// SPDX-License-Identifier: MIT
#include "maps/attachment.hpp"

#include <bpf/bpf.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <utility>

#include "maps/bpf_error.hpp"
#include "maps/data_path.hpp"

namespace petrel {
namespace fs = std::filesystem;

namespace {

// The program that a link has now; none if it cannot be told.
UniqueFd program_of(int link) {
  bpf_link_info info{};
  std::uint32_t bytes = sizeof(info);
  if (bpf_obj_get_info_by_fd(link, &info, &bytes) != 0) return {};
  return UniqueFd(bpf_prog_get_fd_by_id(info.prog_id));
}

}  // namespace

std::string links_path(const std::string& pin_path) { return pin_path + "/links"; }

std::string xdp_pin(const std::string& pin_path, const std::string& interface) {
  std::string name = interface;
  for (char& c : name) {
    if (c == '.') c = '_';  // bpffs refuses names with a dot
  }
  return links_path(pin_path) + "/xdp_" + name;
}

XdpSwitch::~XdpSwitch() {
  for (Change& change : changes_) {
    if (change.before) {
      bpf_link_update(change.link.get(), change.before.get(), nullptr);
    } else {
      ::unlink(change.pin.c_str());
    }
  }
}

Result<void> XdpSwitch::put(const std::string& interface, XdpMode mode) {
  const unsigned int ifindex = if_nametoindex(interface.c_str());
  if (ifindex == 0) return Error::from_errno(errno, "find interface");
  const std::string pin = xdp_pin(pin_path_, interface);
  UniqueFd link(bpf_obj_get(pin.c_str()));
  if (!link) return create(static_cast<int>(ifindex), mode, interface);
  UniqueFd before = program_of(link.get());
  if (bpf_link_update(link.get(), program_fd_, nullptr) != 0) {
    ::unlink(pin.c_str());  // its interface is gone (ENOLINK), or it is none of ours
    link.reset();
    return create(static_cast<int>(ifindex), mode, interface);
  }
  changes_.push_back({std::move(link), std::move(before), pin});
  return {};
}

Result<void> XdpSwitch::create(int ifindex, XdpMode mode, const std::string& interface) {
  LIBBPF_OPTS(bpf_link_create_opts, options);
  if (mode == XdpMode::kNative) options.flags = XDP_FLAGS_DRV_MODE;
  if (mode == XdpMode::kGeneric) options.flags = XDP_FLAGS_SKB_MODE;
  UniqueFd link(bpf_link_create(program_fd_, ifindex, BPF_XDP, &options));
  if (!link && errno == EBUSY) {
    return Error(ExitCode::kConflict, "another XDP program is attached: see `bpftool net show dev " +
                                          interface + "`");
  }
  if (!link) return bpf_error(-errno, "create XDP link");
  const std::string pin = xdp_pin(pin_path_, interface);
  if (bpf_obj_pin(link.get(), pin.c_str()) != 0) return bpf_error(-errno, "pin link at " + pin);
  changes_.push_back({std::move(link), {}, pin});
  return {};
}

std::vector<UniqueFd> XdpSwitch::commit() {
  std::vector<UniqueFd> links;
  for (Change& change : std::exchange(changes_, {})) links.push_back(std::move(change.link));
  return links;
}

bool remove_pins(const std::string& pin_path) {
  std::error_code code;
  if (!fs::exists(pin_path, code)) return false;
  // Links first: packets must not meet a program whose maps are going.
  fs::remove_all(links_path(pin_path), code);
  fs::remove_all(pin_path, code);
  return true;
}

std::string find_cgroup2() {
  std::ifstream mounts("/proc/self/mounts");
  std::string line;
  while (std::getline(mounts, line)) {
    std::istringstream fields(line);
    std::string device, directory, type;
    if (fields >> device >> directory >> type && type == "cgroup2") return directory;
  }
  return {};
}

}  // namespace petrel
