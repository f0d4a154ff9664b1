/* SPDX-License-Identifier: MIT */
/* The retry label: is this request the repetition of one that failed?
 *
 * A retry is a request from the same client address to the same service, within the retry window,
 * after one that failed; each failure explains one retry. The evidence is in `clients`. A SYN that
 * is still unanswered when its client comes again from another port, after longer than
 * handshake_timeout_ns, has failed too: a client that gives up connecting sends nothing.
 */
#ifndef PETREL_BPF_LABEL_BPF_H
#define PETREL_BPF_LABEL_BPF_H

#include "bpf/account.bpf.h"

/* Set by the loader between open and load. */
const volatile __u64 retry_window_ns = 5000000000ULL;
const volatile __u64 handshake_timeout_ns = 200000000ULL;

/* What the label says of one request. */
struct attempt {
  __u8 number;           /* 1 = first attempt */
  __u8 previous_failure; /* FAILURE_NONE for a first attempt */
  __u32 previous_backend_id;
};

static __always_inline void client_key_of(const struct connection_key *key,
                                          struct client_key *out) {
  out->client = key->client;
  out->service_id = key->service_id;
}

static __always_inline struct event *begin_event(__u8 type, const struct connection_key *key,
                                                 const struct connection *connection,
                                                 __u64 now_ns) {
  struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

  if (!event) {
    count_verdict(VERDICT_EVENT_LOST);
    return NULL;
  }
  __builtin_memset(event, 0, sizeof(*event));
  event->type = type;
  event->time_ns = now_ns;
  event->key = *key;
  if (connection) {
    event->syn_ns = connection->syn_ns;
    event->backend_id = connection->backend_id;
    event->request = connection->requests;
    event->attempt = connection->attempt;
    event->syn_repeats = connection->syn_repeats;
    event->repeats = connection->client_repeats + connection->backend_repeats;
    event->status = connection->status;
    event->state = connection->state;
    if (connection->synack_ns) event->connect_ns = connection->synack_ns - connection->syn_ns;
  }
  return event;
}

/* Agents drain by their own clock: no event wakes anybody. */
static __always_inline void submit_event(struct event *event) {
  bpf_ringbuf_submit(event, BPF_RB_NO_WAKEUP);
}

/* Notes a failed request as evidence for the retry that may follow. */
static __noinline int record_failure(const struct connection_key *key,
                                     const struct connection *connection, __u8 failure,
                                     __u64 now_ns) {
  struct client_key client_key = {};
  client_key_of(key, &client_key);
  struct client *client = bpf_map_lookup_elem(&clients, &client_key);

  if (!client) {
    struct client fresh = {};
    bpf_map_update_elem(&clients, &client_key, &fresh, BPF_NOEXIST);
    client = bpf_map_lookup_elem(&clients, &client_key);
    if (!client) return 0;
  }
  client->unclaimed = now_ns - client->failure_ns > retry_window_ns ? 1 : client->unclaimed + 1;
  client->failure_ns = now_ns;
  client->failed_syn_ns = connection->syn_ns;
  client->failed_port_be = key->client_port_be;
  client->failed_backend_id = connection->backend_id;
  client->failed_request = connection->requests;
  client->failed_attempt = connection->attempt;
  client->failure = failure;
  return 0;
}

/* Ends what the connection still has open and says so: counters, evidence, event. */
static __noinline int end_connection(const struct connection_key *key,
                                     struct connection *connection, __u8 closed_by, __u8 failure,
                                     __u64 now_ns) {
  struct backend_stats *stats = stats_of_backend(connection->backend_id);
  __u64 waited_ns = 0;
  __u8 state = connection->state;

  if (!stats || state == CONNECTION_CLOSED) return 0;
  /* Both ends may close at once, each on a CPU of its own: one of them ends the connection. */
  if (__sync_val_compare_and_swap(&connection->close_ns, 0, now_ns)) return 0;
  if (connection->flags & CONNECTION_WAITING_SYN) {
    waited_ns = now_ns - connection->syn_ns;
    end_wait(connection, stats, CONNECTION_WAITING_SYN, connection->syn_ns, now_ns);
  } else if (connection->flags & CONNECTION_WAITING) {
    waited_ns = now_ns - connection->request_ns;
    end_wait(connection, stats, CONNECTION_WAITING, connection->request_ns, now_ns);
  }
  stats->closes++;
  connection->closed_by = closed_by;
  if (failure != FAILURE_NONE) {
    connection->failure = failure;
    count_failure(stats, key->service_id, failure);
    record_failure(key, connection, failure, now_ns);
  }
  struct event *event = begin_event(EVENT_END, key, connection, now_ns);
  connection->state = CONNECTION_CLOSED;
  if (!event) return 0;
  event->closed_by = closed_by;
  event->failure = failure;
  event->waited_ns = waited_ns;
  submit_event(event);
  return 0;
}

/* The client has come again while its earlier SYN is unanswered for too long: that one failed. */
static __always_inline void fail_pending(struct client *client, const struct connection_key *key,
                                         __u64 now_ns) {
  struct connection_key pending_key = *key;
  pending_key.client_port_be = client->pending_port_be;
  struct connection *pending = bpf_map_lookup_elem(&connections, &pending_key);

  if (pending && pending->syn_ns == client->pending_syn_ns &&
      (pending->flags & CONNECTION_WAITING_SYN))
    end_connection(&pending_key, pending, CLOSED_BY_TIMEOUT, FAILURE_HANDSHAKE_TIMEOUT, now_ns);
}

static __always_inline void announce_retry(const struct connection_key *key,
                                           const struct client *client, __u64 now_ns,
                                           __u8 attempt) {
  struct event *event = begin_event(EVENT_RETRY, key, NULL, now_ns);

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

/* Labels the request that `key` begins now; `is_syn` when it begins with a new connection. */
static __noinline int label_request(const struct connection_key *key, bool is_syn, __u64 now_ns,
                                    struct attempt *out) {
  struct client_key client_key = {};
  client_key_of(key, &client_key);
  struct client *client = bpf_map_lookup_elem(&clients, &client_key);
  struct service_stats *stats = stats_of_service(key->service_id);

  out->number = 1;
  out->previous_failure = FAILURE_NONE;
  out->previous_backend_id = 0;
  if (!client) {
    struct client fresh = {.pending_syn_ns = is_syn ? now_ns : 0,
                           .pending_port_be = key->client_port_be};
    bpf_map_update_elem(&clients, &client_key, &fresh, BPF_NOEXIST);
    if (stats) stats->first_attempts++;
    return 0;
  }
  if (is_syn) {
    if (client->pending_syn_ns && client->pending_port_be != key->client_port_be &&
        now_ns - client->pending_syn_ns >= handshake_timeout_ns)
      fail_pending(client, key, now_ns);
    client->pending_syn_ns = now_ns;
    client->pending_port_be = key->client_port_be;
  }
  if (!client->unclaimed || now_ns - client->failure_ns > retry_window_ns) {
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

/* The SYN of this connection was answered: it no longer waits as evidence. */
static __always_inline void clear_pending(const struct connection_key *key) {
  struct client_key client_key = {};
  client_key_of(key, &client_key);
  struct client *client = bpf_map_lookup_elem(&clients, &client_key);

  if (client && client->pending_port_be == key->client_port_be) client->pending_syn_ns = 0;
}

#endif /* PETREL_BPF_LABEL_BPF_H */
