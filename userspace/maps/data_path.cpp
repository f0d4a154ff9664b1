// SPDX-License-Identifier: MIT
#include "maps/data_path.hpp"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <net/if.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "balancer.skel.h"
#include "maps/bpf_error.hpp"
#include "sensor.skel.h"

namespace petrel {
namespace fs = std::filesystem;
namespace {

struct DestroyBalancer {
  void operator()(balancer_bpf* skeleton) const { balancer_bpf__destroy(skeleton); }
};
struct DestroySensor {
  void operator()(sensor_bpf* skeleton) const { sensor_bpf__destroy(skeleton); }
};

constexpr std::string_view kScratchMap = "new_connection";  // private to the program

std::string links_path(const std::string& pin_path) { return pin_path + "/links"; }

std::string xdp_pin(const std::string& pin_path, const std::string& interface) {
  std::string name = interface;
  for (char& c : name) {
    if (c == '.') c = '_';  // bpffs refuses names with a dot
  }
  return links_path(pin_path) + "/xdp_" + name;
}

void size_maps(bpf_object* object, const Config& config, const MapSizes& sizes) {
  const std::pair<const char*, std::uint32_t> entries[] = {
      {"backends", sizes.backends},       {"weights", sizes.backends},
      {"backend_stats", sizes.backends},  {"inflight", sizes.backends},
      {"service_stats", sizes.services},  {"ring", sizes.ring},
      {"clients", config.agent.max_clients}, {"connections", config.agent.max_connections},
  };
  for (const auto& [name, count] : entries) {
    bpf_map__set_max_entries(bpf_object__find_map_by_name(object, name), count);
  }
}

// Internal maps (.rodata, .bss) belong to one load of the program and are not pinned.
bool is_shared(const bpf_map* map) {
  const std::string_view name = bpf_map__name(map);
  return name.find('.') == std::string_view::npos && name != kScratchMap;
}

Result<void> set_pin_paths(bpf_object* object, const std::string& pin_path) {
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, object) {
    if (!is_shared(map)) continue;
    const std::string path = pin_path + "/" + bpf_map__name(map);
    if (const int rc = bpf_map__set_pin_path(map, path.c_str()); rc != 0) {
      return bpf_error(rc, "pin map at " + path);
    }
  }
  return {};
}

Result<void> make_pin_directories(const std::string& pin_path) {
  std::error_code code;
  fs::create_directories(links_path(pin_path), code);
  if (code) {
    return bpf_error(code.value(), "create pin directory " + pin_path +
                                       " (is a bpffs mounted? mount -t bpf bpf /sys/fs/bpf)");
  }
  fs::permissions(pin_path, fs::perms::owner_all, code);  // 0700; bpffs allows it
  return {};
}

Error load_error(int rc, const std::string& pin_path) {
  // libbpf answers EINVAL when a pinned map of the same name has other parameters.
  if (rc == -EINVAL && fs::exists(pin_path + "/connections")) {
    return Error(ExitCode::kConflict,
                 "load balancer: the maps pinned under " + pin_path +
                     " have another layout or size than this configuration needs: remove them "
                     "with `petrel detach` (established flows are then placed anew)");
  }
  return bpf_error(rc, "load balancer");
}

}  // namespace

struct DataPath::Skeletons {
  std::unique_ptr<balancer_bpf, DestroyBalancer> balancer;
  std::unique_ptr<sensor_bpf, DestroySensor> sensor;
};

DataPath::DataPath() : skeletons_(std::make_unique<Skeletons>()) {}
DataPath::DataPath(DataPath&&) noexcept = default;
DataPath& DataPath::operator=(DataPath&&) noexcept = default;
DataPath::~DataPath() = default;

Result<DataPath> DataPath::load(const Config& config, const MapSizes& sizes) {
  capture_libbpf_log();
  DataPath path;
  path.pin_path_ = config.agent.pin_path;
  path.adopted_ = fs::exists(path.pin_path_ + "/connections");
  if (auto made = make_pin_directories(path.pin_path_); !made) return made.error();

  auto& balancer = path.skeletons_->balancer;
  balancer.reset(balancer_bpf__open());
  if (!balancer) return bpf_error(-errno, "open balancer object");
  const auto ns = [](std::chrono::milliseconds ms) {
    return static_cast<std::uint64_t>(std::chrono::nanoseconds(ms).count());
  };
  balancer->rodata->retry_window_ns = ns(config.agent.retry_window);
  balancer->rodata->handshake_timeout_ns = ns(config.agent.handshake_timeout);
  size_maps(balancer->obj, config, sizes);
  if (auto pinned = set_pin_paths(balancer->obj, path.pin_path_); !pinned) return pinned.error();
  if (const int rc = balancer_bpf__load(balancer.get()); rc != 0) {
    Error error = load_error(rc, path.pin_path_);
    if (!path.adopted_) remove_pins(path.pin_path_);
    return error;
  }
  return path;
}

int DataPath::map_fd(std::string_view name) const {
  return bpf_object__find_map_fd_by_name(skeletons_->balancer->obj, std::string(name).c_str());
}

int DataPath::balancer_fd() const {
  return bpf_program__fd(skeletons_->balancer->progs.petrel_balancer);
}

Result<void> DataPath::attach(const AgentConfig& agent) {
  for (const std::string& interface : agent.interfaces) {
    if (auto attached = attach_xdp(interface, agent.xdp_mode); !attached) {
      return attached.error().within("attach balancer to " + interface);
    }
  }
  if (agent.socket_sensor) attach_sensor(agent);
  return {};
}

Result<void> DataPath::attach_xdp(const std::string& interface, XdpMode mode) {
  const unsigned int ifindex = if_nametoindex(interface.c_str());
  if (ifindex == 0) return Error::from_errno(errno, "find interface");
  const std::string pin = xdp_pin(pin_path_, interface);

  UniqueFd link(bpf_obj_get(pin.c_str()));
  if (link) {
    if (bpf_link_update(link.get(), balancer_fd(), nullptr) == 0) {
      xdp_links_.push_back(std::move(link));
      return {};
    }
    ::unlink(pin.c_str());  // its interface is gone (ENOLINK), or it is none of ours
  }
  LIBBPF_OPTS(bpf_link_create_opts, options);
  if (mode == XdpMode::kNative) options.flags = XDP_FLAGS_DRV_MODE;
  if (mode == XdpMode::kGeneric) options.flags = XDP_FLAGS_SKB_MODE;
  link.reset(bpf_link_create(balancer_fd(), static_cast<int>(ifindex), BPF_XDP, &options));
  if (!link && errno == EBUSY) {
    return Error(ExitCode::kConflict, "another XDP program is attached: see `bpftool net show dev " +
                                          interface + "`");
  }
  if (!link) return bpf_error(-errno, "create XDP link");
  if (bpf_obj_pin(link.get(), pin.c_str()) != 0) return bpf_error(-errno, "pin link at " + pin);
  xdp_links_.push_back(std::move(link));
  return {};
}

void DataPath::attach_sensor(const AgentConfig& agent) {
  auto& sensor = skeletons_->sensor;
  sensor.reset(sensor_bpf__open());
  if (!sensor) {
    degraded_.push_back("socket sensor: " + bpf_error(-errno, "open").message());
    return;
  }
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, sensor->obj) {
    const int fd = is_shared(map) ? map_fd(bpf_map__name(map)) : -1;
    if (fd >= 0) bpf_map__reuse_fd(map, fd);
  }
  if (const int rc = sensor_bpf__load(sensor.get()); rc != 0) {
    degraded_.push_back("socket sensor: " + bpf_error(rc, "load").message());
    sensor.reset();
    return;
  }
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, sensor->obj) {
    if (bpf_program__type(program) == BPF_PROG_TYPE_SOCK_OPS) continue;
    bpf_link* link = bpf_program__attach(program);
    if (link == nullptr) {
      degraded_.push_back(std::string("socket sensor: ") + bpf_program__name(program) + ": " +
                          bpf_error(-errno, "attach").message());
    }
    // The program's links end with the process: nothing has to be remembered.
  }
  const std::string cgroup = agent.cgroup.empty() ? find_cgroup2() : agent.cgroup;
  const UniqueFd directory(::open(cgroup.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory) {
    degraded_.push_back("socket sensor: no cgroup v2 is mounted: no RTT and RTO samples");
  } else if (bpf_program__attach_cgroup(sensor->progs.petrel_sockops, directory.get()) == nullptr) {
    degraded_.push_back("socket sensor: sockops on " + cgroup + ": " +
                        bpf_error(-errno, "attach").message());
  }
}

void DataPath::remove() {
  xdp_links_.clear();
  skeletons_->sensor.reset();
  remove_pins(pin_path_);
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
