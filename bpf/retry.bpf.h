/* SPDX-License-Identifier: MIT */
/* The retry label: is this request the repetition of one that failed?
 *
 * A retry comes from the same host to the same service, within the retry window, after a request
 * that failed; each failure explains one retry. It is told at the SYN, where steering and the budget
 * need it, and again when the request's first bytes are known: a user's next page an instant after
 * a failure asks for something else. label_evidence (enums.h) says what is weighed, and how.
 */
#ifndef PETREL_BPF_RETRY_BPF_H
#define PETREL_BPF_RETRY_BPF_H

#include "bpf/label.bpf.h"
#include "bpf/schedule.bpf.h"

#define CERTAIN 255
#define BY_CLOCK 250       /* confidence of a host that its clock tells, and of one that it refutes */
#define BY_PORT 240        /* of one that its ports refute */
#define TOO_SOON 230       /* of what came before its client can have known */
#define BY_SCHEDULE 200
#define BY_REQUEST 240
#define PROVEN_PORTS 3     /* retries that ports have told, before they refute others */

/* Odds, in 64ths. */
#define ODDS_NEXT_PORT (128 * 64)
#define ODDS_NEAR_PORT (16 * 64)
#define ODDS_ADDRESS (64 / 4)

static __always_inline __u8 surer(__u8 confidence) {
  return CERTAIN - ((CERTAIN - confidence) >> 2);
}

/* --- which host ----------------------------------------------------------------------------- */

static __always_inline bool is_same_host(__u8 seen) {
  return seen & (EVIDENCE_SAME_CLOCK | EVIDENCE_NEAR_PORT);
}

/* A chain of calls has 8 frames at most, and this begins in the sixth: much here is inline for that.
 *
 * What clock and ports say of the request's being of the host that failed. */
static __always_inline __u8 compare_host(const struct client *host, const struct connection_key *key,
                                    const struct attempt *attempt, __u64 now_ns) {
  __s32 on = ports_on(host->failed_port_be, key->client_port_be);
  bool near = attempt->kept ? distance(on) <= NEAR_PORTS : on >= 0 && on <= NEAR_PORTS;
  __u8 seen = near ? EVIDENCE_NEAR_PORT : EVIDENCE_OTHER_PORT;

  if (!has_clock(host) || !attempt->who.has_clock) return seen;
  bool same = same_clock(host->ts_offset_ms, attempt->who.ts_offset_ms,
                         elapsed_ms(host->failed_syn_ns, now_ns));
  return seen | (same ? EVIDENCE_SAME_CLOCK : EVIDENCE_OTHER_CLOCK);
}

/* That no retry has answered, or none that was sure to be one. */
static __always_inline bool has_failures(const struct client *host) {
  return host->unclaimed || host->weak;
}

/* The entry of the host itself, where another one of its address has failed since; NULL: none. */
static __noinline struct client *find_host(const struct connection_key *key,
                                           const struct attempt *attempt, __u64 now_ns) {
  struct client_key client_key;
  client_key_of(key, &client_key);
  client_key.identity = identity_of(&attempt->who, key->client_port_be);
  struct client *host = bpf_map_lookup_elem(&clients, &client_key);

  if (host && has_failures(host) && in_window(host, now_ns) &&
      is_same_host(compare_host(host, key, attempt, now_ns)))
    return host;
  client_key.identity = identity_beside(&attempt->who, key->client_port_be);
  if (!client_key.identity) return NULL;
  host = bpf_map_lookup_elem(&clients, &client_key);
  if (host && has_failures(host) && in_window(host, now_ns) &&
      is_same_host(compare_host(host, key, attempt, now_ns)))
    return host;
  return NULL;
}

/* A retry's host is known by its clock, or by its port: what that says of the other one's use. */
static __always_inline void learn_identity(struct client *client, const struct attempt *attempt,
                                           __u8 seen) {
  bool near = seen & EVIDENCE_NEAR_PORT;

  if (seen & EVIDENCE_SAME_CLOCK) SATURATING_INCREMENT(client->clock_matches);
  if (attempt->kept) return;
  if (near && !(seen & EVIDENCE_OTHER_CLOCK)) SATURATING_INCREMENT(client->port_matches);
  if (!near && (seen & EVIDENCE_SAME_CLOCK)) SATURATING_INCREMENT(client->port_misses);
}

static __always_inline bool ports_are_proven(const struct client *client) {
  return client->port_matches >= PROVEN_PORTS && client->port_matches > 4 * client->port_misses;
}

/* --- which request -------------------------------------------------------------------------- */

static __always_inline bool has_failed_with(const struct client *host, __u16 hash) {
  return host->hashes[0] == hash || host->hashes[1] == hash || host->hashes[2] == hash ||
         host->hashes[3] == hash;
}

/* The last request that failed, if all that the host's next one may repeat are known; else 0. */
static __always_inline __u16 known_request(const struct client *host) {
  __u32 failures = host->failures;

  if (!failures || host->unclaimed > FAILED_HASHES) return 0;
#pragma unroll
  for (__u32 i = 0; i < FAILED_HASHES; i++)
    if (i < failures && !host->hashes[i]) return 0;
  return host->hashes[(failures - 1) % FAILED_HASHES];
}

/* --- how sure ------------------------------------------------------------------------------- */

/* A failure that the client learns of from the backend, a round trip before it can react. */
static __always_inline bool came_too_soon(const struct client *host, __u64 now_ns) {
  switch (host->failure) {
    case FAILURE_HANDSHAKE_TIMEOUT:
    case FAILURE_ABANDONED: return false;
  }
  return clock_ticks(now_ns) - clock_ticks(host->failure_ns) < host->round_trip / 2;
}

static __always_inline __u8 odds_to_confidence(__u64 odds, __u64 others) {
  return CERTAIN * odds / (odds + others);
}

/* Nothing but the address: how many arrivals are to be expected in such a time is weighed too. */
static __always_inline __u8 weigh_address(const struct client *client, const struct attempt *attempt,
                                     const struct pending *pending, __u8 seen, __u64 now_ns) {
  __u64 others = (__u64)(client->arrivals - 1 - client->arrivals_before) * 64;
  __u64 odds = ODDS_ADDRESS;

  if (!pending) {
    if (seen & EVIDENCE_OTHER_CLOCK) others += ODDS_ADDRESS; /* nothing says that it is seldom heard */
  } else if (pending->gap) { /* 0: it was heard once */
    __u32 delay = clock_ticks(now_ns) - clock_ticks(client->failure_ns);
    __u64 expected = (__u64)delay * 64 / pending->gap;
    if (expected > others) others = expected;
  }
  if (seen & EVIDENCE_OTHER_CLOCK) odds /= 4;
  if ((seen & EVIDENCE_OTHER_PORT) && !attempt->kept) odds /= 2;
  return odds_to_confidence(odds, others + 1);
}

/* The port is near: what speaks against it are the other arrivals since, which may be near by chance. */
static __always_inline __u8 weigh_port(const struct client *client, const struct client *host,
                                       const struct connection_key *key, __u8 seen) {
  __u64 others = (__u64)(client->arrivals - 1 - host->arrivals_before) * 64;
  bool next = distance(ports_on(host->failed_port_be, key->client_port_be)) <= NEXT_PORTS;
  __u64 odds = next ? ODDS_NEXT_PORT : ODDS_NEAR_PORT;

  if (seen & EVIDENCE_OTHER_CLOCK) odds /= 4;
  return odds_to_confidence(odds, others + 1);
}

/* --- the label ------------------------------------------------------------------------------ */

static __always_inline void announce(__u8 type, const struct connection_key *key,
                                     const struct client *host, const struct attempt *attempt,
                                     __u64 now_ns) {
  struct event *event = begin_event(type, key, now_ns);

  if (!event) return;
  event->attempt = attempt->number;
  event->failure = host->failure;
  event->backend_id = host->failed_backend_id;
  event->previous_backend_id = host->failed_backend_id;
  event->previous_syn_ns = host->failed_syn_ns;
  event->previous_port_be = host->failed_port_be;
  event->previous_request = host->failed_request;
  event->evidence = attempt->evidence;
  event->confidence = attempt->confidence;
  submit_event(event);
}

/* The request answers one of the host's failures. */
static __always_inline int claim_failure(const struct connection_key *key, struct client *client,
                                    struct client *host, struct attempt *attempt, __u64 now_ns) {
  struct service_stats *stats = stats_of_service(key->service_id);
  bool sure = is_same_host(attempt->evidence);

  attempt->number = host->failed_attempt;
  SATURATING_INCREMENT(attempt->number);
  attempt->previous_failure = host->failure;
  attempt->previous_backend_id = host->failed_backend_id;
  attempt->previous_hash = known_request(host);
  if (stats) {
    stats->retries++;
    if (host->flags & CLIENT_UNREADABLE) stats->unreadable_retries++;
  }
  if (host->unclaimed) {
    host->unclaimed--;
    if (client->total) client->total--;
    if (!sure) {
      SATURATING_INCREMENT(host->weak);
      SATURATING_INCREMENT(client->all_weak);
    }
  } else if (host->weak) {
    /* Another arrival was taken for it: that was none. */
    host->weak--;
    if (client->all_weak) client->all_weak--;
    if (stats) {
      stats->retries--;
      stats->first_attempts++;
    }
  }
  host->retry_port_be = key->client_port_be;
  announce(EVENT_RETRY, key, host, attempt, now_ns);
  return 0;
}

/* Whose failure the request may answer: the host that failed last, or the request's own where that
 * has failed before; NULL: none is left that it may be. */
static __always_inline struct client *choose_host(const struct connection_key *key,
                                                  struct client *client,
                                                  const struct attempt *attempt, __u8 *seen,
                                                  __u64 now_ns) {
  *seen = compare_host(client, key, attempt, now_ns);
  if (is_same_host(*seen) && has_failures(client)) return client;
  if (client->total > client->unclaimed || client->all_weak > client->weak) {
    struct client *host = find_host(key, attempt, now_ns);
    if (host) {
      *seen = compare_host(host, key, attempt, now_ns);
      return host;
    }
  }
  return is_same_host(*seen) || !client->unclaimed ? NULL : client;
}

/* A client that may have failed: is its request a retry? 1: it is. A global function: verified once,
 * by itself, and not again from each way that leads here. */
__noinline int weigh(const struct connection_key *key, const struct pending *pending,
                     struct attempt *attempt, __u64 now_ns) {
  struct client_key client_key;

  if (!key || !attempt) return 0;
  client_key_of(key, &client_key);
  struct client *client = bpf_map_lookup_elem(&clients, &client_key);
  if (!client || !(client->total || client->all_weak)) return 0;
  if (!in_window(client, now_ns)) {
    client->total = client->unclaimed = 0;
    client->all_weak = client->weak = 0;
    return 0;
  }
  client->arrivals++;
  __u8 seen;
  struct client *host = choose_host(key, client, attempt, &seen, now_ns);

  if (!host) {
    attempt->evidence = EVIDENCE_FAILURE;
    attempt->confidence = BY_CLOCK;
    return 0;
  }
  bool same_clock = seen & EVIDENCE_SAME_CLOCK;
  attempt->evidence = EVIDENCE_FAILURE | (same_clock ? seen & ~EVIDENCE_OTHER_PORT : seen);
  if (came_too_soon(host, now_ns)) {
    attempt->confidence = TOO_SOON;
    return 0;
  }
  if (is_same_host(seen)) learn_identity(client, attempt, seen);
  if ((seen & EVIDENCE_OTHER_CLOCK) && client->clock_matches) {
    attempt->confidence = BY_CLOCK;
    return 0;
  }
  if (seen == EVIDENCE_OTHER_PORT && !attempt->kept && ports_are_proven(client)) {
    attempt->confidence = BY_PORT;
    return 0;
  }
  if (pending && !attempt->kept &&
      is_scheduled(pending, clock_ticks(now_ns),
                   clock_ticks(now_ns) - clock_ticks(host->failure_ns))) {
    attempt->evidence |= EVIDENCE_SCHEDULED;
    attempt->confidence = BY_SCHEDULE;
    return 0;
  }
  __u8 sure = same_clock                   ? BY_CLOCK
              : seen & EVIDENCE_NEAR_PORT ? weigh_port(client, host, key, seen)
                                          : weigh_address(client, attempt, pending, seen, now_ns);
  if (attempt->request_hash && known_request(host)) {
    bool same = has_failed_with(host, attempt->request_hash);
    attempt->evidence |= same ? EVIDENCE_SAME_REQUEST : EVIDENCE_OTHER_REQUEST;
    sure = same ? surer(sure) : 0;
  }
  attempt->confidence = sure >= CONFIDENCE_RETRY ? sure : CERTAIN - sure;
  if (sure < CONFIDENCE_RETRY) return 0;
  client->arrivals--;
  claim_failure(key, client, host, attempt, now_ns);
  return 1;
}

/* Labels the request that `key` begins now; `pending` is its client's, or NULL. */
static __always_inline int label_request(const struct connection_key *key,
                                         const struct pending *pending, struct attempt *attempt,
                                         __u64 now_ns) {
  if (may_have_failed(attempt->client_hash, now_ns) && weigh(key, pending, attempt, now_ns)) return 0;
  struct service_stats *stats = stats_of_service(key->service_id);
  if (stats) stats->first_attempts++;
  return 0;
}

/* Labels a request on a connection that has answered before. What cannot be read (TLS, HTTP/2) has
 * turns, of which none can be told for a retry. */
static __always_inline int label_next_request(const struct connection_key *key,
                                         struct connection *connection, __u64 now_ns) {
  struct attempt *attempt = attempt_at_hand();

  if (!attempt) return 0;
  attempt->kept = 1;
  if (connection->flags & CONNECTION_HTTP) {
    identify_connection(connection, &attempt->who);
    attempt->client_hash = client_hash(key);
    attempt->request_hash = connection->request_hash;
    label_request(key, NULL, attempt, now_ns);
  } else {
    struct service_stats *stats = stats_of_service(key->service_id);
    if (stats) stats->first_attempts++;
  }
  connection->attempt = attempt->number;
  connection->previous_failure = attempt->previous_failure;
  connection->previous_backend_id = attempt->previous_backend_id;
  connection->previous_hash = attempt->previous_hash;
  connection->evidence = attempt->evidence;
  connection->confidence = attempt->confidence;
  return 0;
}

/* --- what the first bytes say --------------------------------------------------------------- */

/* It asks for something else than what failed: no retry. The failure waits for its own again. */
static __always_inline int withdraw_label(const struct connection_key *key,
                                     struct connection *connection, struct client *client,
                                     struct client *host, __u64 now_ns) {
  struct service_stats *stats = stats_of_service(key->service_id);
  struct backend_stats *backend = stats_of_backend(connection->backend_id);
  struct attempt *attempt = attempt_at_hand();

  if (!attempt) return 0;
  attempt->evidence = connection->evidence | EVIDENCE_OTHER_REQUEST;
  attempt->confidence = BY_REQUEST;
  announce(EVENT_NO_RETRY, key, host, attempt, now_ns);
  connection->attempt = 1;
  connection->previous_failure = FAILURE_NONE;
  connection->previous_backend_id = 0;
  connection->previous_hash = 0;
  connection->evidence = attempt->evidence;
  connection->confidence = attempt->confidence;
  if (backend) backend->retry_connections--;
  if (stats) {
    stats->retries--;
    stats->first_attempts++;
    if (host->flags & CLIENT_UNREADABLE) stats->unreadable_retries--;
  }
  host->retry_port_be = 0;
  host->unclaimed++;
  client->total++;
  if (!is_same_host(attempt->evidence) && host->weak) {
    host->weak--;
    if (client->all_weak) client->all_weak--;
  }
  return 0;
}

/* The host whose failure the connection was taken to answer, and nobody since; NULL: not there. */
static __noinline struct client *find_claimed(const struct connection_key *key,
                                              const struct connection *connection,
                                              struct client *client) {
  struct client_key client_key;
  struct identity who;

  if (client->retry_port_be == key->client_port_be) return client;
  client_key_of(key, &client_key);
  identify_connection(connection, &who);
  client_key.identity = identity_of(&who, key->client_port_be);
  struct client *host = bpf_map_lookup_elem(&clients, &client_key);
  if (host && host->retry_port_be == key->client_port_be) return host;
  client_key.identity = identity_beside(&who, key->client_port_be);
  if (!client_key.identity) return NULL;
  host = bpf_map_lookup_elem(&clients, &client_key);
  return host && host->retry_port_be == key->client_port_be ? host : NULL;
}

/* The first request of a connection that was labelled a retry at its SYN: its bytes are known now. */
__noinline int confirm_label(const struct connection_key *key, struct connection *connection,
                             __u64 now_ns) {
  if (!key || !connection) return 0;
  if (connection->attempt <= 1 || !connection->request_hash || !connection->previous_hash) return 0;
  if (connection->request_hash != connection->previous_hash) {
    struct client_key client_key;
    client_key_of(key, &client_key);
    struct client *client = bpf_map_lookup_elem(&clients, &client_key);
    if (!client) return 0;
    struct client *host = find_claimed(key, connection, client);
    if (!host) return 0;
    if (!has_failed_with(host, connection->request_hash))
      return withdraw_label(key, connection, client, host, now_ns);
  }
  connection->previous_hash = connection->request_hash;
  connection->evidence |= EVIDENCE_SAME_REQUEST;
  connection->confidence = surer(connection->confidence);
  return 0;
}

#endif /* PETREL_BPF_RETRY_BPF_H */
