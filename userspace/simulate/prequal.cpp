// SPDX-License-Identifier: MIT
// Prequal's hot-cold lexicographic rule on a pool of probes, at the paper's parameters (section 4
// and 5: r_probe 3, pool 16, age 1 s, Q_RIF 2^-0.25, r_remove 1, delta 1). Probes take no time
// here, and the paper's guard against servers that fail fast is left out: it is not specified
// there.
#include <algorithm>
#include <cmath>

#include "simulate/reference_policy.hpp"
#include "simulate/usable_set.hpp"

namespace petrel::simulate {
namespace {

constexpr std::size_t kPool = 16;
constexpr std::uint32_t kProbesPerRequest = 3;
constexpr std::uint64_t kOldestNs = 1'000'000'000;
constexpr double kRifQuantile = 0.8409;  // 2^-0.25
constexpr double kRemovedPerRequest = 1;
constexpr double kDelta = 1;
constexpr std::size_t kRifHistory = 128;

struct Probe {
  std::uint32_t backend = kNobody;
  std::uint32_t rif = 0;
  double latency_ns = 0;
  std::uint64_t time_ns = 0;
  std::uint32_t uses = 0;
};

class Prequal : public Policy {
 public:
  Prequal(BalancerView view, Random random)
      : view_(view), random_(random), usable_(view.backends()) {
    // How often one probe may be used, so that removals and uses together equal what comes in.
    const double share = 1.0 - static_cast<double>(kPool) / view.backends();
    const double left = share * kProbesPerRequest - kRemovedPerRequest;
    most_uses_ = left > 0 ? std::max(1.0, (1 + kDelta) / left) : kProbesPerRequest;
  }

  Placement place(const Flow&) override {
    if (usable_.empty()) return {};
    std::erase_if(pool_, [this](const Probe& probe) {
      return view_.now_ns() - probe.time_ns > kOldestNs || !usable_.contains(probe.backend);
    });
    const std::uint32_t backend = pool_.empty() ? usable_.one(random_) : choose();
    for (std::uint32_t i = 0; i < kProbesPerRequest; ++i) ask(usable_.one(random_));
    remove_one();
    return {backend};
  }
  void drain(std::uint32_t backend, bool drained) override { usable_.set(backend, !drained); }
  bool asks_servers() const override { return true; }

 private:
  void ask(std::uint32_t backend) {
    const ServerReport report = view_.ask(backend);
    rifs_.push_back(report.rif);
    if (rifs_.size() > kRifHistory) rifs_.erase(rifs_.begin());
    if (pool_.size() >= kPool) pool_.erase(pool_.begin());  // the oldest
    pool_.push_back({backend, report.rif, report.latency_ns, view_.now_ns(), 0});
  }

  std::uint32_t hot_from() const {
    std::vector<std::uint32_t> sorted = rifs_;
    const auto at = sorted.begin() + static_cast<std::ptrdiff_t>(
                                         kRifQuantile * static_cast<double>(sorted.size() - 1));
    std::nth_element(sorted.begin(), at, sorted.end());
    return *at;
  }

  std::uint32_t choose() {
    const std::uint32_t hot = hot_from();
    const auto better = [hot](const Probe& left, const Probe& right) {
      const bool left_is_hot = left.rif > hot, right_is_hot = right.rif > hot;
      if (left_is_hot != right_is_hot) return right_is_hot;
      return left_is_hot ? left.rif < right.rif : left.latency_ns < right.latency_ns;
    };
    const auto best = std::min_element(pool_.begin(), pool_.end(), better);
    const std::uint32_t backend = best->backend;
    ++best->rif;  // what is sent there is there when the next one asks
    if (static_cast<double>(++best->uses) >= most_uses_) pool_.erase(best);
    return backend;
  }

  // By turns the oldest and the worst, so that the pool is not left the bad ones.
  void remove_one() {
    if (pool_.empty()) return;
    remove_oldest_ = !remove_oldest_;
    if (remove_oldest_) {
      pool_.erase(pool_.begin());
      return;
    }
    const std::uint32_t hot = hot_from();
    pool_.erase(
        std::max_element(pool_.begin(), pool_.end(), [hot](const Probe& left, const Probe& right) {
          const bool left_is_hot = left.rif > hot;
          const bool right_is_hot = right.rif > hot;
          if (left_is_hot != right_is_hot) return right_is_hot;
          return left_is_hot ? left.rif < right.rif : left.latency_ns < right.latency_ns;
        }));
  }

  BalancerView view_;
  Random random_;
  UsableSet usable_;
  std::vector<Probe> pool_;  // oldest first
  std::vector<std::uint32_t> rifs_;
  double most_uses_ = 1;
  bool remove_oldest_ = false;
};

}  // namespace

PolicyMaker make_prequal() {
  return [](BalancerView view, Random random) { return std::make_unique<Prequal>(view, random); };
}

}  // namespace petrel::simulate
