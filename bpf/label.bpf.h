/* SPDX-License-Identifier: MIT */
/* What the label rests on: each connection's events and its end, and what an attempt is.
 *
 * How retries are told is in retry.bpf.h, what failed is kept by host.bpf.h, and which request has
 * which failure by claim.bpf.h.
 */
#ifndef PETREL_BPF_LABEL_BPF_H
#define PETREL_BPF_LABEL_BPF_H

#include "bpf/host.bpf.h"

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

static __always_inline __u32 saturate_u32(__u64 value) {
  return value > 0xffffffff ? 0xffffffff : (__u32)value;
}

/* What its sockets on this host told, and how much was asked. */
static __always_inline void note_transport(struct event *event,
                                           const struct connection *connection) {
  const struct socket_view *connecting = &connection->sockets[END_CONNECTING];
  const struct socket_view *accepting = &connection->sockets[END_ACCEPTING];
  __u32 rtos = (__u32)connecting->rtos + accepting->rtos;

  event->request_bytes = saturate_u32(connection->bytes_in - connection->request_bytes_in);
  event->srtt_us = connecting->srtt_us ? connecting->srtt_us : accepting->srtt_us;
  event->rtos = rtos > 0xffff ? 0xffff : rtos;
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
  note_transport(event, connection);
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

/* The connection's current request failed. */
static FRAME_SAVED int record_request_failure(const struct connection_key *key,
                                             const struct connection *connection, __u8 failure,
                                             __u64 now_ns) {
  struct failed *failed = failed_at_hand();

  if (!failed) return 0;
  identify_connection(connection, &failed->who);
  failed->syn_ns = connection->syn_ns;
  failed->backend_id = connection->backend_id;
  failed->request = connection->requests;
  failed->hash = connection->request_hash ? connection->request_hash : connection->previous_hash;
  failed->attempt = connection->attempt;
  failed->failure = failure;
  failed->unreadable = connection->requests > 1 && !(connection->flags & CONNECTION_HTTP);
  if (connection->synack_ns && connection->ack_ns > connection->synack_ns)
    failed->round_trip = clock_ticks(connection->ack_ns - connection->synack_ns);
  return record_failure(key, failed, now_ns);
}

/* Ends what the connection still has open and says so: counters, evidence, event. */
APART int end_connection(const struct connection_key *key, struct connection *connection,
                              __u8 closed_by, __u8 failure, __u64 now_ns) {
  if (!key || !connection) return 0;
  struct backend_stats *stats = stats_of_backend(connection->backend_id);
  __u64 waited_ns = 0;

  if (!stats || connection->state == CONNECTION_CLOSED) return 0;
  /* Both ends may close at once, each on a CPU of its own: one of them ends the connection. */
  if (compare_and_swap(&connection->close_ns, 0, now_ns)) return 0;
  struct wait wait = wait_of(connection, key->service_id);
  if ((connection->flags & CONNECTION_WAITING) &&
      end_wait(&wait, stats, connection->request_ns, now_ns))
    waited_ns = now_ns - connection->request_ns;
  if (connection->queued) end_queued(connection, key->service_id, now_ns);
  stats->closes++;
  connection->closed_by = closed_by;
  if (failure != FAILURE_NONE) {
    connection->failure = failure;
    count_failure(stats, key->service_id, failure);
    record_request_failure(key, connection, failure, now_ns);
  }
  struct event *event = begin_connection_event(EVENT_END, key, connection, now_ns);
  connection->state = CONNECTION_CLOSED;
  if (event) {
    event->closed_by = closed_by;
    event->failure = failure;
    event->waited_ns = waited_ns;
    if (scores_here() && failure != FAILURE_NONE) score_event(event);
    submit_event(event);
  }
  if (is_recording()) send_record(key, connection, 0, now_ns);
  return 0;
}

#ifdef ARGUMENTS_BY_MAP
ROOM_FOR(struct connection_key, room_end);

__noinline int end_connection_here(__u32 closed_by, __u32 failure, __u64 now_ns) {
  struct connection_key *key = room_of(room_end);
  struct connection *connection = key ? bpf_map_lookup_elem(&connections, key) : NULL;

  return connection ? end_connection(key, connection, closed_by, failure, now_ns) : 0;
}

static __always_inline void end_connection_apart(const struct connection_key *key,
                                                 struct connection *connection, __u8 closed_by,
                                                 __u8 failure, __u64 now_ns) {
  struct connection_key *room = room_of(room_end);

  if (!room) return;
  *room = *key;
  end_connection_here(closed_by, failure, now_ns);
}
#define end_connection end_connection_apart
#endif

#endif /* PETREL_BPF_LABEL_BPF_H */
