// SPDX-License-Identifier: MIT
#include "tests/bpf/balancer_fixture.hpp"

#include <bpf/bpf.h>
#include <sched.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <numeric>
#include <stdexcept>

#include "balancer.skel.h"

namespace petrel::test {
namespace {

constexpr std::uint32_t kServices = 5;  // ids 1 to 4 are used
constexpr std::uint32_t kBackends = 9;  // ids 1 to 8 are used

int keep_event(void* events, void* data, std::size_t) {
  bpf::event event;
  std::memcpy(&event, data, sizeof(event));
  static_cast<std::vector<bpf::event>*>(events)->push_back(event);
  return 0;
}

// A test that cannot read its maps has nothing to say: gtest reports the exception as a failure.
void require(bool good, const std::string& what) {
  if (!good) throw std::runtime_error(what + ": " + std::strerror(errno));
}

std::uint16_t be16(std::uint16_t value) {
  return static_cast<std::uint16_t>(value << 8 | value >> 8);
}

}  // namespace

std::uint64_t monotonic_now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

bpf::next_hop hop_to(std::uint32_t backend_id) {
  const auto id = static_cast<std::uint8_t>(backend_id);
  return {kHopIfindex + backend_id, {0x02, 0, 0, 1, 0, id}, {0x02, 0, 0, 2, 0, id}};
}

VerdictGrowth growth(const VerdictCounts& before, const VerdictCounts& after) {
  VerdictGrowth grown;
  for (int i = 0; i < bpf::VERDICTS; ++i) {
    if (after[i] != before[i]) grown[i] = after[i] - before[i];
  }
  return grown;
}

// --- loading ------------------------------------------------------------------------------------

Balancer::Balancer() = default;

Balancer::~Balancer() {
  ring_buffer__free(event_ring_);
  balancer_bpf__destroy(skeleton_);
}

int Balancer::load(const LoadOptions& options) {
  libbpf_set_print([](libbpf_print_level level, const char* format, va_list arguments) {
    return level == LIBBPF_WARN ? std::vfprintf(stderr, format, arguments) : 0;
  });
  skeleton_ = balancer_bpf__open();
  if (skeleton_ == nullptr) return -errno;
  skeleton_->rodata->retry_window_ns = options.retry_window.count();
  skeleton_->rodata->handshake_timeout_ns = options.handshake_timeout.count();
  skeleton_->rodata->wire_sensor = options.wire_sensor;
  for (bpf_map* map : {skeleton_->maps.backends, skeleton_->maps.weights,
                       skeleton_->maps.backend_stats, skeleton_->maps.inflight}) {
    bpf_map__set_max_entries(map, kBackends);
  }
  bpf_map__set_max_entries(skeleton_->maps.service_stats, kServices);
  bpf_map__set_max_entries(skeleton_->maps.ring, kServices * 2 * kSlots);
  if (const int rc = balancer_bpf__load(skeleton_); rc != 0) return rc;
  event_ring_ = ring_buffer__new(map_fd("events"), keep_event, &events_, nullptr);
  return event_ring_ == nullptr ? -errno : 0;
}

Balancer& BalancerTest::shared(const LoadOptions& options) {
  static std::map<LoadOptions, Balancer> balancers;
  return balancers[options];
}

void BalancerTest::SetUp() {
  if (unshare(CLONE_NEWNET) != 0) {
    GTEST_SKIP() << "SKIPPED, nothing was tested: unshare(CLONE_NEWNET): " << std::strerror(errno)
                 << ": needs CAP_SYS_ADMIN: run as root";
  }
  const int rc = lb.loaded() ? 0 : lb.load(options_);
  if (rc == -EPERM || rc == -EACCES || rc == -ENOSYS) {
    GTEST_SKIP() << "SKIPPED, nothing was tested: load balancer: " << std::strerror(-rc)
                 << ": needs CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON: run as root";
  }
  ASSERT_EQ(rc, 0) << "load balancer: " << std::strerror(-rc);
  lb.reset();
  lb.write_defaults(v4());
  lb.write_defaults(v6());
}

Outcome Balancer::run(const Packet& packet) {
  Outcome outcome;
  outcome.packet.resize(packet.size() + 256);  // room to see a packet that grew
  LIBBPF_OPTS(bpf_test_run_opts, options);
  options.data_in = packet.data();
  options.data_size_in = static_cast<std::uint32_t>(packet.size());
  options.data_out = outcome.packet.data();
  options.data_size_out = static_cast<std::uint32_t>(outcome.packet.size());
  options.repeat = 1;
  require(bpf_prog_test_run_opts(bpf_program__fd(skeleton_->progs.petrel_balancer), &options) == 0,
          "BPF_PROG_TEST_RUN");
  outcome.action = static_cast<int>(options.retval);
  outcome.packet.resize(options.data_size_out);
  return outcome;
}

// --- maps ---------------------------------------------------------------------------------------

int Balancer::map_fd(const char* name) const {
  return bpf_object__find_map_fd_by_name(skeleton_->obj, name);
}

template <class K, class V>
void Balancer::update(const char* map, const K& key, const V& value) {
  require(bpf_map_update_elem(map_fd(map), &key, &value, BPF_ANY) == 0,
          std::string("update ") + map);
}

template <class V, class K>
std::optional<V> Balancer::lookup(const char* map, const K& key) {
  V value{};
  if (bpf_map_lookup_elem(map_fd(map), &key, &value) == 0) return value;
  require(errno == ENOENT, std::string("look up in ") + map);
  return std::nullopt;
}

// The kernel rounds each CPU's value up to 8 bytes. The result holds `bytes` of each CPU, summed.
template <class Word>
std::vector<Word> Balancer::lookup_per_cpu(const char* map, std::uint32_t key, std::size_t bytes) {
  const std::size_t stride = (bytes + 7) / 8 * 8;
  const auto cpus = static_cast<std::size_t>(libbpf_num_possible_cpus());
  std::vector<std::uint8_t> raw(cpus * stride);
  require(bpf_map_lookup_elem(map_fd(map), &key, raw.data()) == 0,
          std::string("look up in ") + map);
  std::vector<Word> sums(bytes / sizeof(Word));
  for (std::size_t cpu = 0; cpu < cpus; ++cpu) {
    for (std::size_t i = 0; i < sums.size(); ++i) {
      Word word{};
      std::memcpy(&word, raw.data() + cpu * stride + i * sizeof(Word), sizeof(Word));
      sums[i] = static_cast<Word>(sums[i] + word);
    }
  }
  return sums;
}

template <class K>
void Balancer::clear_hash(const char* map) {
  K key{};
  while (bpf_map_get_next_key(map_fd(map), nullptr, &key) == 0) {
    require(bpf_map_delete_elem(map_fd(map), &key) == 0, std::string("clear ") + map);
  }
}

void Balancer::clear_array(const char* map) {
  const bpf_map* array = bpf_object__find_map_by_name(skeleton_->obj, map);
  const std::size_t stride = (bpf_map__value_size(array) + 7U) / 8 * 8;
  const std::vector<std::uint8_t> zeros(stride * libbpf_num_possible_cpus());
  for (std::uint32_t key = 0; key < bpf_map__max_entries(array); ++key) {
    require(bpf_map_update_elem(bpf_map__fd(array), &key, zeros.data(), BPF_ANY) == 0,
            std::string("clear ") + map);
  }
}

void Balancer::reset() {
  clear_hash<bpf::connection_key>("connections");
  clear_hash<bpf::client_key>("clients");
  for (const char* map : {"backend_stats", "service_stats", "verdicts", "inflight"}) {
    clear_array(map);
  }
  events();
}

std::uint32_t Balancer::ring_offset(std::uint16_t service, bool neutral) const {
  return (service * 2U + (neutral ? 1U : 0U)) * kSlots;
}

void Balancer::write_defaults(const Hosts& hosts) {
  for (const std::uint32_t id : hosts.backend_ids()) {
    const bool other = id == hosts.b4;
    const Endpoint& vip = other ? hosts.other_vip : hosts.vip;
    const Endpoint& at = hosts.backend(id);
    bpf::backend backend{};
    backend.address = at.address;
    backend.vip = vip.address;
    backend.port_be = be16(at.port);
    backend.vip_port_be = be16(vip.port);
    backend.service_id = other ? hosts.other_service : hosts.service;
    backend.state = bpf::BACKEND_UP;
    backend.hop = hop_to(id);
    update("backends", id, backend);
    update("backend_ids", bpf::backend_key{at.address, be16(at.port), 0}, id);
    set_weight(id, 100, 0);
  }
  set_service(hosts, bpf::SERVICE_READY | bpf::SERVICE_ACT);
  for (const bool neutral : {false, true}) {
    for (std::uint32_t slot = 0; slot < kSlots; ++slot) {
      update("ring", ring_offset(hosts.service, neutral) + slot, hosts.b1);
      update("ring", ring_offset(hosts.other_service, neutral) + slot, hosts.b4);
    }
  }
  set_control({monotonic_now_ns(), std::uint64_t(std::chrono::nanoseconds(1h).count()), 1, 0});
}

void Balancer::set_service(const Hosts& hosts, std::uint32_t flags) {
  for (const bool other : {false, true}) {
    const std::uint16_t id = other ? hosts.other_service : hosts.service;
    const Endpoint& vip = other ? hosts.other_vip : hosts.vip;
    update("services", bpf::service_key{vip.address, be16(vip.port), 6, 0},
           bpf::service{id, flags, ring_offset(id, false), ring_offset(id, true), kSlots, 0x5eed});
  }
}

void Balancer::fill_ring(std::uint16_t service, const std::vector<std::uint32_t>& backend_ids) {
  for (std::uint32_t slot = 0; slot < kSlots; ++slot) {
    update("ring", ring_offset(service, false) + slot, backend_ids[slot % backend_ids.size()]);
  }
}

void Balancer::fill_neutral(std::uint16_t service, const std::vector<std::uint32_t>& backend_ids) {
  for (std::uint32_t slot = 0; slot < kSlots; ++slot) {
    update("ring", ring_offset(service, true) + slot, backend_ids[slot % backend_ids.size()]);
  }
}

void Balancer::set_state(std::uint32_t backend_id, bpf::backend_state state) {
  auto backend = lookup<bpf::backend>("backends", backend_id).value();
  backend.state = state;
  update("backends", backend_id, backend);
}

void Balancer::set_hop(std::uint32_t backend_id, const bpf::next_hop& hop) {
  auto backend = lookup<bpf::backend>("backends", backend_id).value();
  backend.hop = hop;
  update("backends", backend_id, backend);
}

void Balancer::retire(std::uint32_t backend_id) { update("backends", backend_id, bpf::backend{}); }

void Balancer::set_weight(std::uint32_t backend_id, std::uint32_t base_weight,
                          std::uint32_t risk_q16) {
  bpf::weight weight{};
  weight.base_weight = base_weight;
  weight.factor_q16 = 65536;
  weight.risk_q16 = risk_q16;
  update("weights", backend_id, weight);
}

void Balancer::set_inflight(std::uint32_t backend_id, std::int64_t requests) {
  update("inflight", backend_id, bpf::inflight{requests, {}});
}

void Balancer::set_control(const bpf::control& control) {
  update("control", std::uint32_t{0}, control);
}

void Balancer::set_connection(const bpf::connection_key& key, const bpf::connection& connection) {
  update("connections", key, connection);
}

std::optional<bpf::connection> Balancer::connection(const bpf::connection_key& key) {
  return lookup<bpf::connection>("connections", key);
}

std::size_t Balancer::connections() {
  std::size_t count = 0;
  bpf::connection_key key{};
  const void* previous = nullptr;
  while (bpf_map_get_next_key(map_fd("connections"), previous, &key) == 0) {
    previous = &key;
    ++count;
  }
  return count;
}

bpf::backend_stats Balancer::backend_stats(std::uint32_t backend_id) {
  // 64-bit counters first, then 32-bit ones: summed by words of their own size.
  constexpr std::size_t kWide = offsetof(bpf::backend_stats, connect_histogram);
  const auto wide = lookup_per_cpu<std::uint64_t>("backend_stats", backend_id,
                                                  sizeof(bpf::backend_stats));
  const auto narrow = lookup_per_cpu<std::uint32_t>("backend_stats", backend_id,
                                                    sizeof(bpf::backend_stats));
  bpf::backend_stats stats;
  std::memcpy(&stats, narrow.data(), sizeof(stats));
  std::memcpy(&stats, wide.data(), kWide);
  return stats;
}

bpf::service_stats Balancer::service_stats(std::uint16_t service) {
  const auto words = lookup_per_cpu<std::uint64_t>("service_stats", service,
                                                   sizeof(bpf::service_stats));
  bpf::service_stats stats;
  std::memcpy(&stats, words.data(), sizeof(stats));
  return stats;
}

VerdictCounts Balancer::verdicts() {
  VerdictCounts counts{};
  for (std::uint32_t i = 0; i < counts.size(); ++i) {
    counts[i] = lookup_per_cpu<std::uint64_t>("verdicts", i, sizeof(std::uint64_t))[0];
  }
  return counts;
}

std::int64_t Balancer::inflight(std::uint32_t backend_id) {
  return lookup<bpf::inflight>("inflight", backend_id).value().requests;
}

std::int64_t Balancer::waiting(std::uint32_t backend_id) {
  const auto stats = backend_stats(backend_id);
  return std::accumulate(std::begin(stats.waiting), std::end(stats.waiting), std::int64_t{0});
}

std::int64_t Balancer::waiting_syn(std::uint32_t backend_id) {
  const auto stats = backend_stats(backend_id);
  return std::accumulate(std::begin(stats.waiting_syn), std::end(stats.waiting_syn),
                         std::int64_t{0});
}

std::vector<bpf::event> Balancer::events() {
  require(ring_buffer__consume(event_ring_) >= 0, "read events");
  return std::exchange(events_, {});
}

}  // namespace petrel::test
