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
// All arithmetic is modulo the word: a difference that is added later may be below zero until then.
template <class Word>
void add_all(Word* to, const Word* from, std::size_t words, int sign) {
  const Word factor = static_cast<Word>(sign);
  for (std::size_t i = 0; i < words; ++i) to[i] += factor * from[i];
}

template <class T>
void add_words(T& sum, const T& one, std::size_t words, int sign) {
  add_all(reinterpret_cast<std::uint64_t*>(&sum), reinterpret_cast<const std::uint64_t*>(&one),
          words, sign);
}

void add_backend(bpf::backend_stats& sum, const bpf::backend_stats& one, int sign) {
  constexpr std::size_t kWords = offsetof(bpf::backend_stats, socket_srtt_us) / 8;
  add_words(sum, one, kWords, sign);
  sum.socket_srtt_us = std::max(sum.socket_srtt_us, one.socket_srtt_us);  // not a count
  add_all(sum.connect_histogram, one.connect_histogram, HISTOGRAM_BUCKETS, sign);
  add_all(sum.response_histogram, one.response_histogram, HISTOGRAM_BUCKETS, sign);
  add_all(sum.waiting_syn, one.waiting_syn, WAITING_SLOTS, sign);
  add_all(sum.waiting, one.waiting, WAITING_SLOTS, sign);
}

void add_retry_counts(bpf::retry_counts& sum, const bpf::retry_counts& one, int sign) {
  add_words(sum, one, offsetof(bpf::retry_counts, last_client) / 8, sign);
}

void add_service(bpf::service_stats& sum, const bpf::service_stats& one, int sign) {
  add_words(sum, one, sizeof(bpf::service_stats) / 8, sign);
}

void add_count(std::uint64_t& sum, const std::uint64_t& one, int sign) {
  add_all(&sum, &one, 1, sign);
}

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
      sums_(entries),
      carried_(entries) {}

template <class T>
void PerCpuReader<T>::inherit(const PerCpuReader& earlier) {
  std::copy_n(earlier.carried_.begin(), std::min(earlier.carried_.size(), carried_.size()),
              carried_.begin());
  carries_ = earlier.carries_;
}

template <class T>
void PerCpuReader<T>::carry(const std::vector<std::byte>& before,
                            const std::vector<std::byte>& after) {
  add_raw(after, 1);
  add_raw(before, -1);
  carries_ = true;
}

template <class T>
void PerCpuReader<T>::add_raw(const std::vector<std::byte>& raw, int sign) {
  const std::size_t keys = std::min(raw.size() / (cpus_ * stride_), carried_.size());
  for (std::size_t i = 0; i < keys * cpus_; ++i) {
    add_(carried_[i / cpus_], *reinterpret_cast<const T*>(raw.data() + i * stride_), sign);
  }
}

template <class T>
void PerCpuReader<T>::forget(std::uint32_t key) {
  if (key < carried_.size()) carried_[key] = T{};
}

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
  const auto raw_of = [this](std::uint32_t key, std::size_t cpu) -> const T& {
    return *reinterpret_cast<const T*>(raw_.data() + (key * cpus_ + cpu) * stride_);
  };
  // Megabytes each tick where backends are many: what need not be added is copied.
  for (std::uint32_t key = 0; key < entries_; ++key) {
    sums_[key] = raw_of(key, 0);
    for (std::size_t cpu = 1; cpu < cpus_; ++cpu) add_(sums_[key], raw_of(key, cpu), 1);
    if (carries_) add_(sums_[key], carried_[key], 1);
  }
  return &sums_;
}

template class PerCpuReader<bpf::backend_stats>;
template class PerCpuReader<bpf::service_stats>;
template class PerCpuReader<bpf::retry_counts>;
template class PerCpuReader<std::uint64_t>;

PerCpuReader<bpf::backend_stats> backend_stats_reader(int map_fd, std::uint32_t entries) {
  return {map_fd, entries, add_backend};
}
PerCpuReader<bpf::service_stats> service_stats_reader(int map_fd, std::uint32_t entries) {
  return {map_fd, entries, add_service};
}
PerCpuReader<bpf::retry_counts> retry_counts_reader(int map_fd, std::uint32_t entries) {
  return {map_fd, entries, add_retry_counts};
}
PerCpuReader<std::uint64_t> verdict_reader(int map_fd, std::uint32_t services) {
  return {map_fd, services * bpf::VERDICTS, add_count};
}

static_assert(sizeof(bpf::event) != sizeof(bpf::record), "they are told apart by their size");

// The ring buffer rounds no size up: what was reserved is what is read.
void EventReader::Handlers::take(const void* sample, std::size_t bytes) const {
  if (bytes == sizeof(bpf::event)) on_event(*static_cast<const bpf::event*>(sample));
  if (bytes == sizeof(bpf::record)) on_record(*static_cast<const bpf::record*>(sample));
}

Result<EventReader> EventReader::open(int map_fd, Handler handler, RecordHandler record_handler) {
  EventReader reader;
  reader.handlers_ =
      std::make_unique<Handlers>(Handlers{std::move(handler), std::move(record_handler)});
  const auto on_sample = [](void* context, void* data, std::size_t bytes) {
    static_cast<const Handlers*>(context)->take(data, bytes);
    return 0;
  };
  reader.buffer_.reset(ring_buffer__new(map_fd, on_sample, reader.handlers_.get(), nullptr));
  if (!reader.buffer_) return bpf_error(-errno, "open events ring buffer");
  return reader;
}

Result<std::size_t> EventReader::drain() {
  const int rc = ring_buffer__consume(buffer_.get());
  if (rc < 0) return bpf_error(rc, "read events");
  return static_cast<std::size_t>(rc);
}

namespace {

constexpr std::uint32_t kScanBatch = 4096;

}  // namespace

ConnectionScan::ConnectionScan(int map_fd)
    : map_fd_(map_fd), keys_(kScanBatch), values_(kScanBatch) {}

Result<bool> ConnectionScan::step(const Visit& visit) {
  LIBBPF_OPTS(bpf_map_batch_opts, options);
  std::uint32_t count = kScanBatch;
  const int rc = bpf_map_lookup_batch(map_fd_, first_ ? nullptr : &cursor_[0], &cursor_[0],
                                      keys_.data(), values_.data(), &count, &options);
  if (rc != 0 && rc != -ENOENT) return bpf_error(rc, "read connections");
  first_ = false;
  for (std::uint32_t i = 0; i < count; ++i) visit(keys_[i], values_[i]);
  return rc != -ENOENT;
}

Result<void> for_each_connection(
    int map_fd,
    const std::function<void(const bpf::connection_key&, const bpf::connection&)>& visit) {
  ConnectionScan scan(map_fd);
  while (true) {
    auto more = scan.step(visit);
    if (!more) return more.error();
    if (!*more) return {};
  }
}

}  // namespace petrel
