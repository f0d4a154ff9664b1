// SPDX-License-Identifier: MIT
#include "tests/bench/world.hpp"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <ctime>
#include <limits>
#include <numeric>
#include <stdexcept>

#include "balancer.skel.h"
#include "bpf/hash.h"
#include "maps/programs.hpp"
#include "ring/ring.hpp"
#include "tests/bench/bench.h"

namespace petrel::bench {
namespace {

using namespace std::chrono_literals;

constexpr std::uint16_t kService = 1;
constexpr std::uint32_t kConnections = 131072;  // the configuration's defaults
constexpr std::uint32_t kClients = 65536;
constexpr std::uint32_t kFirstIfindex = 100;  // none of ours: redirects are not carried out here
constexpr std::uint8_t kTcp = 6;

void require(bool good, const std::string& what) {
  if (!good) throw std::runtime_error(what + ": " + std::strerror(errno));
}

std::uint16_t be16(std::uint16_t value) {
  return static_cast<std::uint16_t>(value << 8 | value >> 8);
}

std::uint64_t now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

test::Endpoint backend_at(std::uint32_t id) {
  return test::endpoint("198.51.100." + std::to_string(id), 8080);
}

bpf::next_hop hop_to(std::uint32_t number) {
  const auto id = static_cast<std::uint8_t>(number);
  return {kFirstIfindex + number, {0x02, 0, 0, 1, 0, id}, {0x02, 0, 0, 2, 0, id}};
}

int drop_event(void*, void*, std::size_t) { return 0; }

}  // namespace

// --- loading ------------------------------------------------------------------------------------

World::World(const WorldOptions& options)
    : skeleton_(open_balancer()), dsr_((options.service_flags & bpf::SERVICE_DSR) != 0) {
  require(skeleton_ != nullptr, "open the balancer");
  // Long enough that no pause of a busy machine turns one case into another.
  constexpr std::uint64_t kLongNs = std::chrono::nanoseconds(1h).count();
  skeleton_->rodata->retry_window_ns = kLongNs;
  skeleton_->rodata->handshake_timeout_ns = kLongNs;
  skeleton_->rodata->wire_sensor = options.wire_sensor;
  skeleton_->rodata->half_open_mask = kHalfOpen / HALF_OPEN_WAYS - 1;
  skeleton_->rodata->pending_mask = kHalfOpen / 4 - 1;
  skeleton_->rodata->schedules_mask = kHalfOpen / 4 - 1;
  const std::uint32_t ring = 2 * ring_slots(kBackends);
  const std::pair<const char*, std::uint32_t> sizes[] = {
      {"backends", kBackends + 1},   {"weights", kBackends + 1},  {"backend_stats", kBackends + 1},
      {"inflight", kBackends + 1},   {"service_stats", 2},        {"svc_inflight", 2},
      {"retry_counts", 2},           {"retry_odds", 2},           {"schedules", kHalfOpen / 4},
      {"budgets", 2},                {"admissions", 2},           {"verdicts", 2 * bpf::VERDICTS},
      {"ring", ring},
      {"connections", kConnections}, {"clients", kClients},       {"half_open", kHalfOpen},
      {"pending", kHalfOpen / 4},
  };
  for (const auto& [name, entries] : sizes) {
    bpf_map* map = bpf_object__find_map_by_name(skeleton_->obj, name);
    require(bpf_map__set_max_entries(map, entries) == 0, std::string("size map ") + name);
  }
  errno = -balancer_bpf__load(skeleton_);
  require(errno == 0, "load the balancer");
  events_ = ring_buffer__new(map_fd("events"), drop_event, nullptr, nullptr);
  require(events_ != nullptr, "open the events");
  write_backends(dsr_);
  write_ring();
  write_filter();
  write_rest();
  write_service(options.service_flags);
}

World::~World() {
  for (const auto& [name, memory] : memories_) ::munmap(memory.base, memory.bytes);
  ring_buffer__free(events_);
  balancer_bpf__destroy(skeleton_);
}

int World::program_fd() const { return bpf_program__fd(skeleton_->progs.petrel_balancer); }

// --- what the agent writes ----------------------------------------------------------------------

void World::write_service(std::uint32_t flags) {
  const std::uint32_t slots = ring_slots(kBackends);
  bpf::vip address_only{};
  update("vips", vip().address, address_only);
  const bpf::service service{kService, flags, 0, slots, slots, 0x5eed};
  // Whatever comes of a client that has failed is a retry, whenever it comes.
  bpf::retry_odds odds{};
  std::ranges::fill(odds.retry_hazard, std::numeric_limits<std::uint32_t>::max());
  odds.usual_gap = 1U << 30;
  update("retry_odds", std::uint32_t{kService}, odds);
  update("services", bpf::service_key{vip().address, be16(vip().port), kTcp, 0}, service);
  write_endpoint(vip(), bpf::ENDPOINT_SERVICE, 0, service);
}

// As the agent does beside the hash maps.
void World::write_endpoint(const test::Endpoint& at, bpf::endpoint_kind kind, std::uint32_t backend_id,
                           const bpf::service& service) {
  bpf::endpoint entry{};
  entry.address = at.address;
  entry.port_be = be16(at.port);
  entry.protocol = kTcp;
  entry.kind = static_cast<std::uint8_t>(kind);
  entry.backend_id = backend_id;
  entry.service = service;
  update("endpoints", bpf::hash_endpoint(&at.address, entry.port_be, kTcp), entry);
}

void World::write_backends(bool dsr) {
  for (std::uint32_t id = 1; id <= kBackends; ++id) {
    const test::Endpoint at = backend_at(id);
    bpf::backend backend{};
    backend.address = at.address;
    backend.vip = vip().address;
    backend.port_be = dsr ? 0 : be16(at.port);
    backend.vip_port_be = be16(vip().port);
    backend.service_id = kService;
    backend.state = bpf::BACKEND_UP;
    backend.mtu = 1500;
    backend.hop = hop_to(id);
    backend.service_flags = dsr ? kServiceFlags | bpf::SERVICE_DSR : kServiceFlags;
    update("backends", id, backend);
    if (!dsr) {
      update("backend_ids", bpf::backend_key{at.address, be16(at.port), kTcp, 0}, id);
      write_endpoint(at, bpf::ENDPOINT_BACKEND, id, {});
    }
    bpf::weight weight{};
    weight.base_weight = 100;
    weight.factor_q16 = 65536;
    update("weights", id, weight);
  }
}

void World::write_ring() {
  const std::uint32_t slots = ring_slots(kBackends);
  std::vector<RingMember> members;
  for (std::uint32_t id = 1; id <= kBackends; ++id) {
    const test::Endpoint at = backend_at(id);
    members.push_back({id, ring_seed(at.address, at.port), 100});
  }
  const std::vector<std::uint32_t> neutral = build_neutral(members, slots);
  for (std::uint32_t slot = 0; slot < slots; ++slot) {
    update("ring", slot, neutral[slot]);
    update("ring", slots + slot, neutral[slot]);
  }
}

void World::write_filter() {
  auto& filter = *static_cast<bpf::address_filter*>(memory("address_filter").base);
  const auto set = [](auto& words, const bpf::address& address) {
    const std::uint32_t bit = bpf::hash_address(&address);
    words[bit / 64] |= std::uint64_t{1} << (bit % 64);
  };
  set(filter.vips, vip().address);
  for (std::uint32_t id = 1; id <= kBackends; ++id) set(filter.backends, backend_at(id).address);
}

void World::write_rest() {
  const bpf::route_key clients{96 + 8, flow_source(0).address};
  update("routes", clients, bpf::route{hop_to(0), 1500});
  // Alive for as long as a benchmark may take.
  const bpf::control alive{now_ns(), std::uint64_t(std::chrono::nanoseconds(24h).count()), 1, 0, 0, 0};
  update("control", std::uint32_t{0}, alive);
  update("budgets", std::uint32_t{kService}, bpf::budget{});  // no retry is affordable
}

// --- connections --------------------------------------------------------------------------------

Outcome World::run(const test::Packet& packet) const {
  Outcome outcome;
  outcome.packet.resize(packet.size() + 128);  // room to see a packet that grew
  LIBBPF_OPTS(bpf_test_run_opts, options);
  options.data_in = packet.data();
  options.data_size_in = static_cast<std::uint32_t>(packet.size());
  options.data_out = outcome.packet.data();
  options.data_size_out = static_cast<std::uint32_t>(outcome.packet.size());
  options.repeat = 1;
  require(bpf_prog_test_run_opts(program_fd(), &options) == 0, "run the balancer on a packet");
  outcome.action = static_cast<int>(options.retval);
  outcome.packet.resize(options.data_size_out);
  return outcome;
}

OpenFlow World::open_flow(std::uint32_t flow) {
  OpenFlow open;
  open.client = flow_source(flow);
  const Outcome syn = run(syn_packet(open.client));  // sequence number 1000
  if (syn.action != XDP_REDIRECT) throw std::runtime_error("a SYN was not forwarded");
  open.client_seq = 1001;
  open.backend_seq = 5001;
  test::Segment segment;
  if (!dsr_) {
    open.backend = destination_of(syn.packet);
    segment.from = open.backend;
    segment.to = open.client;
    segment.flags = test::kSynAck;
    segment.seq = open.backend_seq - 1;
    segment.ack = open.client_seq;
    if (run(test::build(segment)).action != XDP_REDIRECT) {
      throw std::runtime_error("a SYN-ACK was not returned");
    }
  }
  segment.from = open.client;
  segment.to = vip();
  segment.flags = test::kAck;
  segment.seq = open.client_seq;
  segment.ack = open.backend_seq;
  run(test::build(segment));
  run(data_packet(open.client, vip(), open.client_seq, open.backend_seq));
  open.client_seq += kPayloadBytes;
  return open;
}

OpenFlow World::open_flows(std::uint32_t count) {
  OpenFlow open;
  for (std::uint32_t flow = 0; flow < count; ++flow) {
    open = open_flow(flow);
    if (flow % 10000 == 0) drain_events();
  }
  return open;
}

void World::fail_flows(std::uint32_t count) {
  bpf::client_filter filter{};
  for (std::uint32_t flow = 0; flow < count; ++flow) {
    zero("inflight");  // so that it is the ring's backend, not the second choice, that fails
    const Outcome syn = run(syn_packet(flow_source(flow)));
    bpf::client evidence{};
    evidence.failure_ns = now_ns();
    evidence.since = static_cast<std::uint32_t>(evidence.failure_ns >> 10);
    // By its port: the driver's SYNs all have one timestamp, whose clock would stand still.
    evidence.port_be = htons(flow_source(flow).port);
    bpf::failure& failure = evidence.failures[0];
    failure.syn_ns = evidence.failure_ns;
    failure.known_at = evidence.since;
    failure.backend_id = destination_of(syn.packet).address.bytes[15];
    failure.port_be = evidence.port_be;
    failure.kind = bpf::FAILURE_RESET;
    failure.attempt = 1;
    evidence.next = 1;
    const bpf::address client = flow_source(flow).address;
    update("clients", bpf::client_key{client, kService, 0}, evidence);
    filter.epochs[bpf::hash_client(&client, kService) % CLIENT_EPOCHS] =
        bpf::client_epoch(evidence.failure_ns);
  }
  update("client_filter", std::uint32_t{0}, filter);
  forget_half_open();
}

void World::forget_half_open() {
  zero("half_open");
  zero("inflight");
  zero("svc_inflight");
}

void World::drain_events() {
  // The kernel gives no way to skip what is unread.
  require(ring_buffer__consume(events_) >= 0, "read events");
}

VerdictCounts World::verdicts() const {
  const auto cpus = static_cast<std::size_t>(libbpf_num_possible_cpus());
  VerdictCounts counts(bpf::VERDICTS);
  std::vector<std::uint64_t> each(cpus);
  for (std::uint32_t key = 0; key < 2 * bpf::VERDICTS; ++key) {
    require(bpf_map_lookup_elem(map_fd("verdicts"), &key, each.data()) == 0, "read verdicts");
    counts[key % bpf::VERDICTS] += std::accumulate(each.begin(), each.end(), std::uint64_t{0});
  }
  return counts;
}

// --- maps ---------------------------------------------------------------------------------------

int World::map_fd(const std::string& name) const {
  return bpf_object__find_map_fd_by_name(skeleton_->obj, name.c_str());
}

template <class K, class V>
void World::update(const std::string& map, const K& key, const V& value) {
  require(bpf_map_update_elem(map_fd(map), &key, &value, BPF_ANY) == 0, "write " + map);
}

const World::Memory& World::memory(const std::string& name) {
  Memory& memory = memories_[name];
  if (memory.base != nullptr) return memory;
  constexpr std::size_t kPage = 4096;
  const bpf_map* map = bpf_object__find_map_by_name(skeleton_->obj, name.c_str());
  const std::size_t stride = (bpf_map__value_size(map) + 7U) / 8 * 8;
  const std::size_t bytes = (stride * bpf_map__max_entries(map) + kPage - 1) / kPage * kPage;
  void* base = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, map_fd(name), 0);
  require(base != MAP_FAILED, "map " + name + " into memory");
  memory = {base, bytes};
  return memory;
}

void World::zero(const std::string& name) {
  const Memory& found = memory(name);
  std::memset(found.base, 0, found.bytes);
}

}  // namespace petrel::bench
