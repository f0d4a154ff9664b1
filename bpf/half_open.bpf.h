/* SPDX-License-Identifier: MIT */
/* The half-open table: where a flow lives until its client has shown that it is there.
 *
 * An array of sets of HALF_OPEN_WAYS entries, so that a new flow costs no allocation and a flood of
 * them no lock: an entry is claimed by one atomic operation on its flags, and the oldest of a set
 * gives way. Who gives way gives back what it took, which the kernel's LRU would not do.
 */
#ifndef PETREL_BPF_HALF_OPEN_BPF_H
#define PETREL_BPF_HALF_OPEN_BPF_H

#include "bpf/hash.h"
#include "bpf/label.bpf.h"

/* Who tells of flows that are half open: the balancer, unless another program says so before this. */
#ifndef HALF_OPEN_OWNER
#define HALF_OPEN_OWNER SENSOR_WIRE
#endif

/* Set by the loader between open and load: half_open's sets less one (a power of two less one), and
 * what keeps others from aiming at one of them. */
const volatile __u32 half_open_mask = 511;
const volatile __u64 half_open_secret = 0;

static __always_inline __u32 half_open_set(__u64 hash) {
  return ((__u32)hash_mix(hash ^ half_open_secret) & half_open_mask) * HALF_OPEN_WAYS;
}

static __always_inline bool same_key(const struct connection_key *a,
                                     const struct connection_key *b) {
  const __u64 *left = (const __u64 *)a, *right = (const __u64 *)b;

  return left[2] == right[2] && left[1] == right[1] && left[0] == right[0];
}

static __always_inline struct half_open *find_half_open(const struct connection_key *key,
                                                        __u64 hash) {
  __u32 set = half_open_set(hash);

#pragma unroll
  for (__u32 way = 0; way < HALF_OPEN_WAYS; way++) {
    __u32 index = set + way;
    struct half_open *flow = bpf_map_lookup_elem(&half_open, &index);
    if (flow && same_key(&flow->key, key) && !(flow->flags & HALF_OPEN_BUSY)) return flow;
  }
  return NULL;
}

/* Its entry is taken: what waited waits no longer, and nobody will say how it ended. */
__noinline int evict_half_open(struct half_open *flow, __u32 flags, __u64 now_ns) {
  if (!flow) return 0;
  struct backend_stats *stats = stats_of_backend(flow->backend_id);
  __u32 service_id = flow->key.service_id;

  count_verdict(service_id, VERDICT_HALF_OPEN_EVICTED);
  if (!stats || !(flags & CONNECTION_WAITING_SYN)) return 0;
  /* The flags hold BUSY alone by now: say for end_wait() what they held. */
  __u32 held = CONNECTION_WAITING_SYN;
  struct wait wait = {.flags = &held,
                      .flag = CONNECTION_WAITING_SYN,
                      .backend_id = flow->backend_id,
                      .service_id = service_id};
  end_wait(&wait, stats, flow->sent_ns, now_ns);
  return 0;
}

/* An entry for a new flow, BUSY until its caller is done; NULL: the whole set is busy. */
static __always_inline struct half_open *claim_half_open(__u64 hash, __u64 now_ns) {
  __u32 set = half_open_set(hash);
  struct half_open *oldest = NULL;

#pragma unroll
  for (__u32 way = 0; way < HALF_OPEN_WAYS; way++) {
    __u32 index = set + way;
    struct half_open *flow = bpf_map_lookup_elem(&half_open, &index);
    if (!flow || (flow->flags & HALF_OPEN_BUSY)) continue;
    if (!oldest || flow->syn_ns < oldest->syn_ns) oldest = flow; /* a free entry is of time 0 */
  }
  if (!oldest) return NULL;
  __u32 flags = oldest->flags;
  if ((flags & HALF_OPEN_BUSY) ||
      __sync_val_compare_and_swap(&oldest->flags, flags, HALF_OPEN_BUSY) != flags)
    return NULL;
  if (oldest->key.service_id) evict_half_open(oldest, flags, now_ns);
  return oldest;
}

static __always_inline void free_half_open(struct half_open *flow) {
  flow->key.service_id = 0;
  flow->syn_ns = 0;
  flow->flags = 0;
}

/* The record of a flow that came no further. */
static __noinline int send_half_open_record(const struct half_open *flow, __u8 closed_by,
                                            __u8 failure, __u64 now_ns) {
  struct record *record = begin_record(&flow->key, now_ns);

  if (!record) return 0;
  struct connection *told = &record->connection;
  __builtin_memset(told, 0, sizeof(*told));
  told->backend_id = flow->backend_id;
  told->flags = flow->flags & ~(CONNECTION_WAITING_SYN | HALF_OPEN_BUSY);
  told->state = flow->state;
  told->syn_ns = flow->syn_ns;
  told->synack_ns = flow->synack_ns;
  told->syn_seq = flow->syn_seq;
  told->close_ns = now_ns;
  told->closed_by = closed_by;
  told->failure = failure;
  told->attempt = flow->attempt;
  told->previous_failure = flow->previous_failure;
  told->previous_backend_id = flow->previous_backend_id;
  told->previous_hash = flow->previous_hash;
  told->evidence = flow->evidence;
  told->confidence = flow->confidence;
  told->moves = flow->moves;
  told->syn_repeats = flow->syn_repeats;
  told->owner = HALF_OPEN_OWNER;
  bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
  return 0;
}

/* Ends a flow that came no further: its SYN was refused, given up, or answered by nothing. A client
 * that came again may still want the connection that it began before: the entry of a SYN that timed
 * out stays, closed and not sensed any more, for its answer to find its way. */
__noinline int end_half_open(struct half_open *flow, __u8 closed_by, __u8 failure, __u64 now_ns) {
  if (!flow) return 0;
  struct backend_stats *stats = stats_of_backend(flow->backend_id);
  const struct connection_key *key = &flow->key;

  if (!stats || !key->service_id) return 0;
  if (flow->state == CONNECTION_CLOSED) {
    free_half_open(flow);
    return 0;
  }
  struct wait wait = syn_wait_of(flow, key->service_id);
  bool waited = end_wait(&wait, stats, flow->sent_ns, now_ns);
  stats->closes++;
  struct failed failed = {.syn_ns = flow->syn_ns,
                          .backend_id = flow->backend_id,
                          .attempt = flow->attempt,
                          .failure = failure};
  if (failure != FAILURE_NONE) {
    count_failure(stats, key->service_id, failure);
    record_failure(key, &failed, now_ns);
  }
  struct event *event = begin_event(EVENT_END, key, now_ns);
  if (event) {
    event->syn_ns = flow->syn_ns;
    event->backend_id = flow->backend_id;
    event->attempt = flow->attempt;
    event->syn_repeats = flow->syn_repeats;
    event->state = flow->state == CONNECTION_SYN ? CONNECTION_SYN : CONNECTION_ESTABLISHED;
    if (flow->synack_ns) event->connect_ns = flow->synack_ns - flow->syn_ns;
    event->closed_by = closed_by;
    event->failure = failure;
    event->evidence = flow->evidence;
    event->confidence = flow->confidence;
    if (waited) event->waited_ns = now_ns - flow->syn_ns;
    submit_event(event);
  }
  if (is_recording()) send_half_open_record(flow, closed_by, failure, now_ns);
  if (closed_by == CLOSED_BY_TIMEOUT)
    flow->state = CONNECTION_CLOSED;
  else
    free_half_open(flow);
  return 0;
}

/* The client came again while its earlier SYN was unanswered for too long: that one has failed. */
static __noinline int fail_pending(const struct connection_key *key, const struct pending *pending,
                                   __u64 now_ns) {
  struct connection_key earlier = *key;
  earlier.client_port_be = pending->client_port_be;
  earlier.service_port_be = pending->service_port_be;
  struct half_open *flow = find_half_open(&earlier, hash_flow(&earlier, 0, false));

  if (flow && flow->syn_ns == pending->syn_ns && (flow->flags & CONNECTION_WAITING_SYN))
    end_half_open(flow, CLOSED_BY_TIMEOUT, FAILURE_HANDSHAKE_TIMEOUT, now_ns);
  return 0;
}

/* A client's SYN: its earlier one may have failed by it; it is now the one that waits. */
static __always_inline void remember_syn(const struct connection_key *key, __u64 now_ns) {
  __u32 hash = client_hash(key);
  struct pending *pending = pending_of(hash);

  if (!pending) return;
  if (pending->tag == (hash | 1) && pending->client_port_be != key->client_port_be &&
      now_ns - pending->syn_ns >= handshake_timeout_ns)
    fail_pending(key, pending, now_ns);
  set_pending(key, pending, hash, now_ns);
}

/* The backend's SYN-ACK, or the sign of it at a socket. */
static __always_inline void end_handshake(struct half_open *flow, struct backend_stats *stats,
                                          __u32 backend_seq) {
  __u64 now_ns = bpf_ktime_get_ns();
  struct wait wait = syn_wait_of(flow, flow->key.service_id);

  flow->backend_seq = backend_seq; /* of the last one: SYN cookies change by the minute */
  if (flow->synack_ns) return;
  flow->synack_ns = now_ns;
  if (flow->state == CONNECTION_SYN) flow->state = CONNECTION_ANSWERED;
  if (!end_wait(&wait, stats, flow->sent_ns, now_ns)) return;
  stats->established++;
  add_to_histogram(stats->connect_histogram, now_ns - flow->sent_ns);
  clear_pending(&flow->key);
}

/* new_connection: one connection record under construction; 288 bytes would crowd the stack.
 * Key: 0.  Value: struct connection.  Writer and reader: balancer.  Size: 1, for each CPU. */
struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct connection);
} new_connection SEC(".maps");

/* The client is there: its flow moves to `connections`, for good. NULL: there is no room. */
static __noinline struct connection *promote(struct half_open *flow, __u32 client_end_seq) {
  __u32 zero = 0;
  struct connection *fresh = bpf_map_lookup_elem(&new_connection, &zero);
  struct connection_key key = flow->key;

  if (!fresh) return NULL;
  __builtin_memset(fresh, 0, sizeof(*fresh));
  fresh->backend_id = flow->backend_id;
  fresh->flags = flow->flags & ~(CONNECTION_WAITING_SYN | HALF_OPEN_BUSY);
  fresh->client_end_seq = client_end_seq;
  fresh->backend_end_seq = flow->backend_seq + 1;
  fresh->state = CONNECTION_ESTABLISHED;
  if (flow->state == CONNECTION_CLOSED) {
    fresh->state = CONNECTION_CLOSED;
    fresh->closed_by = CLOSED_BY_TIMEOUT;
    fresh->close_ns = flow->synack_ns;
  }
  fresh->attempt = flow->attempt;
  fresh->syn_repeats = flow->syn_repeats;
  fresh->syn_ns = flow->syn_ns;
  fresh->synack_ns = flow->synack_ns;
  fresh->syn_seq = flow->syn_seq;
  fresh->previous_failure = flow->previous_failure;
  fresh->previous_backend_id = flow->previous_backend_id;
  fresh->moves = flow->moves;
  fresh->previous_hash = flow->previous_hash;
  fresh->evidence = flow->evidence;
  fresh->confidence = flow->confidence;
  fresh->owner = HALF_OPEN_OWNER;
  fresh->sockets[0].connect_ns = (__u64)flow->connect_us * 1000;
  if (bpf_map_update_elem(&connections, &key, fresh, BPF_ANY)) {
    count_verdict(key.service_id, VERDICT_TABLE_FULL);
    return NULL;
  }
  free_half_open(flow);
  return bpf_map_lookup_elem(&connections, &key);
}

#endif /* PETREL_BPF_HALF_OPEN_BPF_H */
