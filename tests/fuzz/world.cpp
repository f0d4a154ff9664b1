// SPDX-License-Identifier: MIT
#include "tests/fuzz/world.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>

#include "bpf/hash.h"
#include "bpf/odds.h"
#include "tests/fuzz/instance.hpp"

namespace petrel::fuzz {
namespace {

enum class HopKind { kOwn, kBack, kNone };  // redirected, sent back where it came in, unknown

struct BackendSpec {
  std::uint8_t host;
  std::uint16_t port = 0;
  HopKind hop = HopKind::kOwn;
  bpf::backend_state state = bpf::BACKEND_UP;
  std::uint16_t mtu = 0;
  bool always_v6 = false;  // IPv4 in IPv6
};

struct ServiceSpec {
  std::uint8_t vip;
  std::uint8_t protocol;
  std::uint16_t first_port, last_port;
  std::uint32_t flags;
  std::vector<BackendSpec> backends;
};

// Both families have these: one of each way that a packet can take.
const std::vector<ServiceSpec>& specs() {
  using enum HopKind;
  constexpr std::uint32_t kReady = bpf::SERVICE_READY | bpf::SERVICE_ACT;
  constexpr std::uint32_t kMoves = bpf::SERVICE_FAILOVER | bpf::SERVICE_MASK;
  static const std::vector<ServiceSpec> kSpecs{
      {200, kTcpProtocol, 80, 80,
       kReady | kMoves | bpf::SERVICE_STEER | bpf::SERVICE_TWO_CHOICES,
       {{1, 8080}, {2, 8080}, {3, 8080, kBack}, {4, 80, kOwn, bpf::BACKEND_UP, 1400}}},
      {200, kUdpProtocol, 53, 53, kReady, {{1, 5353}, {2, 53, kBack}}},
      {200, kTcpProtocol, 1000, 1999, kReady | kMoves | bpf::SERVICE_KEEP_PORT,
       {{5}, {6, 0, kOwn, bpf::BACKEND_UP, 1300}}},
      {201, kTcpProtocol, 443, 443,
       kReady | bpf::SERVICE_BUDGET | bpf::SERVICE_ADMIT | bpf::SERVICE_RESET_GONE,
       {{7, 8443}, {8, 8443}, {9, 8443, kOwn, bpf::BACKEND_REMOVED}}},
      {200, kTcpProtocol, 8000, 8000, kReady | bpf::SERVICE_DSR,
       {{10, 0, kOwn, bpf::BACKEND_UP, 1500}, {11, 0, kBack, bpf::BACKEND_UP, 1400, true}}},
      {202, kUdpProtocol, 1, 65535, kReady | bpf::SERVICE_DSR | bpf::SERVICE_AFFINITY,
       {{12, 0, kOwn, bpf::BACKEND_UP, 1500}, {13, 0, kOwn, bpf::BACKEND_UP, 1300, true}}},
      {200, kTcpProtocol, 81, 81, bpf::SERVICE_ACT, {{14, 8081}}},  // not complete yet
      {200, kTcpProtocol, 82, 82, kReady, {{14, 8082, kOwn, bpf::BACKEND_REMOVED}}},
      {200, kTcpProtocol, 83, 83, kReady | kMoves, {{15, 8083, kNone}, {16, 8083}}},
      {200, kUdpProtocol, 84, 84, kReady | bpf::SERVICE_DSR, {{17, 0, kNone}}},
      {201, kUdpProtocol, 2000, 2999, kReady | bpf::SERVICE_KEEP_PORT,
       {{18, 0, kOwn, bpf::BACKEND_UP, 1280}, {19, 0, kNone}}},
  };
  return kSpecs;
}

std::uint16_t be16(std::uint16_t value) { return __builtin_bswap16(value); }

bpf::next_hop hop_of(HopKind kind, std::uint32_t number) {
  if (kind == HopKind::kNone) return {};
  const auto high = static_cast<std::uint8_t>(number >> 8), low = static_cast<std::uint8_t>(number);
  return {kind == HopKind::kBack ? kIngressIfindex : 100 + number,
          {0x02, 0, 0, 1, high, low},
          {0x02, 0, 0, 2, high, low}};
}

bool within(const bpf::address& address, const Way& way) {
  const std::uint32_t whole = way.prefix_bits / 8, rest = way.prefix_bits % 8;
  if (std::memcmp(address.bytes, way.prefix.bytes, whole) != 0) return false;
  return rest == 0 || (address.bytes[whole] ^ way.prefix.bytes[whole]) >> (8 - rest) == 0;
}

}  // namespace

bool same(const bpf::address& a, const bpf::address& b) {
  return std::memcmp(a.bytes, b.bytes, sizeof(a.bytes)) == 0;
}

bpf::address address_of(bool v6, Net net, std::uint8_t host) {
  static constexpr std::uint8_t kV4[4][3] = {
      {192, 0, 2}, {198, 51, 100}, {203, 0, 113}, {10, 9, 8}};
  const auto index = static_cast<std::size_t>(net);
  bpf::address address{};
  if (v6) {
    const std::array<std::uint8_t, 6> prefix{0x20, 0x01, 0x0d, 0xb8, 0,
                                             static_cast<std::uint8_t>(index + 1)};
    std::ranges::copy(prefix, address.bytes);
  } else {
    address.bytes[10] = address.bytes[11] = 0xff;
    std::ranges::copy(kV4[index], address.bytes + 12);
  }
  address.bytes[15] = host;
  return address;
}

World::World() {
  add_family(false);
  add_family(true);
}

void World::add_family(bool v6) {
  for (const ServiceSpec& spec : specs()) {
    Service service{static_cast<std::uint16_t>(services_.size() + 1), v6,
                    address_of(v6, Net::kVip, spec.vip), spec.protocol,
                    spec.first_port, spec.last_port, spec.flags};
    for (const BackendSpec& one : spec.backends) {
      const auto id = static_cast<std::uint32_t>(backends_.size() + 1);
      service.backends.push_back(id);
      backends_.push_back({id, service.id,
                           {address_of(v6 || one.always_v6, Net::kBackend, one.host), one.port},
                           hop_of(one.hop, id), one.mtu, one.state});
    }
    services_.push_back(service);
  }
  const std::uint32_t number = v6 ? 800 : 700;
  ways_.push_back({address_of(v6, Net::kClient, 0), 122, hop_of(HopKind::kOwn, number), 1500});
  ways_.push_back(
      {address_of(v6, Net::kClient, 64), 122, hop_of(HopKind::kBack, number + 1), 1300});
}

const Service* World::service_at(const bpf::address& vip, std::uint16_t port,
                                 std::uint8_t protocol) const {
  const auto found = std::ranges::find_if(services_, [&](const Service& service) {
    return service.protocol == protocol && port >= service.first_port &&
           port <= service.last_port && same(service.vip, vip);
  });
  return found == services_.end() ? nullptr : &*found;
}

const Backend* World::backend_at(const bpf::address& address, std::uint16_t port,
                                 std::uint8_t protocol) const {
  const auto find = [&](std::uint16_t wanted) -> const Backend* {
    for (const Backend& backend : backends_) {
      const Service& its = service(backend.service);
      if (backend.at.port == wanted && its.protocol == protocol && !its.dsr() &&
          same(backend.at.address, address))
        return &backend;
    }
    return nullptr;
  };
  const Backend* exact = port != 0 ? find(port) : nullptr;
  return exact != nullptr ? exact : find(0);
}

bool World::is_vip(const bpf::address& address) const {
  return std::ranges::any_of(services_, [&](const Service& s) { return same(s.vip, address); });
}

bool World::is_backend(const bpf::address& address) const {
  return std::ranges::any_of(backends_, [&](const Backend& backend) {
    return !service(backend.service).dsr() && same(backend.at.address, address);
  });
}

const Way* World::route(const bpf::address& to) const {
  for (const Way& way : ways_) {
    if (within(to, way)) return &way;
  }
  return nullptr;
}

// --- into the maps ------------------------------------------------------------------------------

void World::write_backend(Instance& instance, std::uint32_t id) const {
  const Backend& from = backend(id);
  const Service& its = service(from.service);
  bpf::backend entry{};
  entry.address = from.at.address;
  entry.vip = its.vip;
  entry.port_be = be16(from.at.port);
  entry.vip_port_be = its.has_range() ? 0 : be16(its.first_port);
  entry.service_id = its.id;
  entry.state = from.state;
  entry.mtu = from.mtu;
  entry.hop = from.hop;
  entry.service_flags = its.flags;
  instance.update("backends", &id, &entry);
  bpf::weight weight{};
  weight.base_weight = 100;
  weight.factor_q16 = 65536;
  instance.update("weights", &id, &weight);
  if (its.dsr()) return;
  const std::uint32_t bit = bpf::hash_address(&entry.address);
  instance.address_filter[0].backends[bit / 64] |= 1ULL << (bit % 64);
  const bpf::backend_key key{entry.address, entry.port_be, its.protocol, 0};
  instance.update("backend_ids", &key, &id);
}

void World::write_ring(Instance& instance, std::uint16_t id, std::uint32_t turn) const {
  const std::vector<std::uint32_t>& in_turn = service(id).backends;
  for (std::uint32_t slot = 0; slot < kRingSlots; ++slot) {
    instance.ring[(id - 1U) * 2 * kRingSlots + slot] = in_turn[(slot + turn) % in_turn.size()];
    instance.ring[((id - 1U) * 2 + 1) * kRingSlots + slot] = in_turn[slot % in_turn.size()];
  }
}

void World::write_heartbeat(Instance& instance, bool silent) {
  instance.control[0] = {silent ? 0U : 1U, std::numeric_limits<std::int64_t>::max(), 1, 0, 0, 0};
}

void World::write_service(Instance& instance, const Service& service) const {
  const bpf::service_key key{service.vip, be16(service.first_port), service.protocol, 0};
  const std::uint32_t offset = (service.id - 1U) * 2 * kRingSlots;
  const bpf::service entry{service.id, service.flags, offset, offset + kRingSlots, kRingSlots, 0};
  instance.update("services", &key, &entry);
  const std::uint32_t bit = bpf::hash_address(&service.vip);
  instance.address_filter[0].vips[bit / 64] |= 1ULL << (bit % 64);
  bpf::vip vip{};
  for (const Service& one : services_) {
    if (same(one.vip, service.vip) && one.has_range())
      vip.range[vip.ranges++] = {one.first_port, one.last_port, one.protocol, {}};
  }
  instance.update("vips", &service.vip, &vip);
  write_ring(instance, service.id, 0);
  // A few retries, and few enough in flight, that both limits are met. The bucket is never
  // refilled: that would depend on the machine's pace.
  bpf::budget budget{};
  budget.burst_q16 = budget.tokens_q16 = 3U << 16;
  const std::uint32_t id = service.id;
  instance.update("budgets", &id, &budget);
  // Whatever follows a failure is its retry, whenever it comes: labels do not depend on the machine's
  // pace, either.
  bpf::retry_odds odds{};
  std::ranges::fill(odds.retry_hazard, std::numeric_limits<std::uint32_t>::max());
  odds.usual_gap = 1U << 30;
  odds.same_factor = 1 << ODDS_SAME_SHIFT;
  instance.update("retry_odds", &id, &odds);
  instance.service_inflight[id].limit = 8;
  instance.service_inflight[id].retry_limit = 6;
  instance.service_inflight[id].ends_abandoned = id % 2;
}

void World::write(Instance& instance) const {
  for (const Service& service : services_) write_service(instance, service);
  for (const Backend& backend : backends_) {
    write_backend(instance, backend.id);
    instance.inflight[backend.id].limit = 4;
  }
  for (const Way& way : ways_) {
    const bpf::route_key key{way.prefix_bits, way.prefix};
    const bpf::route route{way.hop, way.mtu};
    instance.update("routes", &key, &route);
  }
  write_heartbeat(instance, false);
}

}  // namespace petrel::fuzz
