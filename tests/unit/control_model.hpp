// SPDX-License-Identifier: MIT
// A small deterministic service to close the control loop over in tests: arrivals by weight, each
// backend well, failing a part of its requests or hanging; clients that wait one second.
#pragma once

#include <cmath>
#include <deque>
#include <random>
#include <vector>

#include "control/risk.hpp"
#include "control/weights.hpp"

namespace petrel {

struct ModelBackend {
  double error_share = 0;  // of its answers
  bool hangs = false;      // answers nothing
  ProbeResult probe = ProbeResult::kUnknown;
  BackendRisk risk{};
  std::deque<double> waiting{};  // arrivals that wait, by tick: [0] is the oldest
  double arrivals = 0;           // fractions of a request not yet sent
};

class ServiceModel {
 public:
  ServiceModel(std::size_t count, double requests_per_s, std::uint32_t seed = 1)
      : backends(count), requests_per_tick_(requests_per_s / 10), random_(seed) {
    decisions.resize(count);
  }

  // 100 ms: requests arrive by the weights in force, are answered or not, are scored, weights move.
  void tick() {
    double sum = 0;
    for (const WeightDecision& decision : decisions) sum += decision.factor;
    for (std::size_t i = 0; i < backends.size(); ++i) {
      serve(backends[i], sum > 0 ? requests_per_tick_ * decisions[i].factor / sum : 0);
    }
    RiskSum service;
    for (ModelBackend& backend : backends) {
      backend.risk.end_tick(std::chrono::milliseconds(100));
      service += backend.risk.sum();
    }
    std::vector<BackendInput> inputs;
    for (std::size_t i = 0; i < backends.size(); ++i) {
      inputs.push_back({static_cast<std::uint32_t>(i + 1), 100,
                        backends[i].risk.reading(service.mean()), backends[i].probe});
    }
    now_ns_ += 100'000'000;
    decisions = controller.tick(now_ns_, inputs);
    for (const WeightDecision& decision : decisions) changes += decision.changed ? 1 : 0;
  }

  void run(int ticks) {
    for (int i = 0; i < ticks; ++i) tick();
  }

  double factor(std::size_t backend) const { return decisions[backend].factor; }

  WeightController controller;
  std::vector<ModelBackend> backends;
  std::vector<WeightDecision> decisions;
  std::size_t changes = 0;  // of published weights
  double failed = 0;        // requests

 private:
  static constexpr std::uint32_t kGood = 655;   // 1 %: scores of a fitting model
  static constexpr std::uint32_t kBad = 60000;  // 92 %
  static constexpr std::size_t kPatienceTicks = 10;

  static std::uint32_t score_of_age(std::size_t ticks) {
    return static_cast<std::uint32_t>(
        std::min(60000.0, 655.0 + 12000.0 * static_cast<double>(ticks)));
  }

  void serve(ModelBackend& backend, double arrivals) {
    backend.arrivals += arrivals;
    const double whole = std::floor(backend.arrivals);
    backend.arrivals -= whole;
    if (backend.hangs) {
      backend.waiting.push_back(whole);
    } else {
      // What still waits is answered late; its clients are still there.
      for (const double late : backend.waiting) answer(backend, late);
      backend.waiting.clear();
      answer(backend, whole);
    }
    if (backend.waiting.size() > kPatienceTicks) {
      failed += backend.waiting.front();
      backend.risk.add(kBad, static_cast<std::uint64_t>(backend.waiting.front()));
      backend.waiting.pop_front();
    }
    for (std::size_t i = 0; i < backend.waiting.size(); ++i) {
      backend.risk.add_waiting(static_cast<std::uint64_t>(backend.waiting[i]),
                               score_of_age(backend.waiting.size() - 1 - i));
    }
  }

  void answer(ModelBackend& backend, double requests) {
    std::bernoulli_distribution fails(backend.error_share);
    for (double request = 0; request < requests; ++request) {
      const bool bad = fails(random_);
      failed += bad ? 1 : 0;
      backend.risk.add(bad ? kBad : kGood);
    }
  }

  double requests_per_tick_;
  std::mt19937 random_;  // its sequence is the same on every platform
  std::uint64_t now_ns_ = 0;
};

}  // namespace petrel
