// SPDX-License-Identifier: MIT
// DataPath: the BPF programs and maps of one agent: loaded, pinned, attached, and removed again.
//
// XDP links and maps are pinned under agent.pin_path, so that packets keep flowing when the agent
// dies. An agent that starts on such pins takes the maps over and replaces the program in place; so
// does a second DataPath of the same agent, when a reload needs larger maps or other constants. XDP
// is never detached between. The socket sensor is not pinned: it ends with its DataPath.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "base/unique_fd.hpp"
#include "config/config.hpp"
#include "maps/grown_map.hpp"
#include "maps/layout.hpp"

struct balancer_bpf;
struct sensor_bpf;
struct bpf_link;

namespace petrel {

struct DestroyBalancer {
  void operator()(balancer_bpf* skeleton) const;
};
struct DestroySensor {
  void operator()(sensor_bpf* skeleton) const;
};
struct DestroyLink {
  void operator()(bpf_link* link) const;
};
using BalancerSkeleton = std::unique_ptr<balancer_bpf, DestroyBalancer>;

// Not thread-safe but for what says otherwise.
class DataPath {
 public:
  // Loads, and pins what was not pinned; attaches nothing, and changes nothing that is in force. A
  // pinned array that is too small is to be replaced by a larger one when attach_xdp() is called;
  // tables of flows keep their size. On any thread. Errors: kMissing (rights, kernel features),
  // kConflict (pins of another layout).
  static Result<DataPath> load(const Config& config, const MapSizes& sizes);

  DataPath(DataPath&&) noexcept;
  DataPath& operator=(DataPath&&) noexcept;
  ~DataPath();  // without remove(): pins stay, XDP goes on

  // The configuration needs no other maps than these, and no other constants in the programs.
  bool suits(const Config& config, const MapSizes& sizes) const;

  // By a map's name; -1 and 0 if there is none of that name.
  int map_fd(std::string_view name) const;
  std::uint32_t map_entries(std::string_view name) const;

  std::uint32_t secret() const { return secret_; }  // of half_open's hash; belongs into `control`

  // True if the maps were taken over from an earlier agent.
  bool adopted() const { return adopted_; }

  // Puts the balancer in force on each interface of the configuration, in the place of the one that
  // is there if it is ours, and takes it off interfaces that the configuration has no longer. Maps
  // that were too small hand over to the larger ones meanwhile. All or nothing: after an error the
  // earlier program runs on its own maps everywhere. kConflict if another XDP program is there.
  Result<void> attach_xdp(const AgentConfig& agent);

  // `sees_segments`: with the programs that sockets need to tell of requests. False: not all of it
  // could be attached; why is in degraded().
  bool attach_sensor(const AgentConfig& agent, bool sees_segments);
  void detach_sensor();

  // Once, after attach_xdp(): what per-CPU counters counted meanwhile in maps that were replaced, for
  // their readers.
  std::vector<GrownMap> take_grown() { return std::exchange(grown_, {}); }

  // A second copy of the balancer, which also copies packets to `taps`. On any thread. kMissing: the
  // programs for this kernel have none (before 5.12).
  Result<BalancerSkeleton> load_tap() const;
  // Puts it in the balancer's place on each interface, and back. stop_tap() does nothing without.
  Result<void> start_tap(BalancerSkeleton tap);
  void stop_tap();
  bool tapping() const;

  // Sends the client's SYN of a half-open flow to another backend than it waits for, if it still does
  // (bpf/hedge.bpf.h). kMissing: the kernel has no live frames (before 5.18).
  Result<void> hedge(const bpf::hedge_wish& wish) const;

  // What the kernel would not give; what the pinned tables have otherwise than configured. One line
  // each.
  const std::vector<std::string>& degraded() const { return degraded_; }
  const std::vector<std::string>& warnings() const { return warnings_; }

  // Detaches everything and unpins it.
  void remove();

 private:
  DataPath();
  int balancer_fd() const;
  void note_old_kernel();
  Result<void> pin_parts() const;
  void keep_parts() const;
  Result<void> shape_maps(const Config& config, const MapSizes& sizes);
  template <class Constants>
  void set_label_constants(Constants& constants) const;
  void set_constants(balancer_bpf* balancer) const;
  void attach_sensor_programs(const std::string& cgroup);
  Result<void> hand_over();
  void detach_others(const AgentConfig& agent);

  struct Skeletons;
  std::unique_ptr<Skeletons> skeletons_;
  std::string pin_path_;
  AgentConfig agent_;  // as loaded for
  std::vector<GrownMap> grown_;
  std::vector<UniqueFd> xdp_links_;
  std::uint32_t secret_ = 0;
  bool adopted_ = false;
  std::vector<std::string> degraded_;
  std::vector<std::string> warnings_;
};

// Removes the pins and hooks that an agent left under pin_path (killed, or stopped with --keep).
// True if there was anything.
bool remove_pins(const std::string& pin_path);

// The mount point of cgroup v2, or "".
std::string find_cgroup2();

}  // namespace petrel
