// SPDX-License-Identifier: MIT
// Envoy-like outlier ejection: envoyproxy.io, "Outlier detection" and the defaults of
// config.cluster.v3.OutlierDetection. A request that its client has left counts for nothing: Envoy
// sees no outcome of it either.
#include <algorithm>
#include <cmath>

#include "simulate/reference_policy.hpp"
#include "simulate/usable_set.hpp"

namespace petrel::simulate {
namespace {

constexpr std::uint32_t kConsecutive = 5;
constexpr std::uint64_t kIntervalNs = 10'000'000'000;
constexpr std::uint64_t kBaseEjectionNs = 30'000'000'000;
constexpr std::uint64_t kMostEjectionNs = 300'000'000'000;
constexpr double kMostEjected = 0.1;
constexpr std::uint32_t kLeastHosts = 5;
constexpr std::uint32_t kLeastRequests = 100;
constexpr double kDeviations = 1.9;
constexpr double kPanicShare = 0.5;

class OutlierEjection : public Policy {
 public:
  OutlierEjection(BalancerView view, Random random)
      : view_(view),
        all_(view.backends()),
        usable_(view.backends()),
        hosts_(view.backends()),
        next_interval_ns_(view.now_ns() + kIntervalNs) {
    turn_ = random.below(view.backends());
  }

  Placement place(const Flow&) override {
    if (all_.empty()) return {};
    // Panic: with too few left, who was ejected is as good as any.
    const bool panic =
        static_cast<double>(usable_.size()) < kPanicShare * static_cast<double>(all_.size());
    const UsableSet& from = panic ? all_ : usable_;
    return {from[turn_++ % from.size()]};
  }

  void on_seen(const Seen& seen) override {
    if (seen.failure == bpf::FAILURE_ABANDONED) return;
    Host& host = hosts_[seen.backend];
    ++host.requests;
    if (seen.failure == bpf::FAILURE_NONE) {
      ++host.successes;
      host.consecutive = 0;
    } else if (++host.consecutive >= kConsecutive) {
      host.consecutive = 0;
      eject(seen.backend);
    }
  }

  void tick() override {
    for (std::uint32_t i = 0; i < hosts_.size(); ++i) {
      Host& host = hosts_[i];
      if (host.out_until_ns == 0 || host.out_until_ns > view_.now_ns()) continue;
      host.out_until_ns = 0;
      --ejected_;
      usable_.set(i, all_.contains(i));
    }
    if (view_.now_ns() < next_interval_ns_) return;
    next_interval_ns_ += kIntervalNs;
    eject_by_success_rate();
    for (Host& host : hosts_) {
      host.requests = host.successes = 0;
      if (host.out_until_ns == 0 && host.ejections > 0) --host.ejections;
    }
  }

  void drain(std::uint32_t backend, bool drained) override {
    all_.set(backend, !drained);
    usable_.set(backend, !drained && hosts_[backend].out_until_ns == 0);
  }

 private:
  struct Host {
    std::uint32_t consecutive = 0;
    std::uint32_t requests = 0;
    std::uint32_t successes = 0;
    std::uint32_t ejections = 0;
    std::uint64_t out_until_ns = 0;
  };

  void eject(std::uint32_t backend) {
    Host& host = hosts_[backend];
    if (host.out_until_ns != 0) return;
    const auto most = std::max(1.0, std::floor(kMostEjected * static_cast<double>(hosts_.size())));
    if (ejected_ + 1 > most) return;
    ++ejected_;
    ++host.ejections;
    host.out_until_ns =
        view_.now_ns() + std::min(kBaseEjectionNs * host.ejections, kMostEjectionNs);
    usable_.set(backend, false);
  }

  void eject_by_success_rate() {
    std::vector<std::pair<std::uint32_t, double>> rates;
    for (std::uint32_t i = 0; i < hosts_.size(); ++i) {
      if (hosts_[i].out_until_ns != 0 || hosts_[i].requests < kLeastRequests) continue;
      rates.emplace_back(i, static_cast<double>(hosts_[i].successes) / hosts_[i].requests);
    }
    if (rates.size() < kLeastHosts) return;
    double mean = 0;
    for (const auto& [host, rate] : rates) mean += rate / static_cast<double>(rates.size());
    double variance = 0;
    for (const auto& [host, rate] : rates) {
      variance += (rate - mean) * (rate - mean) / static_cast<double>(rates.size());
    }
    const double least = mean - kDeviations * std::sqrt(variance);
    for (const auto& [host, rate] : rates) {
      if (rate < least) eject(host);
    }
  }

  BalancerView view_;
  UsableSet all_;     // but those that drain
  UsableSet usable_;  // of these: not ejected
  std::vector<Host> hosts_;
  std::uint64_t next_interval_ns_;
  std::uint32_t ejected_ = 0;
  std::uint32_t turn_ = 0;
};

}  // namespace

PolicyMaker make_outlier_ejection() {
  return [](BalancerView view, Random random) {
    return std::make_unique<OutlierEjection>(view, random);
  };
}

}  // namespace petrel::simulate
