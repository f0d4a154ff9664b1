// SPDX-License-Identifier: MIT
#include "simulate/ring_policy.hpp"

#include <algorithm>

#include "ring/ring.hpp"

namespace petrel::simulate {
namespace {

constexpr std::uint16_t kPort = 80;

// The neutral ring, made once for all balancers of a run and followed by all of them.
class SharedRing {
 public:
  explicit SharedRing(const ServiceConfig& service) : drained_(service.backends.size()) {
    for (const BackendConfig& backend : service.backends) {
      members_.push_back({backend.id, ring_seed(backend.address, backend.port), backend.weight});
    }
    slots_ = build_neutral(members_, ring_slots(members_.size()));
  }

  void drain(std::uint32_t backend, bool drained) {
    if (drained_[backend] == drained) return;  // another balancer was told before
    drained_[backend] = drained;
    std::vector<RingMember> left;
    for (std::size_t i = 0; i < members_.size(); ++i) {
      if (!drained_[i]) left.push_back(members_[i]);
    }
    const std::vector<std::uint32_t> rebuilt =
        build_neutral(left, static_cast<std::uint32_t>(slots_.size()));
    std::ranges::copy(rebuilt, slots_.begin());  // in place: data paths look at it
  }

  std::span<const std::uint32_t> slots() const { return slots_; }

 private:
  std::vector<RingMember> members_;
  std::vector<bool> drained_;
  std::vector<std::uint32_t> slots_;
};

class RingPolicy : public Policy {
 public:
  RingPolicy(BalancerView view, std::uint32_t flags, std::shared_ptr<SharedRing> ring)
      : path_(view, flags), view_(view), ring_(std::move(ring)) {
    path_.set_rings(ring_->slots(), ring_->slots());
  }

  Placement place(const Flow& flow) override { return path_.place(flow); }
  std::uint32_t move_syn(const StuckSyn& syn) override { return path_.move_syn(syn); }
  void drain(std::uint32_t backend, bool drained) override {
    ring_->drain(backend, drained);
    path_.entry(backend).state = drained ? bpf::BACKEND_DRAINING : bpf::BACKEND_UP;
  }

 protected:
  DataPath path_;
  BalancerView view_;

 private:
  std::shared_ptr<SharedRing> ring_;
};

constexpr std::uint32_t kThresholdFailures = 5;
constexpr std::uint64_t kThresholdWindowNs = 1'000'000'000;
constexpr std::uint64_t kThresholdOutNs = 5'000'000'000;

class ThresholdPolicy : public RingPolicy {
 public:
  ThresholdPolicy(BalancerView view, std::shared_ptr<SharedRing> ring)
      : RingPolicy(view, 0, std::move(ring)), backends_(view.backends()) {}

  Placement place(const Flow& flow) override {
    return_those_due();
    return RingPolicy::place(flow);
  }

  void on_seen(const Seen& seen) override {
    if (seen.failure == bpf::FAILURE_NONE) return;
    Counted& counted = backends_[seen.backend];
    if (counted.out_until_ns != 0) return;
    if (seen.time_ns - counted.since_ns > kThresholdWindowNs) {
      counted.since_ns = seen.time_ns;
      counted.failures = 0;
    }
    if (++counted.failures < kThresholdFailures) return;
    if (out_ + 1 >= backends_.size()) return;  // the last one stays
    counted.out_until_ns = seen.time_ns + kThresholdOutNs;
    path_.entry(seen.backend).state = bpf::BACKEND_QUARANTINED;
    ++out_;
  }

 private:
  struct Counted {
    std::uint64_t since_ns = 0;
    std::uint64_t out_until_ns = 0;
    std::uint32_t failures = 0;
  };

  void return_those_due() {
    if (out_ == 0) return;
    for (std::uint32_t i = 0; i < backends_.size(); ++i) {
      Counted& counted = backends_[i];
      if (counted.out_until_ns == 0 || counted.out_until_ns > view_.now_ns()) continue;
      counted = {};
      path_.entry(i).state = bpf::BACKEND_UP;
      --out_;
    }
  }

  std::vector<Counted> backends_;
  std::uint32_t out_ = 0;
};

}  // namespace

ServiceConfig simulated_service(const Scenario& scenario, ServiceMode mode) {
  ServiceConfig service;
  service.id = 1;
  service.name = "web";
  service.mode = mode;
  service.address = v4_address(10, 0, 0, 1);
  service.port = service.last_port = kPort;
  service.holdout = 0;  // its flows would be the cost of a judge that is not simulated
  for (std::uint32_t i = 0; i < scenario.backends; ++i) {
    BackendConfig backend;
    backend.id = i + 1;
    backend.name = "b" + std::to_string(i + 1);
    backend.address = v4_address(10, 1, static_cast<std::uint8_t>((i + 1) >> 8),
                                 static_cast<std::uint8_t>(i + 1));
    backend.port = kPort;
    service.backends.push_back(backend);
  }
  return service;
}

PolicyMaker make_ring_policies(const Scenario& scenario, std::uint32_t flags) {
  auto ring = std::make_shared<SharedRing>(simulated_service(scenario, ServiceMode::kNeutral));
  return [ring, flags](BalancerView view, Random) {
    return std::make_unique<RingPolicy>(view, flags, ring);
  };
}

PolicyMaker make_threshold_policies(const Scenario& scenario) {
  auto ring = std::make_shared<SharedRing>(simulated_service(scenario, ServiceMode::kNeutral));
  return
      [ring](BalancerView view, Random) { return std::make_unique<ThresholdPolicy>(view, ring); };
}

}  // namespace petrel::simulate
