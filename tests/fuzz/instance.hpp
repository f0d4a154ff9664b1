// SPDX-License-Identifier: MIT
// Instance: one loaded copy of the balancer with its maps, for packets one at a time.
//
// Neither attached nor pinned. Packets reach the balancer through dirty.bpf.c, so that what is not
// theirs around them is the given pattern. To be used by one thread, which stays on one CPU.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "bpf/types.h"

struct balancer_bpf;
struct dirty_bpf;

namespace petrel::fuzz {

struct InstanceOptions {
  std::uint64_t pattern = 0;
  bool tap_on = false;  // last_tap() tells what was decided
  std::uint64_t failover_after_ns = 0;
  std::uint32_t services = 2;       // highest id + 1
  std::uint32_t backends = 2;       // the same
  std::uint32_t ring_slots = 2;     // of all rings together
  std::uint32_t half_open = 1024;   // a power of two
  std::uint32_t connections = 8192;
};

struct Ran {
  int action = -1;
  std::size_t bytes = 0;  // of `out` that are used
};

class Instance {
 public:
  explicit Instance(const InstanceOptions& options) : options_(options) {}
  ~Instance();
  Instance(const Instance&) = delete;
  Instance& operator=(const Instance&) = delete;

  // "" or what failed, with the errno's text; `missing_right()` then says if root would help.
  std::string load();
  bool missing_right() const { return missing_right_; }

  Ran run(std::span<const std::uint8_t> in, std::span<std::uint8_t> out);
  bpf::tap_header last_tap();  // of the packet that ran last

  void forget_flows();  // what packets have left in the maps, counters not
  // By service id * VERDICTS + verdict, summed over the CPUs.
  std::vector<std::uint64_t> verdicts();
  bpf::backend_stats backend_stats(std::uint32_t id);  // summed likewise

  // A map by its name; throws std::runtime_error where the kernel refuses.
  void update(const char* map, const void* key, const void* value);
  bool lookup(const char* map, const void* key, void* value);  // false: no such entry
  template <class Key>
  void erase_all(const char* map);

  // The maps themselves.
  std::span<std::uint64_t> ring;  // a slot is a word of 32 bits, but 8 bytes from the next
  std::span<bpf::half_open> half_open;
  std::span<bpf::inflight> inflight;
  std::span<bpf::inflight> service_inflight;
  std::span<bpf::control> control;
  std::span<bpf::address_filter> address_filter;

 private:
  template <class T>
  bool map_memory(const char* map, std::span<T>* out);
  template <class Word>
  std::vector<Word> lookup_per_cpu(const char* map, std::uint32_t key, std::size_t bytes);
  int fd(const char* map) const;
  std::string failed(const char* what, int rc);

  InstanceOptions options_;
  balancer_bpf* balancer_ = nullptr;
  dirty_bpf* dirty_ = nullptr;
  int entry_fd_ = -1;
  int tap_fd_ = -1;
  std::vector<bpf::tap_header> taps_;  // one a CPU
  std::vector<std::pair<void*, std::size_t>> mappings_;
  bool missing_right_ = false;
};

}  // namespace petrel::fuzz
