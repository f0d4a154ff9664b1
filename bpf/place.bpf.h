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

#include "bpf/label.bpf.h"

#define PLACE_TRIES 16        /* other slots asked; all miss once in 65,536 on a half-usable ring */
#define SECOND_RISK_Q16 13107 /* 0.2: a second choice riskier than the first by this is no help */

struct placement {
  __u32 backend_id; /* 0: none is usable */
  __u16 flags;      /* CONNECTION_STEERED, CONNECTION_OFF_RING, CONNECTION_NEUTRAL */
};

/* Finalizer of MurmurHash3: full avalanche for a word. */
static __always_inline __u32 mix(__u32 hash) {
  hash ^= hash >> 16;
  hash *= 0x85ebca6b;
  hash ^= hash >> 13;
  hash *= 0xc2b2ae35;
  return hash ^ hash >> 16;
}

static __always_inline __u32 hash_flow(const struct connection_key *key, __u32 seed) {
  __u32 hash = seed;

  hash = mix(hash ^ key->client.words_be[0]) + 0x9e3779b9;
  hash = mix(hash ^ key->client.words_be[1]) + 0x9e3779b9;
  hash = mix(hash ^ key->client.words_be[2]) + 0x9e3779b9;
  hash = mix(hash ^ key->client.words_be[3]) + 0x9e3779b9;
  return mix(hash ^ key->client_port_be);
}

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

static __always_inline __u32 slot_of(__u32 offset, __u32 slots, __u32 hash) {
  __u32 slot = offset + (__u32)(((__u64)hash * slots) >> 32); /* multiply-shift: no division */
  __u32 *backend_id = bpf_map_lookup_elem(&ring, &slot);

  return backend_id ? *backend_id : 0;
}

/* In one word with the service id, for probe_ring(): BPF functions take five arguments. */
#define PROBE_NEUTRAL (1U << 31)

/* The first usable backend other than `avoid` among a few slots; 0 if none is. Not static: a global
 * function is verified once, by itself, and not again from each place and each turn of its loop. */
__noinline __u32 probe_ring(__u32 offset, __u32 slots, __u32 hash, __u32 avoid, __u32 wanted) {
  __u32 service_id = wanted & ~PROBE_NEUTRAL;
  bool neutral = wanted & PROBE_NEUTRAL;

  for (__u32 i = 0; i < PLACE_TRIES; i++) {
    hash = mix(hash + 0x9e3779b9);
    __u32 backend_id = slot_of(offset, slots, hash);
    if (backend_id != avoid && usable(backend_id, service_id, neutral)) return backend_id;
  }
  return 0;
}

/* Requests waiting at a backend for each unit of its configured weight, and its risk. */
struct load {
  __u64 waiting;
  __u32 weight;
  __u32 risk_q16;
};

static __always_inline bool load_of(__u32 backend_id, struct load *load) {
  struct inflight *waiting = bpf_map_lookup_elem(&inflight, &backend_id);
  struct weight *weight = bpf_map_lookup_elem(&weights, &backend_id);

  if (!waiting || !weight) return false;
  load->waiting = waiting->requests > 0 ? waiting->requests : 0;
  load->weight = weight->base_weight;
  load->risk_q16 = weight->risk_q16;
  return true;
}

/* Two choices (Mitzenmacher 2001), damped: only a marked difference leaves the ring. The second is
 * drawn by configured weights, so that a wrong weight cannot starve a good backend; what fails
 * fast looks idle, so a riskier second is no choice. */
static __noinline __u32 second_choice(const struct service *service, __u32 first, __u32 hash) {
  struct load a, b;
  __u32 second = slot_of(service->neutral_offset, service->slots, mix(hash ^ 0x5bd1e995));

  if (second == first || !usable(second, service->service_id, false)) return first;
  if (!load_of(first, &a) || !load_of(second, &b)) return first;
  if (b.risk_q16 > a.risk_q16 + SECOND_RISK_Q16) return first;
  if (a.waiting < b.waiting + 2) return first;
  return 2 * a.waiting * b.weight > 3 * b.waiting * a.weight ? second : first;
}

static __noinline int place(const struct service *service, const struct connection_key *key,
                            const struct attempt *attempt, __u64 now_ns, struct placement *out) {
  __u32 hash = hash_flow(key, service->hash_seed);
  bool silent = agent_is_silent(now_ns);
  bool neutral = silent || !(service->flags & SERVICE_ACT);
  __u32 offset = neutral ? service->neutral_offset : service->ring_offset;
  __u32 backend_id = slot_of(offset, service->slots, hash);

  out->flags = silent ? CONNECTION_NEUTRAL : 0;
  if (silent) count_verdict(VERDICT_NEUTRAL_RING);
  if (!usable(backend_id, service->service_id, silent)) {
    count_verdict(VERDICT_BAD_SLOT);
    backend_id = probe_ring(service->neutral_offset, service->slots, hash, 0,
                            service->service_id | (silent ? PROBE_NEUTRAL : 0));
  }
  if (silent || !backend_id) {
    out->backend_id = backend_id;
    return 0;
  }
  if ((service->flags & SERVICE_STEER) && attempt->previous_backend_id == backend_id) {
    __u32 other = probe_ring(offset, service->slots, hash, backend_id, service->service_id);
    if (!other)
      other = probe_ring(service->neutral_offset, service->slots, hash, backend_id,
                         service->service_id);
    if (other) {
      out->backend_id = other;
      out->flags |= CONNECTION_STEERED;
      return 0;
    }
  }
  out->backend_id = backend_id;
  if (!(service->flags & SERVICE_TWO_CHOICES)) return 0;
  __u32 chosen = second_choice(service, backend_id, hash);
  if (chosen == backend_id || chosen == attempt->previous_backend_id) return 0;
  out->backend_id = chosen;
  out->flags |= CONNECTION_OFF_RING;
  return 0;
}

#endif /* PETREL_BPF_PLACE_BPF_H */
