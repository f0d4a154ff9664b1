// SPDX-License-Identifier: MIT
// Model: what the balancer's documentation says of the flows of one nat service over TCP, in plain
// C++: which backend a flow has, and how many of its requests and SYNs wait for an answer.
//
// Each call is one packet and what the balancer was seen to do with it; it returns "" or what is
// against the rules. Where the rules leave a choice (which other backend), what was seen is taken
// over once it is known to be one of those allowed.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "bpf/types.h"
#include "tests/fuzz/world.hpp"

namespace petrel::fuzz {

constexpr std::uint32_t kModelBackends = 5;  // ids 1 to 5

struct Seen {
  std::uint32_t verdict = 0;
  std::uint32_t notes = 0;
  std::uint32_t backend = 0;
};

// A flow whose client has not shown that it is there.
struct HalfFlow {
  std::uint32_t backend = 0;
  std::uint32_t seq = 0;
  bool adopted = false, answered = false, waiting = false;
  std::uint32_t moves = 0, masked = 0;
  std::array<std::uint32_t, 2> moved_from{};
  std::uint64_t born = 0;  // the older of a set gives way
};

struct FullFlow {
  std::uint32_t backend = 0;
  int waiting = 0;  // requests: one, and those that were sent ahead of its answer
  bool closed = false;
};

class Model {
 public:
  // What the tables say, kept by the test as it writes them.
  std::array<bpf::backend_state, kModelBackends + 1> state{};
  bool silent = false;
  bool reset_gone = false;
  std::vector<std::uint32_t> in_force, neutral;  // rings
  std::uint32_t sets = 1;                        // of the half-open table, HALF_OPEN_WAYS each

  // From a client.
  std::string syn(const bpf::connection_key& key, std::uint32_t seq, const Seen& seen);
  std::string segment(const bpf::connection_key& key, bool payload, bool fin, bool rst,
                      const Seen& seen);
  // From backend `from` to a client; an answer to the SYN acknowledges its sequence number.
  std::string syn_ack(const bpf::connection_key& key, std::uint32_t from, const Seen& seen);
  std::string refusal(const bpf::connection_key& key, std::uint32_t from, const Seen& seen);
  std::string answer(const bpf::connection_key& key, std::uint32_t from, bool payload, bool fin,
                     const Seen& seen);

  // Of the flow, where it has one: what its packets go to. 0: none.
  std::uint32_t backend_of(const bpf::connection_key& key) const;
  const HalfFlow* half(const bpf::connection_key& key) const;

  std::int64_t waiting_syns(std::uint32_t backend) const;
  std::int64_t waiting_requests(std::uint32_t backend) const;
  std::uint64_t counted(std::uint32_t verdict) const { return counts_.at(verdict); }

 private:
  struct Flow {
    std::optional<HalfFlow> half;
    std::optional<FullFlow> full;
  };
  struct KeyLess {
    bool operator()(const bpf::connection_key& a, const bpf::connection_key& b) const;
  };
  using Flows = std::map<bpf::connection_key, Flow, KeyLess>;

  bool usable(std::uint32_t backend) const;
  bool gone(std::uint32_t backend) const { return state.at(backend) == bpf::BACKEND_REMOVED; }
  // A new flow: "" where the ring's backend, or another where that one is not usable, was seen.
  std::string placed(const bpf::connection_key& key, const Seen& seen, std::uint32_t* notes) const;
  std::string open(const bpf::connection_key& key, Flow& flow, HalfFlow half, bool keep,
                   std::uint32_t notes, const Seen& seen);
  std::string move(HalfFlow& half, const Seen& seen) const;
  bool may_stay(const HalfFlow& half) const;
  void make_room(const bpf::connection_key& key);
  std::string verdict(const Seen& seen, std::uint32_t wanted, std::uint32_t notes = 0);

  Flows flows_;
  std::uint64_t clock_ = 0;
  std::uint32_t evicted_note_ = 0;
  std::array<std::uint64_t, bpf::VERDICTS> counts_{};
};

}  // namespace petrel::fuzz
