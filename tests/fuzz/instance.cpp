// SPDX-License-Identifier: MIT
#include "tests/fuzz/instance.hpp"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <sched.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <stdexcept>

#include "balancer.skel.h"
#include "dirty.skel.h"
#include "maps/programs.hpp"

namespace petrel::fuzz {
namespace {

int say_warnings(libbpf_print_level level, const char* format, va_list arguments) {
  return level == LIBBPF_WARN ? std::vfprintf(stderr, format, arguments) : 0;
}

[[noreturn]] void give_up(const std::string& what) {
  throw std::runtime_error(what + ": " + std::strerror(errno));
}

}  // namespace

Instance::~Instance() {
  for (const auto& [memory, bytes] : mappings_) munmap(memory, bytes);
  dirty_bpf__destroy(dirty_);
  balancer_bpf__destroy(balancer_);
}

std::string Instance::failed(const char* what, int rc) {
  missing_right_ = rc == -EPERM || rc == -ENOSYS;  // EACCES is the verifier's word
  return std::string(what) + ": " + std::strerror(-rc);
}

int Instance::fd(const char* map) const {
  return bpf_object__find_map_fd_by_name(balancer_->obj, map);
}

template <class T>
bool Instance::map_memory(const char* map, std::span<T>* out) {
  const std::size_t entries =
      bpf_map__max_entries(bpf_object__find_map_by_name(balancer_->obj, map));
  const std::size_t bytes = entries * sizeof(T);
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd(map), 0);
  if (memory == MAP_FAILED) return false;
  mappings_.emplace_back(memory, bytes);
  *out = {static_cast<T*>(memory), entries};
  return true;
}

// No limit of time comes to pass by itself: what a packet does must not depend on
// the machine's pace.
std::string Instance::load() {
  libbpf_set_print(say_warnings);
  balancer_ = open_balancer();
  dirty_ = dirty_bpf__open();
  if (balancer_ == nullptr || dirty_ == nullptr) return failed("open the programs", -errno);
  balancer_->rodata->retry_window_ns = 3'600'000'000'000;
  balancer_->rodata->handshake_timeout_ns = 0;
  balancer_->rodata->failover_after_ns = options_.failover_after_ns;
  balancer_->rodata->tap_on = options_.tap_on;
  balancer_->rodata->encap_source_v4 = 0x0a64;                // 100.10.0.0/16
  balancer_->rodata->encap_source_v6[0] = __builtin_bswap32(0x01000000);  // 100::/64 (RFC 6666)
  balancer_->rodata->half_open_mask = options_.half_open / HALF_OPEN_WAYS - 1;
  // A program may go on only to one that takes as many buffers a packet as itself.
  bpf_program__set_flags(dirty_->progs.petrel_dirty,
                         bpf_program__flags(balancer_->progs.petrel_balancer));
  dirty_->rodata->pattern = options_.pattern;
  const auto& maps = balancer_->maps;
  for (bpf_map* map : {maps.backends, maps.weights, maps.backend_stats, maps.inflight})
    bpf_map__set_max_entries(map, options_.backends);
  for (bpf_map* map : {maps.service_stats, maps.svc_inflight, maps.budgets, maps.admissions,
                       maps.retry_counts, maps.retry_odds})
    bpf_map__set_max_entries(map, options_.services);
  bpf_map__set_max_entries(maps.verdicts, options_.services * bpf::VERDICTS);
  bpf_map__set_max_entries(maps.ring, options_.ring_slots);
  bpf_map__set_max_entries(maps.half_open, options_.half_open);
  bpf_map__set_max_entries(maps.connections, options_.connections);
  bpf_map__set_max_entries(maps.clients, 8192);
  if (const int rc = balancer_bpf__load(balancer_); rc != 0) return failed("load the balancer", rc);
  if (const int rc = dirty_bpf__load(dirty_); rc != 0) return failed("load dirty.bpf.c", rc);
  const std::uint32_t zero = 0;
  const int next = bpf_program__fd(balancer_->progs.petrel_balancer);
  if (bpf_map_update_elem(bpf_map__fd(dirty_->maps.next), &zero, &next, BPF_ANY) != 0)
    return failed("put the balancer behind dirty.bpf.c", -errno);
  if (!map_memory("ring", &ring) || !map_memory("half_open", &half_open) ||
      !map_memory("inflight", &inflight) || !map_memory("svc_inflight", &service_inflight) ||
      !map_memory("control", &control) || !map_memory("address_filter", &address_filter))
    return failed("mmap the balancer's maps", -errno);
  entry_fd_ = bpf_program__fd(dirty_->progs.petrel_dirty);
  tap_fd_ = fd("tap_state");
  taps_.resize(static_cast<std::size_t>(libbpf_num_possible_cpus()));
  // Each packet is decided upon, none is copied: nobody's address is that of the filter.
  bpf::tap_wish nobody{};
  nobody.client_prefix_bits = 128;
  update("tap_filter", &zero, &nobody);
  return "";
}

Ran Instance::run(std::span<const std::uint8_t> in, std::span<std::uint8_t> out) {
  LIBBPF_OPTS(bpf_test_run_opts, options);
  options.data_in = in.data();
  options.data_size_in = static_cast<std::uint32_t>(in.size());
  options.data_out = out.data();
  options.data_size_out = static_cast<std::uint32_t>(out.size());
  options.repeat = 1;
  if (bpf_prog_test_run_opts(entry_fd_, &options) != 0) give_up("BPF_PROG_TEST_RUN");
  return {static_cast<int>(options.retval), options.data_size_out};
}

bpf::tap_header Instance::last_tap() {
  static_assert(sizeof(bpf::tap_header) % 8 == 0, "the kernel would pad each CPU's");
  const std::uint32_t zero = 0;
  if (bpf_map_lookup_elem(tap_fd_, &zero, taps_.data()) != 0) give_up("look up in tap_state");
  return taps_.at(static_cast<std::size_t>(sched_getcpu()));
}

// --- maps ---------------------------------------------------------------------------------------

void Instance::update(const char* map, const void* key, const void* value) {
  if (bpf_map_update_elem(fd(map), key, value, BPF_ANY) != 0) give_up(std::string("update ") + map);
}

bool Instance::lookup(const char* map, const void* key, void* value) {
  if (bpf_map_lookup_elem(fd(map), key, value) == 0) return true;
  if (errno != ENOENT) give_up(std::string("look up in ") + map);
  return false;
}

template <class Key>
void Instance::erase_all(const char* map) {
  Key key{};
  const int map_fd = fd(map);
  while (bpf_map_get_next_key(map_fd, nullptr, &key) == 0) {
    if (bpf_map_delete_elem(map_fd, &key) != 0) give_up(std::string("clear ") + map);
  }
}

void Instance::forget_flows() {
  erase_all<bpf::connection_key>("connections");
  erase_all<bpf::client_key>("clients");
  erase_all<bpf::fragment_key>("fragments");
  const bpf_map* pending = balancer_->maps.pending;
  const bpf::pending none{};
  for (std::uint32_t i = 0; i < bpf_map__max_entries(pending); ++i) update("pending", &i, &none);
  const bpf_map* schedules = balancer_->maps.schedules;
  const bpf::schedule unknown{};
  for (std::uint32_t i = 0; i < bpf_map__max_entries(schedules); ++i)
    update("schedules", &i, &unknown);
  static const bpf::client_filter kEmpty{};
  const std::uint32_t zero = 0;
  update("client_filter", &zero, &kEmpty);
  std::ranges::fill(half_open, bpf::half_open{});
  for (bpf::inflight& place : inflight) place.requests = 0;
  for (bpf::inflight& place : service_inflight) place.requests = 0;
}

template <class Word>
std::vector<Word> Instance::lookup_per_cpu(const char* map, std::uint32_t key,
                                           std::size_t bytes) {
  const std::size_t stride = (bytes + 7) / 8 * 8;
  std::vector<std::uint8_t> raw(taps_.size() * stride);
  lookup(map, &key, raw.data());
  std::vector<Word> sums(bytes / sizeof(Word));
  for (std::size_t cpu = 0; cpu < taps_.size(); ++cpu) {
    for (std::size_t i = 0; i < sums.size(); ++i) {
      Word word{};
      std::memcpy(&word, raw.data() + cpu * stride + i * sizeof(Word), sizeof(Word));
      sums[i] = static_cast<Word>(sums[i] + word);
    }
  }
  return sums;
}

std::vector<std::uint64_t> Instance::verdicts() {
  std::vector<std::uint64_t> counts(std::size_t{options_.services} * bpf::VERDICTS);
  for (std::uint32_t i = 0; i < counts.size(); ++i)
    counts[i] = lookup_per_cpu<std::uint64_t>("verdicts", i, sizeof(std::uint64_t))[0];
  return counts;
}

bpf::backend_stats Instance::backend_stats(std::uint32_t id) {
  // Counters of 64 bits first, then of 32: each summed by words of their own size.
  const auto wide = lookup_per_cpu<std::uint64_t>("backend_stats", id, sizeof(bpf::backend_stats));
  const auto narrow =
      lookup_per_cpu<std::uint32_t>("backend_stats", id, sizeof(bpf::backend_stats));
  bpf::backend_stats stats;
  std::memcpy(&stats, narrow.data(), sizeof(stats));
  std::memcpy(&stats, wide.data(), offsetof(bpf::backend_stats, connect_histogram));
  return stats;
}

template void Instance::erase_all<bpf::service_key>(const char*);
template void Instance::erase_all<bpf::connection_key>(const char*);

}  // namespace petrel::fuzz
