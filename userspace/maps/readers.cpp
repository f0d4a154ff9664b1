// SPDX-License-Identifier: MIT
#include "maps/readers.hpp"

#include <bpf/bpf.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "maps/bpf_error.hpp"

namespace petrel {
namespace {

constexpr int kNoBatch = 524;  // ENOTSUPP, which has no name in userspace

// Counters come first in both structs, all u64; what follows them is added by kind.
template <class T>
void add_words(T& sum, const T& one, std::size_t words) {
  auto* to = reinterpret_cast<std::uint64_t*>(&sum);
  const auto* from = reinterpret_cast<const std::uint64_t*>(&one);
  for (std::size_t i = 0; i < words; ++i) to[i] += from[i];
}

void add_backend(bpf::backend_stats& sum, const bpf::backend_stats& one) {
  constexpr std::size_t kWords = offsetof(bpf::backend_stats, socket_srtt_us) / 8;
  add_words(sum, one, kWords);
  sum.socket_srtt_us = std::max(sum.socket_srtt_us, one.socket_srtt_us);  // not a count
  for (std::size_t i = 0; i < HISTOGRAM_BUCKETS; ++i) {
    sum.connect_histogram[i] += one.connect_histogram[i];
    sum.response_histogram[i] += one.response_histogram[i];
  }
  for (std::size_t i = 0; i < WAITING_SLOTS; ++i) {
    sum.waiting_syn[i] += one.waiting_syn[i];
    sum.waiting[i] += one.waiting[i];
  }
}

void add_service(bpf::service_stats& sum, const bpf::service_stats& one) {
  add_words(sum, one, sizeof(bpf::service_stats) / 8);
}

void add_count(std::uint64_t& sum, const std::uint64_t& one) { sum += one; }

}  // namespace

template <class T>
PerCpuReader<T>::PerCpuReader(int map_fd, std::uint32_t entries, Add add)
    : map_fd_(map_fd),
      entries_(entries),
      cpus_(static_cast<std::size_t>(libbpf_num_possible_cpus())),
      stride_((sizeof(T) + 7) / 8 * 8),
      add_(add),
      keys_(entries),
      raw_(std::size_t{entries} * cpus_ * stride_),
      sums_(entries) {}

template <class T>
Result<void> PerCpuReader<T>::read_raw() {
  if (batch_) {
    std::uint32_t count = entries_;
    std::uint32_t cursor = 0;
    LIBBPF_OPTS(bpf_map_batch_opts, options);
    const int rc = bpf_map_lookup_batch(map_fd_, nullptr, &cursor, keys_.data(), raw_.data(),
                                        &count, &options);
    if (rc == 0 || rc == -ENOENT) return {};
    if (rc != -EINVAL && rc != -kNoBatch && rc != -EOPNOTSUPP) {
      return bpf_error(rc, "read per-CPU array");
    }
    batch_ = false;  // before 5.13: key by key
  }
  for (std::uint32_t key = 0; key < entries_; ++key) {
    const int rc = bpf_map_lookup_elem(map_fd_, &key, raw_.data() + key * cpus_ * stride_);
    if (rc != 0) return bpf_error(rc, "read per-CPU array");
  }
  return {};
}

template <class T>
Result<const std::vector<T>*> PerCpuReader<T>::read() {
  if (auto raw = read_raw(); !raw) return raw.error();
  for (std::uint32_t key = 0; key < entries_; ++key) {
    sums_[key] = T{};
    for (std::size_t cpu = 0; cpu < cpus_; ++cpu) {
      add_(sums_[key],
           *reinterpret_cast<const T*>(raw_.data() + (key * cpus_ + cpu) * stride_));
    }
  }
  return &sums_;
}

template class PerCpuReader<bpf::backend_stats>;
template class PerCpuReader<bpf::service_stats>;
template class PerCpuReader<std::uint64_t>;

PerCpuReader<bpf::backend_stats> backend_stats_reader(int map_fd, std::uint32_t entries) {
  return {map_fd, entries, add_backend};
}
PerCpuReader<bpf::service_stats> service_stats_reader(int map_fd, std::uint32_t entries) {
  return {map_fd, entries, add_service};
}
PerCpuReader<std::uint64_t> verdict_reader(int map_fd) {
  return {map_fd, bpf::VERDICTS, add_count};
}

Result<EventReader> EventReader::open(int map_fd, Handler handler) {
  EventReader reader;
  reader.handler_ = std::make_unique<Handler>(std::move(handler));
  const auto on_sample = [](void* context, void* data, std::size_t bytes) {
    if (bytes >= sizeof(bpf::event)) {
      (*static_cast<Handler*>(context))(*static_cast<const bpf::event*>(data));
    }
    return 0;
  };
  reader.buffer_.reset(ring_buffer__new(map_fd, on_sample, reader.handler_.get(), nullptr));
  if (!reader.buffer_) return bpf_error(-errno, "open events ring buffer");
  return reader;
}

Result<std::size_t> EventReader::drain() {
  const int rc = ring_buffer__consume(buffer_.get());
  if (rc < 0) return bpf_error(rc, "read events");
  return static_cast<std::size_t>(rc);
}

Result<void> for_each_connection(
    int map_fd,
    const std::function<void(const bpf::connection_key&, const bpf::connection&)>& visit) {
  constexpr std::uint32_t kBatch = 4096;
  std::vector<bpf::connection_key> keys(kBatch);
  std::vector<bpf::connection> values(kBatch);
  std::uint64_t cursor[2] = {};  // opaque: a bucket number in hash maps
  LIBBPF_OPTS(bpf_map_batch_opts, options);
  for (bool first = true;; first = false) {
    std::uint32_t count = kBatch;
    const int rc = bpf_map_lookup_batch(map_fd, first ? nullptr : &cursor[0], &cursor[0],
                                        keys.data(), values.data(), &count, &options);
    if (rc != 0 && rc != -ENOENT) return bpf_error(rc, "read connections");
    for (std::uint32_t i = 0; i < count; ++i) visit(keys[i], values[i]);
    if (rc == -ENOENT) return {};  // the last batch
  }
}

}  // namespace petrel
