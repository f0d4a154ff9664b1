// SPDX-License-Identifier: MIT
// Round robin, two random choices, peak EWMA.
#include "simulate/reference_policy.hpp"

#include <algorithm>
#include <cmath>

#include "simulate/usable_set.hpp"

namespace petrel::simulate {
namespace {

class RoundRobin : public Policy {
 public:
  RoundRobin(BalancerView view, Random random) : usable_(view.backends()) {
    turn_ = random.below(view.backends());  // balancers do not go in step
  }

  Placement place(const Flow&) override {
    return {usable_.empty() ? kNobody : usable_[turn_++ % usable_.size()]};
  }
  void drain(std::uint32_t backend, bool drained) override { usable_.set(backend, !drained); }

 private:
  UsableSet usable_;
  std::uint32_t turn_ = 0;
};

class TwoRandom : public Policy {
 public:
  TwoRandom(BalancerView view, Random random)
      : view_(view), random_(random), usable_(view.backends()) {}

  Placement place(const Flow&) override {
    if (usable_.empty()) return {};
    const auto [first, second] = usable_.two(random_);
    return {cost(second) < cost(first) ? second : first};
  }
  void drain(std::uint32_t backend, bool drained) override { usable_.set(backend, !drained); }

 protected:
  virtual double cost(std::uint32_t backend) {
    return static_cast<double>(view_.inflight(backend));
  }

  BalancerView view_;
  Random random_;
  UsableSet usable_;
};

constexpr double kDecayNs = 10e9;
constexpr double kUnknownCost = 1e15;  // Finagle's penalty of one in use of which nothing is known

class PeakEwma : public TwoRandom {
 public:
  PeakEwma(BalancerView view, Random random)
      : TwoRandom(view, random), averages_(view.backends()) {}

  void on_seen(const Seen& seen) override {
    Average& average = averages_[seen.backend];
    const auto latency_ns = static_cast<double>(seen.waited_ns + seen.connect_ns);
    const auto elapsed_ns = static_cast<double>(seen.time_ns - average.stamp_ns);
    average.stamp_ns = seen.time_ns;
    if (latency_ns > average.cost_ns) {
      average.cost_ns = latency_ns;
    } else {
      const double kept = std::exp(-elapsed_ns / kDecayNs);
      average.cost_ns = average.cost_ns * kept + latency_ns * (1 - kept);
    }
  }

 protected:
  double cost(std::uint32_t backend) override {
    Average& average = averages_[backend];
    const auto inflight = static_cast<double>(view_.inflight(backend));
    if (average.stamp_ns == 0) return inflight == 0 ? 0 : kUnknownCost + inflight;
    // Time passes without an answer, too: what it last cost fades.
    const auto idle_ns = static_cast<double>(view_.now_ns() - average.stamp_ns);
    return average.cost_ns * std::exp(-idle_ns / kDecayNs) * (inflight + 1);
  }

 private:
  struct Average {
    double cost_ns = 0;
    std::uint64_t stamp_ns = 0;
  };
  std::vector<Average> averages_;
};

template <class Made>
PolicyMaker maker() {
  return [](BalancerView view, Random random) { return std::make_unique<Made>(view, random); };
}

}  // namespace

PolicyMaker make_round_robin() {
  return maker<RoundRobin>();
}
PolicyMaker make_two_random() {
  return maker<TwoRandom>();
}
PolicyMaker make_peak_ewma() {
  return maker<PeakEwma>();
}

}  // namespace petrel::simulate
