// SPDX-License-Identifier: MIT
// BalancerView: what one balancer can know of the world: its own counts, and what it asks for.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "control/weights.hpp"
#include "maps/waiting_ledger.hpp"
#include "simulate/cluster.hpp"
#include "simulate/random.hpp"

namespace petrel::simulate {

// What a server says of itself when it is asked (Prequal).
struct ServerReport {
  std::uint32_t rif = 0;  // requests in flight, of all balancers
  double latency_ns = 0;  // that recent requests at such a count took; 0: not known
};

class BalancerView {
 public:
  // How a TCP connect to a backend goes now.
  using Connect = std::function<ProbeResult(std::uint32_t backend)>;

  BalancerView(const Cluster& cluster, std::uint32_t balancer, const Connect& connect)
      : cluster_(&cluster), connect_(&connect), balancer_(balancer) {}

  std::uint64_t now_ns() const { return cluster_->now_ns; }
  std::uint32_t balancer() const { return balancer_; }
  std::uint32_t backends() const { return static_cast<std::uint32_t>(cluster_->backends.size()); }
  std::int64_t inflight(std::uint32_t backend) const {
    return cluster_->pair(balancer_, backend).inflight;
  }
  std::int64_t inflight() const { return cluster_->inflight[balancer_]; }
  ProbeResult connect(std::uint32_t backend) const { return (*connect_)(backend); }
  ServerReport ask(std::uint32_t backend) const;

  // Unanswered SYNs or requests by age, youngest first, in the slots of the kernel's waiting[].
  void waiting(std::uint32_t backend, bool syns, std::vector<WaitingGroup>& groups) const;

 private:
  const Cluster* cluster_;
  const Connect* connect_;
  std::uint32_t balancer_;
};

}  // namespace petrel::simulate
