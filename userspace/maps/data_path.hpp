// SPDX-License-Identifier: MIT
// DataPath: the BPF programs and maps of one agent: loaded, pinned, attached, and removed again.
//
// XDP links and maps are pinned under agent.pin_path, so that packets keep flowing when the agent
// dies; an agent that starts on such pins takes the maps over and replaces the program in place, and
// XDP is never detached between. The socket sensor is not pinned: it ends with the agent. Not
// thread-safe.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "base/unique_fd.hpp"
#include "config/config.hpp"

struct balancer_bpf;
struct sensor_bpf;

namespace petrel {

// Sizes that the configuration gives the maps, set between open and load.
struct MapSizes {
  std::uint32_t backends = 2;  // highest backend id + 1
  std::uint32_t services = 2;  // highest service id + 1
  std::uint32_t ring = 2;      // slots of both rings of all services
};

class DataPath {
 public:
  // Loads and pins; attaches nothing yet. Errors: kMissing (rights, kernel features), kConflict
  // (pins of another layout or size).
  static Result<DataPath> load(const Config& config, const MapSizes& sizes);

  DataPath(DataPath&&) noexcept;
  DataPath& operator=(DataPath&&) noexcept;
  ~DataPath();  // without remove(): pins stay, XDP goes on

  // The file descriptor of a map by its name; -1 if there is none of that name.
  int map_fd(std::string_view name) const;
  int balancer_fd() const;

  // True if the maps were taken over from an earlier agent.
  bool adopted() const { return adopted_; }

  // Attaches XDP on each interface, then the sensor. What is already attached by us is updated in
  // place. Errors: kConflict if another XDP program holds an interface. A sensor that cannot be
  // attached is no error: why is in degraded().
  Result<void> attach(const AgentConfig& agent);

  // What the kernel would not give, one line each.
  const std::vector<std::string>& degraded() const { return degraded_; }

  // Detaches everything and unpins it.
  void remove();

 private:
  DataPath();
  Result<void> attach_xdp(const std::string& interface, XdpMode mode);
  void attach_sensor(const AgentConfig& agent);

  struct Skeletons;
  std::unique_ptr<Skeletons> skeletons_;
  std::string pin_path_;
  std::vector<UniqueFd> xdp_links_;
  bool adopted_ = false;
  std::vector<std::string> degraded_;
};

// Removes the pins and hooks that an agent left under pin_path (killed, or stopped with --keep).
// True if there was anything.
bool remove_pins(const std::string& pin_path);

// The mount point of cgroup v2, or "".
std::string find_cgroup2();

}  // namespace petrel
