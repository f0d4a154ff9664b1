// SPDX-License-Identifier: MIT
#include "maps/data_path.hpp"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <random>
#include <set>
#include <thread>

#include "balancer.skel.h"
#include "maps/attachment.hpp"
#include "maps/bpf_error.hpp"
#include "maps/driver.hpp"
#include "maps/programs.hpp"
#include "sensor.skel.h"

namespace petrel {
namespace fs = std::filesystem;

void DestroyBalancer::operator()(balancer_bpf* skeleton) const { balancer_bpf__destroy(skeleton); }
void DestroySensor::operator()(sensor_bpf* skeleton) const { sensor_bpf__destroy(skeleton); }
void DestroyLink::operator()(bpf_link* link) const { bpf_link__destroy(link); }

namespace {

// Work space of one program: not shared, not pinned.
constexpr std::array<std::string_view, 6> kPrivateMaps = {
    "label_work", "new_connection", "score_work", "scratch", "segments", "tap_state"};
constexpr std::string_view kRoom = "room_";  // the same, of the programs of old kernels

// Which programs the balancer of old kernels goes on to. Of one load, yet pinned: without a reference
// from outside the kernel empties such a map, and all packets would pass.
constexpr const char* kParts = "parts";
constexpr const char* kNext = "-next";

// What an LRU map needs beyond its entries: each CPU keeps up to this many free ones to itself.
constexpr std::uint32_t kLruFreeOfCpu = 128;

// A program that was replaced may still be running on another CPU, for some microseconds.
constexpr std::chrono::milliseconds kLastPacket{2};

// How large a map is to be, and what it is called where that is configured.
struct Wanted {
  std::string_view name;
  std::uint32_t least = 0;    // an array is replaced by a larger one below this
  std::uint32_t entries = 0;  // where there is none yet
  const char* setting = nullptr;  // tables of flows: never replaced
};

std::array<Wanted, 20> wanted_maps(const AgentConfig& agent, const MapSizes& sizes) {
  const std::uint32_t backends = std::min<std::uint32_t>(with_headroom(sizes.backends), MAX_BACKENDS);
  const std::uint32_t services = std::min<std::uint32_t>(with_headroom(sizes.services), MAX_SERVICES);
  const std::uint32_t spare =
      kLruFreeOfCpu * static_cast<std::uint32_t>(libbpf_num_possible_cpus());
  return {{{"backends", sizes.backends, backends},
           {"weights", sizes.backends, backends},
           {"backend_stats", sizes.backends, backends},
           {"inflight", sizes.backends, backends},
           {"backend_views", sizes.backends, backends},
           {"kernel_risks", sizes.backends, backends},
           {"service_stats", sizes.services, services},
           {"service_views", sizes.services, services},
           {"svc_inflight", sizes.services, services},
           {"budgets", sizes.services, services},
           {"admissions", sizes.services, services},
           {"retry_counts", sizes.services, services},
           {"retry_odds", sizes.services, services},
           {"verdicts", sizes.services * bpf::VERDICTS, services * bpf::VERDICTS},
           // Rings change their length with the number of backends, and lie beside the old ones then.
           {"ring", sizes.ring, with_headroom(2 * sizes.ring)},
           {"clients", 0, agent.max_clients, "max_clients"},
           {"half_open", 0, agent.max_half_open, "max_half_open"},
           {"pending", 0, agent.max_half_open / 2, "max_half_open"},
           {"schedules", 0, agent.max_half_open / 2, "max_half_open"},
           {"connections", 0, agent.max_connections + spare, "max_connections"}}};
}

// Internal maps (.rodata, .bss) belong to one load of the program and are not pinned.
bool is_shared(const bpf_map* map) {
  const std::string_view name = bpf_map__name(map);
  return name.find('.') == std::string_view::npos && !name.starts_with(kRoom) && name != kParts &&
         std::ranges::find(kPrivateMaps, name) == kPrivateMaps.end();
}

// Drawn once for a set of maps: who takes half_open over must find what is in it.
std::uint32_t secret_of(const std::string& pin_path) {
  const UniqueFd control(bpf_obj_get((pin_path + "/control").c_str()));
  const std::uint32_t zero = 0;
  bpf::control value{};
  if (control && bpf_map_lookup_elem(control.get(), &zero, &value) == 0 && value.secret != 0) {
    return value.secret;
  }
  return std::random_device{}() | 1;
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

Error other_layout(const std::string& pin) {
  return Error(ExitCode::kConflict,
               "the map pinned at " + pin +
                   " has another layout than this petrel's: remove it with `petrel detach` "
                   "(established flows are then placed anew)");
}

bool same_layout(const bpf_map* map, const bpf_map_info& pinned) {
  return pinned.type == bpf_map__type(map) && pinned.key_size == bpf_map__key_size(map) &&
         pinned.value_size == bpf_map__value_size(map);
}

// See send_back() in bpf/rewrite.bpf.h.
bool needs_redirect_back(const AgentConfig& agent) {
  return std::ranges::any_of(agent.interfaces,
                             [](const std::string& name) { return driver_of(name) == "veth"; });
}

bool same_constants(const AgentConfig& left, const AgentConfig& right) {
  return left.retry_window == right.retry_window &&
         left.handshake_timeout == right.handshake_timeout &&
         left.score_in_kernel == right.score_in_kernel &&
         needs_redirect_back(left) == needs_redirect_back(right) &&
         std::memcmp(&left.encap_source_v4, &right.encap_source_v4, sizeof(bpf::address)) == 0 &&
         std::memcmp(&left.encap_source_v6, &right.encap_source_v6, sizeof(bpf::address)) == 0;
}

void reuse_maps(bpf_object* object, const DataPath& path) {
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, object) {
    const int fd = is_shared(map) ? path.map_fd(bpf_map__name(map)) : -1;
    if (fd >= 0) bpf_map__reuse_fd(map, fd);
  }
}

}  // namespace

struct DataPath::Skeletons {
  BalancerSkeleton balancer;
  BalancerSkeleton tap;  // only while somebody listens
  std::unique_ptr<sensor_bpf, DestroySensor> sensor;
  std::vector<std::unique_ptr<bpf_link, DestroyLink>> sensor_links;
};

DataPath::DataPath() : skeletons_(std::make_unique<Skeletons>()) {}
DataPath::DataPath(DataPath&&) noexcept = default;
DataPath& DataPath::operator=(DataPath&&) noexcept = default;
DataPath::~DataPath() = default;

Result<DataPath> DataPath::load(const Config& config, const MapSizes& sizes) {
  capture_libbpf_log();
  DataPath path;
  path.agent_ = config.agent;
  path.pin_path_ = config.agent.pin_path;
  path.adopted_ = fs::exists(path.pin_path_ + "/connections");
  path.secret_ = secret_of(path.pin_path_);
  if (auto made = make_pin_directories(path.pin_path_); !made) return made.error();

  auto& balancer = path.skeletons_->balancer;
  balancer.reset(open_balancer());
  if (!balancer) return bpf_error(-errno, "open balancer object");
  if (auto shaped = path.shape_maps(config, sizes); !shaped) {
    return shaped.error().within("load balancer");
  }
  path.set_constants(balancer.get());
  if (program_set() == ProgramSet::kOld) path.note_old_kernel();
  if (const int rc = balancer_bpf__load(balancer.get()); rc != 0) {
    // libbpf answers EINVAL when a pinned map of the same name has other parameters.
    Error error = rc == -EINVAL && path.adopted_
                      ? other_layout(path.pin_path_ + "/...").within("load balancer")
                      : bpf_error(rc, "load balancer");
    if (!path.adopted_) remove_pins(path.pin_path_);
    return error;
  }
  return path;
}

void DataPath::note_old_kernel() {
  degraded_.emplace_back("balancer: no atomic operations that answer before Linux 5.12: what two CPUs "
                         "end at once may be counted twice; no tap");
  if (agent_.score_in_kernel) {
    degraded_.emplace_back("balancer: agent.score_in_kernel needs Linux 5.12: the agent scores instead");
  }
  if (agent_.socket_sensor) {
    degraded_.emplace_back("socket sensor: tracepoints cannot read a socket's storage before Linux "
                           "5.11: resets at sockets are not seen");
  }
}

// Each shared map gets its pin and its size, or becomes one that grows.
Result<void> DataPath::shape_maps(const Config& config, const MapSizes& sizes) {
  const auto wanted = wanted_maps(config.agent, sizes);
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, skeletons_->balancer->obj) {
    if (!is_shared(map)) continue;
    const std::string name = bpf_map__name(map);
    const std::string pin = pin_path_ + "/" + name;
    const auto size = std::ranges::find(wanted, name, &Wanted::name);
    if (size != wanted.end()) bpf_map__set_max_entries(map, size->entries);
    UniqueFd pinned(bpf_obj_get(pin.c_str()));
    if (pinned) {
      bpf_map_info info{};
      std::uint32_t bytes = sizeof(info);
      const int rc = bpf_obj_get_info_by_fd(pinned.get(), &info, &bytes);
      if (rc != 0) return bpf_error(rc, "look at the map pinned at " + pin);
      if (!same_layout(map, info)) return other_layout(pin);
      if (size != wanted.end() && info.max_entries < size->least) {
        grown_.emplace_back(name, std::move(pinned));
        continue;
      }
      if (size != wanted.end() && size->setting != nullptr && info.max_entries != size->entries) {
        warnings_.push_back(name + " keeps its " + std::to_string(info.max_entries) +
                            " entries: agent." + size->setting +
                            " takes effect at a start after `petrel detach`");
      }
      if (size != wanted.end()) bpf_map__set_max_entries(map, info.max_entries);
    }
    if (const int rc = bpf_map__set_pin_path(map, pin.c_str()); rc != 0) {
      return bpf_error(rc, "pin map at " + pin);
    }
  }
  return {};
}

// Of the headers that the balancer and the sensor share.
template <class Constants>
void DataPath::set_label_constants(Constants& constants) const {
  const auto ns = [](std::chrono::milliseconds ms) {
    return static_cast<std::uint64_t>(std::chrono::nanoseconds(ms).count());
  };
  constants.retry_window_ns = ns(agent_.retry_window);
  constants.handshake_timeout_ns = ns(agent_.handshake_timeout);
  // By the tables as they are, whatever is configured.
  constants.half_open_mask = map_entries("half_open") / HALF_OPEN_WAYS - 1;
  constants.pending_mask = map_entries("pending") - 1;
  constants.schedules_mask = map_entries("schedules") - 1;
  constants.half_open_secret = secret_;
}

void DataPath::set_constants(balancer_bpf* balancer) const {
  auto* constants = balancer->rodata;
  set_label_constants(*constants);
  constants->encap_source_v4 = agent_.encap_source_v4.words_be[3];
  std::copy_n(agent_.encap_source_v6.words_be, 2, constants->encap_source_v6);
  constants->back_by_redirect = needs_redirect_back(agent_);
  constants->score_in_kernel = agent_.score_in_kernel;
}

bool DataPath::suits(const Config& config, const MapSizes& sizes) const {
  const auto wanted = wanted_maps(config.agent, sizes);
  return same_constants(config.agent, agent_) &&
         std::ranges::all_of(wanted, [this](const Wanted& size) {
           return map_entries(size.name) >= size.least;
         });
}

int DataPath::map_fd(std::string_view name) const {
  return bpf_object__find_map_fd_by_name(skeletons_->balancer->obj, std::string(name).c_str());
}

std::uint32_t DataPath::map_entries(std::string_view name) const {
  const bpf_map* map =
      bpf_object__find_map_by_name(skeletons_->balancer->obj, std::string(name).c_str());
  return map == nullptr ? 0 : bpf_map__max_entries(map);
}

int DataPath::balancer_fd() const {
  return bpf_program__fd(skeletons_->balancer->progs.petrel_balancer);
}

// --- in force -----------------------------------------------------------------------------------

Result<void> DataPath::attach_xdp(const AgentConfig& agent) {
  stop_tap();
  for (GrownMap& map : grown_) {
    if (auto copied = map.copy(map_fd(map.name())); !copied) return copied;
  }
  if (auto pinned = pin_parts(); !pinned) return pinned;
  XdpSwitch change(pin_path_, balancer_fd());
  for (const std::string& interface : agent.interfaces) {
    if (auto put = change.put(interface, agent.xdp_mode); !put) {
      return put.error().within("attach balancer to " + interface);
    }
  }
  if (auto handed = hand_over(); !handed) return handed;
  xdp_links_ = change.commit();
  keep_parts();
  detach_others(agent);
  return {};
}

// Beside those in force, until the program that goes on to them is. Nothing where there are none.
Result<void> DataPath::pin_parts() const {
  const std::string next = pin_path_ + "/" + kParts + kNext;
  std::error_code code;
  if (map_fd(kParts) < 0) return {};
  fs::remove(next, code);  // of a start that came no further
  const int rc = bpf_obj_pin(map_fd(kParts), next.c_str());
  if (rc != 0) return bpf_error(rc, "pin map at " + next);
  return {};
}

// Where the name cannot be changed the map is held by its other one.
void DataPath::keep_parts() const {
  const std::string parts = pin_path_ + "/" + kParts;
  std::error_code code;
  if (map_fd(kParts) >= 0) fs::rename(parts + kNext, parts, code);
}

// The larger maps take the place of those that were too small.
Result<void> DataPath::hand_over() {
  for (const GrownMap& map : grown_) {
    if (auto pinned = map.pin(map_fd(map.name()), pin_path_); !pinned) return pinned;
  }
  if (!grown_.empty()) std::this_thread::sleep_for(kLastPacket);
  for (GrownMap& map : grown_) {
    if (auto settled = map.settle(map_fd(map.name())); !settled) return settled;
  }
  return {};
}

void DataPath::detach_others(const AgentConfig& agent) {
  std::set<std::string> wanted;
  for (const std::string& interface : agent.interfaces) wanted.insert(xdp_pin(pin_path_, interface));
  std::error_code code;
  for (const auto& entry : fs::directory_iterator(links_path(pin_path_), code)) {
    if (!wanted.contains(entry.path())) fs::remove(entry.path(), code);
  }
}

void DataPath::detach_sensor() {
  skeletons_->sensor_links.clear();
  skeletons_->sensor.reset();
}

bool DataPath::attach_sensor(const AgentConfig& agent, bool sees_segments) {
  detach_sensor();
  auto& sensor = skeletons_->sensor;
  sensor.reset(open_sensor());
  if (!sensor) {
    degraded_.push_back("socket sensor: " + bpf_error(-errno, "open").message());
    return false;
  }
  set_label_constants(*sensor->rodata);
  bpf_program__set_autoload(sensor->progs.petrel_sent, sees_segments);
  bpf_program__set_autoload(sensor->progs.petrel_received, sees_segments);
  reuse_maps(sensor->obj, *this);
  if (const int rc = sensor_bpf__load(sensor.get()); rc != 0) {
    degraded_.push_back("socket sensor: " + bpf_error(rc, "load").message());
    sensor.reset();
    return false;
  }
  const std::size_t degraded = degraded_.size();
  attach_sensor_programs(agent.cgroup.empty() ? find_cgroup2() : agent.cgroup);
  return degraded_.size() == degraded;
}

// Segments last, and after the tracepoints: what is begun is also ended.
void DataPath::attach_sensor_programs(const std::string& cgroup) {
  const auto keep = [&](bpf_link* link, const std::string& what) {
    if (link != nullptr) {
      skeletons_->sensor_links.emplace_back(link);
    } else {
      degraded_.push_back("socket sensor: " + what + ": " + bpf_error(-errno, "attach").message());
    }
  };
  const UniqueFd directory(::open(cgroup.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory) {
    degraded_.push_back("socket sensor: no cgroup v2 is mounted: no socket is seen");
    return;
  }
  auto& programs = skeletons_->sensor->progs;
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, skeletons_->sensor->obj) {
    if (bpf_program__type(program) != BPF_PROG_TYPE_TRACING || !bpf_program__autoload(program)) continue;
    keep(bpf_program__attach(program), bpf_program__name(program));
  }
  for (bpf_program* seeing : {programs.petrel_sent, programs.petrel_received,
                              programs.petrel_sockops}) {
    if (!bpf_program__autoload(seeing)) continue;
    keep(bpf_program__attach_cgroup(seeing, directory.get()),
         bpf_program__name(seeing) + std::string(" on ") + cgroup);
  }
}

// --- the tap ------------------------------------------------------------------------------------

Result<void> DataPath::hedge(const bpf::hedge_wish& wish) const {
  // Longer than any SYN: a program can shorten a frame at its front, and has little room to grow.
  std::array<std::byte, 128> frame{};
  std::memcpy(frame.data() + HEDGE_WISH_OFFSET, &wish, sizeof(wish));
  bpf_test_run_opts options{};
  options.sz = sizeof(options);
  options.data_in = frame.data();
  options.data_size_in = static_cast<std::uint32_t>(frame.size());
  options.repeat = 1;
  options.batch_size = 1;
  options.flags = BPF_F_TEST_XDP_LIVE_FRAMES;
  const int program = bpf_program__fd(skeletons_->balancer->progs.petrel_hedge);
  const int rc = bpf_prog_test_run_opts(program, &options);
  if (rc == -EINVAL || rc == -ENOTSUP) {
    return Error(ExitCode::kMissing, "no SYN can be hedged: the kernel runs no live frames (Linux 5.18)");
  }
  if (rc != 0) return bpf_error(rc, "hedge a SYN");
  return {};
}

Result<BalancerSkeleton> DataPath::load_tap() const {
  if (program_set() == ProgramSet::kOld) {
    return Error(ExitCode::kMissing, "the balancer for this kernel has no tap: it needs Linux 5.12");
  }
  BalancerSkeleton tap(open_balancer());
  if (!tap) return bpf_error(-errno, "open balancer object");
  set_constants(tap.get());
  tap->rodata->tap_on = true;
  bpf_program__set_autoload(tap->progs.petrel_hedge, false);
  reuse_maps(tap->obj, *this);
  if (const int rc = balancer_bpf__load(tap.get()); rc != 0) {
    return bpf_error(rc, "load the tapping balancer");
  }
  return tap;
}

Result<void> DataPath::start_tap(BalancerSkeleton tap) {
  stop_tap();
  skeletons_->tap = std::move(tap);
  const int program = bpf_program__fd(skeletons_->tap->progs.petrel_balancer);
  for (const UniqueFd& link : xdp_links_) {
    const int rc = bpf_link_update(link.get(), program, nullptr);
    if (rc == 0 || rc == -ENOLINK) continue;  // its interface has gone
    stop_tap();
    return bpf_error(rc, "put the tapping balancer in place");
  }
  return {};
}

void DataPath::stop_tap() {
  if (!tapping()) return;
  for (const UniqueFd& link : xdp_links_) bpf_link_update(link.get(), balancer_fd(), nullptr);
  skeletons_->tap.reset();
}

bool DataPath::tapping() const { return skeletons_->tap != nullptr; }

void DataPath::remove() {
  xdp_links_.clear();
  detach_sensor();
  remove_pins(pin_path_);
}

}  // namespace petrel
