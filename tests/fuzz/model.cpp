// SPDX-License-Identifier: MIT
#include "tests/fuzz/model.hpp"

#include <algorithm>
#include <cstring>

#include "bpf/hash.h"

namespace petrel::fuzz {
namespace {

constexpr std::uint32_t note(bpf::verdict verdict) { return 1U << (verdict - kFirstNote); }

}  // namespace

bool Model::KeyLess::operator()(const bpf::connection_key& a, const bpf::connection_key& b) const {
  return std::memcmp(&a, &b, sizeof(a)) < 0;
}

bool Model::usable(std::uint32_t backend) const {
  if (backend == 0 || backend > kModelBackends) return false;
  // Quarantine is the agent's word, which expires when it is silent.
  return state[backend] == bpf::BACKEND_UP ||
         (silent && state[backend] == bpf::BACKEND_QUARANTINED);
}

std::string Model::verdict(const Seen& seen, std::uint32_t wanted, std::uint32_t notes) {
  notes |= evicted_note_;
  evicted_note_ = 0;
  ++counts_.at(wanted);
  for (std::uint32_t i = 0; i + kFirstNote < bpf::VERDICTS; ++i)
    counts_[i + kFirstNote] += notes >> i & 1;
  if (seen.verdict != wanted)
    return "verdict " + std::to_string(seen.verdict) + ", not " + std::to_string(wanted);
  // Nobody reads the events here, so that their buffer is full in the end.
  if ((seen.notes & ~note(bpf::VERDICT_EVENT_LOST)) != notes)
    return "notes " + std::to_string(seen.notes) + ", not " + std::to_string(notes);
  return "";
}

// --- placing ------------------------------------------------------------------------------------

std::string Model::placed(const bpf::connection_key& key, const Seen& seen,
                          std::uint32_t* notes) const {
  const std::vector<std::uint32_t>& ring = silent ? neutral : in_force;
  const std::uint64_t hash = bpf::hash_flow(&key, 0, false);
  const std::uint32_t named =
      ring[bpf::hash_slot(hash, static_cast<std::uint32_t>(ring.size()))];
  if (silent) *notes |= note(bpf::VERDICT_NEUTRAL_RING);
  if (!usable(named)) *notes |= note(bpf::VERDICT_BAD_SLOT);
  if (seen.verdict == bpf::VERDICT_NO_BACKEND)
    return usable(named) ? "no backend, though the ring names one" : "";
  if (usable(named) ? seen.backend != named : !usable(seen.backend))
    return "placed at " + std::to_string(seen.backend) + ", the ring names " +
           std::to_string(named);
  return "";
}

// The half-open table is of sets: where both entries are taken, the older flow is forgotten.
void Model::make_room(const bpf::connection_key& key) {
  const auto set_of = [this](const bpf::connection_key& of) {
    return static_cast<std::uint32_t>(bpf::hash_mix(bpf::hash_flow(&of, 0, false))) & (sets - 1);
  };
  const std::uint32_t set = set_of(key);
  std::vector<Flow*> there;
  for (auto& [other, flow] : flows_) {
    if (flow.half && set_of(other) == set) there.push_back(&flow);
  }
  if (there.size() < HALF_OPEN_WAYS) return;
  const auto oldest = std::ranges::min_element(
      there, {}, [](const Flow* flow) { return flow->half->born; });
  (*oldest)->half.reset();
  evicted_note_ = note(bpf::VERDICT_HALF_OPEN_EVICTED);
}

std::string Model::open(const bpf::connection_key& key, Flow& flow, HalfFlow half, bool keep,
                        std::uint32_t notes, const Seen& seen) {
  const std::string problem = placed(key, seen, &notes);
  if (!problem.empty()) return problem;
  if (seen.verdict == bpf::VERDICT_NO_BACKEND)
    return verdict(seen, bpf::VERDICT_NO_BACKEND,
                   notes & ~(note(bpf::VERDICT_MISS_SYN) | note(bpf::VERDICT_ADOPTED)));
  if (keep) {
    make_room(key);
    half.backend = seen.backend;
    half.born = ++clock_;
    flow.half = half;
  }
  return verdict(seen, bpf::VERDICT_FORWARDED, notes);
}

// Where few of the others are usable, none may be found in the slots that are asked.
bool Model::may_stay(const HalfFlow& half) const {
  std::size_t candidates = 0, all = neutral.size();
  for (const std::uint32_t backend : neutral) {
    candidates += usable(backend) && backend != half.backend &&
                  std::ranges::find(half.moved_from, backend) == half.moved_from.end();
  }
  return half.moves >= MAX_MOVES || candidates * 10 < all * 6;
}

std::string Model::move(HalfFlow& half, const Seen& seen) const {
  const std::uint32_t to = seen.backend;
  if (half.moves >= MAX_MOVES || !usable(to) || to == half.backend ||
      std::ranges::find(half.moved_from, to) != half.moved_from.end())
    return "moved from " + std::to_string(half.backend) + " to " + std::to_string(to);
  half.moved_from = {half.backend, half.moved_from[0]};
  half.backend = to;
  ++half.moves;
  return "";
}

// --- packets from clients -----------------------------------------------------------------------

std::string Model::syn(const bpf::connection_key& key, std::uint32_t seq, const Seen& seen) {
  Flow& flow = flows_[key];
  if (flow.half && gone(flow.half->backend)) flow.half.reset();
  if (flow.half && !flow.half->adopted && flow.half->seq == seq) {
    if (flow.half->answered || (seen.backend == flow.half->backend && may_stay(*flow.half)))
      return seen.backend == flow.half->backend ? verdict(seen, bpf::VERDICT_FORWARDED)
                                                : "a SYN that was answered was moved";
    const std::string problem = move(*flow.half, seen);
    return problem.empty()
               ? verdict(seen, bpf::VERDICT_FORWARDED, note(bpf::VERDICT_FAILED_OVER))
               : problem;
  }
  flow.half.reset();
  HalfFlow half;
  half.seq = seq;
  half.waiting = true;
  return open(key, flow, half, true, note(bpf::VERDICT_MISS_SYN), seen);
}

std::string Model::segment(const bpf::connection_key& key, bool payload, bool fin, bool rst,
                           const Seen& seen) {
  Flow& flow = flows_[key];
  if (flow.full && gone(flow.full->backend)) {
    if (reset_gone) {
      flow.full->closed = true;
      flow.full->waiting = 0;
      return verdict(seen, bpf::VERDICT_GONE_RESET);
    }
    std::uint32_t notes = 0;
    const std::string problem = placed(key, seen, &notes);
    if (!problem.empty()) return problem;
    if (seen.verdict == bpf::VERDICT_NO_BACKEND)
      return verdict(seen, bpf::VERDICT_NO_BACKEND, notes);
    flow.full->backend = seen.backend;
    flow.full->waiting = 0;
    return verdict(seen, bpf::VERDICT_FORWARDED, notes | note(bpf::VERDICT_GONE_MOVED));
  }
  if (!flow.full) {
    if (flow.half && gone(flow.half->backend)) flow.half.reset();
    if (!flow.half) {
      HalfFlow half;
      half.adopted = true;
      return open(key, flow, half, !rst, note(bpf::VERDICT_ADOPTED), seen);
    }
    if (flow.half->backend != seen.backend) return "affinity of a half-open flow broken";
    if (rst) flow.half.reset();
    if (rst || flow.half->adopted || !flow.half->answered)
      return verdict(seen, bpf::VERDICT_FORWARDED);
    flow.full = FullFlow{flow.half->backend};
    flow.half.reset();
  }
  FullFlow& full = *flow.full;
  if (full.backend != seen.backend)
    return "AFFINITY BROKEN: at " + std::to_string(full.backend) + ", sent to " +
           std::to_string(seen.backend);
  if (payload && !full.closed) full.waiting = std::min(full.waiting + 1, 1 + QUEUED_REQUESTS);
  if (fin || rst) {
    full.closed = true;
    full.waiting = 0;
  }
  return verdict(seen, bpf::VERDICT_FORWARDED);
}

// --- packets from backends ----------------------------------------------------------------------

std::string Model::syn_ack(const bpf::connection_key& key, std::uint32_t from, const Seen& seen) {
  Flow& flow = flows_[key];
  const bool answers = flow.half && flow.half->backend == from && !flow.half->adopted;
  if (flow.full && answers) flow.full.reset();  // its port begins anew
  if (flow.full) {
    if (flow.full->backend != from) return verdict(seen, bpf::VERDICT_LATE_BACKEND);
    return verdict(seen, gone(from) ? bpf::VERDICT_GONE_RESET : bpf::VERDICT_RETURNED);
  }
  if (!flow.half) return verdict(seen, bpf::VERDICT_NO_CONNECTION);
  if (flow.half->backend != from) return verdict(seen, bpf::VERDICT_LATE_BACKEND);
  if (answers) {
    flow.half->answered = true;
    flow.half->waiting = false;
  }
  return verdict(seen, bpf::VERDICT_RETURNED);
}

std::string Model::refusal(const bpf::connection_key& key, std::uint32_t from, const Seen& seen) {
  Flow& flow = flows_[key];
  const bool answers = flow.half && flow.half->backend == from && !flow.half->adopted;
  if (flow.full && !answers) {
    if (flow.full->backend != from) return verdict(seen, bpf::VERDICT_LATE_BACKEND);
    if (gone(from)) return verdict(seen, bpf::VERDICT_GONE_RESET);
    flow.full->closed = true;
    flow.full->waiting = 0;
    return verdict(seen, bpf::VERDICT_RETURNED);
  }
  if (!flow.half) return verdict(seen, bpf::VERDICT_NO_CONNECTION);
  if (flow.half->backend != from) return verdict(seen, bpf::VERDICT_LATE_BACKEND);
  const bool may_mask = answers && !flow.half->answered && flow.half->masked < MAX_MASKED;
  if (may_mask && seen.verdict == bpf::VERDICT_REFUSAL_MASKED) {
    const std::string problem = move(*flow.half, seen);
    ++flow.half->masked;
    return problem.empty() ? verdict(seen, bpf::VERDICT_REFUSAL_MASKED) : problem;
  }
  if (may_mask && !may_stay(*flow.half)) return "a refusal was not masked";
  flow.half.reset();
  return verdict(seen, bpf::VERDICT_RETURNED);
}

std::string Model::answer(const bpf::connection_key& key, std::uint32_t from, bool payload,
                          bool fin, const Seen& seen) {
  Flow& flow = flows_[key];
  if (!flow.full) {
    if (!flow.half) return verdict(seen, bpf::VERDICT_NO_CONNECTION);
    if (flow.half->backend != from) return verdict(seen, bpf::VERDICT_LATE_BACKEND);
    if (flow.half->adopted) {  // its backend knows it: so it is one
      flow.full = FullFlow{from};
      flow.half.reset();
      flow.full->closed = fin;
    }
    return verdict(seen, bpf::VERDICT_RETURNED);
  }
  if (flow.full->backend != from) return verdict(seen, bpf::VERDICT_LATE_BACKEND);
  if (gone(from)) return verdict(seen, bpf::VERDICT_GONE_RESET);
  if (payload) flow.full->waiting = std::max(flow.full->waiting - 1, 0);
  if (fin) flow.full->waiting = 0;
  if (fin) flow.full->closed = true;
  return verdict(seen, bpf::VERDICT_RETURNED);
}

// --- asked by the test --------------------------------------------------------------------------

std::uint32_t Model::backend_of(const bpf::connection_key& key) const {
  const auto found = flows_.find(key);
  if (found == flows_.end()) return 0;
  if (found->second.half) return found->second.half->backend;
  return found->second.full ? found->second.full->backend : 0;
}

const HalfFlow* Model::half(const bpf::connection_key& key) const {
  const auto found = flows_.find(key);
  return found != flows_.end() && found->second.half ? &*found->second.half : nullptr;
}

std::int64_t Model::waiting_syns(std::uint32_t backend) const {
  return std::ranges::count_if(flows_, [&](const auto& entry) {
    const auto& half = entry.second.half;
    return half && half->waiting && half->backend == backend;
  });
}

std::int64_t Model::waiting_requests(std::uint32_t backend) const {
  std::int64_t sum = 0;
  for (const auto& [key, flow] : flows_) {
    if (flow.full && flow.full->backend == backend) sum += flow.full->waiting;
  }
  return sum;
}

}  // namespace petrel::fuzz
