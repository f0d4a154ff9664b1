// SPDX-License-Identifier: MIT
// Policy: how one balancer places connections, and what it learns of them.
//
// One object a balancer; they share nothing but what is configured. Called by the simulation in
// order of time. A policy may ask its BalancerView for what a balancer could know, and nothing
// else.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bpf/types.h"
#include "control/admission.hpp"
#include "control/weights.hpp"
#include "score/model.hpp"
#include "simulate/balancer_view.hpp"
#include "simulate/scenario.hpp"

namespace petrel::simulate {

// A new connection, as its balancer sees it.
struct Flow {
  std::uint64_t hash = 0;            // hash_flow() of its addresses and ports
  std::uint32_t attempt = 1;         // 1: first; as labelled by what this balancer has seen fail
  std::uint32_t previous = kNobody;  // the backend that failed the request before
  std::uint32_t client_hash = 0;
  std::uint64_t failed_ns = 0;       // when that was
  bpf::failure_kind failure = bpf::FAILURE_NONE;
};

struct Placement {
  std::uint32_t backend = kNobody;  // nobody: refused, with a RST
};

// A SYN that its backend has refused or left unanswered.
struct StuckSyn {
  std::uint64_t hash = 0;
  std::uint32_t backend = kNobody;
  std::uint32_t moved_from[2] = {kNobody, kNobody};
  std::uint32_t moves = 0;
  std::uint32_t masked = 0;  // of these: refusals held back
  bool refused = false;
  std::uint64_t waited_ns = 0;  // since it was sent there
};

// How an attempt went at a backend: what the kernel's ANSWER, END and MOVED events tell.
struct Seen {
  std::uint64_t time_ns = 0;
  std::uint64_t syn_ns = 0;
  std::uint64_t connect_ns = 0;  // 0: no SYN-ACK
  std::uint64_t waited_ns = 0;
  std::uint32_t backend = kNobody;
  std::uint32_t attempt = 1;
  std::uint32_t syn_repeats = 0;
  bpf::event_type type = bpf::EVENT_ANSWER;
  bpf::failure_kind failure = bpf::FAILURE_NONE;
};

class Policy {
 public:
  virtual ~Policy() = default;

  virtual Placement place(const Flow& flow) = 0;
  // Another backend for a SYN; nobody: it stays where it is.
  virtual std::uint32_t move_syn(const StuckSyn&) { return kNobody; }
  virtual void on_seen(const Seen&) {}
  // A connection that repeats a failed request, told before it is placed.
  virtual void on_retry(const Flow&) {}
  // Every 100 ms.
  virtual void tick() {}
  // A backend is to get no new connections, or may have them again.
  virtual void drain(std::uint32_t backend, bool drained) = 0;
  // Whether the backend is told (RST) when a client leaves a request unanswered.
  virtual bool ends_abandoned() const { return false; }

  // It asks servers how they are.
  virtual bool asks_servers() const { return false; }

  // Slots of its ring that it has moved so far, and how many it has; 0: it has no ring.
  virtual std::uint64_t moved_slots() const { return 0; }
  virtual std::uint64_t slots() const { return 0; }
  // Weight in force as a part of the base; 1 where it has none.
  virtual double factor(std::uint32_t) const { return 1; }
};

// What an adaptive limit on the requests in flight knows of one service, once a tick.
struct InflightFacts {
  std::uint64_t now_ns = 0;
  std::uint64_t elapsed_ns = 0;
  std::uint64_t answered = 0;   // in this tick, without failures
  std::uint64_t abandoned = 0;  // in this tick
  std::uint64_t failures = 0;   // in this tick, of whatever kind
  std::uint64_t first_attempts = 0;  // in this tick
  std::uint64_t refused = 0;         // in this tick, by the balancer
  std::uint64_t retries = 0;         // in this tick
  std::uint64_t waiting = 0;    // now
  std::uint64_t oldest_ns = 0;  // age of the oldest of them
  std::uint64_t usual_response_ns = 0;
  std::uint64_t patience_ns = 0;  // after which clients usually leave
  std::uint64_t known_patience_ns = 0;  // the same; 0 before any was seen to
  std::vector<AdmissionBackend> backends;
};

// As struct inflight of the data path has them; 0: no limit.
struct InflightLimits {
  std::uint64_t all = 0;
  std::uint64_t retries = 0;
};

// Where the control's admission is plugged in; one object a balancer.
class InflightLimit {
 public:
  virtual ~InflightLimit() = default;
  virtual InflightLimits tick(const InflightFacts& facts) = 0;
  // From which age the backends' requests are overdue; 0: nobody asks.
  virtual std::uint64_t overdue_ns(std::uint64_t, std::uint64_t) const { return 0; }
  virtual bool saturated() const { return false; }
};

using InflightLimitFactory = std::function<std::unique_ptr<InflightLimit>()>;

struct PolicySettings {
  const Model* model = nullptr;  // of policies that score; outlives them
  WeightSettings control;
  InflightLimitFactory inflight_limit;  // of `petrel`; none: no limit
  bool end_abandoned = false;           // while it limits: RST to the backend when a client leaves
};

// Makes the policies of all balancers of one run.
using PolicyMaker = std::function<std::unique_ptr<Policy>(BalancerView view, Random random)>;

struct PolicyInfo {
  std::string_view name;
  std::string_view what;
  bool needs_model = false;
};

std::span<const PolicyInfo> policies();
const PolicyInfo* find_policy(std::string_view name);
PolicyMaker make_policy_maker(std::string_view name, const Scenario& scenario,
                              const PolicySettings& settings);

}  // namespace petrel::simulate
