// SPDX-License-Identifier: MIT
// World: the services, backends and routes that fuzzed packets meet, described once for both
// families, and the maps written from that description.
//
//     clients  203.0.113.n / 2001:db8:3::n   0-63 routed to a hop, 64-127 to where they came from,
//                                            others by nobody
//     VIPs     192.0.2.200+n / 2001:db8:1::200+n
//     backends 198.51.100.n / 2001:db8:2::n
#pragma once

#include <cstdint>
#include <vector>

#include "bpf/types.h"
#include "tests/bpf/hosts.hpp"

namespace petrel::fuzz {

class Instance;

using test::Endpoint;

constexpr std::uint32_t kIngressIfindex = 1;  // lo: where BPF_PROG_TEST_RUN lets packets come from
constexpr std::uint32_t kRingSlots = 61;
constexpr std::uint8_t kTcpProtocol = 6;
constexpr std::uint8_t kUdpProtocol = 17;

constexpr std::uint32_t kFirstNote = bpf::VERDICT_MISS_SYN;  // what comes before is a verdict

enum class Net { kVip, kBackend, kClient, kRouter };
bpf::address address_of(bool v6, Net net, std::uint8_t host);

struct Service {
  std::uint16_t id = 0;
  bool v6 = false;
  bpf::address vip{};
  std::uint8_t protocol = 0;
  std::uint16_t first_port = 0, last_port = 0;
  std::uint32_t flags = 0;
  std::vector<std::uint32_t> backends{};

  bool has_range() const { return first_port != last_port; }
  bool dsr() const { return flags & bpf::SERVICE_DSR; }
};

struct Backend {
  std::uint32_t id = 0;
  std::uint16_t service = 0;
  Endpoint at{};             // port 0: the one that was asked for
  bpf::next_hop hop{};       // ifindex 0: none
  std::uint16_t mtu = 0;     // 0: unknown
  bpf::backend_state state = bpf::BACKEND_UP;
};

struct Way {
  bpf::address prefix{};
  std::uint32_t prefix_bits = 0;
  bpf::next_hop hop{};
  std::uint32_t mtu = 0;
};

class World {
 public:
  World();

  const std::vector<Service>& services() const { return services_; }
  std::vector<Backend>& backends() { return backends_; }
  const std::vector<Backend>& backends() const { return backends_; }
  const Service& service(std::uint16_t id) const { return services_.at(id - 1U); }
  const Backend& backend(std::uint32_t id) const { return backends_.at(id - 1U); }

  // nullptr: none. What a packet to, or from, there belongs to.
  const Service* service_at(const bpf::address& vip, std::uint16_t port,
                            std::uint8_t protocol) const;
  const Backend* backend_at(const bpf::address& address, std::uint16_t port,
                            std::uint8_t protocol) const;
  bool is_vip(const bpf::address& address) const;
  bool is_backend(const bpf::address& address) const;  // of a nat service
  const Way* route(const bpf::address& to) const;

  void write(Instance& instance) const;
  void write_backend(Instance& instance, std::uint32_t id) const;
  // The slots name the service's backends in turn, beginning with the `turn`th.
  void write_ring(Instance& instance, std::uint16_t service, std::uint32_t turn) const;
  static void write_heartbeat(Instance& instance, bool silent);

 private:
  void add_family(bool v6);
  void write_service(Instance& instance, const Service& service) const;

  std::vector<Service> services_;  // by id - 1, as the backends
  std::vector<Backend> backends_;
  std::vector<Way> ways_;
};

bool same(const bpf::address& a, const bpf::address& b);

}  // namespace petrel::fuzz
