// SPDX-License-Identifier: MIT
// Driver: streams of packets through a program, timed by the kernel (BPF_PROG_TEST_RUN).
//
// What fails throws std::runtime_error.
#pragma once

#include <cstdint>
#include <vector>

#include "tests/bench/bench.h"

struct bench_bpf;

namespace petrel::bench {

// The driver's own programs, as targets of a stream.
enum class Reference : std::uint32_t { kEmpty, kGrowHead, kCutTail, kLru, kScore, kFeatures };

class Driver {
 public:
  // Enters a network namespace of its own: the driver is attached to its loopback, which spares
  // each run 15 ms in which the kernel would patch its XDP dispatcher and wait for all CPUs.
  Driver();
  Driver(Driver&&) = delete;
  ~Driver();

  // The stream.target of a program.
  std::uint32_t add_target(int program_fd);
  // Lets the reference program find the first `flows` flows to the VIP.
  void fill_reference_flows(std::uint32_t flows);

  // What the scoring programs score: a vector of which half of the features are 0, four at a time, as
  // they mostly are; and a request that was answered with 503 late, on a connection of repeats.
  void fill_scoring();

  // ns a packet, a whole number (as the kernel gives it), of `packets` packets that begin as
  // `packet` is. Moves the stream's cursor on. `action`: of the last packet.
  std::uint32_t run(bench_stream& stream, const std::vector<std::uint8_t>& packet,
                    std::uint32_t packets, int& action);
  // The empty program alone, without the driver.
  std::uint32_t run_empty(std::uint32_t packets);

 private:
  bench_bpf* skeleton_ = nullptr;
  std::uint32_t targets_ = 0;
};

}  // namespace petrel::bench
