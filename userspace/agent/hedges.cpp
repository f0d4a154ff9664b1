// SPDX-License-Identifier: MIT
// SYNs that wait far longer than usual are sent to another backend, too: bpf/hedge.bpf.h.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>
#include <vector>

#include "agent/agent.hpp"
#include "base/clock.hpp"

namespace petrel {
namespace {

constexpr std::size_t kMostInATick = 64;  // each is a system call of some 20 µs
constexpr std::uint64_t kTooLateNs = 900'000'000;  // the client sends it again itself

bool may_hedge(const ServiceLoop& service) {
  const ServiceConfig& config = service.config();
  return config.hedge && config.failover && config.protocol == IPPROTO_TCP &&
         config.forward == Forward::kNat && config.acts(config.modes.steering) &&
         config.is_balanced() && !service.is_leaving();
}

bool has_older(const ServiceLoop& service, std::uint64_t age_ns) {
  return std::ranges::any_of(service.backends(), [age_ns](const BackendLoop& backend) {
    const auto groups = backend.waiting_syn.groups();
    return std::ranges::any_of(groups,
                               [age_ns](const WaitingGroup& it) { return it.age_ns >= age_ns; });
  });
}

}  // namespace

std::uint64_t Agent::hedge_after_ns(const ServiceLoop& service, std::chrono::nanoseconds elapsed) {
  const std::uint32_t id = service.config().id;
  HedgeLaw& law = hedges_[id];
  const std::size_t first = std::size_t{id} * bpf::VERDICTS;
  law.tick(verdicts_[first + bpf::VERDICT_MISS_SYN], elapsed);
  if (!may_hedge(service)) return 0;
  const std::int32_t usual_q16 = features_.snapshot()->service(id).usual_connect_log2_q16;
  const std::uint64_t after_ns =
      law.wait_ns(static_cast<std::uint64_t>(std::exp2(usual_q16 / 65536.0)));
  return after_ns != 0 && has_older(service, after_ns) ? after_ns : 0;
}

void Agent::hedge_syns(std::chrono::nanoseconds elapsed) {
  if (!can_hedge_) return;
  // In a flood half_open gives up entries: what waits there then is mostly nobody's.
  std::uint64_t evicted = 0;
  for (std::size_t i = 0; i < verdicts_.size(); i += bpf::VERDICTS) {
    evicted += verdicts_[i + bpf::VERDICT_HALF_OPEN_EVICTED];
  }
  const bool flood = std::exchange(half_open_evicted_, evicted) < evicted;
  std::map<std::uint32_t, std::uint64_t> after_ns;  // by service id
  for (const ServiceLoop& service : services_) {
    if (const std::uint64_t after = hedge_after_ns(service, elapsed); after != 0) {
      after_ns[service.config().id] = after;
    }
  }
  if (after_ns.empty() || flood) return;
  const std::uint64_t now_ns = monotonic_ns();
  std::vector<bpf::hedge_wish> wishes;
  tables_->for_each_half_open([&](const bpf::half_open& flow) {
    if (flow.key.service_id == 0 || wishes.size() >= kMostInATick) return;
    const auto found = after_ns.find(flow.key.service_id);
    const bool waits = (flow.flags & bpf::CONNECTION_WAITING_SYN) != 0 && flow.moves == 0;
    if (found == after_ns.end() || !waits || flow.syn_ns > now_ns) return;
    const std::uint64_t age_ns = now_ns - flow.syn_ns;
    if (age_ns < found->second || age_ns > kTooLateNs) return;
    wishes.push_back({flow.key, flow.syn_ns});
  });
  for (const bpf::hedge_wish& wish : wishes) {
    if (!hedges_[wish.key.service_id].spend()) continue;
    if (auto hedged = path_.hedge(wish); !hedged) {
      can_hedge_ = false;
      hedge_failure_ = hedged.error().message();
      spdlog::warn("{}", hedge_failure_);
      return;
    }
  }
}

}  // namespace petrel
