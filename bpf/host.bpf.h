/* SPDX-License-Identifier: MIT */
/* What failed, by host: the evidence for the retries that may follow, in `clients`.
 *
 * Under the address itself lies the host that failed last. When another one fails before that is
 * answered, the earlier one moves to an entry of its own, found again by its clock or its ports. A
 * SYN makes no entry, so that a flood of them forgets no failure.
 */
#ifndef PETREL_BPF_HOST_BPF_H
#define PETREL_BPF_HOST_BPF_H

#include "bpf/account.bpf.h"
#include "bpf/hash.h"
#include "bpf/identity.bpf.h"
#include "bpf/odds.h"
#include "bpf/score.bpf.h"

/* Set by the loader between open and load. */
const volatile __u64 retry_window_ns = 5000000000ULL;

/* Of a client of a service: the same for all its connections. */
static __always_inline __u32 client_hash(const struct connection_key *key) {
  return hash_client(&key->client, key->service_id);
}

static __always_inline __u8 *last_failure_epoch(__u32 hash) {
  __u32 zero = 0;
  struct client_filter *filter = bpf_map_lookup_elem(&client_filter, &zero);

  return filter ? &filter->epochs[hash & (CLIENT_EPOCHS - 1)] : NULL;
}

/* False: no client of this hash has failed within the retry window. */
static __always_inline bool may_have_failed(__u32 hash, __u64 now_ns) {
  __u8 *epoch = last_failure_epoch(hash);

  if (!epoch || !*epoch) return false;
  __u8 age = (client_epoch(now_ns) - *epoch) & 0x7f;
  return age <= (retry_window_ns >> CLIENT_EPOCH_SHIFT) + 1;
}

static __always_inline void client_key_of(const struct connection_key *key,
                                          struct client_key *out) {
  out->client = key->client;
  out->service_id = key->service_id;
  out->identity = 0;
}

static __always_inline bool in_window(const struct client *client, __u64 now_ns) {
  return now_ns - client->failure_ns <= retry_window_ns;
}

static __always_inline bool has_clock(const struct client *client) {
  return client->flags & CLIENT_TIMESTAMPS;
}

/* What failed, as evidence for the retry that may follow. */
struct failed {
  struct identity who;
  __u64 syn_ns;      /* names the connection, with its key */
  __u32 backend_id;  /* 0: refused by us */
  __u32 request;     /* which request of it, from 1; 0: its handshake */
  __u32 round_trip;  /* of the client to us, in units of 1.024 us; 0: not known */
  __u16 hash;        /* of its first bytes; 0: not known */
  __u8 attempt;
  __u8 failure;
  __u8 unreadable;   /* its connection had answered before, and is no HTTP/1.x */
};

/* A request to be labelled, and what the label says of it. */
struct attempt {
  struct identity who;
  __u64 syn_ns;              /* names its connection, with its key */
  __u32 begin;               /* ticks: its SYN, or its first byte on a kept connection */
  __u32 request;             /* which one of its connection, from 1 */
  __u32 client_hash;         /* hash of client and service */
  __u32 previous_backend_id; /* 0 for a first attempt */
  __u16 request_hash;        /* 0: not known, or not yet */
  __u16 previous_hash;       /* of the failed request; 0: not known */
  __u8 number;               /* 1 = first attempt */
  __u8 previous_failure;     /* FAILURE_NONE for a first attempt */
  __u8 evidence;             /* enum label_evidence */
  __u8 confidence;           /* in the label as it is, 255: certain */
  __u8 kept;                 /* on a connection that was there: its port says nothing of order */
  __u8 due;                  /* its client asks for this at such times */
  __u8 padding[2];
};

/* How one request's odds come about, in retries and requests per 1,000 s. */
struct weighing {
  __u64 hazards[HOST_FAILURES]; /* of its being the retry of each of its host's failures */
  __u64 retries;                /* their sum */
  __u64 others;                 /* of its being any other request */
  __u64 own;                    /* those of them that are its host's */
};

/* Where a new flow goes. */
struct placement {
  __u32 backend_id; /* 0: none is usable */
  __u16 flags;      /* CONNECTION_STEERED, CONNECTION_OFF_RING, CONNECTION_NEUTRAL */
};

/* What the label needs besides the stack, which is 512 bytes for a whole chain of calls. */
struct label_work {
  struct attempt attempt;
  struct failed failed;
  struct placement placement;
  struct weighing weighing;
  struct connection_key earlier;   /* of a SYN that its client has given up */
  struct connection_key failed_key; /* of `failed`, where a function cannot be given it */
  struct connection_key unsettled; /* whose request is to be labelled; service_id 0: nobody's */
};

/* label_work: the request, or the failure, that is at hand on one CPU.
 * Key: 0.  Value: struct label_work.  Writer and reader: balancer.  Size: 1, for each CPU. */
struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct label_work);
} label_work SEC(".maps");

static __always_inline struct label_work *label_at_hand(void) {
  __u32 zero = 0;

  return bpf_map_lookup_elem(&label_work, &zero);
}

/* A first attempt as far as is known. */
static __always_inline struct attempt *attempt_at_hand(void) {
  struct label_work *work = label_at_hand();

  if (!work) return NULL;
  __builtin_memset(&work->attempt, 0, sizeof(work->attempt));
  work->attempt.number = 1;
  work->attempt.confidence = 255;
  return &work->attempt;
}

static __always_inline struct failed *failed_at_hand(void) {
  struct label_work *work = label_at_hand();

  if (!work) return NULL;
  __builtin_memset(&work->failed, 0, sizeof(work->failed));
  return &work->failed;
}

/* Not among the constants that are set before load: those lie the same in each compile. */
static const struct client no_failure SEC(".rodata.tables") = {};

/* retry_counts: what a service's requests teach of retries: how soon and how often failures are
 * repeated, and how clients come while nothing fails.
 * Key: service id.  Value: struct retry_counts, one a CPU.
 * Writer: balancer, sensor.  Reader: agent, five times a second.  Size: highest configured id + 1. */
struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 2);
  __type(key, __u32);
  __type(value, struct retry_counts);
} retry_counts SEC(".maps");

static __always_inline struct retry_counts *retry_counts_of(__u32 service_id) {
  return bpf_map_lookup_elem(&retry_counts, &service_id);
}

/* Whether an address's hosts are told by their clocks: a clock that each connection draws anew, as
 * Linux 6.18.44 was seen to, tells none, and its host must be found by its ports. */
static __always_inline bool clocks_are_proven(const struct client *client) {
  return client->clock_matches;
}

/* Whether the failure is of the host that failed last here. */
static __always_inline bool same_host(const struct client *client, const struct failed *failed,
                                      __be16 port_be) {
  if (has_clock(client) && failed->who.has_clock) {
    if (same_clock(client->ts_offset_ms, failed->who.ts_offset_ms,
                   clock_ms(failed->syn_ns) - client->clock_at_ms))
      return true;
    if (clocks_are_proven(client)) return false;
  }
  return distance(ports_on(client->port_be, port_be)) <= NEAR_PORTS;
}

/* Its failures lie under its own identity from now on; those that the host that fails now has lain
 * there with come back. */
static __noinline int change_host(struct client *client, struct client_key *key,
                                  const struct failed *failed, __be16 port_be, __u64 now_ns) {
  bool by_clock = clocks_are_proven(client);

  key->identity = identity_of(by_clock && has_clock(client), client->ts_offset_ms, client->port_be);
  bpf_map_update_elem(&clients, key, client, BPF_ANY);
  key->identity = identity_of(by_clock && failed->who.has_clock, failed->who.ts_offset_ms, port_be);
  struct client *earlier = bpf_map_lookup_elem(&clients, key);
  if (earlier && earlier->failure_ns && same_host(earlier, failed, port_be)) {
    __builtin_memcpy(client->failures, earlier->failures, sizeof(client->failures));
    client->since = earlier->since;
    client->arrivals = earlier->arrivals;
    client->next = earlier->next;
    earlier->failure_ns = 0; /* each failure is to be found once */
  } else {
    __builtin_memset(client->failures, 0, sizeof(client->failures));
    client->since = clock_ticks(now_ns);
    client->arrivals = 0;
  }
  return 0;
}

/* retry_attempt() as an index: clang would compare the attempt and move the index along. */
static __always_inline __u32 attempt_index(__u8 attempt) {
  return seen_anew(retry_attempt(attempt)) & (RETRY_ATTEMPTS - 1);
}

static __always_inline void count_failed(const struct connection_key *key,
                                         const struct failed *failed) {
  struct retry_counts *counts = retry_counts_of(key->service_id);

  if (counts)
    ADD_EXACTLY(counts->failed[retry_cause(failed->failure)][attempt_index(failed->attempt)], 256);
}

static __noinline int keep_failure(struct client *client, __be16 port_be,
                                   const struct failed *failed, __u64 now_ns) {
  __u32 next = client->next & (HOST_FAILURES - 1);
  struct failure *failure = &client->failures[next];
  failure->syn_ns = failed->syn_ns;
  failure->retry_syn_ns = 0;
  /* It hears of it half a round trip from now. Of when it gave a SYN up nothing is known. */
  failure->known_at = clock_ticks(now_ns) + failed->round_trip / 2;
  if (failed->failure == FAILURE_HANDSHAKE_TIMEOUT) failure->known_at = clock_ticks(failed->syn_ns);
  if (failed->failure == FAILURE_ABANDONED) failure->known_at = clock_ticks(now_ns);
  failure->backend_id = failed->backend_id;
  failure->request = failed->request;
  failure->port_be = port_be;
  failure->retry_port_be = 0;
  failure->hash = failed->hash;
  failure->kind = failed->failure;
  failure->attempt = failed->attempt;
  failure->unreadable = failed->unreadable;
  client->next = (next + 1) & (HOST_FAILURES - 1);
  client->failure_ns = now_ns;
  client->port_be = port_be;
  client->ts_offset_ms = failed->who.ts_offset_ms;
  client->clock_at_ms = clock_ms(failed->syn_ns);
  client->flags = failed->who.has_clock ? CLIENT_TIMESTAMPS : 0;
  return 0;
}

/* A global function: verified once, by itself, and not again from each way that leads here. */
APART int record_failure(const struct connection_key *key, const struct failed *failed,
                              __u64 now_ns) {
  struct client_key client_key;

  if (!key || !failed) return 0;
  client_key_of(key, &client_key);
  struct client *client = bpf_map_lookup_elem(&clients, &client_key);
  __u8 *epoch = last_failure_epoch(client_hash(key));

  if (epoch) *epoch = client_epoch(now_ns);
  if (!client) {
    bpf_map_update_elem(&clients, &client_key, &no_failure, BPF_NOEXIST);
    client = bpf_map_lookup_elem(&clients, &client_key);
    if (!client) return 0;
  }
  if (!in_window(client, now_ns)) {
    __builtin_memset(client->failures, 0, sizeof(client->failures));
    client->since = clock_ticks(now_ns);
    client->arrivals = client->all_arrivals = 0;
  } else if (!same_host(client, failed, key->client_port_be)) {
    change_host(client, &client_key, failed, key->client_port_be, now_ns);
  }
  keep_failure(client, key->client_port_be, failed, now_ns);
  count_failed(key, failed);
  struct service_stats *stats = failed->unreadable ? stats_of_service(key->service_id) : NULL;
  if (stats) stats->unreadable_failures++;
  return 0;
}

#ifdef ARGUMENTS_BY_MAP
__noinline int record_failure_here(__u64 now_ns) {
  struct label_work *work = label_at_hand();

  return work ? record_failure(&work->failed_key, &work->failed, now_ns) : 0;
}

static __always_inline int record_failure_apart(const struct connection_key *key,
                                                const struct failed *failed, __u64 now_ns) {
  struct label_work *work = label_at_hand();

  if (!work) return 0;
  work->failed_key = *key;
  return record_failure_here(now_ns);
}
#define record_failure record_failure_apart
#endif

#endif /* PETREL_BPF_HOST_BPF_H */
