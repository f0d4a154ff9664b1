/* SPDX-License-Identifier: MIT */
/* When clients come: each one's last SYN, in `pending`, and what each asks for by the clock, in
 * `schedules`.
 *
 * A poller or a health check comes when it would have come anyway: that is no retry. Its schedule is
 * learned from the requests that are no retries themselves, and stays anchored to them while it
 * retries.
 */
#ifndef PETREL_BPF_SCHEDULE_BPF_H
#define PETREL_BPF_SCHEDULE_BPF_H

#include "bpf/host.bpf.h"

/* Entries of pending and schedules less one, powers of two less one. Set by the loader. */
const volatile __u32 pending_mask = 255;
const volatile __u32 schedules_mask = 255;

#define REGULAR_INTERVALS 2                /* like the one before: 3 that are alike */
#define LEAST_INTERVAL (50 * TICKS_PER_MS) /* what comes more often is a busy client, not a poller */
#define GAP_SHIFT 3
#define BURST (20 * TICKS_PER_MS)
#define SELDOM (1000 * TICKS_PER_MS) /* between SYNs of an address: one host's, if nothing says more */
#define SAME_HOST_AT_FIRST 8
#define SAME_HOST_LEAST 5  /* below, several hosts share the address */
#define SAME_HOST_MOST 15
#define MISSED_POLLS 4     /* polls in a row that failed unseen */

/* schedules: when clients ask for what they ask for again and again.
 * Key: hash of client, service and request.  Value: struct schedule, which says whose it is.
 * Writer and reader: balancer, sensor, at each request that can be read.
 * Size: as `pending`.  Two of one key: the later one stays; its poll may pass for a retry. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 256);
  __type(key, __u32);
  __type(value, struct schedule);
} schedules SEC(".maps");

/* --- SYNs ----------------------------------------------------------------------------------- */

static __always_inline struct pending *pending_of(__u32 hash) {
  __u32 index = hash_mix(hash) & pending_mask;

  return bpf_map_lookup_elem(&pending, &index);
}

static __always_inline __u32 pending_tag(__u32 hash) {
  return hash | 1;
}

/* Several hosts send from this address. */
static __always_inline bool is_shared(const struct pending *pending) {
  return pending->same_host < SAME_HOST_LEAST;
}

/* Within an eighth of the interval. */
static __always_inline bool is_near(__u32 elapsed, __u32 interval) {
  return distance((__s32)(elapsed - interval)) <= interval >> 3;
}

/* Whether a SYN of this client would have come now without any failure: its schedule counts from
 * its last SYN, or from its last that was no retry. */
static __always_inline bool is_scheduled(const struct pending *pending, __u32 now) {
  __u32 interval = pending->interval;

  if (pending->regular < REGULAR_INTERVALS || interval < LEAST_INTERVAL) return false;
  return is_near(now - pending->first_at, interval) || is_near(now - pending->syn_at, interval);
}

/* A SYN that is no retry: when the next one is to be expected. */
static __always_inline void learn_schedule(struct pending *pending, __u32 now) {
  __u32 interval = now - pending->first_at;

  if (is_near(interval, pending->interval) ||
      is_near(now - pending->syn_at, pending->interval)) {
    if (pending->regular < 255) pending->regular++;
    pending->interval += (__s32)(interval - pending->interval) >> 2;
  } else {
    pending->regular = 0;
    pending->interval = interval;
  }
  pending->first_at = now;
}

/* While nothing fails: how far apart a client's SYNs are. What follows at once is of one page. */
static __always_inline void learn_gap(struct pending *pending, __u32 gap) {
  if (gap < BURST) return;
  pending->gap = pending->gap ? pending->gap + ((__s32)(gap - pending->gap) >> GAP_SHIFT) : gap;
}

/* Of late, was a SYN of the same host as the one before? */
static __always_inline void learn_sharing(struct pending *pending, const struct connection_key *key,
                                          const struct identity *who, __u32 now) {
  __s32 on = ports_on(pending->client_port_be, key->client_port_be);
  bool same = on >= 0 && on <= NEAR_PORTS;

  if (on && who->has_clock && (pending->flags & PENDING_TIMESTAMPS) &&
      same_clock(pending->ts_offset_ms, who->ts_offset_ms,
                 (now - pending->syn_at) / TICKS_PER_MS)) {
    same = true;
    pending->flags |= PENDING_CLOCKS;
  }
  if (same && pending->same_host < SAME_HOST_MOST) pending->same_host++;
  if (!same && pending->same_host) pending->same_host--;
}

/* The client's SYN is now its last one, and waits: with others of its host, if there is room. */
static __noinline int note_syn(struct pending *pending, const struct connection_key *key,
                               const struct attempt *attempt) {
  const struct identity *who = &attempt->who;
  __u32 now = attempt->begin;
  struct waiting_syn *wait = &pending->waits[0];

  if (pending->tag != pending_tag(attempt->client_hash)) {
    __builtin_memset(pending, 0, sizeof(*pending));
    pending->tag = pending_tag(attempt->client_hash);
    pending->first_at = now;
    pending->same_host = SAME_HOST_AT_FIRST;
  } else {
    learn_sharing(pending, key, who, now);
    if (attempt->number == 1) learn_schedule(pending, now);
    if (!attempt->evidence) learn_gap(pending, now - pending->syn_at);
  }
  pending->client_port_be = key->client_port_be;
  pending->syn_at = now;
  pending->ts_offset_ms = who->ts_offset_ms;
  pending->flags &= ~PENDING_TIMESTAMPS;
  if (who->has_clock) pending->flags |= PENDING_TIMESTAMPS;
#pragma unroll
  for (__u32 i = 1; i < PENDING_SYNS; i++) {
    struct waiting_syn *other = &pending->waits[i];
    if (!wait->client_port_be) break;
    if (!other->client_port_be || (__s32)(other->at - wait->at) < 0) wait = other;
  }
  wait->at = now;
  wait->ts_offset_ms = who->ts_offset_ms;
  wait->has_clock = who->has_clock;
  wait->client_port_be = key->client_port_be;
  wait->service_port_be = key->service_port_be;
  return 0;
}

/* The SYN of this connection was answered: it no longer waits as evidence. */
static __always_inline void clear_pending(const struct connection_key *key) {
  __u32 hash = client_hash(key);
  struct pending *pending = pending_of(hash);

  if (!pending || pending->tag != pending_tag(hash)) return;
#pragma unroll
  for (__u32 i = 0; i < PENDING_SYNS; i++)
    if (pending->waits[i].client_port_be == key->client_port_be)
      pending->waits[i].client_port_be = 0;
}

/* While a client has no failure: how its SYNs follow each other. */
static __always_inline void count_gap(const struct connection_key *key,
                                      const struct pending *pending, __u32 now) {
  struct retry_counts *counts = retry_counts_of(key->service_id);

  if (counts) ADD_EXACTLY(counts->gaps[retry_bucket(now - pending->syn_at)], 1);
}

/* --- requests ------------------------------------------------------------------------------- */

static __always_inline __u32 schedule_tag(__u32 client_hash, __u16 request_hash) {
  return (client_hash ^ (__u32)request_hash * 0x9e3779b1U) | 1;
}

/* Of this client and what it asks for. Another's entry is taken over by keep_schedule(). */
static __always_inline struct schedule *schedule_of(__u32 tag) {
  __u32 index = hash_mix(tag) & schedules_mask;

  return bpf_map_lookup_elem(&schedules, &index);
}

/* How many of its intervals have passed, if it is within a sixteenth of one; 0: it is not. */
static __always_inline __u32 intervals_passed(const struct schedule *schedule, __u32 now) {
  __u32 interval = schedule->interval, elapsed = now - schedule->at;

#pragma unroll
  for (__u32 passed = 1; passed <= MISSED_POLLS; passed++)
    if (distance((__s32)(elapsed - passed * interval)) <= interval >> 4) return passed;
  return 0;
}

static __always_inline bool is_due(__u32 tag, __u32 now) {
  const struct schedule *schedule = schedule_of(tag);

  if (!schedule || schedule->tag != tag) return false;
  if (schedule->regular < REGULAR_INTERVALS || schedule->interval < LEAST_INTERVAL) return false;
  return intervals_passed(schedule, now);
}

/* A first attempt: when the next one is to be expected. */
static __noinline int keep_schedule(__u32 tag, __u32 now) {
  struct schedule *schedule = schedule_of(tag);

  if (!schedule) return 0;
  if (schedule->tag != tag) {
    schedule->tag = tag;
    schedule->interval = 0;
    schedule->regular = 0;
  } else {
    __u32 elapsed = now - schedule->at;
    __u32 passed = schedule->interval ? intervals_passed(schedule, now) : 0;
    if (passed) {
      if (schedule->regular < 8) schedule->regular++;
      if (passed == 1) schedule->interval = elapsed;
    } else if (schedule->regular > 2) {
      schedule->regular -= 2;
    } else {
      schedule->regular = 0;
      schedule->interval = elapsed;
    }
  }
  schedule->at = now;
  return 0;
}

/* How often do two clients ask for the same? */
static __always_inline void count_same_requests(__u32 service_id, __u32 client_hash,
                                                __u16 request_hash) {
  struct retry_counts *counts = retry_counts_of(service_id);

  if (!counts) return;
  if (counts->last_client != client_hash) {
    counts->compared_requests++;
    if (counts->last_request == request_hash) counts->same_requests++;
  }
  counts->last_client = client_hash;
  counts->last_request = request_hash;
}

#endif /* PETREL_BPF_SCHEDULE_BPF_H */
