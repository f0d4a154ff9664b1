/* SPDX-License-Identifier: MIT */
/* Scoring at the outcome itself: what the agent would say of an answer or a failure, said by the
 * balancer, so that one connection can be acted on without the agent's tick.
 *
 * Off unless the loader says so. Features and score are the agent's own code (features.h, model.h);
 * the views are those of its last tick, and the event carries the score, so that live and replayed
 * decisions rest on the same number. Vectors lie in a map: the stack has no room for them, and a
 * verifier forgets where a number in a map came from, so that it follows no sum into a table.
 */
#ifndef PETREL_BPF_SCORE_BPF_H
#define PETREL_BPF_SCORE_BPF_H

#include "bpf/account.bpf.h"
#include "bpf/features.h"
#include "bpf/model.h"

/* Set by the loader between open and load. */
const volatile bool score_in_kernel = false;

/* As with the tap, old kernels would count its stack. */
static __always_inline bool scores_here(void) {
#ifdef PETREL_BPF_OLD
  return false;
#else
  return score_in_kernel;
#endif
}

/* models: what is scored by.
 * Key: 0.  Value: struct scoring_models.
 * Writer: agent, at a start and when its model changes, through mmap: the entry not in force first,
 * then which one is.  Reader: balancer, each outcome, with agent.score_in_kernel. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct scoring_models);
} models SEC(".maps");

/* backend_views: what a backend's features are made of, as of the agent's last tick.
 * Key: backend id.  Value: struct backend_view.
 * Writer: agent, each tick, through mmap, those that changed; with agent.score_in_kernel.
 * Reader: balancer, each outcome.  Size: highest configured id + 1. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, 2);
  __type(key, __u32);
  __type(value, struct backend_view);
} backend_views SEC(".maps");

/* service_views: the same of a service.
 * Key: service id.  Value: struct service_view.
 * Writer and reader: as backend_views.  Size: highest configured id + 1. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, 2);
  __type(key, __u32);
  __type(value, struct service_view);
} service_views SEC(".maps");

/* kernel_risks: how a backend's outcomes of late were scored, for the two choices: between ticks too.
 * Key: backend id.  Value: struct kernel_risk.
 * Writer: balancer, each outcome that it scores.  Reader: balancer, each new connection of a service
 * that has two choices; people.  Size: highest configured id + 1. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 2);
  __type(key, __u32);
  __type(value, struct kernel_risk);
} kernel_risks SEC(".maps");

/* Of one outcome on one CPU. */
struct score_work {
  struct observation seen;
  __s32 features_q16[MODEL_MAX_FEATURES];
  __s32 log_odds_q16;
  __u32 padding;
};

/* score_work: the outcome that is being scored.
 * Key: 0.  Value: struct score_work.  Writer and reader: balancer. */
struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct score_work);
} score_work SEC(".maps");

#define KERNEL_RISK_SHIFT 3   /* an average over 8 outcomes */
#define KERNEL_RISK_SECOND 30 /* a second is 2^30 ns: a risk that nobody feeds halves in each */

static __always_inline __u32 risk_seconds(__u64 now_ns) {
  return (__u32)(now_ns >> KERNEL_RISK_SECOND);
}

static __always_inline __u32 faded_risk_q16(const struct kernel_risk *risk, __u32 seconds) {
  __u32 idle = seconds - risk->seconds;

  return idle < 17 ? risk->risk_q16 >> idle : 0;
}

/* Two CPUs may do so at once: one outcome of the two is lost then. */
static __always_inline void feed_risk(__u32 backend_id, __u32 score_q16, __u64 now_ns) {
  struct kernel_risk *risk = bpf_map_lookup_elem(&kernel_risks, &backend_id);
  __u32 seconds = risk_seconds(now_ns);

  if (!risk) return;
  __s32 before = (__s32)faded_risk_q16(risk, seconds);
  risk->risk_q16 = before + (((__s32)score_q16 - before) >> KERNEL_RISK_SHIFT);
  risk->seconds = seconds;
}

/* Its outcomes of late are more likely than not to be tried again. */
static __always_inline bool is_risky(__u32 backend_id, __u32 seconds) {
  struct kernel_risk *risk = bpf_map_lookup_elem(&kernel_risks, &backend_id);

  return risk && faded_risk_q16(risk, seconds) > Q16_ONE / 2;
}

/* What the event tells of its request: as observe() of the agent has it. */
static __always_inline void observe_event(const struct event *event, struct observation *seen) {
  seen->elapsed_ns = event->waited_ns;
  seen->connect_ns = event->connect_ns;
  seen->request_bytes = event->request_bytes;
  seen->srtt_us = event->srtt_us;
  seen->repeats = event->repeats;
  seen->rtos = event->rtos;
  seen->point = event->type == EVENT_ANSWER ? POINT_ANSWER : POINT_END;
  seen->failure = event->failure;
  seen->syn_repeats = event->syn_repeats;
  seen->attempt = event->attempt;
  seen->method = event->method;
}

/* Scores an event that says how a request went, and says by which model. Stands alone, so that the
 * verifier sees its arithmetic once. */
GLOBAL int score_event(struct event *event) {
  __u32 zero = 0;

  if (!event) return 0;
  __u32 backend_id = event->backend_id, service_id = event->key.service_id;
  struct score_work *work = bpf_map_lookup_elem(&score_work, &zero);
  struct scoring_models *all = bpf_map_lookup_elem(&models, &zero);
  struct backend_view *backend = bpf_map_lookup_elem(&backend_views, &backend_id);
  struct service_view *service = bpf_map_lookup_elem(&service_views, &service_id);
  if (!work || !all || !backend || !service) return 0;
  __u64 in_force = seen_anew((__u32)(all->in_force - 1));
  if (in_force > 1) return 0;
  struct scoring_model *model = &all->models[in_force];
  observe_event(event, &work->seen);
  barrier();
  compute_features(service, backend, &work->seen, work->features_q16);
  barrier();
  work->log_odds_q16 = scoring_log_odds_q16(model, work->features_q16, FEATURES);
  barrier();
  event->score_q16 = calibrated_probability_q16(model, work->log_odds_q16);
  event->score_model = (__u16)model->generation;
  feed_risk(backend_id, event->score_q16, event->time_ns);
  return 0;
}

#endif /* PETREL_BPF_SCORE_BPF_H */
