/* SPDX-License-Identifier: MIT */
/* Features: what a model sees of one request at one moment, computed alike in the kernel, in the agent
 * and in training.
 *
 * An observation is what is known of the request itself; views are what was known of its backend and
 * its service at the agent's last tick before it. A feature is 0 where it does not apply. Each is Q16;
 * logarithms are base 2. docs/features.md says why each is there.
 */
#ifndef PETREL_BPF_FEATURES_H
#define PETREL_BPF_FEATURES_H

#include "bpf/fixed_point.h"

/* V(NAME, kName, "name", "unit", "what"): in the order of a capture's columns and a model's file. */
#define PETREL_FEATURES(V)                                                                         \
  V(WAITING_SYN, kWaitingSyn, "waiting_syn", "flag", "its SYN waits for an answer")                \
  V(WAITING_RESPONSE, kWaitingResponse, "waiting_response", "flag",                                \
    "its request waits for an answer")                                                             \
  V(WAITING_AGE, kWaitingAge, "waiting_age", "log2", "milliseconds it has waited, from 1 ms")      \
  V(WAITING_BEYOND_USUAL, kWaitingBeyondUsual, "waiting_beyond_usual", "log2",                     \
    "times the service's usual connect or response time that it has waited, from 1")               \
  V(WAITING_BEYOND_PATIENCE, kWaitingBeyondPatience, "waiting_beyond_patience", "log2",            \
    "times that it has waited what the service's clients usually wait before they leave")          \
  V(RARITY, kRarity, "rarity", "log2",                                                             \
    "one of how many of the service's good answers takes as long, from 1")                         \
  V(ANOMALY_SCORE, kAnomalyScore, "anomaly_score", "score",                                        \
    "robust z-score of the logarithm of its time so far; while waiting from 0")                    \
  V(ANSWERED, kAnswered, "answered", "flag", "answered well")                                      \
  V(ANSWER_BEYOND_USUAL, kAnswerBeyondUsual, "answer_beyond_usual", "log2",                        \
    "times the service's usual response time that a good answer took, from 1")                     \
  V(ANSWER_BEYOND_BACKEND, kAnswerBeyondBackend, "answer_beyond_backend", "log2",                  \
    "times its backend's usual response time that a good answer took, from 1")                     \
  V(CONNECT_BEYOND_USUAL, kConnectBeyondUsual, "connect_beyond_usual", "log2",                     \
    "times the service's usual connect time that its handshake took, from 1")                      \
  V(SYN_REPEATS, kSynRepeats, "syn_repeats", "count",                                              \
    "SYNs sent again before the connection was answered or ended")                                 \
  V(SEGMENT_REPEATS, kSegmentRepeats, "segment_repeats", "log2",                                   \
    "1 + data segments of its connection that came again, both ways")                              \
  V(RTOS, kRtos, "rtos", "count", "retransmission timeouts of its sockets on this host")           \
  V(SRTT_CHANGE, kSrttChange, "srtt_change", "log2",                                               \
    "times the service's usual smoothed RTT, as its sockets on this host have it")                 \
  V(FAILED, kFailed, "failed", "flag", "it failed, whatever the kind")                             \
  V(REFUSED, kRefused, "refused", "flag", "the SYN was answered by RST")                           \
  V(HANDSHAKE_TIMEOUT, kHandshakeTimeout, "handshake_timeout", "flag",                             \
    "the SYN was never answered")                                                                  \
  V(RESET, kReset, "reset", "flag", "the backend reset the established connection")                \
  V(ABANDONED, kAbandoned, "abandoned", "flag", "the client left with its request unanswered")     \
  V(ABANDONED_AGE, kAbandonedAge, "abandoned_age", "log2",                                         \
    "milliseconds after which the client left, from 1 ms")                                         \
  V(EMPTY, kEmpty, "empty", "flag", "the backend closed with the request unanswered")              \
  V(SERVER_ERROR, kServerError, "server_error", "flag", "answered with HTTP 5xx")                  \
  V(OVERLOAD, kOverload, "overload", "flag", "answered with HTTP 429")                             \
  V(ATTEMPT, kAttempt, "attempt_number", "log2", "which attempt the one that failed was")          \
  V(NOT_IDEMPOTENT, kNotIdempotent, "not_idempotent", "flag",                                      \
    "what failed was a POST or PATCH: not to be repeated without knowing")                         \
  V(REQUEST_BYTES, kRequestBytes, "request_bytes", "log2",                                         \
    "kilobytes of what failed that the client had sent, from 1")                                   \
  V(RETRY_ODDS, kRetryOdds, "retry_odds", "log2",                                                  \
    "while waiting: the service's failures of late that were retried, to those that were not")     \
  V(FAILED_RETRY_ODDS, kFailedRetryOdds, "failed_retry_odds", "log2",                              \
    "the same once it has failed")                                                                 \
  V(BACKEND_WAITING, kBackendWaiting, "backend_waiting", "log2",                                   \
    "while waiting: requests waiting at the backend, as times its usual number")                   \
  V(BACKEND_SILENCE, kBackendSilence, "backend_silence", "log2",                                   \
    "while waiting: times the usual response time that the backend has answered nothing, from 1")  \
  V(BACKEND_FAILURES, kBackendFailures, "backend_failures", "share",                               \
    "while waiting: share of the backend's recent outcomes that failed")                           \
  V(BACKEND_FAILURES_EXCESS, kBackendFailuresExcess, "backend_failures_excess", "share",           \
    "while waiting: the same less that of the service's other backends, from 0")                   \
  V(BACKEND_CONNECT_FAILURES, kBackendConnectFailures, "backend_connect_failures", "share",        \
    "while waiting: of these outcomes, refused or SYN unanswered")                                 \
  V(BACKEND_RESETS, kBackendResets, "backend_resets", "share",                                     \
    "while waiting: of these outcomes, reset or closed without an answer")                         \
  V(BACKEND_ERRORS, kBackendErrors, "backend_errors", "share",                                     \
    "while waiting: of these outcomes, HTTP 5xx or 429")                                           \
  V(TROUBLE_SHARE, kTroubleShare, "trouble_share", "share",                                        \
    "while waiting: the backend's part of the service's recent failures")                          \
  V(OTHER_ZONE, kOtherZone, "other_zone", "flag",                                                  \
    "while waiting: its backend is in another zone than this host")                                \
  V(DAY_SINE, kDaySine, "day_sine", "score", "sine of the time of day, UTC: 0 at midnight")        \
  V(DAY_COSINE, kDayCosine, "day_cosine", "score", "cosine of the time of day")

#ifdef __cplusplus
namespace petrel::bpf {
#endif

enum feature {
#define PETREL_FEATURE_ENUM(name, camel, text, unit, what) FEATURE_##name,
  PETREL_FEATURES(PETREL_FEATURE_ENUM)
#undef PETREL_FEATURE_ENUM
      FEATURES,
};

/* Moments at which a request is scored. At the waiting points live scoring has only a histogram of
 * ages, so nothing else of the request is used there: no attempt, no repeats. */
enum decision_point {
  POINT_WAITING_SYN = 0,
  POINT_WAITING_RESPONSE = 1,
  POINT_ANSWER = 2,
  POINT_END = 3, /* without an answer */
};

/* What is known of the request itself. */
struct observation {
  __u64 elapsed_ns;    /* how long the SYN or request has waited, or waited */
  __u64 connect_ns;    /* SYN to SYN-ACK; 0: none */
  __u32 request_bytes; /* payload from the client */
  __u32 srtt_us;       /* as a socket on this host told last; 0: none did */
  __u16 repeats;       /* data segments that came again, both ways */
  __u16 rtos;          /* of its sockets on this host */
  __u8 point;          /* enum decision_point */
  __u8 failure;        /* enum failure_kind */
  __u8 syn_repeats;
  __u8 attempt;        /* 1 = first; 0 = not known */
  __u8 method;         /* enum http_method */
  __u8 padding[7];
};

/* A backend as of a tick. Written by A. All 0: in good health, as the service usually is. */
struct backend_view {
  __s32 waiting_excess_q16;          /* log2((1 + waiting) / (1 + usually waiting)) */
  __s32 usual_response_log2_q16;     /* of ns; 0: not known, the service's counts */
  __u64 silence_ns;                  /* how long something has waited with no answer at all */
  __s32 failure_share_q16;           /* of recent outcomes, 0 to 65536 */
  __s32 others_failure_share_q16;    /* the same of the service's other backends */
  __s32 connect_failure_share_q16;   /* of its outcomes: refused, SYN unanswered */
  __s32 reset_share_q16;             /* of its outcomes: reset, closed without an answer */
  __s32 error_share_q16;             /* of its outcomes: 5xx, 429 */
  __s32 trouble_share_q16;           /* its part of the service's recent failures, 0 to 65536 */
  __u32 other_zone;                  /* 1: in another zone than this host */
  __u32 padding;
};

/* A histogram in octaves of 2^10 to 2^34 ns, its ends included. */
#define RARITY_FIRST_OCTAVE 10
#define RARITY_OCTAVES 24

/* What usually happens at a service as of a tick: slow to follow, so that an incident does not become
 * usual. Written by A. */
struct service_view {
  __s32 usual_response_log2_q16; /* of ns */
  __s32 response_spread_q16;     /* usual distance of log2 of a response time from that */
  __s32 usual_connect_log2_q16;  /* of ns */
  __s32 patience_log2_q16;       /* of ns: after which clients leave */
  __s32 usual_srtt_log2_q16;     /* of us; 0: not known */
  __s32 retry_odds_log2_q16;     /* of late: retried failures to others */
  __s32 day_sine_q16;
  __s32 day_cosine_q16;
  __s32 rarity_q16[RARITY_OCTAVES + 1]; /* log2(1 / share of good answers that take 2^(10+i) ns) */
  __u32 padding;
};

PETREL_ASSERT_SIZE(struct observation, 40);
PETREL_ASSERT_SIZE(struct backend_view, 48);
PETREL_ASSERT_SIZE(struct service_view, 136);

/* Ranges in octaves. 16 octaves of milliseconds are 65 s; live ages end near 9 s. */
#define AGE_OCTAVES 16
#define RATIO_OCTAVES 10
#define PATIENCE_LEAST_OCTAVES (-8)
#define PATIENCE_MOST_OCTAVES 4
#define ANOMALY_LEAST (-8)
#define ANOMALY_MOST 16
#define SYN_REPEATS_MOST 7
#define RTOS_MOST 15
#define LOG2_NS_PER_MS_Q16 1306235 /* log2_q16(1000000): a test holds it to that */
#define LOG2_KILOBYTE_Q16 (10 * Q16_ONE)
#define SPREAD_LEAST_Q16 (Q16_ONE / 8)

PETREL_INLINE __s32 clamp_s32(__s32 value, __s32 least, __s32 most) {
  if (value < least) return least;
  return value > most ? most : value;
}

/* log2 of how many times what is usual a time is: 0 up to that. */
PETREL_INLINE __s32 beyond_q16(__s32 log2_q16_of_ns, __s32 usual_log2_q16) {
  return clamp_s32(subtract_saturating(log2_q16_of_ns, usual_log2_q16), 0, RATIO_OCTAVES * Q16_ONE);
}

/* log2 of an age in milliseconds; 0 up to 1 ms. */
PETREL_INLINE __s32 age_q16(__s32 log2_q16_of_ns) {
  return clamp_s32(log2_q16_of_ns - LOG2_NS_PER_MS_Q16, 0, AGE_OCTAVES * Q16_ONE);
}

/* Distance from what is usual in standard deviations: of a normal distribution the mean distance is
 * 0.8 of one. */
PETREL_INLINE __s32 anomaly_q16(const struct service_view *service, __s32 log2_q16_of_ns) {
  __s32 distance = subtract_saturating(log2_q16_of_ns, service->usual_response_log2_q16);
  __u32 spread = (__u32)clamp_s32(service->response_spread_q16, SPREAD_LEAST_Q16, 8 * Q16_ONE);
  __u32 deviation = spread + spread / 4;
  __u64 magnitude = distance < 0 ? (__u64)(-(__s64)distance) : (__u64)distance;
  __u64 score = (magnitude << 16) / deviation;

  if (score > ANOMALY_MOST * Q16_ONE) score = ANOMALY_MOST * Q16_ONE;
  return clamp_s32(distance < 0 ? -(__s32)score : (__s32)score, ANOMALY_LEAST * Q16_ONE,
                   ANOMALY_MOST * Q16_ONE);
}

/* Between two octaves the logarithm of the share is taken to be straight. */
PETREL_INLINE __s32 rarity_q16(const struct service_view *service, __s32 log2_q16_of_ns) {
  __s32 at = clamp_s32(log2_q16_of_ns - RARITY_FIRST_OCTAVE * Q16_ONE, 0,
                       RARITY_OCTAVES * Q16_ONE - 1);
  __u32 octave = (__u32)at >> 16;
  __s64 here, there;

  if (octave >= RARITY_OCTAVES) return 0; /* never: the verifier wants it said */
  here = service->rarity_q16[octave];
  there = service->rarity_q16[octave + 1];
  if (there < here) there = here;
  here += ((there - here) * (at & 0xffff)) >> 16;
  return clamp_s32(saturate_s32(here), 0, RATIO_OCTAVES * Q16_ONE);
}

/* While a request waits its fate depends on where it waits. Once its outcome is known the backend's
 * state adds nothing, and one coefficient for both would blur both: so only here. */
PETREL_INLINE void compute_waiting(const struct service_view *service,
                                   const struct backend_view *backend,
                                   const struct observation *seen, __s32 *out) {
  __u32 syn = seen->point == POINT_WAITING_SYN;
  __s32 elapsed = log2_q16(seen->elapsed_ns);
  __s32 excess = subtract_saturating(backend->failure_share_q16, backend->others_failure_share_q16);

  out[FEATURE_WAITING_SYN] = syn ? Q16_ONE : 0;
  out[FEATURE_WAITING_RESPONSE] = syn ? 0 : Q16_ONE;
  out[FEATURE_WAITING_AGE] = age_q16(elapsed);
  out[FEATURE_WAITING_BEYOND_USUAL] = beyond_q16(
      elapsed, syn ? service->usual_connect_log2_q16 : service->usual_response_log2_q16);
  out[FEATURE_WAITING_BEYOND_PATIENCE] =
      clamp_s32(subtract_saturating(elapsed, service->patience_log2_q16),
                PATIENCE_LEAST_OCTAVES * Q16_ONE, PATIENCE_MOST_OCTAVES * Q16_ONE);
  if (!syn) {
    /* One that has not waited long yet is no more unusual than others. */
    out[FEATURE_ANOMALY_SCORE] =
        clamp_s32(anomaly_q16(service, elapsed), 0, ANOMALY_MOST * Q16_ONE);
    out[FEATURE_RARITY] = rarity_q16(service, elapsed);
  }
  out[FEATURE_RETRY_ODDS] = service->retry_odds_log2_q16;
  out[FEATURE_BACKEND_WAITING] = clamp_s32(backend->waiting_excess_q16, -RATIO_OCTAVES * Q16_ONE,
                                           RATIO_OCTAVES * Q16_ONE);
  out[FEATURE_BACKEND_SILENCE] =
      beyond_q16(log2_q16(backend->silence_ns), service->usual_response_log2_q16);
  out[FEATURE_BACKEND_FAILURES] = backend->failure_share_q16;
  /* Not below 0: where others fail more, a difference would let a model learn that trouble all around
   * makes a backend safe, and a failure of the whole service would look harmless. */
  out[FEATURE_BACKEND_FAILURES_EXCESS] = excess > 0 ? excess : 0;
  out[FEATURE_BACKEND_CONNECT_FAILURES] = backend->connect_failure_share_q16;
  out[FEATURE_BACKEND_RESETS] = backend->reset_share_q16;
  out[FEATURE_BACKEND_ERRORS] = backend->error_share_q16;
  out[FEATURE_TROUBLE_SHARE] = backend->trouble_share_q16;
  out[FEATURE_OTHER_ZONE] = backend->other_zone ? Q16_ONE : 0;
}

/* How its client and its transport came to where it is. */
PETREL_INLINE void compute_failed(const struct service_view *service,
                                  const struct observation *seen, __s32 *out) {
  __s32 kilobytes = log2_q16(seen->request_bytes) - LOG2_KILOBYTE_Q16;

  /* Beside the flags by kind: what all failures have in common must not be learned of each anew, or a
   * kind that training had none of would look like no failure. */
  out[FEATURE_FAILED] = Q16_ONE;
  out[FEATURE_REFUSED] = seen->failure == FAILURE_REFUSED ? Q16_ONE : 0;
  out[FEATURE_HANDSHAKE_TIMEOUT] = seen->failure == FAILURE_HANDSHAKE_TIMEOUT ? Q16_ONE : 0;
  out[FEATURE_RESET] = seen->failure == FAILURE_RESET ? Q16_ONE : 0;
  out[FEATURE_EMPTY] = seen->failure == FAILURE_EMPTY ? Q16_ONE : 0;
  out[FEATURE_SERVER_ERROR] = seen->failure == FAILURE_SERVER_ERROR ? Q16_ONE : 0;
  out[FEATURE_OVERLOAD] = seen->failure == FAILURE_OVERLOAD ? Q16_ONE : 0;
  /* A client that leaves at once was told to; one that leaves late lost its patience. */
  if (seen->failure == FAILURE_ABANDONED) {
    out[FEATURE_ABANDONED] = Q16_ONE;
    out[FEATURE_ABANDONED_AGE] = age_q16(log2_q16(seen->elapsed_ns));
  }
  out[FEATURE_ATTEMPT] = log2_q16(seen->attempt);
  out[FEATURE_NOT_IDEMPOTENT] =
      seen->method == METHOD_POST || seen->method == METHOD_PATCH ? Q16_ONE : 0;
  out[FEATURE_REQUEST_BYTES] = kilobytes > 0 ? kilobytes : 0;
  out[FEATURE_FAILED_RETRY_ODDS] = service->retry_odds_log2_q16;
}

PETREL_INLINE void compute_outcome(const struct service_view *service,
                                   const struct backend_view *backend,
                                   const struct observation *seen, __s32 *out) {
  __s32 syn_repeats = seen->syn_repeats;
  __s32 rtos = seen->rtos;

  if (seen->point == POINT_ANSWER) {
    __s32 elapsed = log2_q16(seen->elapsed_ns);

    out[FEATURE_ANOMALY_SCORE] = anomaly_q16(service, elapsed);
    if (seen->failure == FAILURE_NONE) {
      __s32 own = backend->usual_response_log2_q16;

      out[FEATURE_ANSWERED] = Q16_ONE;
      out[FEATURE_RARITY] = rarity_q16(service, elapsed);
      out[FEATURE_ANSWER_BEYOND_USUAL] = beyond_q16(elapsed, service->usual_response_log2_q16);
      out[FEATURE_ANSWER_BEYOND_BACKEND] =
          beyond_q16(elapsed, own ? own : service->usual_response_log2_q16);
    }
  }
  if (seen->failure != FAILURE_NONE) compute_failed(service, seen, out);
  if (seen->connect_ns)
    out[FEATURE_CONNECT_BEYOND_USUAL] =
        beyond_q16(log2_q16(seen->connect_ns), service->usual_connect_log2_q16);
  out[FEATURE_SYN_REPEATS] =
      (syn_repeats < SYN_REPEATS_MOST ? syn_repeats : SYN_REPEATS_MOST) * Q16_ONE;
  out[FEATURE_SEGMENT_REPEATS] = log2_q16((__u64)seen->repeats + 1);
  out[FEATURE_RTOS] = (rtos < RTOS_MOST ? rtos : RTOS_MOST) * Q16_ONE;
  if (seen->srtt_us && service->usual_srtt_log2_q16)
    out[FEATURE_SRTT_CHANGE] =
        clamp_s32(log2_q16(seen->srtt_us) - service->usual_srtt_log2_q16,
                  -RATIO_OCTAVES * Q16_ONE, RATIO_OCTAVES * Q16_ONE);
}

/* FEATURES values to `out`. */
PETREL_INLINE void compute_features(const struct service_view *service,
                                    const struct backend_view *backend,
                                    const struct observation *seen, __s32 *out) {
  for (__u32 i = 0; i < FEATURES; i++) out[i] = 0;
  if (seen->point == POINT_WAITING_SYN || seen->point == POINT_WAITING_RESPONSE)
    compute_waiting(service, backend, seen, out);
  else
    compute_outcome(service, backend, seen, out);
  out[FEATURE_DAY_SINE] = service->day_sine_q16;
  out[FEATURE_DAY_COSINE] = service->day_cosine_q16;
}

#ifdef __cplusplus
} /* namespace petrel::bpf */
#endif

#endif /* PETREL_BPF_FEATURES_H */
