// SPDX-License-Identifier: MIT
#include "tests/bpf/balancer_fixture.hpp"

#include <bpf/bpf.h>
#include <sched.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <iterator>
#include <numeric>
#include <stdexcept>

#include "balancer.skel.h"
#include "bpf/hash.h"
#include "label/retry_fit.hpp"
#include "maps/programs.hpp"

namespace petrel::test {
namespace {

constexpr std::uint32_t kServices = 5;  // ids 1 to 4 are used
constexpr std::uint32_t kBackends = 9;  // ids 1 to 8 are used

// Events and records share a ring buffer, and are told apart by their size.
template <class T>
bool keep(std::vector<T>& kept, const void* data, std::size_t bytes) {
  if (bytes != sizeof(T)) return false;
  std::memcpy(&kept.emplace_back(), data, sizeof(T));
  return true;
}

int keep_sent(void* sent, void* data, std::size_t bytes) {
  auto& to = *static_cast<Sent*>(sent);
  return keep(to.events, data, bytes) || keep(to.records, data, bytes) ? 0 : -EINVAL;
}

// As the kernel takes them; PETREL_TEST_PROGRAMS=old: those of old kernels, which new ones take too.
ProgramSet programs_under_test() {
  const char* wanted = std::getenv("PETREL_TEST_PROGRAMS");
  return wanted != nullptr && std::string_view(wanted) == "old" ? ProgramSet::kOld : program_set();
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

Packet sent_on(Segment segment, const Endpoint& from, const Endpoint& to,
               const bpf::next_hop& hop) {
  segment.from = from;
  segment.to = to;
  segment.ttl--;
  std::ranges::copy(hop.source_mac, segment.source_mac.begin());
  std::ranges::copy(hop.destination_mac, segment.destination_mac.begin());
  return build(segment);
}

Packet reset_of(const Segment& segment) {
  Segment reset{.from = segment.to, .to = segment.from, .flags = kRst, .seq = segment.ack,
                .source_mac = segment.destination_mac, .destination_mac = segment.source_mac,
                .window = 0, .tos = 0, .plain = true};
  if (!(segment.flags & kAck)) {
    reset.flags = kRstAck;
    reset.seq = 0;
    reset.ack = segment.seq + static_cast<std::uint32_t>(segment.payload.size()) +
                (segment.flags & kSyn ? 1 : 0) + (segment.flags & kFin ? 1 : 0);
  }
  return build(reset);
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
  if (!half_open_.empty()) munmap(half_open_.data(), half_open_.size_bytes());
  balancer_bpf__destroy(skeleton_);
}

int Balancer::load(const LoadOptions& options) {
  libbpf_set_print([](libbpf_print_level level, const char* format, va_list arguments) {
    return level == LIBBPF_WARN ? std::vfprintf(stderr, format, arguments) : 0;
  });
  skeleton_ = open_balancer(programs_under_test());
  if (skeleton_ == nullptr) return -errno;
  skeleton_->rodata->retry_window_ns = options.retry_window.count();
  skeleton_->rodata->handshake_timeout_ns = options.handshake_timeout.count();
  skeleton_->rodata->wire_sensor = options.wire_sensor;
  skeleton_->rodata->failover_after_ns = options.failover_after.count();
  skeleton_->rodata->tap_on = options.tap_on;
  skeleton_->rodata->back_by_redirect = options.back_by_redirect;
  skeleton_->rodata->score_in_kernel = options.score_in_kernel;
  skeleton_->rodata->clock_is_set = options.set_clock;
  std::memcpy(&skeleton_->rodata->encap_source_v4, kEncapV4.data(), kEncapV4.size());
  std::memcpy(skeleton_->rodata->encap_source_v6, kEncapV6.data(), kEncapV6.size());
  for (bpf_map* map : {skeleton_->maps.backends, skeleton_->maps.weights,
                       skeleton_->maps.backend_stats, skeleton_->maps.inflight,
                       skeleton_->maps.backend_views, skeleton_->maps.kernel_risks}) {
    bpf_map__set_max_entries(map, kBackends);
  }
  for (bpf_map* map : {skeleton_->maps.service_stats, skeleton_->maps.svc_inflight,
                       skeleton_->maps.budgets, skeleton_->maps.admissions, skeleton_->maps.retry_counts,
                       skeleton_->maps.retry_odds, skeleton_->maps.service_views}) {
    bpf_map__set_max_entries(map, kServices);
  }
  bpf_map__set_max_entries(skeleton_->maps.verdicts, kServices * bpf::VERDICTS);
  bpf_map__set_max_entries(skeleton_->maps.ring, kServices * 2 * kSlots);
  bpf_map__set_max_entries(skeleton_->maps.connections, options.max_connections);
  bpf_map__set_max_entries(skeleton_->maps.clients, options.max_clients);
  if (const int rc = balancer_bpf__load(skeleton_); rc != 0) return rc;
  const std::size_t flows = bpf_map__max_entries(skeleton_->maps.half_open);
  void* table = mmap(nullptr, flows * sizeof(bpf::half_open), PROT_READ | PROT_WRITE, MAP_SHARED,
                     map_fd("half_open"), 0);
  if (table == MAP_FAILED) return -errno;
  half_open_ = {static_cast<bpf::half_open*>(table), flows};
  event_ring_ = ring_buffer__new(map_fd("events"), keep_sent, &sent_, nullptr);
  return event_ring_ == nullptr ? -errno : 0;
}

bool Balancer::takes_fragments() const { return skeleton_->rodata->multi_buffer; }

Balancer& BalancerTest::shared(const LoadOptions& options) {
  static std::map<LoadOptions, Balancer> balancers;
  return balancers[options];
}

void BalancerTest::SetUp() {
  if (unshare(CLONE_NEWNET) != 0) {
    GTEST_SKIP() << "SKIPPED, nothing was tested: unshare(CLONE_NEWNET): " << std::strerror(errno)
                 << ": needs CAP_SYS_ADMIN: run as root";
  }
  if ((options_.tap_on || options_.score_in_kernel) && programs_under_test() == ProgramSet::kOld) {
    GTEST_SKIP() << "SKIPPED, nothing was tested: the programs of kernels before 5.12 have no tap, "
                    "and do not score";
  }
  const int rc = lb.loaded() ? 0 : lb.load(options_);
  if (rc == -EPERM || rc == -EACCES || rc == -ENOSYS) {
    GTEST_SKIP() << "SKIPPED, nothing was tested: load balancer: " << std::strerror(-rc)
                 << ": needs CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON: run as root";
  }
  ASSERT_EQ(rc, 0) << "load balancer: " << std::strerror(-rc);
  lb.reset();
  write_defaults(v4());
  write_defaults(v6());
}

void BalancerTest::write_defaults(const Hosts& hosts) {
  lb.write_defaults(hosts);
  for (const std::uint16_t service : {hosts.service, hosts.other_service})
    lb.set_retry_odds(service, odds());
}

Outcome Balancer::run(const Packet& packet) {
  return run_program(bpf_program__fd(skeleton_->progs.petrel_balancer), packet);
}

Outcome Balancer::run_hedge(const Packet& frame) {
  return run_program(bpf_program__fd(skeleton_->progs.petrel_hedge), frame);
}

Outcome Balancer::run_program(int program, const Packet& packet) {
  Outcome outcome;
  outcome.packet.resize(packet.size() + 256);  // room to see a packet that grew
  pass(kPacketTime);
  skeleton_->bss->set_now_ns = now_ns_;
  LIBBPF_OPTS(bpf_test_run_opts, options);
  options.data_in = packet.data();
  options.data_size_in = static_cast<std::uint32_t>(packet.size());
  options.data_out = outcome.packet.data();
  options.data_size_out = static_cast<std::uint32_t>(outcome.packet.size());
  options.repeat = 1;
  require(bpf_prog_test_run_opts(program, &options) == 0, "BPF_PROG_TEST_RUN");
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
  clear_hash<bpf::fragment_key>("fragments");
  clear_hash<bpf::service_key>("services");
  for (const std::uint32_t slot : std::exchange(endpoint_slots_, {})) {
    update("endpoints", slot, bpf::endpoint{});
  }
  clear_hash<bpf::address>("vips");
  clear_hash<bpf::backend_key>("backend_ids");
  clear_hash<bpf::route_key>("routes");
  for (const char* map : {"backend_stats", "service_stats", "verdicts", "inflight", "svc_inflight",
                          "budgets", "admissions", "pending", "schedules", "retry_counts", "client_filter", "address_filter", "backends",
                          "models", "backend_views", "service_views", "kernel_risks"}) {
    clear_array(map);
  }
  std::ranges::fill(half_open_, bpf::half_open{});
  events();
  records();
  now_ns_ = monotonic_now_ns();
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
    name_backend(at, 6, id);
    set_weight(id, 100, 0);
    add_vip(vip.address);
  }
  set_service(hosts, bpf::SERVICE_READY | bpf::SERVICE_ACT);
  for (const bool neutral : {false, true}) {
    for (std::uint32_t slot = 0; slot < kSlots; ++slot) {
      update("ring", ring_offset(hosts.service, neutral) + slot, hosts.b1);
      update("ring", ring_offset(hosts.other_service, neutral) + slot, hosts.b4);
    }
  }
  set_control({monotonic_now_ns(), std::uint64_t(std::chrono::nanoseconds(1h).count()), 1, 0, 0, 0});
}

void Balancer::set_service(const Hosts& hosts, std::uint32_t flags) {
  for (const bool other : {false, true}) {
    const std::uint16_t id = other ? hosts.other_service : hosts.service;
    const Endpoint& vip = other ? hosts.other_vip : hosts.vip;
    add_service({vip.address, be16(vip.port), 6, 0}, id, flags);
  }
  for (const std::uint32_t id : hosts.backend_ids()) {
    auto backend = lookup<bpf::backend>("backends", id).value();
    backend.service_flags = flags;
    update("backends", id, backend);
  }
}

void Balancer::set_filter_bit(bool vip, const bpf::address& address) {
  auto filter = lookup<bpf::address_filter>("address_filter", std::uint32_t{0}).value();
  const std::uint32_t bit = bpf::hash_address(&address);
  (vip ? filter.vips : filter.backends)[bit / 64] |= 1ULL << (bit % 64);
  update("address_filter", std::uint32_t{0}, filter);
}

void Balancer::add_vip(const bpf::address& address, const bpf::vip& vip) {
  set_filter_bit(true, address);
  update("vips", address, vip);
}

void Balancer::name_backend(const Endpoint& at, std::uint8_t protocol, std::uint32_t id) {
  set_filter_bit(false, at.address);
  update("backend_ids", bpf::backend_key{at.address, be16(at.port), protocol, 0}, id);
  if (at.port != 0) {
    put_endpoint({at.address, be16(at.port), protocol, bpf::ENDPOINT_BACKEND, id, {}, {}});
  }
}

bpf::backend Balancer::backend(std::uint32_t id) {
  return lookup<bpf::backend>("backends", id).value();
}

void Balancer::set_backend(std::uint32_t id, const bpf::backend& backend) {
  update("backends", id, backend);
}

bpf::retry_odds eager_odds() {
  bpf::retry_odds odds = fit_retry_odds({});
  std::ranges::fill(odds.retry_hazard, 500'000U);
  return odds;
}

bpf::retry_counts Balancer::retry_counts(std::uint16_t service) {
  const auto words = lookup_per_cpu<std::uint64_t>("retry_counts", service, sizeof(bpf::retry_counts));
  bpf::retry_counts counts;
  std::memcpy(&counts, words.data(), sizeof(counts));
  return counts;
}

void Balancer::set_retry_odds(std::uint16_t service, const bpf::retry_odds& odds) {
  update("retry_odds", std::uint32_t{service}, odds);
}

void Balancer::add_service(const bpf::service_key& key, std::uint16_t id, std::uint32_t flags) {
  const bpf::service service{id, flags, ring_offset(id, false), ring_offset(id, true), kSlots,
                             0x5eed};
  update("services", key, service);
  set_retry_odds(id, eager_odds());
  put_endpoint({key.vip, key.port_be, key.protocol, bpf::ENDPOINT_SERVICE, 0, service, {}});
}

// As the agent does: who finds its slot taken by another is left to the hash maps.
void Balancer::put_endpoint(const bpf::endpoint& endpoint) {
  const std::uint32_t slot =
      bpf::hash_endpoint(&endpoint.address, endpoint.port_be, endpoint.protocol);
  const auto is = lookup<bpf::endpoint>("endpoints", slot).value();
  const bool same = is.port_be == endpoint.port_be && is.protocol == endpoint.protocol &&
                    std::memcmp(&is.address, &endpoint.address, sizeof(is.address)) == 0;
  if (is.kind != bpf::ENDPOINT_FREE && !same) return;
  update("endpoints", slot, endpoint);
  endpoint_slots_.push_back(slot);
}

void Balancer::set_limits(std::uint32_t id, bool of_service, std::uint64_t limit,
                          std::uint64_t retry_limit) {
  const char* map = of_service ? "svc_inflight" : "inflight";
  auto place = lookup<bpf::inflight>(map, id).value();
  place.limit = limit;
  place.retry_limit = retry_limit;
  update(map, id, place);
}

void Balancer::set_budget(std::uint16_t service, const bpf::budget& budget) {
  update("budgets", std::uint32_t{service}, budget);
}

void Balancer::set_service_inflight(std::uint16_t service, std::int64_t requests) {
  auto place = lookup<bpf::inflight>("svc_inflight", std::uint32_t{service}).value();
  place.requests = requests;
  update("svc_inflight", std::uint32_t{service}, place);
}

void Balancer::set_admissions(std::uint16_t service, const bpf::budget& shares) {
  update("admissions", std::uint32_t{service}, shares);
}

bpf::budget Balancer::admissions(std::uint16_t service) {
  return lookup<bpf::budget>("admissions", std::uint32_t{service}).value();
}

bpf::budget Balancer::budget(std::uint16_t service) {
  return lookup<bpf::budget>("budgets", std::uint32_t{service}).value();
}

void Balancer::set_route(const bpf::route_key& key, const bpf::route& route) {
  update("routes", key, route);
}

void Balancer::set_tap(const bpf::tap_wish& wish) { update("tap_filter", std::uint32_t{0}, wish); }

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

void Balancer::join(const Hosts& hosts, std::uint32_t backend_id) {
  auto backend = lookup<bpf::backend>("backends", backend_id).value();
  backend.vip = hosts.vip.address;
  backend.vip_port_be = be16(hosts.vip.port);
  backend.service_id = hosts.service;
  update("backends", backend_id, backend);
}

void Balancer::retire(std::uint32_t backend_id) { update("backends", backend_id, bpf::backend{}); }

void Balancer::set_weight(std::uint32_t backend_id, std::uint32_t base_weight,
                          std::uint32_t risk_q16, std::uint32_t factor_q16) {
  bpf::weight weight{};
  weight.base_weight = base_weight;
  weight.factor_q16 = factor_q16;
  weight.risk_q16 = risk_q16;
  update("weights", backend_id, weight);
}

void Balancer::set_ends_abandoned(std::uint16_t service_id, bool ends) {
  const std::uint32_t id = service_id;
  auto place = lookup<bpf::inflight>("svc_inflight", id).value();
  place.ends_abandoned = ends ? 1 : 0;
  update("svc_inflight", id, place);
}

void Balancer::set_inflight(std::uint32_t backend_id, std::int64_t requests) {
  auto place = lookup<bpf::inflight>("inflight", backend_id).value();
  place.requests = requests;
  update("inflight", backend_id, place);
}

void Balancer::set_control(const bpf::control& control) {
  update("control", std::uint32_t{0}, control);
}

void Balancer::set_model(const bpf::scoring_model& model, std::uint32_t at) {
  auto all = lookup<bpf::scoring_models>("models", std::uint32_t{0}).value();
  all.models[at - 1] = model;
  all.in_force = at;
  update("models", std::uint32_t{0}, all);
}

void Balancer::set_views(std::uint32_t backend_id, const bpf::backend_view& backend,
                         std::uint16_t service, const bpf::service_view& view) {
  update("backend_views", backend_id, backend);
  update("service_views", std::uint32_t{service}, view);
}

bpf::kernel_risk Balancer::kernel_risk(std::uint32_t backend_id) {
  return lookup<bpf::kernel_risk>("kernel_risks", backend_id).value();
}

void Balancer::set_connection(const bpf::connection_key& key, const bpf::connection& connection) {
  update("connections", key, connection);
}

std::optional<bpf::connection> Balancer::connection(const bpf::connection_key& key) {
  return lookup<bpf::connection>("connections", key);
}

template <class K>
std::size_t Balancer::count_keys(const char* map) {
  std::size_t count = 0;
  K key{};
  const void* previous = nullptr;
  while (bpf_map_get_next_key(map_fd(map), previous, &key) == 0) {
    previous = &key;
    ++count;
  }
  return count;
}

std::size_t Balancer::connections() { return count_keys<bpf::connection_key>("connections"); }

void Balancer::forget_connections() { clear_hash<bpf::connection_key>("connections"); }

std::size_t Balancer::clients() { return count_keys<bpf::client_key>("clients"); }

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

VerdictCounts Balancer::verdicts_of(std::uint16_t service) {
  VerdictCounts counts{};
  for (std::uint32_t i = 0; i < counts.size(); ++i) {
    counts[i] = lookup_per_cpu<std::uint64_t>("verdicts", service * bpf::VERDICTS + i,
                                              sizeof(std::uint64_t))[0];
  }
  return counts;
}

VerdictCounts Balancer::verdicts() {
  VerdictCounts sums{};
  for (std::uint16_t service = 0; service < kServices; ++service) {
    const VerdictCounts counts = verdicts_of(service);
    for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += counts[i];
  }
  return sums;
}

std::vector<bpf::half_open> Balancer::half_open_flows() {
  std::vector<bpf::half_open> flows;
  std::ranges::copy_if(half_open_, std::back_inserter(flows),
                       [](const bpf::half_open& flow) { return flow.key.service_id != 0; });
  return flows;
}

std::optional<bpf::half_open> Balancer::half_open(const bpf::connection_key& key) {
  for (const bpf::half_open& flow : half_open_) {
    if (std::memcmp(&flow.key, &key, sizeof(key)) == 0) return flow;
  }
  return std::nullopt;
}

std::int64_t Balancer::inflight(std::uint32_t backend_id) {
  return lookup<bpf::inflight>("inflight", backend_id).value().requests;
}

std::int64_t Balancer::service_inflight(std::uint16_t service) {
  return lookup<bpf::inflight>("svc_inflight", std::uint32_t{service}).value().requests;
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
  return std::exchange(sent_.events, {});
}

std::vector<bpf::record> Balancer::records() {
  require(ring_buffer__consume(event_ring_) >= 0, "read records");
  return std::exchange(sent_.records, {});
}

}  // namespace petrel::test
