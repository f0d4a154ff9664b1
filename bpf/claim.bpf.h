/* SPDX-License-Identifier: MIT */
/* Which request is taken for the retry of which failure: found by host, claimed, taken over, ended.
 *
 * Each failure has one retry at most. A later request that is likelier to be it takes it over; the one
 * before was none, then, and that is announced too.
 */
#ifndef PETREL_BPF_CLAIM_BPF_H
#define PETREL_BPF_CLAIM_BPF_H

#include "bpf/label.bpf.h"

#define CERTAIN 255
#define BY_CLOCK 250   /* confidence in a host that its clock refutes */
#define BY_REQUEST 240
#define PROVEN_PORTS 3 /* retries that ports have told, before they refute others */

/* --- which host ----------------------------------------------------------------------------- */

static __always_inline bool is_same_host(__u8 seen) {
  return seen & (EVIDENCE_SAME_CLOCK | EVIDENCE_NEAR_PORT);
}

/* What clock and ports say of the request's being of the host that failed. */
static __always_inline __u8 compare_host(const struct client *host, const struct connection_key *key,
                                         const struct attempt *attempt, __u64 now_ns) {
  __s32 on = ports_on(host->port_be, key->client_port_be);
  bool near = attempt->kept ? distance(on) <= NEAR_PORTS : on >= 0 && on <= NEAR_PORTS;
  __u8 seen = near ? EVIDENCE_NEAR_PORT : EVIDENCE_OTHER_PORT;

  if (!has_clock(host) || !attempt->who.has_clock) return seen;
  bool same = same_clock(host->ts_offset_ms, attempt->who.ts_offset_ms,
                         clock_ms(now_ns) - host->clock_at_ms);
  return same ? EVIDENCE_SAME_CLOCK : seen | EVIDENCE_OTHER_CLOCK;
}

static __always_inline struct client *host_under(struct client_key *client_key,
                                                 const struct connection_key *key,
                                                 const struct attempt *attempt, __u64 now_ns) {
  struct client *host = bpf_map_lookup_elem(&clients, client_key);

  if (!host || !in_window(host, now_ns)) return NULL;
  return is_same_host(compare_host(host, key, attempt, now_ns)) ? host : NULL;
}

/* The entry of the host itself, where another one of its address has failed since; NULL: none. */
static __noinline struct client *find_host(const struct connection_key *key, bool by_clock,
                                           const struct attempt *attempt, __u64 now_ns) {
  struct client_key client_key;
  __u32 offset_ms = attempt->who.ts_offset_ms;

  client_key_of(key, &client_key);
  client_key.identity = identity_of(by_clock, offset_ms, key->client_port_be);
  struct client *host = host_under(&client_key, key, attempt, now_ns);
  for (__u32 n = 1; !host && n <= IDENTITIES_BESIDE; n++) {
    client_key.identity = identity_beside(by_clock, offset_ms, key->client_port_be, n);
    if (!client_key.identity) break;
    host = host_under(&client_key, key, attempt, now_ns);
  }
  return host;
}

/* Whose failures the request may answer: its own host's, where that is known, else those of the host
 * that failed last. */
static __always_inline struct client *choose_host(const struct connection_key *key,
                                                  struct client *client,
                                                  const struct attempt *attempt, __u64 now_ns) {
  if (is_same_host(compare_host(client, key, attempt, now_ns))) return client;
  bool by_clock = clocks_are_proven(client) && attempt->who.has_clock;
  struct client *host = find_host(key, by_clock, attempt, now_ns);
  return host ? host : client;
}

/* A retry's host is known by its clock, or by its port: what that says of the other one's use. */
static __always_inline void learn_identity(struct client *client, const struct attempt *attempt,
                                           const struct failure *failure, __be16 port_be) {
  __u8 seen = attempt->evidence;
  __s32 on = ports_on(failure->port_be, port_be);
  bool near = on >= 0 && on <= NEAR_PORTS;

  /* A connection has its own clock again, which says nothing of the host's next one. */
  if ((seen & EVIDENCE_SAME_CLOCK) && failure->port_be != port_be)
    SATURATING_INCREMENT(client->clock_matches);
  if (attempt->kept) return;
  if (near && !(seen & EVIDENCE_OTHER_CLOCK)) SATURATING_INCREMENT(client->port_matches);
  if (!near && (seen & EVIDENCE_SAME_CLOCK)) SATURATING_INCREMENT(client->port_misses);
}

static __always_inline bool ports_are_proven(const struct client *client) {
  return client->port_matches >= PROVEN_PORTS && client->port_matches > 4 * client->port_misses;
}

/* --- announcements --------------------------------------------------------------------------- */

static __always_inline void name_failure(struct event *event, const struct failure *failure) {
  event->failure = failure->kind;
  event->backend_id = failure->backend_id;
  event->previous_backend_id = failure->backend_id;
  event->previous_syn_ns = failure->syn_ns;
  event->previous_port_be = failure->port_be;
  event->previous_request = failure->request;
}

static __always_inline void announce(__u8 type, const struct connection_key *key,
                                     const struct failure *failure, const struct attempt *attempt,
                                     __u64 now_ns) {
  struct event *event = begin_event(type, key, now_ns);

  if (!event) return;
  event->syn_ns = attempt->syn_ns;
  event->request = attempt->request;
  event->attempt = attempt->number;
  name_failure(event, failure);
  event->evidence = attempt->evidence;
  event->confidence = attempt->confidence;
  submit_event(event);
}

static __always_inline void count_label(const struct connection_key *key,
                                        const struct failure *failure, __s64 retries) {
  struct service_stats *stats = stats_of_service(key->service_id);

  if (!stats) return;
  ADD_EXACTLY(stats->retries, retries);
  if (failure->unreadable) ADD_EXACTLY(stats->unreadable_retries, retries);
}

static __always_inline void count_first(const struct connection_key *key, __s64 first) {
  struct service_stats *stats = stats_of_service(key->service_id);

  if (stats) ADD_EXACTLY(stats->first_attempts, first);
}

/* A request that was taken for the retry of this failure is none. Says so, also where it has passed. */
GLOBAL int end_claim(const struct connection_key *key, struct failure *failure, __u8 evidence,
                         __u64 now_ns) {
  if (!key || !failure || !failure->retry_port_be) return 0;
  struct connection_key claimer = *key;
  claimer.client_port_be = failure->retry_port_be;
  struct event *event = begin_event(EVENT_NO_RETRY, &claimer, now_ns);
  if (event) {
    event->syn_ns = failure->retry_syn_ns;
    event->request = failure->retry_request;
    event->attempt = 1;
    name_failure(event, failure);
    event->evidence = EVIDENCE_FAILURE | evidence;
    event->confidence = BY_REQUEST;
    submit_event(event);
  }
  struct connection *connection = bpf_map_lookup_elem(&connections, &claimer);
  if (connection && connection->syn_ns == failure->retry_syn_ns &&
      (connection->requests ? connection->requests : 1) == failure->retry_request) {
    struct backend_stats *backend =
        failure->retry_request == 1 ? stats_of_backend(connection->backend_id) : NULL;
    connection->attempt = 1;
    connection->previous_failure = FAILURE_NONE;
    connection->previous_backend_id = 0;
    connection->previous_hash = 0;
    connection->evidence = EVIDENCE_FAILURE | evidence;
    connection->confidence = BY_REQUEST;
    if (backend) backend->retry_connections--;
  }
  count_label(key, failure, -1);
  count_first(key, 1);
  failure->retry_port_be = 0;
  return 0;
}

static __always_inline bool is_claimed_by(const struct failure *failure,
                                          const struct connection_key *key, __u32 request) {
  return failure->retry_port_be == key->client_port_be && failure->retry_request == request;
}

/* It is taken for the retry of the failure. */
static __always_inline void repeat_claim(const struct failure *failure, struct attempt *attempt) {
  attempt->number = failure->attempt;
  SATURATING_INCREMENT(attempt->number);
  attempt->previous_failure = failure->kind;
  attempt->previous_backend_id = failure->backend_id;
  attempt->previous_hash = failure->hash;
}

/* The request answers the failure. */
GLOBAL int claim_failure(const struct connection_key *key, struct failure *failure,
                             struct attempt *attempt, __u64 now_ns) {
  if (!key || !failure || !attempt) return 0;
  if (failure->retry_port_be) end_claim(key, failure, 0, now_ns);
  repeat_claim(failure, attempt);
  failure->retry_syn_ns = attempt->syn_ns;
  failure->retry_port_be = key->client_port_be;
  failure->retry_request = attempt->request;
  count_label(key, failure, 1);
  announce(EVENT_RETRY, key, failure, attempt, now_ns);
  return 0;
}

#endif /* PETREL_BPF_CLAIM_BPF_H */
