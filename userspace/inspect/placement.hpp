// SPDX-License-Identifier: MIT
// Where the balancer would place a new connection, step by step: the rules of bpf/place.bpf.h and
// bpf/admit.bpf.h, with what each step saw.
//
// A lab test compares it with what the balancer does. Pure: the maps' content comes in as values.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "bpf/types.h"

namespace petrel::inspect {

struct BackendFacts {
  std::uint32_t id = 0;
  std::string name;
  bpf::backend backend{};
  bpf::weight weight{};
  bpf::inflight waiting{};
};

// One service as the balancer sees it.
struct ServiceFacts {
  bpf::service service{};
  std::vector<std::uint32_t> in_force;
  std::vector<std::uint32_t> neutral;
  std::map<std::uint32_t, BackendFacts> backends;  // by id; of this service
  bpf::inflight waiting{};
  double tokens = 0;         // that a retry would find in the budget
  bool agent_silent = false;

  bool has(std::uint32_t flag) const { return (service.flags & flag) != 0; }
  // nullptr: of no such backend of this service.
  const BackendFacts* find(std::uint32_t backend_id) const;
};

// What the label says of the connection: a retry if it has a failure before it.
struct Attempt {
  std::uint32_t number = 1;
  std::uint32_t previous_backend_id = 0;
};

enum class ProbeOutcome : std::uint8_t {
  kTaken,
  kAvoided,  // the one that is to be kept off
  kAtLimit,  // of its requests in flight
  kUnusable,
};

// One slot asked.
struct Probe {
  std::uint32_t slot = 0;  // from the ring's beginning
  bool neutral_ring = false;
  std::uint32_t backend_id = 0;
  ProbeOutcome outcome = ProbeOutcome::kTaken;
};

struct Search {
  std::vector<Probe> probes;
  std::uint32_t backend_id = 0;  // 0: none was found
};

// Why two choices take the second backend, or do not.
enum class SecondReason : std::uint8_t {
  kTaken,
  kSame,       // both are one
  kUnusable,
  kRiskier,
  kDemoted,    // it is given less than half of the first one's part of its weight
  kNotBusier,  // the first has not markedly more waiting for its weight
  kFailedIt,   // it failed the request that this one repeats
};

struct SecondChoice {
  std::uint32_t slot = 0;
  std::uint32_t backend_id = 0;
  SecondReason reason = SecondReason::kSame;
};

enum class Admission : std::uint8_t { kAdmitted, kOverLimit, kRetryOverLimit, kOverBudget };

struct Placement {
  std::uint64_t hash = 0;
  std::uint32_t slot = 0;
  bool neutral_ring = false;
  std::uint32_t slot_backend_id = 0;
  bool slot_usable = false;
  std::optional<Search> instead;       // of a slot that names no usable backend
  std::optional<Search> steered;       // off the backend that failed the request before
  std::optional<SecondChoice> second;  // what two choices compare with; none where they do not act
  bool second_counts = false;          // the service has two choices
  std::optional<Search> below_limit;   // its backend is at its limit in flight
  Admission admission = Admission::kAdmitted;
  std::uint32_t backend_id = 0;  // 0: none is usable, or it is refused
};

// `key` as the client's first packet makes it. `tcp`: only SYNs are steered as retries and
// admitted.
Placement predict(const ServiceFacts& service, const bpf::connection_key& key,
                  const Attempt& attempt, bool tcp);

// The backend that a SYN goes to next when `flow`'s does not answer it, or refuses it.
Search next_backend(const ServiceFacts& service, const bpf::half_open& flow);

}  // namespace petrel::inspect
