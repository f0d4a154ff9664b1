/* SPDX-License-Identifier: MIT */
/* Admission: which new connections are refused at once, so that what is admitted is answered.
 *
 * Three rules, all in force only while the agent lives. A limit on the requests in flight, of a
 * service and of each backend, with a lower one for retries, so that they are refused first. Near
 * the service's limit, for each client its share. And a budget for retries, a token bucket: retries
 * beyond it are refused, first attempts are not.
 */
#ifndef PETREL_BPF_ADMIT_BPF_H
#define PETREL_BPF_ADMIT_BPF_H

#include "bpf/place.bpf.h"

#define TOKEN_Q16 65536ULL
#define NS_PER_S 1000000000ULL
#define BUDGET_SECOND_SHIFT 30
#define SHARE_SEED_SHIFT 3 /* seconds, as a power of 2, for which two clients may be taken for one */
#define FILL_NS (1ULL << 32) /* times a 32-bit rate it fits 64 bits; more is earned by the second */

/* Whether one more is beyond its client's share of what a second gives, where several ask, and half of
 * it: who asks for as much as the others asks for more in one second than in the next. Clients are told
 * apart by hash, anew every few seconds: who shares with a hammer does not share for long. Under the
 * lock. */
static __always_inline bool is_unfair(struct budget *budget, struct budget_share *share,
                                      __u32 second) {
  if (budget->second != second) {
    budget->sharers_before = budget->second + 1 == second ? budget->sharers : 0;
    budget->sharers = 0;
    budget->second = second;
  }
  if (share->second != second) {
    share->second = second;
    share->spent = 0;
    budget->sharers++;
  }
  __u64 sharers =
      budget->sharers > budget->sharers_before ? budget->sharers : budget->sharers_before;
  /* Without a rate no second has anything of its own to share. */
  return budget->rate_q16 && sharers > 1 && share->spent &&
         2 * (share->spent + 1) * TOKEN_Q16 * sharers > 3ULL * budget->rate_q16;
}

static __always_inline struct budget_share *share_of(struct budget *budget, __u32 client_hash,
                                                     __u32 second) {
  return &budget->shares[hash_again(client_hash, second >> SHARE_SEED_SHIFT) & (BUDGET_SHARES - 1)];
}

/* Takes one token; false: there is none, or it is another's. While less than half of the burst is
 * left, each of the clients that ask has its share of a second's tokens and no more, so that one who
 * hammers does not spend what the others are to have. Exact on any number of CPUs: the bucket has a
 * lock, which only retries take. Global: verified once. */
__noinline int spend_token(__u32 service_id, __u32 client_hash, __u64 now_ns) {
  struct budget *budget = bpf_map_lookup_elem(&budgets, &service_id);
  __u32 second = now_ns >> BUDGET_SECOND_SHIFT;
  bool spent = false;

  if (!budget) return 1;
  struct budget_share *share = share_of(budget, client_hash, second);
  bpf_spin_lock(&budget->lock);
  /* Clocks of two CPUs may differ by a little: time does not run back. */
  __u64 elapsed_ns = now_ns > budget->filled_ns ? now_ns - budget->filled_ns : 0;
  __u64 earned_q16;
  if (elapsed_ns > FILL_NS) {
    earned_q16 = elapsed_ns / NS_PER_S * budget->rate_q16;
    elapsed_ns -= elapsed_ns % NS_PER_S;
  } else {
    earned_q16 = elapsed_ns * budget->rate_q16 / NS_PER_S;
    /* Only the time that whole units took is used up: thousands of calls a second lose nothing. */
    if (earned_q16 && earned_q16 < 1ULL << 32)
      elapsed_ns = earned_q16 * NS_PER_S / budget->rate_q16;
  }
  __u64 tokens_q16 = budget->tokens_q16 + earned_q16;
  if (earned_q16) budget->filled_ns += elapsed_ns;
  if (tokens_q16 > budget->burst_q16) tokens_q16 = budget->burst_q16;
  bool unfair = is_unfair(budget, share, second) && 2 * tokens_q16 < budget->burst_q16;
  if (tokens_q16 >= TOKEN_Q16 && !unfair) {
    tokens_q16 -= TOKEN_Q16;
    budget->admitted++;
    share->spent++;
    spent = true;
  } else {
    budget->refused++;
    if (tokens_q16 >= TOKEN_Q16) budget->refused_unfair++;
  }
  budget->tokens_q16 = tokens_q16;
  bpf_spin_unlock(&budget->lock);
  return spent;
}

/* A new connection to a service that is near its limit: one who asks for more than its share of what
 * can be answered is refused from three quarters of the limit on, so that the last quarter is for
 * those who ask for less. Below that nobody is, and nothing is kept idle. */
__noinline int take_share(__u32 service_id, __u32 client_hash, __u64 now_ns) {
  struct budget *budget = bpf_map_lookup_elem(&admissions, &service_id);
  __u32 second = now_ns >> BUDGET_SECOND_SHIFT;

  if (!budget || !budget->rate_q16) return 1;
  struct budget_share *share = share_of(budget, client_hash, second);
  bpf_spin_lock(&budget->lock);
  bool unfair = is_unfair(budget, share, second);
  if (unfair) {
    budget->refused_unfair++;
  } else {
    budget->admitted++;
    share->spent++;
  }
  bpf_spin_unlock(&budget->lock);
  return !unfair;
}

/* VERDICT_FORWARDED, or the verdict with which a new connection is refused. */
static __noinline __u32 admit(const struct service *service, const struct attempt *attempt,
                              __u64 now_ns) {
  bool retry = attempt->number > 1;
  __u32 service_id = service->service_id;

  if (service->flags & SERVICE_ADMIT) {
    struct inflight *waiting = bpf_map_lookup_elem(&svc_inflight, &service_id);
    if (waiting && is_over(waiting, retry)) return retry ? VERDICT_RETRY_OVER_LIMIT : VERDICT_OVER_LIMIT;
    if (waiting && waiting->limit && 4 * waiting->requests > 3 * (__s64)waiting->limit &&
        !take_share(service_id, attempt->client_hash, now_ns))
      return retry ? VERDICT_RETRY_OVER_LIMIT : VERDICT_OVER_LIMIT;
  }
  if (retry && (service->flags & SERVICE_BUDGET) &&
      !spend_token(service_id, attempt->client_hash, now_ns))
    return VERDICT_OVER_BUDGET;
  return VERDICT_FORWARDED;
}

/* The backend that was placed, or another if that one is at its limit of requests in flight; 0: all
 * that were asked are. */
static __noinline __u32 admit_to_backend(const struct service *service, __u32 backend_id,
                                         bool retry, __u64 hash) {
  struct inflight *waiting = bpf_map_lookup_elem(&inflight, &backend_id);

  if (!waiting || !is_over(waiting, retry)) return backend_id;
  struct wanted wanted = {.avoid = {backend_id}, .below_limit = true, .retry = retry};
  return other_backend(service, &wanted, hash);
}

static __noinline int send_refusal_record(const struct connection_key *key,
                                          const struct attempt *attempt, __u64 now_ns) {
  struct record *record = begin_record(key, now_ns);

  if (!record) return 0;
  struct connection *told = &record->connection;
  __builtin_memset(told, 0, sizeof(*told));
  told->state = CONNECTION_SYN;
  told->syn_ns = now_ns;
  told->close_ns = now_ns;
  told->closed_by = CLOSED_BY_US;
  told->failure = FAILURE_REFUSED;
  told->attempt = attempt->number;
  told->previous_failure = attempt->previous_failure;
  told->previous_backend_id = attempt->previous_backend_id;
  told->previous_hash = attempt->previous_hash;
  told->evidence = attempt->evidence;
  told->confidence = attempt->confidence;
  told->owner = SENSOR_WIRE;
  bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
  return 0;
}

/* A connection was refused by us. To its client that is a failure like any other: what comes next is
 * a retry, and is to be told from a first attempt. */
static __noinline int record_refusal(const struct connection_key *key, __u64 now_ns) {
  struct service_stats *stats = stats_of_service(key->service_id);
  struct label_work *work = label_at_hand();
  struct failed *failed = failed_at_hand();

  if (!work || !failed) return 0;
  const struct attempt *attempt = &work->attempt;
  if (is_recording()) send_refusal_record(key, attempt, now_ns);
  if (stats && attempt->number > 1) stats->shed_retries++;
  if (stats && attempt->number <= 1) stats->shed++;
  failed->who = attempt->who;
  failed->syn_ns = now_ns;
  failed->backend_id = attempt->previous_backend_id;
  failed->hash = attempt->previous_hash;
  failed->attempt = attempt->number;
  failed->failure = FAILURE_REFUSED;
  return record_failure(key, failed, now_ns);
}

#endif /* PETREL_BPF_ADMIT_BPF_H */
