// SPDX-License-Identifier: MIT
#include "maps/grown_map.hpp"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <numeric>

#include "bpf/types.h"
#include "maps/bpf_error.hpp"
#include "maps/mapped_array.hpp"

namespace petrel {
namespace {

struct Shape {
  bpf_map_info info{};
  std::size_t stride = 0;  // bytes of one key's value, or values, as system calls have it
  bool per_cpu = false;
  std::uint64_t flags = 0;  // of each look-up and update
};

Result<Shape> shape_of(int fd, const std::string& name) {
  Shape shape;
  std::uint32_t bytes = sizeof(shape.info);
  const int rc = bpf_obj_get_info_by_fd(fd, &shape.info, &bytes);
  if (rc != 0) return bpf_error(rc, "look at " + name);
  shape.per_cpu = shape.info.type == BPF_MAP_TYPE_PERCPU_ARRAY;
  shape.stride = shape.info.value_size;
  if (shape.per_cpu) {
    shape.stride = (shape.stride + 7) / 8 * 8 * static_cast<std::size_t>(libbpf_num_possible_cpus());
  }
  if (name == "budgets" || name == "admissions") shape.flags = BPF_F_LOCK;  // their values hold one
  return shape;
}

// Key by key, where the kernel has no batch for the map (per-CPU arrays before 5.13).
Result<std::vector<std::byte>> read_one_by_one(int fd, const Shape& shape,
                                               const std::string& name) {
  std::vector<std::byte> raw(shape.stride * shape.info.max_entries);
  for (std::uint32_t key = 0; key < shape.info.max_entries; ++key) {
    const int rc =
        bpf_map_lookup_elem_flags(fd, &key, raw.data() + key * shape.stride, shape.flags);
    if (rc != 0) return bpf_error(rc, "read " + name);
  }
  return raw;
}

Result<std::vector<std::byte>> read_all(int fd, const Shape& shape, const std::string& name) {
  std::vector<std::byte> raw(shape.stride * shape.info.max_entries);
  std::vector<std::uint32_t> keys(shape.info.max_entries);
  std::uint32_t count = shape.info.max_entries;
  std::uint32_t cursor = 0;
  LIBBPF_OPTS(bpf_map_batch_opts, options, .elem_flags = shape.flags);
  const int rc =
      bpf_map_lookup_batch(fd, nullptr, &cursor, keys.data(), raw.data(), &count, &options);
  if ((rc == 0 || rc == -ENOENT) && count == shape.info.max_entries) return raw;
  return read_one_by_one(fd, shape, name);
}

Result<void> write_all(int fd, const Shape& shape, const std::vector<std::byte>& raw,
                       const std::string& name) {
  std::vector<std::uint32_t> keys(shape.info.max_entries);
  std::iota(keys.begin(), keys.end(), 0);
  std::uint32_t count = shape.info.max_entries;
  LIBBPF_OPTS(bpf_map_batch_opts, options, .elem_flags = shape.flags);
  if (bpf_map_update_batch(fd, keys.data(), raw.data(), &count, &options) == 0) return {};
  for (const std::uint32_t key : keys) {
    const int rc = bpf_map_update_elem(fd, &key, raw.data() + key * shape.stride, shape.flags);
    if (rc != 0) return bpf_error(rc, "copy " + name);
  }
  return {};
}

Result<void> add_inflight(int fd, std::uint32_t entries, const std::vector<std::byte>& before,
                          const std::vector<std::byte>& after) {
  auto mapped = MappedArray<bpf::inflight>::open(fd, entries);
  if (!mapped) return mapped.error();
  for (std::uint32_t key = 0; key < entries; ++key) {
    bpf::inflight was, is;
    std::memcpy(&was, before.data() + key * sizeof(was), sizeof(was));
    std::memcpy(&is, after.data() + key * sizeof(is), sizeof(is));
    std::atomic_ref((*mapped)[key].requests)
        .fetch_add(is.requests - was.requests, std::memory_order_relaxed);
  }
  return {};
}

}  // namespace

Result<void> GrownMap::copy(int new_fd) {
  auto shape = shape_of(old_.get(), name_);
  if (!shape) return shape.error();
  auto raw = read_all(old_.get(), *shape, name_);
  if (!raw) return raw.error();
  before_ = std::move(*raw);
  return write_all(new_fd, *shape, before_, name_);
}

Result<void> GrownMap::pin(int new_fd, const std::string& pin_path) const {
  const std::string path = pin_path + "/" + name_;
  const std::string next = path + "_next";  // a dot is not allowed in a bpffs
  ::unlink(next.c_str());
  if (const int rc = bpf_obj_pin(new_fd, next.c_str()); rc != 0) {
    return bpf_error(rc, "pin map at " + next);
  }
  if (std::rename(next.c_str(), path.c_str()) != 0) {
    return bpf_error(-errno, "pin map at " + path);
  }
  return {};
}

Result<void> GrownMap::settle(int new_fd) {
  auto shape = shape_of(old_.get(), name_);
  if (!shape) return shape.error();
  const bool inflight = name_ == "inflight" || name_ == "svc_inflight";
  if (!inflight && !shape->per_cpu) {
    before_.clear();  // nobody but the agent wrote it
    return {};
  }
  auto raw = read_all(old_.get(), *shape, name_);
  if (!raw) return raw.error();
  after_ = std::move(*raw);
  if (!inflight) return {};
  auto added = add_inflight(new_fd, shape->info.max_entries, before_, after_);
  before_.clear();
  after_.clear();
  return added;
}

}  // namespace petrel
