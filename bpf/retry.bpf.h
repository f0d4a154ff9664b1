/* SPDX-License-Identifier: MIT */
/* The retry label: is this request the repetition of one that failed?
 *
 * A retry comes from the same host to the same service, within the retry window, after a request
 * that failed; each failure has one retry at most. It is told at the SYN, where steering and the
 * budget need it, by the odds of odds.h, and settled when the request's first bytes are known: what
 * asks for something else is none. A later request that is likelier the retry of a failure takes it
 * over; the one before was none, then.
 */
#ifndef PETREL_BPF_RETRY_BPF_H
#define PETREL_BPF_RETRY_BPF_H

#include "bpf/label.bpf.h"
#include "bpf/schedule.bpf.h"

#define CERTAIN 255
#define BY_CLOCK 250   /* confidence in a host that its clock refutes */
#define BY_SCHEDULE 200
#define BY_REQUEST 240
#define PROVEN_PORTS 3 /* retries that ports have told, before they refute others */

/* retry_odds: how soon and how often a service's clients repeat what failed.
 * Key: service id.  Value: struct retry_odds.
 * Writer: agent, five times a second.  Reader: balancer, sensor, at each request of a client that has failed.
 * Size: highest configured id + 1. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 2);
  __type(key, __u32);
  __type(value, struct retry_odds);
} retry_odds SEC(".maps");

static __always_inline struct retry_odds *odds_of_service(__u32 service_id) {
  return bpf_map_lookup_elem(&retry_odds, &service_id);
}

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
static __noinline struct client *find_host(const struct connection_key *key,
                                           const struct attempt *attempt, __u64 now_ns) {
  struct client_key client_key;

  client_key_of(key, &client_key);
  client_key.identity = identity_of(&attempt->who, key->client_port_be);
  struct client *host = host_under(&client_key, key, attempt, now_ns);
  for (__u32 n = 1; !host && n <= IDENTITIES_BESIDE; n++) {
    client_key.identity = identity_beside(&attempt->who, key->client_port_be, n);
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
  struct client *host = find_host(key, attempt, now_ns);
  return host ? host : client;
}

/* A retry's host is known by its clock, or by its port: what that says of the other one's use. */
static __always_inline void learn_identity(struct client *client, const struct attempt *attempt,
                                           const struct failure *failure, __be16 port_be) {
  __u8 seen = attempt->evidence;
  __s32 on = ports_on(failure->port_be, port_be);
  bool near = on >= 0 && on <= NEAR_PORTS;

  if (seen & EVIDENCE_SAME_CLOCK) SATURATING_INCREMENT(client->clock_matches);
  if (attempt->kept) return;
  if (near && !(seen & EVIDENCE_OTHER_CLOCK)) SATURATING_INCREMENT(client->port_matches);
  if (!near && (seen & EVIDENCE_SAME_CLOCK)) SATURATING_INCREMENT(client->port_misses);
}

static __always_inline bool ports_are_proven(const struct client *client) {
  return client->port_matches >= PROVEN_PORTS && client->port_matches > 4 * client->port_misses;
}

/* --- announcements --------------------------------------------------------------------------- */

static __always_inline void announce(__u8 type, const struct connection_key *key,
                                     const struct failure *failure, const struct attempt *attempt,
                                     __u64 now_ns) {
  struct event *event = begin_event(type, key, now_ns);

  if (!event) return;
  event->syn_ns = attempt->syn_ns;
  event->request = attempt->request;
  event->attempt = attempt->number;
  event->failure = failure->kind;
  event->backend_id = failure->backend_id;
  event->previous_backend_id = failure->backend_id;
  event->previous_syn_ns = failure->syn_ns;
  event->previous_port_be = failure->port_be;
  event->previous_request = failure->request;
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
__noinline int end_claim(const struct connection_key *key, struct failure *failure, __u8 evidence,
                         __u64 now_ns) {
  if (!key || !failure || !failure->retry_port_be) return 0;
  struct connection_key claimer = *key;
  claimer.client_port_be = failure->retry_port_be;
  struct event *event = begin_event(EVENT_NO_RETRY, &claimer, now_ns);
  if (event) {
    event->syn_ns = failure->retry_syn_ns;
    event->request = failure->retry_request;
    event->attempt = 1;
    event->failure = failure->kind;
    event->backend_id = failure->backend_id;
    event->previous_backend_id = failure->backend_id;
    event->previous_syn_ns = failure->syn_ns;
    event->previous_port_be = failure->port_be;
    event->previous_request = failure->request;
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
__noinline int claim_failure(const struct connection_key *key, struct failure *failure,
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

/* --- odds ----------------------------------------------------------------------------------- */

/* The rate of the failure's retry, by all that is known of the request, less what another request
 * has of it already. */
static __always_inline __u64 hazard_of(const struct failure *failure, const struct retry_odds *odds,
                                       const struct connection_key *key,
                                       const struct attempt *attempt) {
  __u64 hazard = failure_hazard(failure, odds, attempt->begin, clock_ticks(retry_window_ns));

  if (failure->retry_port_be && !is_claimed_by(failure, key, attempt->request))
    hazard >>= failure->retry_odds_log2 & 31;
  if (attempt->request_hash && failure->hash)
    hazard = attempt->request_hash == failure->hash
                 ? hazard * odds->same_factor >> ODDS_SAME_SHIFT
                 : hazard >> ODDS_OTHER_SHIFT;
  return hazard;
}

/* At which rate other requests are to be expected of who sent this one. */
static __always_inline __u64 others_of(const struct client *client, const struct client *host,
                                       const struct retry_odds *odds, const struct pending *pending,
                                       const struct connection_key *key,
                                       const struct attempt *attempt) {
  bool shared = pending && is_shared(pending);
  __u64 gap = pending && pending->gap ? ((__u64)pending->gap + odds->usual_gap) / 2
                                      : odds->usual_gap;
  __u64 all = arrival_rate(client->all_arrivals, attempt->begin - client->since, gap);

  if (shared && is_same_host(attempt->evidence)) {
    /* Of the host's own others; another host's port is near by chance. */
    __u64 others = arrival_rate(host->arrivals, attempt->begin - host->since, gap * 64);
    bool next = distance(ports_on(host->port_be, key->client_port_be)) <= NEXT_PORTS;
    if (!(attempt->evidence & EVIDENCE_SAME_CLOCK))
      others += all * (next ? 2 * NEXT_PORTS : 4 * NEAR_PORTS) / EPHEMERAL_PORTS;
    return others;
  }
  if (pending && !shared && !attempt->kept)
    all += odds->burst_hazard[retry_bucket(attempt->begin - pending->syn_at)];
  return all;
}

/* Index of the failure that the request is likeliest to answer. */
static __always_inline __u32 likeliest(const struct client *host,
                                       const struct weighing *weighing) {
  __u32 best = host->next & (HOST_FAILURES - 1); /* the oldest; of equal ones the latest is taken */

#pragma unroll
  for (__u32 i = 1; i < HOST_FAILURES; i++) {
    __u32 index = (host->next + i) & (HOST_FAILURES - 1);
    if (weighing->hazards[index] >= weighing->hazards[best & (HOST_FAILURES - 1)]) best = index;
  }
  return best & (HOST_FAILURES - 1);
}

/* What a request's odds teach of retries, whatever its label. */
static __noinline int learn_delays(const struct client *host, const struct weighing *weighing,
                                   const struct attempt *attempt, struct retry_counts *counts) {
  __u64 sum = weighing->retries + weighing->others + 1;

#pragma unroll
  for (__u32 i = 0; i < HOST_FAILURES; i++) {
    const struct failure *failure = &host->failures[i];
    __u64 part = weighing->hazards[i] * 256 / sum;
    __u32 cause = retry_cause(failure->kind);
    if (!part) continue;
    ADD_EXACTLY(counts->delays[cause][retry_bucket(attempt->begin - failure->known_at)], part);
    ADD_EXACTLY(counts->retried[cause][retry_attempt(failure->attempt)], part);
  }
  return 0;
}

/* Fills weighing and the attempt's evidence; false: the failures are surely of another host. */
static __noinline int weigh_failures(const struct connection_key *key, struct client *client,
                                     struct client *host, const struct pending *pending) {
  struct label_work *work = label_at_hand();
  struct retry_odds *odds = odds_of_service(key->service_id);

  if (!work || !odds) return 0;
  struct attempt *attempt = &work->attempt;
  struct weighing *weighing = &work->weighing;
  __u32 shift = 0;
  if (pending && is_shared(pending)) {
    if (attempt->evidence & EVIDENCE_OTHER_CLOCK) shift += ODDS_OTHER_CLOCK_SHIFT;
    if ((attempt->evidence & EVIDENCE_OTHER_PORT) && !attempt->kept && ports_are_proven(client))
      shift += ODDS_OTHER_PORT_SHIFT;
  }
  if (pending && !attempt->kept && is_scheduled(pending, attempt->begin)) {
    attempt->evidence |= EVIDENCE_SCHEDULED;
    shift += ODDS_SCHEDULED_SHIFT;
  }
  if (attempt->due) {
    attempt->evidence |= EVIDENCE_SCHEDULED;
    shift += ODDS_DUE_SHIFT;
  }
  weighing->retries = 0;
#pragma unroll
  for (__u32 i = 0; i < HOST_FAILURES; i++) {
    weighing->hazards[i] = hazard_of(&host->failures[i], odds, key, attempt) >> shift;
    weighing->retries += weighing->hazards[i];
  }
  weighing->others = others_of(client, host, odds, pending, key, attempt);
  return 1;
}

static __always_inline __u8 confidence_of(const struct weighing *weighing) {
  bool retry = weighing->retries > weighing->others;
  __u64 larger = retry ? weighing->retries : weighing->others;

  return larger * CERTAIN / (weighing->retries + weighing->others + 1);
}

/* --- the label ------------------------------------------------------------------------------ */

static __always_inline struct pending *known_pending(__u32 hash) {
  struct pending *pending = pending_of(hash);

  return pending && pending->tag == pending_tag(hash) ? pending : NULL;
}

/* A client that may have failed: is its request a retry? 1: it is. A global function: verified once,
 * by itself, and not again from each way that leads here. */
__noinline int weigh(const struct connection_key *key, __u64 now_ns) {
  struct label_work *work = label_at_hand();
  struct client_key client_key;

  if (!key || !work) return 0;
  struct attempt *attempt = &work->attempt;
  struct weighing *weighing = &work->weighing;
  client_key_of(key, &client_key);
  struct client *client = bpf_map_lookup_elem(&clients, &client_key);
  if (!client || !in_window(client, now_ns)) return 0;
  struct client *host = choose_host(key, client, attempt, now_ns);
  attempt->evidence = EVIDENCE_FAILURE | compare_host(host, key, attempt, now_ns);
  if ((attempt->evidence & EVIDENCE_OTHER_CLOCK) && client->clock_matches) {
    client->all_arrivals++;
    attempt->confidence = BY_CLOCK;
    return 0;
  }
  if (!weigh_failures(key, client, host, known_pending(attempt->client_hash))) return 0;
  struct retry_counts *counts = retry_counts_of(key->service_id);
  if (counts) learn_delays(host, weighing, attempt, counts);
  struct failure *failure = &host->failures[likeliest(host, weighing)];
  if (attempt->request_hash && failure->hash)
    attempt->evidence |= attempt->request_hash == failure->hash ? EVIDENCE_SAME_REQUEST
                                                                : EVIDENCE_OTHER_REQUEST;
  attempt->confidence = confidence_of(weighing);
  if (weighing->retries <= weighing->others) {
    client->all_arrivals++;
    host->arrivals++;
    return 0;
  }
  learn_identity(client, attempt, failure, key->client_port_be);
  claim_failure(key, failure, attempt, now_ns);
  failure->retry_odds_log2 = odds_log2(weighing->retries, weighing->others);
  return 1;
}

/* Labels the request that `key` begins now, by the attempt at hand. */
static __always_inline int label_request(const struct connection_key *key, struct attempt *attempt,
                                         __u64 now_ns) {
  attempt->begin = clock_ticks(now_ns);
  if (may_have_failed(attempt->client_hash, now_ns)) {
    if (weigh(key, now_ns)) return 0;
  }
  count_first(key, 1);
  return 0;
}

/* The connection's current request is labelled as the attempt says. */
static __always_inline void tell_label(struct connection *connection,
                                       const struct attempt *attempt) {
  connection->attempt = attempt->number;
  connection->previous_failure = attempt->previous_failure;
  connection->previous_backend_id = attempt->previous_backend_id;
  connection->previous_hash = attempt->previous_hash;
  connection->evidence = attempt->evidence;
  connection->confidence = attempt->confidence;
}

/* --- what the first bytes say --------------------------------------------------------------- */

/* The first request of a connection is read: which of its host's failures asked for the same? Others
 * that are known did not; of those that are not known the SYN's label stands. */
static __noinline int settle_first(const struct connection_key *key, struct connection *connection,
                                   __u64 now_ns) {
  struct label_work *work = label_at_hand();
  struct client_key client_key;

  if (!work) return 0;
  struct attempt *attempt = &work->attempt;
  struct weighing *weighing = &work->weighing;
  client_key_of(key, &client_key);
  struct client *client = bpf_map_lookup_elem(&clients, &client_key);
  if (!client || !in_window(client, now_ns)) return 0;
  struct client *host = choose_host(key, client, attempt, now_ns);
  attempt->evidence = EVIDENCE_FAILURE | compare_host(host, key, attempt, now_ns);
  if ((attempt->evidence & EVIDENCE_OTHER_CLOCK) && client->clock_matches) return 0;
  attempt->kept = 1; /* what has come since its SYN is no measure of bursts */
  if (!weigh_failures(key, client, host, known_pending(attempt->client_hash))) return 0;
  struct failure *mine = NULL;
  weighing->retries = 0;
#pragma unroll
  for (__u32 i = 0; i < HOST_FAILURES; i++) {
    struct failure *failure = &host->failures[i];
    if (is_claimed_by(failure, key, 1)) mine = failure;
    if (failure->hash != attempt->request_hash) weighing->hazards[i] = 0;
    weighing->retries += weighing->hazards[i];
  }
  if (weighing->retries > weighing->others) {
    struct backend_stats *backend = stats_of_backend(connection->backend_id);
    struct failure *failure = &host->failures[likeliest(host, weighing)];
    attempt->evidence |= EVIDENCE_SAME_REQUEST;
    attempt->confidence = confidence_of(weighing);
    if (mine && mine != failure) end_claim(key, mine, EVIDENCE_OTHER_REQUEST, now_ns);
    if (mine != failure) {
      claim_failure(key, failure, attempt, now_ns);
      count_first(key, -1);
      if (backend) backend->retry_connections++;
    } else {
      repeat_claim(failure, attempt);
    }
    failure->retry_odds_log2 = odds_log2(weighing->retries, weighing->others);
    tell_label(connection, attempt);
  } else if (mine && (mine->hash || attempt->due)) {
    end_claim(key, mine, attempt->due ? EVIDENCE_SCHEDULED : EVIDENCE_OTHER_REQUEST, now_ns);
    client->all_arrivals++;
    host->arrivals++;
  } else {
    connection->evidence |= weighing->retries ? EVIDENCE_SAME_REQUEST : EVIDENCE_OTHER_REQUEST;
  }
  return 0;
}

/* A request has begun of a client that has failed: the first of its connection, labelled at its SYN,
 * or one on a connection that has answered before. */
__noinline int settle_request(__u64 now_ns) {
  struct label_work *work = label_at_hand();
  struct attempt *attempt = attempt_at_hand();

  if (!work || !attempt) return 0;
  const struct connection_key *key = &work->unsettled;
  struct connection *connection = bpf_map_lookup_elem(&connections, key);
  if (!connection || !connection->syn_ns) return 0;
  attempt->syn_ns = connection->syn_ns;
  attempt->request = connection->requests;
  identify_connection(connection, &attempt->who);
  attempt->client_hash = client_hash(key);
  attempt->request_hash = connection->request_hash;
  attempt->kept = connection->requests > 1;
  attempt->begin = clock_ticks(attempt->kept ? connection->request_ns : connection->syn_ns);
  __u32 tag = schedule_tag(attempt->client_hash, attempt->request_hash);
  attempt->due = is_due(tag, attempt->begin);
  if (connection->requests > 1) {
    if (weigh(key, now_ns)) count_first(key, -1);
    tell_label(connection, attempt);
  } else {
    settle_first(key, connection, now_ns);
  }
  if (connection->attempt <= 1) keep_schedule(tag, clock_ticks(connection->request_ns));
  return 0;
}

/* The request that a segment has begun, if its client's failures make its label worth a look. From a
 * caller high up: the stack is 512 bytes for a whole chain of calls. */
static __always_inline void settle_unsettled(void) {
  struct label_work *work = label_at_hand();

  if (!work || !work->unsettled.service_id) return;
  settle_request(clock_ns());
  work->unsettled.service_id = 0;
}

/* A connection's request has begun, to be settled soon. What cannot be read (TLS, HTTP/2) has turns,
 * of which those on a connection that has answered before cannot be told for retries. */
static __noinline int note_request(const struct connection_key *key, struct connection *connection,
                                   __u64 now_ns) {
  struct label_work *work = label_at_hand();
  __u32 hash = client_hash(key);

  if (!work) return 0;
  if (connection->requests > 0) {
    connection->attempt = 1;
    connection->previous_failure = FAILURE_NONE;
    connection->previous_backend_id = 0;
    connection->previous_hash = 0;
    connection->evidence = 0;
    connection->confidence = CERTAIN;
    count_first(key, 1);
  }
  if (!connection->request_hash) return 0;
  count_same_requests(key->service_id, hash, connection->request_hash);
  if (may_have_failed(hash, now_ns))
    work->unsettled = *key;
  else
    keep_schedule(schedule_tag(hash, connection->request_hash), clock_ticks(now_ns));
  return 0;
}

#endif /* PETREL_BPF_RETRY_BPF_H */
