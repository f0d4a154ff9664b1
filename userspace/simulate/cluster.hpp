// SPDX-License-Identifier: MIT
// The state of a run: attempts, what backends hold, and what each balancer counts of them.
//
// Flat arrays, linked by index: a run of a million requests a second touches each of them a few
// times a microsecond.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace petrel::simulate {

inline constexpr std::uint32_t kNobody = 0xffffffff;       // no backend, no attempt
inline constexpr std::uint64_t kBeginNs = 10'000'000'000;  // 0 means "never" to the loop

enum class Phase : std::uint8_t {
  kFree,
  kSyn,         // its SYN was lost
  kConnecting,  // on its way to the backend
  kQueued,
  kServing,
  kLost,  // at its backend, which will not answer it
};

// One connection with one request. Lives on at its backend when its client has left.
struct Attempt {
  std::uint64_t syn_ns = 0;
  std::uint64_t sent_ns = 0;     // to the backend that has it now
  std::uint64_t request_ns = 0;  // 0: its handshake is not over
  std::uint64_t hash = 0;
  std::uint32_t request = kNobody;  // nobody: its client has had its outcome
  std::uint32_t generation = 0;
  std::uint32_t balancer = 0;
  std::uint32_t backend = kNobody;
  std::uint32_t moved_from[2] = {kNobody, kNobody};
  std::uint32_t next = kNobody;  // in its pair's list of those that wait
  std::uint32_t previous = kNobody;
  std::uint32_t next_queued = kNobody;
  std::uint32_t rif_at_start = 0;  // requests in flight at the backend as it came
  std::uint16_t number = 1;        // attempt number as its balancer labels it
  std::uint8_t moves = 0;
  std::uint8_t masked = 0;
  std::uint8_t syn_repeats = 0;
  Phase phase = Phase::kFree;
  bool listed_as_syn = false;  // which list of its pair it is in
  bool listed = false;
  bool cancelled = false;  // queued, but nobody is to work on it
};

// By age: the first one waits longest.
struct WaitList {
  std::uint32_t first = kNobody;
  std::uint32_t last = kNobody;
};

// What one balancer counts of one backend.
struct Pair {
  std::int64_t inflight = 0;
  WaitList syns;
  WaitList requests;
};

// What Prequal asks of a server: its requests in flight, and how long answers took at so many.
class LatencyByRif {
 public:
  void add(std::uint32_t rif, double latency_ns);
  double median_near(std::uint32_t rif) const;  // 0: nothing is known

 private:
  static constexpr std::uint32_t kLevels = 64;
  static constexpr std::uint32_t kKept = 8;
  struct Level {
    std::array<double, kKept> latencies{};
    std::uint32_t count = 0;  // ever
  };
  std::vector<Level> levels_;
};

struct BackendState {
  std::uint32_t concurrency = 1;
  std::uint32_t serving = 0;
  std::uint32_t queued = 0;  // without those cancelled
  std::uint32_t queue_first = kNobody;
  std::uint32_t queue_last = kNobody;
  double speed = 1;                   // kSpeedWalk
  std::vector<std::uint32_t> faults;  // in force here, by index
  bool keeps_latencies = false;       // somebody asks for them
  LatencyByRif latencies;

  std::uint32_t rif() const { return serving + queued; }
};

struct Cluster {
  std::uint64_t now_ns = kBeginNs;
  std::vector<Attempt> attempts;
  std::vector<std::uint32_t> free_attempts;
  std::vector<BackendState> backends;
  std::vector<Pair> pairs;             // by balancer, then backend
  std::vector<std::int64_t> inflight;  // by balancer

  Pair& pair(std::uint32_t balancer, std::uint32_t backend) {
    return pairs[std::size_t{balancer} * backends.size() + backend];
  }
  const Pair& pair(std::uint32_t balancer, std::uint32_t backend) const {
    return pairs[std::size_t{balancer} * backends.size() + backend];
  }

  std::uint32_t take_attempt();
  void free_attempt(std::uint32_t index);
  void list(std::uint32_t index, bool as_syn);
  void unlist(std::uint32_t index);
};

}  // namespace petrel::simulate
