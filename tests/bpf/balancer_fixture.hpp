// SPDX-License-Identifier: MIT
// The real balancer program, loaded but neither attached nor pinned, and its maps by their meaning.
//
// Packets go through it by BPF_PROG_TEST_RUN. Each test begins with maps as if just loaded, and in
// a network namespace of its own, so that this machine's routes cannot answer bpf_fib_lookup.
#pragma once

#include <bpf/libbpf.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>

#include <array>
#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "bpf/features.h"
#include "bpf/model.h"
#include "bpf/types.h"
#include "tests/bpf/packet.hpp"

struct balancer_bpf;

namespace petrel::test {

using namespace std::chrono_literals;

// The program's rodata. The defaults let no slow machine turn one case into another.
struct LoadOptions {
  std::chrono::nanoseconds retry_window = 1h;
  std::chrono::nanoseconds handshake_timeout = 1h;
  bool wire_sensor = true;
  std::chrono::nanoseconds failover_after = 1h;
  bool tap_on = false;
  bool back_by_redirect = false;
  bool score_in_kernel = false;
  std::uint32_t max_connections = 1024;
  std::uint32_t max_clients = 1024;
  // Off: the kernel's own clock, for who runs packets on several CPUs.
  bool set_clock = true;

  auto operator<=>(const LoadOptions&) const = default;
};

struct Outcome {
  int action = -1;  // XDP_PASS, XDP_TX, XDP_REDIRECT
  Packet packet;
};

using VerdictCounts = std::array<std::uint64_t, bpf::VERDICTS>;

constexpr std::uint32_t kOurIfindex = 1;   // lo: where BPF_PROG_TEST_RUN lets packets come from
constexpr std::uint32_t kHopIfindex = 100;  // + backend id: where its cached next hop is
constexpr std::uint32_t kSlots = 61;        // of each ring
constexpr std::chrono::nanoseconds kPacketTime = 100us;
// dsr's outer sources: these 16 bits, or 64, and then the flow's own.
constexpr std::array<std::uint8_t, 2> kEncapV4{172, 16};
constexpr std::array<std::uint8_t, 8> kEncapV6{0x01, 0, 0, 0, 0, 0, 0xab, 0xcd};

bpf::next_hop hop_to(std::uint32_t backend_id);
// The segment as it leaves the balancer by that hop, readdressed.
Packet sent_on(Segment segment, const Endpoint& from, const Endpoint& to,
               const bpf::next_hop& hop);
// The balancer's RST to whoever sent the segment (RFC 9293, 3.10.7.1).
Packet reset_of(const Segment& segment);

// What came through the ring buffer.
struct Sent {
  std::vector<bpf::event> events;
  std::vector<bpf::record> records;
};

// Retries of whatever failed come often, and as often whenever: no time passes in most tests.
bpf::retry_odds eager_odds();

class Balancer {
 public:
  Balancer();
  ~Balancer();

  // 0, or the negative errno with which the kernel refused; libbpf says more on stderr.
  int load(const LoadOptions& options);
  bool loaded() const { return event_ring_ != nullptr; }
  // Packets of several buffers.
  bool takes_fragments() const;
  void reset();  // empties what packets have filled

  Outcome run(const Packet& packet);
  Outcome run_hedge(const Packet& frame);  // by petrel_hedge
  // The program's clock, where it is set: each packet comes kPacketTime after the one before, and
  // what comes by nobody's doing (a client waits, a timer runs) is passed here.
  void pass(std::chrono::nanoseconds time) { now_ns_ += static_cast<std::uint64_t>(time.count()); }
  std::uint64_t now_ns() const { return now_ns_; }

  // Everything of hosts.hpp, all slots of `service` naming b1, those of `other_service` b4; the
  // agent alive. Then change what the test is about.
  void write_defaults(const Hosts& hosts);
  void set_service(const Hosts& hosts, std::uint32_t flags);
  // The slots name these in turn.
  void fill_ring(std::uint16_t service, const std::vector<std::uint32_t>& backend_ids);
  void fill_neutral(std::uint16_t service, const std::vector<std::uint32_t>& backend_ids);
  void set_state(std::uint32_t backend_id, bpf::backend_state state);
  void set_hop(std::uint32_t backend_id, const bpf::next_hop& hop);
  void join(const Hosts& hosts, std::uint32_t backend_id);  // it becomes one of hosts.service
  void retire(std::uint32_t backend_id);  // the entry becomes an unused one
  void set_weight(std::uint32_t backend_id, std::uint32_t base_weight, std::uint32_t risk_q16,
                  std::uint32_t factor_q16 = 65536);
  void set_inflight(std::uint32_t backend_id, std::int64_t requests);
  void set_ends_abandoned(std::uint16_t service_id, bool ends);
  void set_control(const bpf::control& control);
  // What the defaults do not have: other services (their rings are those of service `id`), VIPs with
  // ranges, backends of other protocols, limits, budgets, routes to clients.
  void add_service(const bpf::service_key& key, std::uint16_t id, std::uint32_t flags);
  void add_vip(const bpf::address& address, const bpf::vip& vip = {});
  void name_backend(const Endpoint& at, std::uint8_t protocol, std::uint32_t id);
  bpf::backend backend(std::uint32_t id);
  void set_backend(std::uint32_t id, const bpf::backend& backend);
  void set_limits(std::uint32_t id, bool of_service, std::uint64_t limit,
                  std::uint64_t retry_limit);
  void set_service_inflight(std::uint16_t service, std::int64_t requests);
  void set_admissions(std::uint16_t service, const bpf::budget& shares);
  bpf::budget admissions(std::uint16_t service);
  void set_budget(std::uint16_t service, const bpf::budget& budget);
  void set_retry_odds(std::uint16_t service, const bpf::retry_odds& odds);
  bpf::retry_counts retry_counts(std::uint16_t service);  // summed over the CPUs
  bpf::budget budget(std::uint16_t service);
  void set_route(const bpf::route_key& key, const bpf::route& route);
  void set_tap(const bpf::tap_wish& wish);  // with tap_on
  int taps_fd() const { return map_fd("taps"); }
  // What outcomes are scored by, with score_in_kernel. `at`: which of the two entries; it is in force.
  void set_model(const bpf::scoring_model& model, std::uint32_t at = 1);
  void set_views(std::uint32_t backend_id, const bpf::backend_view& backend, std::uint16_t service,
                 const bpf::service_view& view);
  bpf::kernel_risk kernel_risk(std::uint32_t backend_id);
  void set_connection(const bpf::connection_key& key, const bpf::connection& connection);

  std::optional<bpf::connection> connection(const bpf::connection_key& key);
  std::size_t connections();  // how many there are
  void forget_connections();
  std::optional<bpf::half_open> half_open(const bpf::connection_key& key);
  std::vector<bpf::half_open> half_open_flows();
  std::size_t clients();  // how many failures are remembered
  bpf::backend_stats backend_stats(std::uint32_t backend_id);  // summed over the CPUs
  bpf::service_stats service_stats(std::uint16_t service);
  VerdictCounts verdicts();  // summed over all services
  VerdictCounts verdicts_of(std::uint16_t service);  // 0: of no service
  std::int64_t inflight(std::uint32_t backend_id);
  std::int64_t service_inflight(std::uint16_t service);
  std::int64_t waiting(std::uint32_t backend_id);      // sums of the waiting arrays
  std::int64_t waiting_syn(std::uint32_t backend_id);
  std::vector<bpf::event> events();  // those that came since the last call
  std::vector<bpf::record> records();  // the same; there are some while control.recording

 private:
  Outcome run_program(int program, const Packet& packet);
  template <class K, class V>
  void update(const char* map, const K& key, const V& value);
  template <class V, class K>
  std::optional<V> lookup(const char* map, const K& key);
  template <class Word>
  std::vector<Word> lookup_per_cpu(const char* map, std::uint32_t key, std::size_t bytes);
  void put_endpoint(const bpf::endpoint& endpoint);
  void set_filter_bit(bool vip, const bpf::address& address);
  template <class K>
  std::size_t count_keys(const char* map);
  template <class K>
  void clear_hash(const char* map);
  void clear_array(const char* map);
  int map_fd(const char* name) const;
  std::uint32_t ring_offset(std::uint16_t service, bool neutral) const;

  balancer_bpf* skeleton_ = nullptr;
  ring_buffer* event_ring_ = nullptr;
  Sent sent_;
  std::uint64_t now_ns_ = 0;
  std::vector<std::uint32_t> endpoint_slots_;  // those that are not free
  std::span<bpf::half_open> half_open_;  // the map itself: a flood's tests read it often
};

std::uint64_t monotonic_now_ns();

// What grew between two readings: {counter, by how much}.
using VerdictGrowth = std::map<int, std::uint64_t>;
VerdictGrowth growth(const VerdictCounts& before, const VerdictCounts& after);

class BalancerTest : public testing::Test {
 protected:
  explicit BalancerTest(const LoadOptions& options = {}) : lb(shared(options)), options_(options) {}

  // Skips, saying what is missing, where the kernel gives no BPF or no namespace.
  void SetUp() override;

  // Of services that have not been told others.
  virtual bpf::retry_odds odds() const { return eager_odds(); }
  void write_defaults(const Hosts& hosts);

  Balancer& lb;

 private:
  // One for all tests of a process that want the same options: verifying it takes 0.1 s.
  static Balancer& shared(const LoadOptions& options);

  LoadOptions options_;
};

}  // namespace petrel::test
