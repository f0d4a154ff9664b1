// SPDX-License-Identifier: MIT
// World: one loaded balancer with everything that the agent would have written into its maps.
//
//     flows of 10.0.0.0/8 ──► 192.0.2.200:80 (the service) ──► 198.51.100.1:8080 to .16
//
// Each case has a world to itself where its packets would disturb another's tables. Neither pinned
// nor attached. Connections come about by packets only, so that the layout of what the balancer
// remembers of them is its own affair. What fails throws std::runtime_error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "bpf/types.h"
#include "tests/bpf/packet.hpp"

struct balancer_bpf;
struct ring_buffer;

namespace petrel::bench {

constexpr std::uint32_t kServiceFlags = bpf::SERVICE_READY | bpf::SERVICE_ACT |
                                        bpf::SERVICE_STEER | bpf::SERVICE_TWO_CHOICES |
                                        bpf::SERVICE_FAILOVER | bpf::SERVICE_MASK;
constexpr std::uint32_t kBackends = 16;
constexpr std::uint32_t kHalfOpen = 65536;  // the configuration's default
constexpr std::size_t kPayloadBytes = 64;   // of each data segment

struct WorldOptions {
  std::uint32_t service_flags = kServiceFlags;
  bool wire_sensor = true;
};

// A packet as it left, and what the program said.
struct Outcome {
  int action = -1;
  test::Packet packet;
};

// A client's connection after its handshake and the first bytes of a request.
struct OpenFlow {
  test::Endpoint client;
  test::Endpoint backend;
  std::uint32_t client_seq = 0;   // of the next byte from the client
  std::uint32_t backend_seq = 0;  // and from the backend
};

using VerdictCounts = std::vector<std::uint64_t>;  // by enum verdict, summed over services and CPUs

const test::Endpoint& vip();
test::Endpoint flow_source(std::uint32_t flow);  // as the driver computes it
test::Endpoint source_of(const test::Packet& packet);  // IPv4, without options
test::Endpoint destination_of(const test::Packet& packet);

// A segment as Linux sends it, at least BENCH_HEADER_BYTES long.
test::Packet syn_packet(const test::Endpoint& from);
test::Packet data_packet(const test::Endpoint& from, const test::Endpoint& to, std::uint32_t seq,
                         std::uint32_t ack);

class World {
 public:
  explicit World(const WorldOptions& options);
  World(World&&) = delete;
  ~World();

  int program_fd() const;
  Outcome run(const test::Packet& packet) const;

  // Three-way handshake and first bytes; in dsr without the backend's part.
  OpenFlow open_flow(std::uint32_t flow);
  // Flows 0 to count - 1. Returns the last one; all are at the same sequence numbers.
  OpenFlow open_flows(std::uint32_t count);
  // The next SYN of each of these flows will be a retry of a request that failed on the backend
  // which the ring names for it. For good: the failures are never used up.
  void fail_flows(std::uint32_t count);

  // Empties the table of half-open flows, and forgets what was in flight.
  void forget_half_open();
  // Reads and drops what the program has reported, as an agent would meanwhile.
  void drain_events();
  VerdictCounts verdicts() const;

 private:
  // A memory-mapped array.
  struct Memory {
    void* base = nullptr;
    std::size_t bytes = 0;
  };

  void write_service(std::uint32_t flags);
  void write_endpoint(const test::Endpoint& at, bpf::endpoint_kind kind, std::uint32_t backend_id,
                      const bpf::service& service);
  void write_backends(bool dsr);
  void write_ring();
  void write_filter();
  void write_rest();
  int map_fd(const std::string& name) const;
  const Memory& memory(const std::string& name);
  void zero(const std::string& name);
  template <class K, class V>
  void update(const std::string& map, const K& key, const V& value);

  balancer_bpf* skeleton_ = nullptr;
  ring_buffer* events_ = nullptr;
  bool dsr_ = false;
  std::map<std::string, Memory> memories_;
};

}  // namespace petrel::bench
