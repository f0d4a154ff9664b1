/* SPDX-License-Identifier: MIT */
/* The retry label, once a request's first bytes are known: what asks for something else than what
 * failed is no retry.
 */
#ifndef PETREL_BPF_SETTLE_BPF_H
#define PETREL_BPF_SETTLE_BPF_H

#include "bpf/retry.bpf.h"

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
  if ((attempt->evidence & EVIDENCE_OTHER_CLOCK) && clocks_are_proven(client)) return 0;
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

#endif /* PETREL_BPF_SETTLE_BPF_H */
