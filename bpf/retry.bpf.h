/* SPDX-License-Identifier: MIT */
/* The retry label: is this request the repetition of one that failed?
 *
 * A retry comes from the same host to the same service, within the retry window, after a request
 * that failed. It is told at the SYN, where steering and the budget need it, by the odds of odds.h,
 * and settled when the request's first bytes are known (settle.bpf.h).
 */
#ifndef PETREL_BPF_RETRY_BPF_H
#define PETREL_BPF_RETRY_BPF_H

#include "bpf/claim.bpf.h"
#include "bpf/schedule.bpf.h"

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

/* 0 where `begin` comes first: a SYN is weighed again after failures that came after it. */
static __always_inline __u32 elapsed_since(__u32 since, __u32 begin) {
  __s32 elapsed = (__s32)(begin - since);

  return elapsed < 0 ? 0 : elapsed;
}

/* At which rate other requests are to be expected of who sent this one. */
static __always_inline __u64 others_of(const struct client *client, const struct client *host,
                                       const struct retry_odds *odds, const struct pending *pending,
                                       const struct connection_key *key,
                                       const struct attempt *attempt, struct weighing *weighing) {
  bool shared = pending && is_shared(pending);
  __u64 gap = pending && pending->gap ? ((__u64)pending->gap + odds->usual_gap) / 2
                                      : odds->usual_gap;
  __u64 all = arrival_rate(client->all_arrivals, elapsed_since(client->since, attempt->begin), gap);

  if (shared && is_same_host(attempt->evidence)) {
    /* Of the host's own others; another host's port is near by chance. */
    __u64 others = arrival_rate(host->arrivals, elapsed_since(host->since, attempt->begin),
                                odds->host_gap);
    bool next = distance(ports_on(host->port_be, key->client_port_be)) <= NEXT_PORTS;
    weighing->own = next || (attempt->evidence & EVIDENCE_SAME_CLOCK) ? others : 0;
    if (!(attempt->evidence & EVIDENCE_SAME_CLOCK))
      others += all * (next ? 2 * NEXT_PORTS : 4 * NEAR_PORTS) / EPHEMERAL_PORTS;
    return others;
  }
  if (pending && !shared && !attempt->kept)
    all += odds->burst_hazard[retry_bucket(attempt->begin - pending->syn_at)];
  weighing->own = shared ? 0 : all;
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
  __u64 other = weighing->own * 256 / sum;
  __u32 window = clock_ticks(retry_window_ns);

#pragma unroll
  for (__u32 i = 0; i < HOST_FAILURES; i++) {
    const struct failure *failure = &host->failures[i];
    __u64 part = weighing->hazards[i] * 256 / sum;
    __u32 cause = retry_cause(failure->kind);
    __u32 elapsed = attempt->begin - failure->known_at;
    if (failure->syn_ns && cause != CAUSE_HANDSHAKE && elapsed <= window)
      ADD_EXACTLY(counts->others, other);
    if (!part) continue;
    ADD_EXACTLY(counts->delays[cause][retry_bucket(elapsed)], part);
    ADD_EXACTLY(counts->retried[cause][attempt_index(failure->attempt)], part);
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
    bool by_port = (attempt->evidence & EVIDENCE_NEAR_PORT) && ports_are_proven(client);
    if ((attempt->evidence & EVIDENCE_OTHER_CLOCK) && !by_port) shift += ODDS_OTHER_CLOCK_SHIFT;
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
  weighing->others = others_of(client, host, odds, pending, key, attempt, weighing);
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
APART int weigh(const struct connection_key *key, __u64 now_ns) {
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
  if ((attempt->evidence & EVIDENCE_OTHER_CLOCK) && clocks_are_proven(client)) {
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

#ifdef ARGUMENTS_BY_MAP
ROOM_FOR(struct connection_key, room_weigh);

__noinline int weigh_here(__u64 now_ns) {
  struct connection_key *key = room_of(room_weigh);

  return key ? weigh(key, now_ns) : 0;
}

static __always_inline int weigh_apart(const struct connection_key *key, __u64 now_ns) {
  struct connection_key *room = room_of(room_weigh);

  if (!room) return 0;
  *room = *key;
  return weigh_here(now_ns);
}
#define weigh weigh_apart
#endif

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

#endif /* PETREL_BPF_RETRY_BPF_H */
