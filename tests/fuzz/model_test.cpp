// SPDX-License-Identifier: MIT
// Random histories of one service against model.hpp: packets of many flows while weights, states,
// rings and the agent change. A history is data, so that one that fails can be made short.
//
// PETREL_MODEL_SEQUENCES: how many (300); PETREL_MODEL_SEED: of the first one (1).
#include "tests/fuzz/model.hpp"

#include <gtest/gtest.h>
#include <sched.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <algorithm>

#include "bpf/hash.h"
#include "ring/ring.hpp"
#include "tests/bpf/datagram.hpp"
#include "tests/fuzz/instance.hpp"
#include "tests/fuzz/rng.hpp"
#include "tests/fuzz/world.hpp"

namespace petrel::fuzz {
namespace {

constexpr std::size_t kSteps = 200;
constexpr std::uint32_t kFlows = 24;
constexpr std::uint32_t kHalfOpen = 64;  // few: a flood makes flows give way
constexpr std::uint16_t kServiceId = 1;
constexpr std::size_t kCheckEach = 8;  // steps between two readings of all counters

enum class Op {
  kSyn, kSynAgain, kAck, kRequest, kClientFin, kClientRst, kSynAck, kAnswer, kBackendFin, kRefusal,
  kOtherSynAck, kOtherAnswer, kState, kWeights, kReload, kSilence, kFlood, kOps
};
constexpr const char* kOpNames[] = {
    "SYN", "the same SYN", "ACK", "request", "client's FIN", "client's RST", "SYN-ACK", "answer",
    "backend's FIN", "refusal", "another backend's SYN-ACK", "another backend's answer",
    "backend state", "weights", "reload", "agent silent or not", "flood"};

struct Step {
  Op op;
  std::uint32_t flow;
  std::uint32_t argument;
};

std::uint64_t from_environment(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

std::uint16_t be16(std::uint16_t value) { return __builtin_bswap16(value); }

std::vector<Step> history(std::uint64_t seed) {
  // What is done to flows is most of it: state, weights and so on come between.
  static constexpr std::uint32_t kShare[] = {14, 8, 10, 16, 4, 2, 18, 14, 3,
                                             5,  3, 3,  4,  4, 2, 2,  1};
  Rng rng(seed);
  std::vector<Step> steps;
  std::uint32_t all = 0;
  for (const std::uint32_t share : kShare) all += share;
  while (steps.size() < kSteps) {
    std::uint32_t drawn = rng.below(all), op = 0;
    while (drawn >= kShare[op]) drawn -= kShare[op++];
    steps.push_back({static_cast<Op>(op), rng.below(kFlows), rng.word()});
  }
  return steps;
}

// The maps and the model side by side, through one history.
class History {
 public:
  History(Instance& instance, bool v6) : instance_(instance), v6_(v6), flows_(kFlows) {
    instance_.forget_flows();
    vip_ = {address_of(v6, Net::kVip, 200), 80};
    for (std::uint32_t id = 1; id <= kModelBackends; ++id) {
      members_.push_back({id, ring_seed(backend(id).address, 8080), 100});
      write_state(id, bpf::BACKEND_UP);
    }
    slots_ = ring_slots(kModelBackends);
    model_.neutral = model_.in_force = build_neutral(members_, slots_);
    model_.sets = kHalfOpen / HALF_OPEN_WAYS;
    write_rings();
    World::write_heartbeat(instance_, false);
    before_ = instance_.verdicts();
    for (std::uint32_t id = 1; id <= kModelBackends; ++id)
      stats_before_.push_back(instance_.backend_stats(id));
  }

  // "" or what is against the model, with the number of the step.
  std::string run(const std::vector<Step>& steps) {
    for (std::size_t i = 0; i < steps.size(); ++i) {
      std::string problem = take(steps[i]);
      if (problem.empty()) problem = compare_inflight();
      if (problem.empty() && (i % kCheckEach == 0 || i + 1 == steps.size()))
        problem = compare_counters();
      if (!problem.empty()) return "step " + std::to_string(i) + ": " + problem;
    }
    return "";
  }

 private:
  struct Flow {
    std::uint32_t client_seq = 0, backend_seq = 0;
  };

  Endpoint backend(std::uint32_t id) const {
    return {address_of(v6_, Net::kBackend, static_cast<std::uint8_t>(id)), 8080};
  }
  // A client to itself, so that none of them is taken for another's retry.
  Endpoint client(std::uint32_t flow) const {
    bpf::address address = address_of(v6_, Net::kClient, static_cast<std::uint8_t>(flow));
    address.bytes[14] = static_cast<std::uint8_t>(address.bytes[14] ^ flow >> 8);
    return {address, 40000};
  }
  bpf::connection_key key(std::uint32_t flow) const {
    return {client(flow).address, be16(40000), be16(80), kServiceId, 0};
  }

  std::string take(const Step& step);
  std::string syn(std::uint32_t flow, std::uint32_t seq);
  void set_weights(std::uint32_t random);
  void reload(std::uint32_t random);
  void write_state(std::uint32_t id, bpf::backend_state state);
  void write_rings();

  Seen send(const test::Segment& segment) {
    instance_.run(test::build(segment), out_);
    const bpf::tap_header tap = instance_.last_tap();
    return {tap.verdict, tap.notes, tap.backend_id};
  }
  test::Segment of_client(std::uint32_t flow, std::uint8_t flags) const {
    return {.from = client(flow), .to = vip_, .flags = flags, .seq = flows_[flow].client_seq,
            .ack = flows_[flow].backend_seq};
  }
  test::Segment of_backend(std::uint32_t flow, std::uint32_t id, std::uint8_t flags) const {
    return {.from = backend(id), .to = client(flow), .flags = flags,
            .seq = flows_[flow].backend_seq, .ack = flows_[flow].client_seq};
  }

  std::string compare_inflight() const;
  std::string compare_counters();

  Instance& instance_;
  bool v6_;
  Endpoint vip_;
  Model model_;
  std::vector<RingMember> members_;
  std::uint32_t slots_ = 0, ring_offset_ = 0, floods_ = 0;
  std::uint32_t flags_ = bpf::SERVICE_READY | bpf::SERVICE_ACT | bpf::SERVICE_FAILOVER |
                         bpf::SERVICE_MASK;
  std::vector<Flow> flows_;
  std::vector<std::uint64_t> before_;
  std::vector<bpf::backend_stats> stats_before_;
  std::vector<std::uint8_t> out_ = std::vector<std::uint8_t>(4096);
};

// --- the agent's part ---------------------------------------------------------------------------

void History::write_state(std::uint32_t id, bpf::backend_state state) {
  model_.state[id] = state;
  bpf::backend entry{};
  entry.address = backend(id).address;
  entry.vip = vip_.address;
  entry.port_be = be16(8080);
  entry.vip_port_be = be16(80);
  entry.service_id = kServiceId;
  entry.state = state;
  entry.hop = {100 + id, {2, 0, 0, 1}, {2, 0, 0, 2}};
  entry.service_flags = flags_;
  instance_.update("backends", &id, &entry);
  const bpf::backend_key at{entry.address, entry.port_be, kTcpProtocol, 0};
  instance_.update("backend_ids", &at, &id);
  const std::uint32_t bit = bpf::hash_address(&entry.address);
  instance_.address_filter[0].backends[bit / 64] |= 1ULL << (bit % 64);
}

void History::write_rings() {
  for (std::uint32_t slot = 0; slot < slots_; ++slot) {
    instance_.ring[ring_offset_ + slot] = model_.in_force[slot];
    instance_.ring[ring_offset_ + slots_ + slot] = model_.neutral[slot];
  }
  const bpf::service_key at{vip_.address, be16(80), kTcpProtocol, 0};
  const bpf::service service{kServiceId, flags_, ring_offset_, ring_offset_ + slots_, slots_, 0};
  instance_.update("services", &at, &service);
  const bpf::vip vip{};
  instance_.update("vips", &vip_.address, &vip);
  const std::uint32_t bit = bpf::hash_address(&vip_.address);
  instance_.address_filter[0].vips[bit / 64] |= 1ULL << (bit % 64);
  const bpf::route_key everywhere{0, {}};
  const bpf::route route{{300, {2, 0, 0, 1}, {2, 0, 0, 3}}, 1500};
  instance_.update("routes", &everywhere, &route);
}

// As each tick of the agent does: only slots that change are stored.
void History::set_weights(std::uint32_t random) {
  for (RingMember& member : members_) {
    const std::uint32_t drawn = random >> (3 * member.backend_id) & 7;
    const bool takes_none = model_.state[member.backend_id] != bpf::BACKEND_UP;
    member.weight = takes_none ? 0 : drawn == 0 ? 1 : drawn < 4 ? 100 : drawn * 13;
  }
  for (const RingChange& change : reweigh(model_.in_force, model_.neutral, members_)) {
    model_.in_force[change.slot] = change.backend_id;
    instance_.ring[ring_offset_ + change.slot] = change.backend_id;
  }
}

// Both rings to another place in the map; what becomes of removed backends' flows may change.
void History::reload(std::uint32_t random) {
  const std::uint32_t old = ring_offset_;
  ring_offset_ = old == 0 ? 2 * slots_ : 0;
  model_.reset_gone = random & 1;
  flags_ = model_.reset_gone ? flags_ | bpf::SERVICE_RESET_GONE
                             : flags_ & ~std::uint32_t{bpf::SERVICE_RESET_GONE};
  write_rings();
  for (std::uint32_t id = 1; id <= kModelBackends; ++id) write_state(id, model_.state[id]);
  for (std::uint32_t slot = 0; slot < 2 * slots_; ++slot) instance_.ring[old + slot] = 0;
}

// --- one step -----------------------------------------------------------------------------------

std::string History::syn(std::uint32_t flow, std::uint32_t seq) {
  test::Segment segment = of_client(flow, test::kSyn);
  segment.seq = seq;
  segment.ack = 0;
  flows_[flow].client_seq = std::max(flows_[flow].client_seq, seq + 1);
  return model_.syn(key(flow), seq, send(segment));
}

std::string History::take(const Step& step) {
  static constexpr bpf::backend_state kStates[] = {
      bpf::BACKEND_UP, bpf::BACKEND_UP, bpf::BACKEND_UP, bpf::BACKEND_QUARANTINED,
      bpf::BACKEND_DRAINING, bpf::BACKEND_REMOVED};
  Flow& flow = flows_[step.flow];
  const bpf::connection_key at = key(step.flow);
  std::uint32_t from = model_.backend_of(at);
  const HalfFlow* half = model_.half(at);
  switch (step.op) {
    case Op::kSyn:
      // Beyond all that the port has sent: its next request is none that was seen before.
      return syn(step.flow, flow.client_seq + 1 + (step.argument & 0xffff));
    case Op::kSynAgain:
      return half != nullptr && !half->adopted ? syn(step.flow, half->seq) : "";
    case Op::kAck: return model_.segment(at, false, false, false,
                                         send(of_client(step.flow, test::kAck)));
    case Op::kRequest: {
      test::Segment segment = of_client(step.flow, test::kAck | test::kPsh);
      segment.payload = "GET / HTTP/1.1\r\n\r\n";
      flow.client_seq += static_cast<std::uint32_t>(segment.payload.size());
      return model_.segment(at, true, false, false, send(segment));
    }
    case Op::kClientFin: {
      const Seen seen = send(of_client(step.flow, test::kFinAck));
      ++flow.client_seq;
      return model_.segment(at, false, true, false, seen);
    }
    case Op::kClientRst: return model_.segment(at, false, false, true,
                                               send(of_client(step.flow, test::kRst)));
    case Op::kOtherSynAck:
    case Op::kSynAck: {
      if (step.op == Op::kOtherSynAck) from = 1 + step.argument % kModelBackends;
      if (from == 0) return "";
      test::Segment segment = of_backend(step.flow, from, test::kSynAck);
      if (half != nullptr) segment.ack = half->seq + 1;
      // Only what the flow's own backend sends counts on.
      if (half != nullptr && half->backend == from) ++flow.backend_seq;
      return model_.syn_ack(at, from, send(segment));
    }
    case Op::kOtherAnswer:
    case Op::kAnswer: {
      if (step.op == Op::kOtherAnswer) from = 1 + step.argument % kModelBackends;
      if (from == 0) return "";
      test::Segment segment = of_backend(step.flow, from, test::kAck | test::kPsh);
      segment.payload = "HTTP/1.1 200 OK\r\n\r\n";
      flow.backend_seq += static_cast<std::uint32_t>(segment.payload.size());
      return model_.answer(at, from, true, false, send(segment));
    }
    case Op::kBackendFin: {
      if (from == 0) return "";
      const test::Segment segment = of_backend(step.flow, from, test::kFinAck);
      return model_.answer(at, from, false, true, send(segment));
    }
    case Op::kRefusal: {
      if (from == 0) return "";
      test::Segment segment = of_backend(step.flow, from, test::kRstAck);
      if (half != nullptr) segment.ack = half->seq + 1;
      return model_.refusal(at, from, send(segment));
    }
    case Op::kState:
      write_state(1 + step.flow % kModelBackends, kStates[step.argument % std::size(kStates)]);
      return "";
    case Op::kWeights: set_weights(step.argument); return "";
    case Op::kReload: reload(step.argument); return "";
    case Op::kSilence:
      model_.silent = !model_.silent;
      World::write_heartbeat(instance_, model_.silent);
      return "";
    default:
      for (std::uint32_t i = 0; i < 40; ++i) {
        flows_.resize(std::max<std::size_t>(flows_.size(), kFlows + floods_ + 1));
        const std::string problem = syn(kFlows + floods_++, 1 + i);
        if (!problem.empty()) return "of a flood: " + problem;
      }
      return "";
  }
}

// --- comparing ----------------------------------------------------------------------------------

std::string History::compare_inflight() const {
  std::int64_t all = 0;
  for (std::uint32_t id = 1; id <= kModelBackends; ++id) {
    const std::int64_t wanted = model_.waiting_syns(id) + model_.waiting_requests(id);
    const std::int64_t has = instance_.inflight[id].requests;
    all += wanted;
    if (has != wanted)
      return "in flight at backend " + std::to_string(id) + ": " + std::to_string(has) +
             ", not " + std::to_string(wanted);
  }
  const std::int64_t has = instance_.service_inflight[kServiceId].requests;
  return has == all ? ""
                    : "in flight of the service: " + std::to_string(has) + ", not " +
                          std::to_string(all);
}

template <class Slots>
std::int64_t sum(const Slots& slots) {
  std::int64_t all = 0;
  for (const std::int32_t slot : slots) all += slot;
  return all;
}

std::string History::compare_counters() {
  for (std::uint32_t id = 1; id <= kModelBackends; ++id) {
    const bpf::backend_stats stats = instance_.backend_stats(id);
    const bpf::backend_stats& was = stats_before_[id - 1];
    const std::int64_t syns = sum(stats.waiting_syn) - sum(was.waiting_syn);
    const std::int64_t requests = sum(stats.waiting) - sum(was.waiting);
    if (syns != model_.waiting_syns(id) || requests != model_.waiting_requests(id))
      return "waiting at backend " + std::to_string(id) + ": " + std::to_string(syns) + " SYNs, " +
             std::to_string(requests) + " requests, not " +
             std::to_string(model_.waiting_syns(id)) + " and " +
             std::to_string(model_.waiting_requests(id));
  }
  const std::vector<std::uint64_t> now = instance_.verdicts();
  for (std::uint32_t verdict = 0; verdict < bpf::VERDICTS; ++verdict) {
    if (verdict == bpf::VERDICT_EVENT_LOST) continue;  // nobody reads the events here
    const std::size_t at = kServiceId * std::size_t{bpf::VERDICTS} + verdict;
    const std::uint64_t grown = now[at] - before_[at];
    if (grown != model_.counted(verdict))
      return "verdict " + std::to_string(verdict) + " counted " + std::to_string(grown) +
             " times, not " + std::to_string(model_.counted(verdict));
  }
  return "";
}

// --- tests --------------------------------------------------------------------------------------

class FlowModelTest : public testing::Test {
 protected:
  void SetUp() override {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(sched_getcpu(), &set);
    if (sched_setaffinity(0, sizeof(set), &set) != 0 || unshare(CLONE_NEWNET) != 0)
      GTEST_SKIP() << "SKIPPED, nothing was tested: " << std::strerror(errno) << ": run as root";
    const std::string problem = instance_.load();
    if (instance_.missing_right())
      GTEST_SKIP() << "SKIPPED, nothing was tested: " << problem << ": run as root";
    ASSERT_EQ(problem, "");
  }

  std::string run(const std::vector<Step>& steps, bool v6) {
    instance_.erase_all<bpf::service_key>("services");
    return History(instance_, v6).run(steps);
  }

  // Leaves out what is not needed for a failure: halves first, then ever smaller parts.
  std::vector<Step> shortened(std::vector<Step> steps, bool v6) {
    for (std::size_t part = steps.size() / 2; part > 0; part /= 2) {
      for (std::size_t at = 0; at + part <= steps.size();) {
        std::vector<Step> fewer = steps;
        const auto begin = fewer.begin() + static_cast<std::ptrdiff_t>(at);
        fewer.erase(begin, begin + static_cast<std::ptrdiff_t>(part));
        if (run(fewer, v6).empty()) {
          at += part;
        } else {
          steps = std::move(fewer);
        }
      }
    }
    return steps;
  }

  Instance instance_{{.tap_on = true,
                      .services = kServiceId + 1,
                      .backends = kModelBackends + 1,
                      .ring_slots = 4 * ring_slots(kModelBackends),
                      .half_open = kHalfOpen}};
};

TEST_F(FlowModelTest, FlowsKeepTheirBackendsThroughEveryHistory) {
  const std::uint64_t first = from_environment("PETREL_MODEL_SEED", 1);
  const std::uint64_t count = from_environment("PETREL_MODEL_SEQUENCES", 300);
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    const std::vector<Step> steps = history(seed);
    const bool v6 = seed % 2 == 0;
    if (run(steps, v6).empty()) continue;
    const std::vector<Step> fewest = shortened(steps, v6);
    std::string told;
    for (const Step& step : fewest) {
      told += "\n  flow " + std::to_string(step.flow) + ": " +
              kOpNames[static_cast<std::size_t>(step.op)] + " (" + std::to_string(step.argument) +
              ")";
    }
    FAIL() << "seed " << seed << (v6 ? ", IPv6: " : ", IPv4: ") << run(fewest, v6) << told;
  }
}

}  // namespace
}  // namespace petrel::fuzz
