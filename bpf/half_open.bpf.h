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
#include "bpf/settle.bpf.h"

/* Who tells of flows that are half open: the balancer, unless another program says so before this. */
#ifndef HALF_OPEN_OWNER
#define HALF_OPEN_OWNER SENSOR_WIRE
#endif

/* Set by the loader between open and load. */
const volatile __u64 handshake_timeout_ns = 200000000ULL;

/* The same: half_open's sets less one (a power of two less one), and
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
GLOBAL int evict_half_open(struct half_open *flow, __u32 flags, __u64 now_ns) {
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
      compare_and_swap(&oldest->flags, flags, HALF_OPEN_BUSY) != flags)
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
APART int end_half_open(struct half_open *flow, __u8 closed_by, __u8 failure, __u64 now_ns) {
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
  struct failed *failed = failure != FAILURE_NONE ? failed_at_hand() : NULL;
  if (failed) {
    identify_flow(flow, &failed->who);
    failed->syn_ns = flow->syn_ns;
    failed->backend_id = flow->backend_id;
    failed->hash = flow->previous_hash;
    failed->attempt = flow->attempt;
    failed->failure = failure;
    count_failure(stats, key->service_id, failure);
    record_failure(key, failed, now_ns);
  }
  struct event *event = begin_event(EVENT_END, key, now_ns);
  if (event) {
    event->syn_ns = flow->syn_ns;
    event->backend_id = flow->backend_id;
    event->attempt = flow->attempt;
    event->evidence = flow->evidence;
    event->confidence = flow->confidence;
    event->syn_repeats = flow->syn_repeats;
    event->state = flow->state == CONNECTION_SYN ? CONNECTION_SYN : CONNECTION_ESTABLISHED;
    if (flow->synack_ns) event->connect_ns = flow->synack_ns - flow->syn_ns;
    event->closed_by = closed_by;
    event->failure = failure;
    event->evidence = flow->evidence;
    event->confidence = flow->confidence;
    if (waited) event->waited_ns = now_ns - flow->syn_ns;
    if (scores_here() && failure != FAILURE_NONE) score_event(event);
    submit_event(event);
  }
  if (is_recording()) send_half_open_record(flow, closed_by, failure, now_ns);
  if (closed_by == CLOSED_BY_TIMEOUT)
    flow->state = CONNECTION_CLOSED;
  else
    free_half_open(flow);
  return 0;
}

#ifdef ARGUMENTS_BY_MAP
ROOM_FOR(struct connection_key, room_half_open);

__noinline int end_half_open_here(__u32 closed_by, __u32 failure, __u64 now_ns) {
  struct connection_key *key = room_of(room_half_open);
  struct half_open *flow = key ? find_half_open(key, hash_flow(key, 0, false)) : NULL;

  return flow ? end_half_open(flow, closed_by, failure, now_ns) : 0;
}

static __always_inline void end_half_open_apart(struct half_open *flow, __u8 closed_by,
                                                __u8 failure, __u64 now_ns) {
  struct connection_key *room = room_of(room_half_open);

  if (!room) return;
  *room = flow->key;
  end_half_open_here(closed_by, failure, now_ns);
}
#define end_half_open end_half_open_apart
#endif

/* The client came again while its earlier SYN was unanswered for too long: that one has failed. */
static __noinline int fail_pending(const struct connection_key *key, struct waiting_syn *wait,
                                   __u64 now_ns) {
  struct label_work *work = label_at_hand();

  if (!work) return 0;
  work->earlier = *key;
  work->earlier.client_port_be = wait->client_port_be;
  work->earlier.service_port_be = wait->service_port_be;
  struct half_open *flow = find_half_open(&work->earlier, hash_flow(&work->earlier, 0, false));

  if (flow && clock_ticks(flow->syn_ns) == wait->at && (flow->flags & CONNECTION_WAITING_SYN))
    end_half_open(flow, CLOSED_BY_TIMEOUT, FAILURE_HANDSHAKE_TIMEOUT, now_ns);
  wait->client_port_be = 0;
  return 0;
}

static __always_inline struct pending *pending_of_host(__u32 hash, __u16 identity, __u32 *tag) {
  __u32 host_hash = (__u32)hash_mix((__u64)identity << 32 | hash);

  *tag = pending_tag(host_hash);
  return pending_of(host_hash);
}

/* Whether the SYN that waits is one of this host. Where clocks and ports do not say so, an address
 * that is seldom heard, or seems to be one host's, is taken for one host. */
static __always_inline bool is_own_syn(const struct pending *pending,
                                       const struct waiting_syn *wait,
                                       const struct connection_key *key,
                                       const struct identity *who, __u64 now_ns) {
  __u32 age_ms = (clock_ticks(now_ns) - wait->at) / TICKS_PER_MS;
  __s32 on = ports_on(wait->client_port_be, key->client_port_be);

  if (who->has_clock && wait->has_clock && same_clock(wait->ts_offset_ms, who->ts_offset_ms, age_ms))
    return true;
  if (on >= 0 && on <= NEAR_PORTS) return true;
  return !pending->gap || pending->gap >= SELDOM || !is_shared(pending);
}

/* A SYN is labelled, and is now the one by which its client's next is judged. The attempt at hand says
 * whose it is. */
static __noinline int label_syn(const struct connection_key *key, __u64 now_ns) {
  struct label_work *work = label_at_hand();

  if (!work) return 0;
  struct attempt *attempt = &work->attempt;
  struct pending *pending = pending_of(attempt->client_hash);

  attempt->syn_ns = now_ns;
  attempt->request = 1;
  label_request(key, attempt, now_ns);
  if (!pending) return 0;
  if (!attempt->evidence && pending->tag == pending_tag(attempt->client_hash))
    count_gap(key, pending, attempt->begin);
  note_syn(pending, key, attempt);
  return 0;
}

static __always_inline bool has_timed_out(const struct waiting_syn *wait, __u64 now_ns) {
  return clock_ticks(now_ns) - wait->at >= clock_ticks(handshake_timeout_ns);
}

/* The SYNs of an address that several hosts share wait by host, too, once another one comes. */
static __always_inline void check_aside(const struct connection_key *key, __u32 hash,
                                        __u16 identity, __u64 now_ns) {
  __u32 tag;
  struct pending *aside = pending_of_host(hash, identity, &tag);

  if (!aside || aside->tag != tag) return;
#pragma unroll
  for (__u32 i = 0; i < PENDING_SYNS; i++) {
    struct waiting_syn *wait = &aside->waits[i];
    if (!wait->client_port_be || wait->client_port_be == key->client_port_be) continue;
    if (has_timed_out(wait, now_ns)) fail_pending(key, wait, now_ns);
  }
}

/* Where another host's SYN finds no room beside it. */
static __noinline int set_aside(struct pending *pending, struct waiting_syn *wait, __u32 hash) {
  bool by_clock = wait->has_clock && (pending->flags & PENDING_CLOCKS);
  __u16 identity = identity_of(by_clock, wait->ts_offset_ms, wait->client_port_be);
  __u32 tag;
  struct pending *aside = pending_of_host(hash, identity, &tag);

  if (!aside || aside == pending) return 0;
  pending->flags |= PENDING_SHARED;
  if (aside->tag != tag) __builtin_memset(aside, 0, sizeof(*aside));
  aside->tag = tag;
  /* A page may have asked for several things at once. */
#pragma unroll
  for (__u32 i = PENDING_SYNS - 1; i > 0; i--) aside->waits[i] = aside->waits[i - 1];
  aside->waits[0] = *wait;
  wait->client_port_be = 0;
  return 0;
}

/* A client's SYN: its earlier ones may have failed by it. */
APART int check_pending(const struct connection_key *key, __u64 now_ns) {
  struct label_work *work = label_at_hand();

  if (!key || !work) return 0;
  const struct identity *who = &work->attempt.who;
  __u32 hash = work->attempt.client_hash;
  struct pending *pending = pending_of(hash);
  if (!pending || pending->tag != pending_tag(hash)) return 0;
  bool shared = pending->flags & PENDING_SHARED;
#pragma unroll
  for (__u32 i = 0; i < PENDING_SYNS; i++) {
    struct waiting_syn *wait = &pending->waits[i];
    if (!wait->client_port_be) continue;
    if (!is_own_syn(pending, wait, key, who, now_ns))
      set_aside(pending, wait, hash);
    else if (wait->client_port_be != key->client_port_be && has_timed_out(wait, now_ns))
      fail_pending(key, wait, now_ns);
  }
  if (!shared) return 0;
  bool by_clock = who->has_clock && (pending->flags & PENDING_CLOCKS);
  check_aside(key, hash, identity_of(by_clock, who->ts_offset_ms, key->client_port_be), now_ns);
#pragma unroll
  for (__u32 n = 1; n <= 2; n++) {
    __u16 beside = identity_beside(by_clock, who->ts_offset_ms, key->client_port_be, n);
    if (beside) check_aside(key, hash, beside, now_ns);
  }
  return 0;
}

#ifdef ARGUMENTS_BY_MAP
ROOM_FOR(struct connection_key, room_pending);

__noinline int check_pending_here(__u64 now_ns) {
  struct connection_key *key = room_of(room_pending);

  return key ? check_pending(key, now_ns) : 0;
}

static __always_inline void check_pending_apart(const struct connection_key *key, __u64 now_ns) {
  struct connection_key *room = room_of(room_pending);

  if (!room) return;
  *room = *key;
  check_pending_here(now_ns);
}
#define check_pending check_pending_apart
#endif

/* The backend's SYN-ACK, or the sign of it at a socket. */
static __always_inline void end_handshake(struct half_open *flow, struct backend_stats *stats,
                                          __u32 backend_seq) {
  __u64 now_ns = clock_ns();
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
  fresh->previous_hash = flow->previous_hash;
  fresh->evidence = flow->evidence;
  fresh->confidence = flow->confidence;
  struct identity who;
  identify_flow(flow, &who);
  if (who.has_clock) fresh->flags |= CONNECTION_TIMESTAMPS;
  fresh->ts_offset_ms = who.ts_offset_ms;
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
