/* SPDX-License-Identifier: MIT */
/* Counters: verdicts, histograms, and the waiting requests that a start takes and an end gives back.
 */
#ifndef PETREL_BPF_ACCOUNT_BPF_H
#define PETREL_BPF_ACCOUNT_BPF_H

#include "bpf/drift.bpf.h"
#include "bpf/tap.bpf.h"

#define SATURATING_INCREMENT(field) \
  do {                              \
    typeof(field) next = (field) + 1; \
    if (next) (field) = next;       \
  } while (0)

/* Adds to what this CPU alone writes. A program of XDP is interrupted by no other that counts; who may
 * be says so before this file, and pays for it. */
#ifndef ADD_EXACTLY
#define ADD_EXACTLY(field, delta) ((field) += (delta))
#endif

static __always_inline void count_verdict(__u32 service_id, __u32 verdict) {
  __u32 key = service_id * VERDICTS + verdict;

  if (is_tapping()) tap_note(service_id, verdict);
  __u64 *count = bpf_map_lookup_elem(&verdicts, &key);
  if (count) (*count)++;
}

static __always_inline struct backend_stats *stats_of_backend(__u32 backend_id) {
  return bpf_map_lookup_elem(&backend_stats, &backend_id);
}

static __always_inline struct service_stats *stats_of_service(__u32 service_id) {
  return bpf_map_lookup_elem(&service_stats, &service_id);
}

/* Position of the highest set bit, 0 for 0 and 1: no bit-scan instruction exists in BPF. */
static __always_inline __u32 floor_log2(__u64 value) {
  __u32 log = 0;

  if (value >> 32) { log += 32; value >>= 32; }
  if (value >> 16) { log += 16; value >>= 16; }
  if (value >> 8) { log += 8; value >>= 8; }
  if (value >> 4) { log += 4; value >>= 4; }
  if (value >> 2) { log += 2; value >>= 2; }
  return log + (__u32)(value >> 1);
}

/* Bucket of a duration: 4 an octave; what is shorter or longer than they span goes to the ends. */
static __always_inline __u32 histogram_bucket(__u64 duration_ns) {
  __u32 octave = floor_log2(duration_ns);

  if (octave < HISTOGRAM_FIRST_OCTAVE) return 0;
  if (octave >= HISTOGRAM_FIRST_OCTAVE + HISTOGRAM_OCTAVES) return HISTOGRAM_BUCKETS - 1;
  return (octave - HISTOGRAM_FIRST_OCTAVE) * 4 + (__u32)((duration_ns >> (octave - 2)) & 3);
}

static __always_inline void add_to_histogram(__u32 *buckets, __u64 duration_ns) {
  __u64 bucket = seen_anew(histogram_bucket(duration_ns));

  if (bucket < HISTOGRAM_BUCKETS) buckets[bucket]++; /* always: the verifier wants it said */
}

static __always_inline void add_inflight(__u32 backend_id, __u32 service_id, __s64 delta) {
  struct inflight *waiting = bpf_map_lookup_elem(&inflight, &backend_id);

  if (waiting) __sync_fetch_and_add(&waiting->requests, delta);
  waiting = bpf_map_lookup_elem(&svc_inflight, &service_id);
  if (waiting) __sync_fetch_and_add(&waiting->requests, delta);
}

/* Requests and SYNs without an answer at the backend now. */
static __always_inline __u32 inflight_of(__u32 backend_id) {
  struct inflight *waiting = bpf_map_lookup_elem(&inflight, &backend_id);

  return waiting && waiting->requests > 0 ? (__u32)waiting->requests : 0;
}

/* Somebody captures. */
static __always_inline bool is_recording(void) {
  __u32 zero = 0;
  struct control *state = bpf_map_lookup_elem(&control, &zero);

  return state && state->recording;
}

static __always_inline __u32 waiting_slot(__u64 start_ns) {
  return (__u32)(start_ns >> WAITING_SLOT_SHIFT) & (WAITING_SLOTS - 1);
}

/* What waits for an answer: a SYN (flag CONNECTION_WAITING_SYN) or a request (CONNECTION_WAITING) of
 * the flow whose flags these are. */
struct wait {
  __u32 *flags;
  __u32 flag;
  __u32 backend_id;
  __u32 service_id;
};

/* For a flow whose flags nobody else sees yet: the caller sets them. */
static __always_inline void take_wait(const struct wait *wait, struct backend_stats *stats,
                                      __u64 now_ns) {
  __s32 *slots = wait->flag == CONNECTION_WAITING_SYN ? stats->waiting_syn : stats->waiting;

  ADD_EXACTLY(slots[waiting_slot(now_ns)], 1);
  add_inflight(wait->backend_id, wait->service_id, 1);
}

static __always_inline void begin_wait(const struct wait *wait, struct backend_stats *stats,
                                       __u64 now_ns) {
  take_wait(wait, stats, now_ns);
  fetch_or(wait->flags, wait->flag);
}

/* Gives back exactly what take_wait() took at start_ns. */
static __always_inline void give_back_wait(const struct wait *wait, struct backend_stats *stats,
                                           __u64 start_ns, __u64 now_ns) {
  __s32 *slots = wait->flag == CONNECTION_WAITING_SYN ? stats->waiting_syn : stats->waiting;

  /* What is older was carried over by the agent, which frees the slot for its next use. */
  if ((now_ns >> WAITING_SLOT_SHIFT) - (start_ns >> WAITING_SLOT_SHIFT) < WAITING_YOUNG_SLOTS)
    ADD_EXACTLY(slots[waiting_slot(start_ns)], -1);
  else
    stats->waited_out++;
  add_inflight(wait->backend_id, wait->service_id, -1);
}

/* It waits no longer. False: it did not wait. Its two ends may end it at once, each on a CPU of its
 * own: one of them takes the flag away. */
static __always_inline bool end_wait(const struct wait *wait, struct backend_stats *stats,
                                     __u64 start_ns, __u64 now_ns) {
  if (!(fetch_and(wait->flags, ~wait->flag) & wait->flag)) return false;
  give_back_wait(wait, stats, start_ns, now_ns);
  return true;
}

static __always_inline struct wait wait_of(struct connection *connection, __u32 service_id) {
  return (struct wait){.flags = &connection->flags,
                       .flag = CONNECTION_WAITING,
                       .backend_id = connection->backend_id,
                       .service_id = service_id};
}

/* The requests that were pipelined behind the current one wait no longer either. */
static __noinline int end_queued(struct connection *connection, __u32 service_id, __u64 now_ns) {
  struct backend_stats *stats = stats_of_backend(connection->backend_id);
  struct wait wait = wait_of(connection, service_id);
  __u32 queued = connection->queued;

  connection->queued = 0;
  if (!stats) return 0;
  for (__u32 i = 0; i < QUEUED_REQUESTS; i++) {
    if (i < queued) give_back_wait(&wait, stats, connection->queued_ns[i], now_ns);
  }
  return 0;
}

static __always_inline struct wait syn_wait_of(struct half_open *flow, __u32 service_id) {
  return (struct wait){.flags = &flow->flags,
                       .flag = CONNECTION_WAITING_SYN,
                       .backend_id = flow->backend_id,
                       .service_id = service_id};
}

/* A failure that a backend is to blame for, whether its client came to know or not. */
static __always_inline void blame(struct backend_stats *stats, __u8 failure) {
  switch (failure) {
    case FAILURE_REFUSED: stats->refused++; break;
    case FAILURE_HANDSHAKE_TIMEOUT: stats->handshake_timeouts++; break;
    case FAILURE_RESET: stats->resets++; break;
    case FAILURE_ABANDONED: stats->abandoned++; break;
    case FAILURE_EMPTY: stats->empty++; break;
    case FAILURE_OVERLOAD: stats->overloads++; break;
    case FAILURE_SERVER_ERROR: stats->server_errors++; break;
  }
}

/* The same, of which the client knows. */
static __always_inline void count_failure(struct backend_stats *stats, __u32 service_id,
                                          __u8 failure) {
  struct service_stats *service = stats_of_service(service_id);

  __u64 kind = seen_anew(failure);
  if (service && kind < FAILURE_KINDS) service->failures[kind]++;
  blame(stats, failure);
}

#endif /* PETREL_BPF_ACCOUNT_BPF_H */
