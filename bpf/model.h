/* SPDX-License-Identifier: MIT */
/* A model as it is scored by, in BPF and in userspace: one layout, one function, the same bits.
 *
 * All terms of a model have one scale, 2^shift, the finest at which no sum of clamped features can
 * leave 63 bits. So a term is a multiplication and an addition, the sum is exact, and rounding and
 * saturating are done once, at the end. About half of a request's features are 0, mostly together:
 * four of them are passed over at once.
 */
#ifndef PETREL_BPF_MODEL_H
#define PETREL_BPF_MODEL_H

#include "bpf/fixed_point.h"

#ifdef __cplusplus
namespace petrel::bpf {
#endif

/* Bounds the scoring loop for the verifier; a model has no more features than this. */
#define MODEL_MAX_FEATURES 48
/* A mantissa is below 2^30, so that a coefficient of shift 14 is below 2^16. */
#define MODEL_LEAST_SHIFT 14
#define MODEL_MAX_SHIFT 63

/* A coefficient worth mantissa / 2^shift for each unit of its feature: what a model file holds. The
 * shift is chosen when a model is made, from the coefficient's size, so that large and small ones are
 * equally exact. */
struct model_coefficient {
  __s32 mantissa;
  __u32 shift; /* MODEL_LEAST_SHIFT to MODEL_MAX_SHIFT; of a mantissa of 0 any */
};

#define SCORING_GROUP 4
#define SCORING_GROUPS (MODEL_MAX_FEATURES / SCORING_GROUP)

/* The terms of four features. Written by A. */
struct scoring_group {
  __s32 min_q16[SCORING_GROUP];  /* trained range: what is outside is taken to its nearer end */
  __u32 span_q16[SCORING_GROUP]; /* its upper end less its lower one */
  __s64 factor[SCORING_GROUP];   /* log-odds for each unit of (feature - min), << shift */
  __s64 at_zero;                 /* what the four add when all of them are 0 */
};

/* A model made ready to score by. Written by A, read by X and A. */
struct scoring_model {
  __s64 base;       /* log-odds in Q16 of features that are all 0, << shift */
  __u32 shift;      /* 1 to 62 */
  __u32 generation; /* which model this is; its low 16 bits are never 0 */
  struct scoring_group groups[SCORING_GROUPS]; /* factors past the last feature are 0 */
  __s32 knots_q16[CALIBRATION_KNOTS]; /* not falling; a model without calibration has the identity */
  __u32 padding;
};

/* Two of them, so that one can be written while the other is in force. */
struct scoring_models {
  __u32 in_force; /* 1 or 2: which of them, from 1; 0: none. Written last by A */
  __u32 padding;
  struct scoring_model models[2];
};

/* What a backend's outcomes of late were scored at, with no tick between. Written by X. */
struct kernel_risk {
  __u32 risk_q16; /* an average over about the last KERNEL_RISK_OUTCOMES, 0 to 65536 */
  __u32 seconds;  /* CLOCK_MONOTONIC, in units of 2^30 ns, when it was last written */
};

PETREL_ASSERT_SIZE(struct model_coefficient, 8);
PETREL_ASSERT_SIZE(struct scoring_group, 72);
PETREL_ASSERT_SIZE(struct scoring_model, 1016);
PETREL_ASSERT_SIZE(struct scoring_models, 2040);
PETREL_ASSERT_SIZE(struct kernel_risk, 8);

/* How far a feature is above the lower end of its trained range, within it. One comparison says that
 * it lies there. */
PETREL_INLINE __u32 above_min_q16(__s32 value_q16, __s32 min_q16, __u32 span_q16) {
  __u32 above = (__u32)value_q16 - (__u32)min_q16;

  if (__builtin_expect(above > span_q16, 0)) above = value_q16 < min_q16 ? 0 : span_q16;
  return above;
}

/* Sums wrap, so that they are defined for a model that nobody should have made, too. */
PETREL_INLINE __u64 scoring_product(const struct scoring_group* group, __u32 i, __s32 value_q16) {
  __u64 above = above_min_q16(value_q16, group->min_q16[i], group->span_q16[i]);

  return above * (__u64)group->factor[i];
}

/* The log-odds, << shift, of `count` features: all that the model has, at most MODEL_MAX_FEATURES.
 * `count` is a constant, and all this straight-line code, where BPF is compiled. */
PETREL_INLINE __s64 scoring_sum(const struct scoring_model* model, const __s32* features_q16,
                                __u32 count) {
  __u64 sum = (__u64)model->base;

#ifdef __bpf__
#pragma clang loop unroll(full)
#endif
  for (__u32 first = 0; first < count; first += SCORING_GROUP) {
    const struct scoring_group* group = &model->groups[first / SCORING_GROUP];
    __s32 a = features_q16[first];
    __s32 b = first + 1 < count ? features_q16[first + 1] : 0;
    __s32 c = first + 2 < count ? features_q16[first + 2] : 0;
    __s32 d = first + 3 < count ? features_q16[first + 3] : 0;
    if (!(a | b | c | d)) continue;
    sum += scoring_product(group, 0, a);
    if (first + 1 < count) sum += scoring_product(group, 1, b);
    if (first + 2 < count) sum += scoring_product(group, 2, c);
    if (first + 3 < count) sum += scoring_product(group, 3, d);
    sum -= (__u64)group->at_zero;
  }
  return (__s64)sum;
}

/* Log-odds in Q16, before calibration: rounded to nearest, halves up; saturating. */
PETREL_INLINE __s32 scoring_log_odds_q16(const struct scoring_model* model,
                                         const __s32* features_q16, __u32 count) {
  __u32 shift = model->shift & 63;
  __s64 sum = scoring_sum(model, features_q16, count);

  /* By one bit less first: adding the half before it could overflow. */
  return saturate_s32(((sum >> ((shift - 1) & 63)) + 1) >> 1);
}

/* Probability in Q16, 0 to 65536, of those log-odds, once calibrated. */
PETREL_INLINE __u32 calibrated_probability_q16(const struct scoring_model* model,
                                               __s32 log_odds_q16) {
  return sigmoid_q16(calibrate_log_odds_q16(model->knots_q16, log_odds_q16));
}

/* The same of features of any values: clamped to what was trained on, weighed, calibrated. BPF has a function of its own for each half: a verifier that
 * sees a table looked up by a sum follows each way that the sum may have come about. */
PETREL_INLINE __u32 score_probability_q16(const struct scoring_model* model,
                                          const __s32* features_q16, __u32 count) {
  return calibrated_probability_q16(model, scoring_log_odds_q16(model, features_q16, count));
}

#ifdef __cplusplus
} /* namespace petrel::bpf */
#endif

#endif /* PETREL_BPF_MODEL_H */
