// SPDX-License-Identifier: MIT
// RingTurner: changes all weights of a lab's services at once, ten times a second: each slot of
// each ring in force goes to the service's next backend. No agent ever moves that much, so what
// holds on to its backend through this does so through any change of weights.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "base/unique_fd.hpp"
#include "bpf/types.h"

namespace petrel::test {

class RingTurner {
 public:
  // For an agent that acts: the neutral rings are left as they are. Throws std::runtime_error.
  explicit RingTurner(const std::string& pin_path);
  ~RingTurner() { stop(); }
  RingTurner(RingTurner&&) = delete;

  void stop();
  int turns() const { return turns_; }

 private:
  void turn();
  void turn(const bpf::service& service);

  UniqueFd ring_;
  std::vector<bpf::service> services_;
  std::vector<std::uint32_t> next_;  // backend id -> the next one of its service
  std::atomic<int> turns_{0};
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace petrel::test
