/* SPDX-License-Identifier: MIT */
/* Placement: which backend takes a new connection.
 *
 * The ring names one by hash of client and service. A retry is steered off the backend that just
 * failed it; two choices prefer a second one when the first has markedly more requests waiting for
 * its weight. When the agent is silent the neutral ring (configured weights) serves, and neither
 * steering nor two choices act on what it last wrote.
 */
#ifndef PETREL_BPF_PLACE_BPF_H
#define PETREL_BPF_PLACE_BPF_H

#include "bpf/hash.h"
#include "bpf/label.bpf.h"

#define PLACE_TRIES 16        /* other slots asked; all miss once in 65,536 on a half-usable ring */
#define SECOND_RISK_Q16 13107 /* 0.2: a second choice riskier than the first by this is no help */
#define SECOND_DRAWS 4        /* of a second that is not the first */
#define SECOND_HASH 0x5bd1e995

static __always_inline bool agent_is_silent(__u64 now_ns) {
  __u32 zero = 0;
  struct control *state = bpf_map_lookup_elem(&control, &zero);

  if (!state || !state->heartbeat_ns) return true;
  __s64 age_ns = (__s64)(now_ns - state->heartbeat_ns);
  return age_ns > (__s64)state->heartbeat_limit_ns;
}

/* Quarantine is the agent's word: when it is silent the word has expired. */
static __always_inline bool usable(__u32 backend_id, __u32 service_id, bool neutral) {
  struct backend *backend = bpf_map_lookup_elem(&backends, &backend_id);

  if (!backend || backend_id == 0 || backend->service_id != service_id) return false;
  return backend->state == BACKEND_UP || (neutral && backend->state == BACKEND_QUARANTINED);
}

static __always_inline __u32 slot_of(__u32 offset, __u32 slots, __u64 hash) {
  __u32 slot = offset + hash_slot(hash, slots);
  __u32 *backend_id = bpf_map_lookup_elem(&ring, &slot);

  return backend_id ? *backend_id : 0;
}

/* What probe_ring() is to find: BPF functions take five arguments. */
struct wanted {
  __u32 offset;
  __u32 slots;
  __u32 service_id;
  __u32 avoid[3]; /* 0: nobody */
  bool neutral;   /* quarantine does not count */
  bool below_limit; /* not at its limit of requests in flight */
  bool retry;       /* the limit for retries, where it has one */
};

static __always_inline bool is_over(const struct inflight *waiting, bool retry) {
  __u64 limit = retry && waiting->retry_limit ? waiting->retry_limit : waiting->limit;

  return limit && waiting->requests >= (__s64)limit;
}

static __always_inline bool at_limit(__u32 backend_id, bool retry) {
  struct inflight *waiting = bpf_map_lookup_elem(&inflight, &backend_id);

  return waiting && is_over(waiting, retry);
}

/* The first usable backend among a few slots that is none of those to avoid; 0 if none is. Not
 * static: a global function is verified once, by itself, and not again from each place and each turn
 * of its loop. */
APART __u32 probe_ring(const struct wanted *wanted, __u64 hash) {
  if (!wanted) return 0;
  for (__u32 i = 1; i <= PLACE_TRIES; i++) {
    __u32 id = slot_of(wanted->offset, wanted->slots, hash_again(hash, i));
    if (id == wanted->avoid[0] || id == wanted->avoid[1] || id == wanted->avoid[2]) continue;
    if (wanted->below_limit && at_limit(id, wanted->retry)) continue;
    if (usable(id, wanted->service_id, wanted->neutral)) return id;
  }
  return 0;
}

#ifdef ARGUMENTS_BY_MAP
ROOM_FOR(struct wanted, room_probe);

__noinline __u32 probe_ring_here(__u64 hash) {
  struct wanted *wanted = room_of(room_probe);

  return wanted ? probe_ring(wanted, hash) : 0;
}

static __always_inline __u32 probe_ring_apart(const struct wanted *wanted, __u64 hash) {
  struct wanted *room = room_of(room_probe);

  if (!room) return 0;
  *room = *wanted;
  return probe_ring_here(hash);
}
#define probe_ring probe_ring_apart
#endif

/* Requests waiting at a backend for each unit of its configured weight, its risk, and how much of that
 * weight it is given. */
struct load {
  __u64 waiting;
  __u32 weight;
  __u32 risk_q16;
  __u32 factor_q16;
};

static __always_inline bool load_of(__u32 backend_id, struct load *load) {
  struct inflight *waiting = bpf_map_lookup_elem(&inflight, &backend_id);
  struct weight *weight = bpf_map_lookup_elem(&weights, &backend_id);

  if (!waiting || !weight) return false;
  load->waiting = waiting->requests > 0 ? waiting->requests : 0;
  load->weight = weight->base_weight;
  load->risk_q16 = weight->risk_q16;
  load->factor_q16 = weight->factor_q16;
  return true;
}

/* Two choices (Mitzenmacher 2001), damped: only a marked difference leaves the ring. The second is
 * drawn by configured weights, again where it is the first itself: what a sick backend still has on
 * the ring is to find another. What fails fast looks idle, so a riskier second is no choice, nor is
 * one that is given less than half of the first's part of its weight: what the agent moves away is
 * not to come back by this way. */
static __noinline __u32 second_choice(const struct service *service, __u32 first, __u64 hash) {
  struct load a, b;
  __u32 second = first;

  for (__u32 i = 0; i < SECOND_DRAWS && second == first; i++)
    second = slot_of(service->neutral_offset, service->slots, hash_again(hash, SECOND_HASH + i));
  if (second == first || !usable(second, service->service_id, false)) return first;
  if (scores_here()) {
    /* What the agent will know at its next tick. Where both are risky the ring has the say. */
    __u32 seconds = risk_seconds(clock_ns());
    bool first_is_risky = is_risky(first, seconds);
    if (first_is_risky != is_risky(second, seconds)) return first_is_risky ? second : first;
  }
  if (!load_of(first, &a) || !load_of(second, &b)) return first;
  if (b.risk_q16 > a.risk_q16 + SECOND_RISK_Q16) return first;
  if (2 * (__u64)b.factor_q16 < a.factor_q16) return first;
  if (a.waiting < b.waiting + 2) return first;
  return 2 * a.waiting * b.weight > 3 * b.waiting * a.weight ? second : first;
}

/* Another usable backend, asked of the ring in force, then of the neutral one; 0 if there is none. */
static __always_inline __u32 other_backend(const struct service *service, struct wanted *wanted,
                                           __u64 hash) {
  wanted->slots = service->slots;
  wanted->service_id = service->service_id;
  wanted->offset = service->flags & SERVICE_ACT ? service->ring_offset : service->neutral_offset;
  __u32 other = probe_ring(wanted, hash);
  if (other || !(service->flags & SERVICE_ACT)) return other;
  wanted->offset = service->neutral_offset;
  return probe_ring(wanted, hash);
}

/* `hash` is hash_flow() of the flow, as the service's affinity has it. */
static __noinline int place(const struct service *service, __u64 hash,
                            const struct attempt *attempt, bool silent, struct placement *out) {
  bool neutral = silent || !(service->flags & SERVICE_ACT);
  __u32 offset = neutral ? service->neutral_offset : service->ring_offset;
  __u32 backend_id = slot_of(offset, service->slots, hash);

  out->flags = silent ? CONNECTION_NEUTRAL : 0;
  if (silent) count_verdict(service->service_id, VERDICT_NEUTRAL_RING);
  if (!usable(backend_id, service->service_id, silent)) {
    struct wanted wanted = {.offset = service->neutral_offset,
                            .slots = service->slots,
                            .service_id = service->service_id,
                            .neutral = silent};
    count_verdict(service->service_id, VERDICT_BAD_SLOT);
    backend_id = probe_ring(&wanted, hash);
  }
  out->backend_id = backend_id;
  if (silent || !backend_id || (service->flags & SERVICE_AFFINITY)) return 0;
  if ((service->flags & SERVICE_STEER) && attempt->previous_backend_id == backend_id) {
    struct wanted wanted = {.avoid = {backend_id}};
    __u32 other = other_backend(service, &wanted, hash);
    if (other) {
      out->backend_id = other;
      out->flags |= CONNECTION_STEERED;
      return 0;
    }
  }
  if (!(service->flags & SERVICE_TWO_CHOICES)) return 0;
  __u32 chosen = second_choice(service, backend_id, hash);
  if (chosen == backend_id || chosen == attempt->previous_backend_id) return 0;
  out->backend_id = chosen;
  out->flags |= CONNECTION_OFF_RING;
  return 0;
}

#endif /* PETREL_BPF_PLACE_BPF_H */
