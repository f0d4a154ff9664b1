// SPDX-License-Identifier: MIT
// Fuzzer: packets through two copies of the balancer, each output judged.
//
// Both copies hold the same state and see the same packets; what lies around the packets differs,
// and one has the tap on, which tells the verdict. So a byte that differs in what they send is one
// that was never written. Packets come in epochs, each with tables and flows of its own that depend
// on the seed and its number alone: any one can be run again by itself.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "tests/fuzz/instance.hpp"
#include "tests/fuzz/mutator.hpp"
#include "tests/fuzz/oracle.hpp"
#include "tests/fuzz/traffic.hpp"

namespace petrel::fuzz {

constexpr std::uint64_t kEpochPackets = 16384;

struct Finding {
  std::uint64_t index = 0;  // of the packet, from 0
  std::string problem;
  Frame in, out;
  int action = -1;
  std::uint32_t backend_id = 0;
};
std::string describe(const Finding& finding, std::uint64_t seed);

using Actions = std::array<std::uint64_t, 5>;  // by enum xdp_action

class Fuzzer {
 public:
  explicit Fuzzer(std::uint64_t seed);

  // "" or what failed. Binds the calling thread to `cpu`, in a network namespace of its own, so
  // that no route of this machine answers bpf_fib_lookup.
  std::string load(int cpu);
  bool missing_right() const { return missing_right_; }

  // The first `packets` of the epoch, or as many as end in a finding.
  std::optional<Finding> run_epoch(std::uint64_t epoch, std::uint64_t packets = kEpochPackets);

  std::uint64_t packets() const { return packets_; }
  const Actions& actions() const { return actions_; }
  const std::array<std::uint64_t, bpf::VERDICTS>& verdicts() const { return verdicts_; }

 private:
  void begin_epoch();
  void disturb(Rng& rng);
  std::optional<Finding> run_packet(const Frame& in, Traffic& traffic);

  std::uint64_t seed_;
  World world_;
  Oracle oracle_{world_};
  std::unique_ptr<Instance> telling_, other_;
  Frame out_, other_out_;
  bool silent_ = false;
  bool missing_right_ = false;
  std::uint64_t packets_ = 0;
  Actions actions_{};
  std::array<std::uint64_t, bpf::VERDICTS> verdicts_{};
};

}  // namespace petrel::fuzz
