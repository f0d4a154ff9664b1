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

static __always_inline __u32 elapsed_ms(__u64 earlier_ns, __u64 later_ns) {
  return clock_ms(later_ns) - clock_ms(earlier_ns);
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
  __u32 client_hash;         /* hash of client and service */
  __u32 previous_backend_id; /* 0 for a first attempt */
  __u16 request_hash;        /* 0: not known, or not yet */
  __u16 previous_hash;       /* of the failed request, if all that its host's next one may repeat are
                                known; 0: not so */
  __u8 number;               /* 1 = first attempt */
  __u8 previous_failure;     /* FAILURE_NONE for a first attempt */
  __u8 evidence;             /* enum label_evidence */
  __u8 confidence;           /* in the label as it is, 255: certain */
  __u8 kept;                 /* on a connection that was there: its port says nothing of order */
  __u8 padding[3];
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

static const struct client no_failure = {};

/* Whether the failure is of the host that failed last here. */
static __always_inline bool same_host(const struct client *client, const struct failed *failed,
                                      __be16 port_be) {
  if (has_clock(client) && failed->who.has_clock)
    return same_clock(client->ts_offset_ms, failed->who.ts_offset_ms,
                      elapsed_ms(client->failed_syn_ns, failed->syn_ns));
  return distance(ports_on(client->failed_port_be, port_be)) <= NEAR_PORTS;
}

/* Its failures lie under its own identity from now on; returns what the host that fails now has
 * lain there with, or NULL. */
static __noinline struct client *change_host(struct client *client, struct client_key *key,
                                             const struct failed *failed, __be16 port_be) {
  struct identity was = {.ts_offset_ms = client->ts_offset_ms, .has_clock = has_clock(client)};

  if (client->unclaimed || client->retry_port_be) {
    key->identity = identity_of(&was, client->failed_port_be);
    bpf_map_update_elem(&clients, key, client, BPF_ANY);
  }
  if (client->total <= client->unclaimed && client->all_weak <= client->weak) return NULL;
  key->identity = identity_of(&failed->who, port_be);
  struct client *earlier = bpf_map_lookup_elem(&clients, key);
  return earlier && same_host(earlier, failed, port_be) ? earlier : NULL;
}

/* A global function: verified once, by itself, and not again from each way that leads here. */
__noinline int record_failure(const struct connection_key *key, const struct failed *failed,
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
    client->total = client->all_weak = 0;
    client->unclaimed = client->weak = client->failures = 0;
  } else if (!same_host(client, failed, key->client_port_be)) {
    struct client *earlier = change_host(client, &client_key, failed, key->client_port_be);
    client->unclaimed = client->weak = client->failures = 0;
    if (earlier && in_window(earlier, now_ns)) {
      client->unclaimed = earlier->unclaimed;
      client->weak = earlier->weak;
      client->failures = earlier->failures;
      __builtin_memcpy(client->hashes, earlier->hashes, sizeof(client->hashes));
      earlier->unclaimed = earlier->weak = 0; /* each failure is to be found once */
    }
  }
  client->total++;
  client->unclaimed++;
  client->hashes[client->failures % FAILED_HASHES] = failed->hash;
  SATURATING_INCREMENT(client->failures);
  client->failure_ns = now_ns;
  client->failed_syn_ns = failed->syn_ns;
  client->failed_port_be = key->client_port_be;
  client->retry_port_be = 0;
  client->failed_backend_id = failed->backend_id;
  client->failed_request = failed->request;
  client->failed_attempt = failed->attempt;
  client->failure = failed->failure;
  client->ts_offset_ms = failed->who.ts_offset_ms;
  client->round_trip = failed->round_trip;
  client->arrivals_before = client->arrivals;
  client->flags = (failed->who.has_clock ? CLIENT_TIMESTAMPS : 0) |
                  (failed->unreadable ? CLIENT_UNREADABLE : 0);
  struct service_stats *stats = failed->unreadable ? stats_of_service(key->service_id) : NULL;
  if (stats) stats->unreadable_failures++;
  return 0;
}

#endif /* PETREL_BPF_HOST_BPF_H */
