// SPDX-License-Identifier: MIT
// Reading the maps: whole arrays a call, summed over CPUs; events in order of arrival.
#pragma once

#include <bpf/libbpf.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "base/error.hpp"
#include "bpf/types.h"

namespace petrel {

// Reads a per-CPU array of T in one batch (key by key where the kernel has no batch for it) and
// sums each element over the CPUs by `add(T& sum, const T& one, sign)`, sign 1 or -1.
//
// A map that was replaced by a larger one got its content at one moment; what was counted between
// then and the switch is known to the reader alone, which adds it from then on.
template <class T>
class PerCpuReader {
 public:
  using Add = void (*)(T& sum, const T& one, int sign);

  PerCpuReader(int map_fd, std::uint32_t entries, Add add);

  // Adds what `earlier` adds.
  void inherit(const PerCpuReader& earlier);
  // Adds the difference of two states of one map, each as raw values of the keys from 0.
  void carry(const std::vector<std::byte>& before, const std::vector<std::byte>& after);
  // The key counts from 0 again: its element was set to zero.
  void forget(std::uint32_t key);

  // The sums as of now, by key; valid until the next read().
  Result<const std::vector<T>*> read();

 private:
  Result<void> read_raw();
  void add_raw(const std::vector<std::byte>& raw, int sign);

  int map_fd_;
  std::uint32_t entries_;
  std::size_t cpus_;
  std::size_t stride_;  // bytes of one CPU's value
  Add add_;
  bool batch_ = true;
  std::vector<std::uint32_t> keys_;
  std::vector<std::byte> raw_;
  std::vector<T> sums_;
  std::vector<T> carried_;
  bool carries_ = false;  // carried_ is not all zero: what is, is not added
};

PerCpuReader<bpf::backend_stats> backend_stats_reader(int map_fd, std::uint32_t entries);
PerCpuReader<bpf::service_stats> service_stats_reader(int map_fd, std::uint32_t entries);
PerCpuReader<bpf::retry_counts> retry_counts_reader(int map_fd, std::uint32_t entries);
// By service id * VERDICTS + verdict.
PerCpuReader<std::uint64_t> verdict_reader(int map_fd, std::uint32_t services);

// The events ring buffer: events, and records while control.recording. There is one consumer for each
// pinned map: the agent.
class EventReader {
 public:
  using Handler = std::function<void(const bpf::event&)>;
  using RecordHandler = std::function<void(const bpf::record&)>;

  static Result<EventReader> open(int map_fd, Handler handler, RecordHandler record_handler);

  // Hands one sample over by its size; one of another size is of a later version, and left out.
  struct Handlers {
    Handler on_event;
    RecordHandler on_record;

    void take(const void* sample, std::size_t bytes) const;
  };

  // Hands over what has arrived; at most about what the buffer holds. Returns how many.
  Result<std::size_t> drain();

 private:
  struct Free {
    void operator()(ring_buffer* buffer) const { ring_buffer__free(buffer); }
  };
  std::unique_ptr<Handlers> handlers_;  // libbpf keeps its address
  std::unique_ptr<ring_buffer, Free> buffer_;
};

// Goes over `connections` piece by piece, so that whoever reads a large table can do other work
// meanwhile. Entries that come or go between may be seen or not; those that stay are seen once.
class ConnectionScan {
 public:
  using Visit = std::function<void(const bpf::connection_key&, const bpf::connection&)>;

  explicit ConnectionScan(int map_fd);

  // The next piece, of some thousand entries at most; false: that was the last one.
  Result<bool> step(const Visit& visit);

 private:
  int map_fd_;
  bool first_ = true;
  std::uint64_t cursor_[2] = {};  // opaque: a bucket number in hash maps
  std::vector<bpf::connection_key> keys_;
  std::vector<bpf::connection> values_;
};

// Calls `visit` for each connection in the table; batches where the kernel has them. Entries that
// come or go meanwhile may be seen or not.
Result<void> for_each_connection(
    int map_fd, const std::function<void(const bpf::connection_key&, const bpf::connection&)>& visit);

}  // namespace petrel
