/* SPDX-License-Identifier: MIT */
/* The odds that a request repeats one that failed: the same arithmetic in the balancer, the agent that
 * fits the rates, and `petrel where`.
 *
 * A failure's retry comes at a rate that depends on how long ago it was: the hazard of the delay's
 * distribution, learned from the service's own retries (struct retry_counts). Other requests of the
 * same client come at a rate of their own. The odds are the one by the other, as for two competing
 * Poisson processes; more than even makes a retry.
 */
#ifndef PETREL_BPF_ODDS_H
#define PETREL_BPF_ODDS_H

#include "bpf/types.h"

#ifdef __cplusplus
namespace petrel::bpf {
#define PETREL_INLINE_ODDS inline
#else
#define PETREL_INLINE_ODDS static __always_inline
#endif

#define TICKS_PER_1000_S 976562500ULL
#define ODDS_SAME_SHIFT 4       /* of retry_odds.same_factor */
#define ODDS_OTHER_SHIFT 9      /* another request is asked for: hashes of 16 bits collide, people do not */
#define ODDS_SCHEDULED_SHIFT 4  /* its client's SYNs come at such times */
#define ODDS_DUE_SHIFT 6        /* its client asks for this at such times */
#define ODDS_OTHER_CLOCK_SHIFT 2 /* few stacks draw a clock for each connection */
#define ODDS_OTHER_PORT_SHIFT 3 /* where ports have told hosts: jumps, and what NAT moved, 1 in 8 */

/* Bucket of a delay in ticks: 4 an octave. */
PETREL_INLINE_ODDS __u32 retry_bucket(__u32 ticks) {
  __u32 octave = 0, rest = ticks;

  if (ticks < 1U << RETRY_FIRST_OCTAVE) return 0;
  if (rest >> 16) { octave += 16; rest >>= 16; }
  if (rest >> 8) { octave += 8; rest >>= 8; }
  if (rest >> 4) { octave += 4; rest >>= 4; }
  if (rest >> 2) { octave += 2; rest >>= 2; }
  octave += rest >> 1;
  __u32 bucket = 1 + (octave - RETRY_FIRST_OCTAVE) * 4 + ((ticks >> (octave - 2)) & 3);
  return bucket < RETRY_BUCKETS ? bucket : RETRY_BUCKETS - 1;
}

PETREL_INLINE_ODDS __u32 retry_cause(__u8 failure) {
  switch (failure) {
    case FAILURE_HANDSHAKE_TIMEOUT: return CAUSE_HANDSHAKE;
    case FAILURE_REFUSED: return CAUSE_REFUSED;
  }
  return CAUSE_REQUEST;
}

/* Index of an attempt number in what is told apart of them. */
PETREL_INLINE_ODDS __u32 retry_attempt(__u8 attempt) {
  if (attempt <= 1) return 0;
  return attempt < RETRY_ATTEMPTS ? attempt - 1 : RETRY_ATTEMPTS - 1;
}

/* Index in retry_odds.retry_hazard. */
PETREL_INLINE_ODDS __u32 hazard_index(__u32 cause, __u32 attempt, __u32 bucket) {
  return (cause * RETRY_ATTEMPTS + attempt) * RETRY_BUCKETS + bucket;
}

/* At which rate the failure's retry is to be expected of a request that begins at `begin`, where
 * nothing else is known of it. Ticks; `window` is the longest delay of a retry. */
PETREL_INLINE_ODDS __u64 failure_hazard(const struct failure *failure,
                                        const struct retry_odds *odds, __u32 begin, __u32 window) {
  __s32 elapsed = (__s32)(begin - failure->known_at); /* negative: its client cannot know yet */

  if (!failure->syn_ns || elapsed < 0 || (__u32)elapsed > window) return 0;
  __u32 index = hazard_index(retry_cause(failure->kind), retry_attempt(failure->attempt),
                             retry_bucket((__u32)elapsed));
  if (index >= RETRY_CAUSES * RETRY_ATTEMPTS * RETRY_BUCKETS) return 0;
  return odds->retry_hazard[index];
}

/* Rate of a client of which `arrivals` came in `elapsed` ticks; `gap` is what is known from before. */
PETREL_INLINE_ODDS __u64 arrival_rate(__u32 arrivals, __u32 elapsed, __u64 gap) {
  return ((__u64)arrivals + 1) * TICKS_PER_1000_S / (elapsed + gap + 1);
}

/* log2(1 + retries / others), rounded up, and one more: by how much a retry that is known leaves less
 * for others. At most 31. */
PETREL_INLINE_ODDS __u8 odds_log2(__u64 retries, __u64 others) {
  __u64 odds = 1 + retries / (others + 1);
  __u8 log = 0;

  for (; log < 29 && odds > 1; log++) odds >>= 1;
  return log + 2;
}

#ifdef __cplusplus
}  // namespace petrel::bpf
#endif

#endif /* PETREL_BPF_ODDS_H */
