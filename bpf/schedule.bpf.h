/* SPDX-License-Identifier: MIT */
/* Each client's last SYN, in `pending`: whether it is unanswered, and how regularly they come.
 *
 * A poller or a health check comes when it would have come anyway: that is no retry. Its schedule is
 * learned from the SYNs that are no retries themselves, and stays anchored to them while it retries.
 */
#ifndef PETREL_BPF_SCHEDULE_BPF_H
#define PETREL_BPF_SCHEDULE_BPF_H

#include "bpf/host.bpf.h"

/* pending's entries less one, a power of two less one. Set by the loader. */
const volatile __u32 pending_mask = 255;

#define REGULAR_INTERVALS 2                /* like the one before: 3 that are alike */
#define LEAST_INTERVAL (50 * TICKS_PER_MS) /* what comes more often is a busy client, not a poller */
#define GAP_SHIFT 3
#define SELDOM (1000 * TICKS_PER_MS) /* between SYNs of an address: one host's, if nothing says more */

static __always_inline struct pending *pending_of(__u32 hash) {
  __u32 index = hash_mix(hash) & pending_mask;

  return bpf_map_lookup_elem(&pending, &index);
}

static __always_inline __u32 pending_tag(__u32 hash) {
  return hash | 1;
}

/* Within an eighth of the interval. */
static __always_inline bool is_near(__u32 elapsed, __u32 interval) {
  return distance((__s32)(elapsed - interval)) <= interval >> 3;
}

/* Whether a SYN of this client would have come now without any failure: its schedule counts from
 * its last SYN, from its last that was no retry, or (who waits for an answer first) from the end of
 * what failed. */
static __always_inline bool is_scheduled(const struct pending *pending, __u32 now,
                                         __u32 since_failure) {
  __u32 interval = pending->interval;

  if (pending->regular < REGULAR_INTERVALS || interval < LEAST_INTERVAL) return false;
  return is_near(now - pending->first_at, interval) || is_near(now - pending->syn_at, interval) ||
         is_near(since_failure, interval);
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
  pending->gap = pending->gap ? pending->gap + ((__s32)(interval - pending->gap) >> GAP_SHIFT)
                              : interval;
  pending->first_at = now;
}

/* The client's SYN is now the one that waits. */
static __always_inline void note_syn(struct pending *pending, const struct connection_key *key,
                                     const struct identity *who, __u32 hash, __u64 now_ns,
                                     bool retry) {
  __u32 now = clock_ticks(now_ns);
  __u8 flags = PENDING_WAITS | (who->has_clock ? PENDING_TIMESTAMPS : 0);

  if (pending->tag != pending_tag(hash)) {
    pending->tag = pending_tag(hash);
    pending->first_at = now;
    pending->interval = 0;
    pending->gap = 0;
    pending->regular = 0;
    pending->flags = 0;
  } else if (!retry) {
    learn_schedule(pending, now);
  }
  pending->client_port_be = key->client_port_be;
  pending->service_port_be = key->service_port_be;
  pending->syn_at = now;
  pending->ts_offset_ms = who->ts_offset_ms;
  pending->flags = flags | (pending->flags & PENDING_SHARED);
}

/* The SYN of this connection was answered: it no longer waits as evidence. */
static __always_inline void clear_pending(const struct connection_key *key) {
  __u32 hash = client_hash(key);
  struct pending *pending = pending_of(hash);

  if (pending && pending->tag == pending_tag(hash) &&
      pending->client_port_be == key->client_port_be)
    pending->flags &= ~PENDING_WAITS;
}

#endif /* PETREL_BPF_SCHEDULE_BPF_H */
