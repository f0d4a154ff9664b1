/* SPDX-License-Identifier: MIT */
/* The retry label: is this request the repetition of one that failed?
 *
 * A retry is a request from the same client address to the same service, within the retry window,
 * after one that failed; each failure explains one retry. The evidence is in `clients`. A SYN that
 * is still unanswered when its client comes again from another port, after longer than
 * handshake_timeout_ns, has failed too (a client that gives up connecting sends nothing): `pending`
 * remembers it. A SYN makes no entry in `clients`, so that a flood of them forgets no failure.
 */
#ifndef PETREL_BPF_LABEL_BPF_H
#define PETREL_BPF_LABEL_BPF_H

#include "bpf/account.bpf.h"
#include "bpf/hash.h"

/* Set by the loader between open and load. */
const volatile __u64 retry_window_ns = 5000000000ULL;
const volatile __u64 handshake_timeout_ns = 200000000ULL;

/* What the label says of one request. */
struct attempt {
  __u8 number;           /* 1 = first attempt */
  __u8 previous_failure; /* FAILURE_NONE for a first attempt */
  __u32 previous_backend_id;
};

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
}

static __always_inline struct event *begin_event(__u8 type, const struct connection_key *key,
                                                 __u64 now_ns) {
  struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

  if (!event) {
    count_verdict(key->service_id, VERDICT_EVENT_LOST);
    return NULL;
  }
  __builtin_memset(event, 0, sizeof(*event));
  event->type = type;
  event->time_ns = now_ns;
  event->key = *key;
  return event;
}

static __always_inline struct event *begin_connection_event(__u8 type,
                                                            const struct connection_key *key,
                                                            const struct connection *connection,
                                                            __u64 now_ns) {
  struct event *event = begin_event(type, key, now_ns);

  if (!event) return NULL;
  event->syn_ns = connection->syn_ns;
  event->backend_id = connection->backend_id;
  event->request = connection->requests;
  event->attempt = connection->attempt;
  event->syn_repeats = connection->syn_repeats;
  event->repeats = connection->client_repeats + connection->backend_repeats;
  event->status = connection->status;
  event->state = connection->state;
  event->waiting_at_start = connection->waiting_at_start;
  event->method = connection->method;
  event->evidence = connection->evidence;
  event->confidence = connection->confidence;
  if (connection->synack_ns) event->connect_ns = connection->synack_ns - connection->syn_ns;
  return event;
}

static __always_inline struct record *begin_record(const struct connection_key *key,
                                                   __u64 now_ns) {
  struct record *record = bpf_ringbuf_reserve(&events, sizeof(*record), 0);

  if (!record) {
    count_verdict(key->service_id, VERDICT_RECORD_LOST);
    return NULL;
  }
  record->time_ns = now_ns;
  record->key = *key;
  return record;
}

/* What is known of the connection's current request, for who captures: nothing more will be.
 * `next_bytes`: from the client, counted already, but of the request that follows. */
static __noinline int send_record(const struct connection_key *key,
                                  const struct connection *connection, __u32 next_bytes,
                                  __u64 now_ns) {
  struct record *record = begin_record(key, now_ns);

  if (!record) return 0;
  __builtin_memcpy(&record->connection, connection, sizeof(*connection));
  record->connection.bytes_in -= next_bytes;
  bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
  return 0;
}

/* Agents drain by their own clock: no event wakes anybody. */
static __always_inline void submit_event(struct event *event) {
  bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
}

/* What failed, as evidence for the retry that may follow. */
struct failed {
  __u64 syn_ns;     /* names the connection, with its key */
  __u32 backend_id; /* 0: refused by us */
  __u32 request;    /* which request of it, from 1; 0: its handshake */
  __u8 attempt;
  __u8 failure;
};

static const struct client no_failure = {};

__noinline int record_failure(const struct connection_key *key, const struct failed *failed,
                              __u64 now_ns) {
  if (!key || !failed) return 0;
  struct client_key client_key = {};
  client_key_of(key, &client_key);
  struct client *client = bpf_map_lookup_elem(&clients, &client_key);
  __u8 *epoch = last_failure_epoch(client_hash(key));

  if (epoch) *epoch = client_epoch(now_ns);
  if (!client) {
    bpf_map_update_elem(&clients, &client_key, &no_failure, BPF_NOEXIST);
    client = bpf_map_lookup_elem(&clients, &client_key);
    if (!client) return 0;
  }
  client->unclaimed = now_ns - client->failure_ns > retry_window_ns ? 1 : client->unclaimed + 1;
  client->failure_ns = now_ns;
  client->failed_syn_ns = failed->syn_ns;
  client->failed_port_be = key->client_port_be;
  client->failed_backend_id = failed->backend_id;
  client->failed_request = failed->request;
  client->failed_attempt = failed->attempt;
  client->failure = failed->failure;
  return 0;
}

/* Ends what the connection still has open and says so: counters, evidence, event. */
__noinline int end_connection(const struct connection_key *key, struct connection *connection,
                              __u8 closed_by, __u8 failure, __u64 now_ns) {
  if (!key || !connection) return 0;
  struct backend_stats *stats = stats_of_backend(connection->backend_id);
  __u64 waited_ns = 0;

  if (!stats || connection->state == CONNECTION_CLOSED) return 0;
  /* Both ends may close at once, each on a CPU of its own: one of them ends the connection. */
  if (__sync_val_compare_and_swap(&connection->close_ns, 0, now_ns)) return 0;
  struct wait wait = wait_of(connection, key->service_id);
  if ((connection->flags & CONNECTION_WAITING) &&
      end_wait(&wait, stats, connection->request_ns, now_ns))
    waited_ns = now_ns - connection->request_ns;
  if (connection->queued) end_queued(connection, key->service_id, now_ns);
  stats->closes++;
  connection->closed_by = closed_by;
  if (failure != FAILURE_NONE) {
    struct failed failed = {.syn_ns = connection->syn_ns,
                            .backend_id = connection->backend_id,
                            .request = connection->requests,
                            .attempt = connection->attempt,
                            .failure = failure};
    connection->failure = failure;
    count_failure(stats, key->service_id, failure);
    record_failure(key, &failed, now_ns);
  }
  struct event *event = begin_connection_event(EVENT_END, key, connection, now_ns);
  connection->state = CONNECTION_CLOSED;
  if (event) {
    event->closed_by = closed_by;
    event->failure = failure;
    event->waited_ns = waited_ns;
    submit_event(event);
  }
  if (is_recording()) send_record(key, connection, 0, now_ns);
  return 0;
}

static __always_inline void announce_retry(const struct connection_key *key,
                                           const struct client *client, __u64 now_ns,
                                           __u8 attempt) {
  struct event *event = begin_event(EVENT_RETRY, key, now_ns);

  if (!event) return;
  event->attempt = attempt;
  event->failure = client->failure;
  event->backend_id = client->failed_backend_id;
  event->previous_backend_id = client->failed_backend_id;
  event->previous_syn_ns = client->failed_syn_ns;
  event->previous_port_be = client->failed_port_be;
  event->previous_request = client->failed_request;
  submit_event(event);
}

/* Labels the request that `key` begins now. */
__noinline int label_request(const struct connection_key *key, __u64 now_ns, struct attempt *out) {
  if (!key || !out) return 0;
  struct client_key client_key = {};
  struct client *client = NULL;
  if (may_have_failed(client_hash(key), now_ns)) {
    client_key_of(key, &client_key);
    client = bpf_map_lookup_elem(&clients, &client_key);
  }
  struct service_stats *stats = stats_of_service(key->service_id);

  out->number = 1;
  out->previous_failure = FAILURE_NONE;
  out->previous_backend_id = 0;
  if (!client || !client->unclaimed) {
    if (stats) stats->first_attempts++;
    return 0;
  }
  if (now_ns - client->failure_ns > retry_window_ns) {
    client->unclaimed = 0;
    if (stats) stats->first_attempts++;
    return 0;
  }
  client->unclaimed--;
  out->number = client->failed_attempt;
  SATURATING_INCREMENT(out->number);
  out->previous_failure = client->failure;
  out->previous_backend_id = client->failed_backend_id;
  if (stats) stats->retries++;
  announce_retry(key, client, now_ns, out->number);
  return 0;
}

/* --- a client's unanswered SYN -------------------------------------------------------------- */

/* pending's entries less one, a power of two less one. Set by the loader. */
const volatile __u32 pending_mask = 255;

static __always_inline struct pending *pending_of(__u32 hash) {
  __u32 index = hash_mix(hash) & pending_mask;

  return bpf_map_lookup_elem(&pending, &index);
}

static __always_inline void set_pending(const struct connection_key *key, struct pending *pending,
                                        __u32 hash, __u64 now_ns) {
  pending->tag = hash | 1;
  pending->client_port_be = key->client_port_be;
  pending->service_port_be = key->service_port_be;
  pending->syn_ns = now_ns;
}

/* The SYN of this connection was answered: it no longer waits as evidence. */
static __always_inline void clear_pending(const struct connection_key *key) {
  __u32 hash = client_hash(key);
  struct pending *pending = pending_of(hash);

  if (pending && pending->tag == (hash | 1) && pending->client_port_be == key->client_port_be)
    pending->tag = 0;
}

#endif /* PETREL_BPF_LABEL_BPF_H */
