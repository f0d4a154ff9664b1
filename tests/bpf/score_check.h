/* SPDX-License-Identifier: MIT */
/* What score_check.bpf.c and its test share: cases in, results out. */
#ifndef PETREL_TESTS_BPF_SCORE_CHECK_H
#define PETREL_TESTS_BPF_SCORE_CHECK_H

#include "bpf/model.h"

#define SCORE_CASES 4096 /* of one run; a power of two */

#ifdef __cplusplus
namespace petrel::bpf {
#endif

/* A feature vector, and operands of the smaller functions. */
struct score_case {
  __s32 features_q16[MODEL_MAX_FEATURES];
  __s32 left;
  __s32 right;
  __u64 value;
  __u32 shift;
  __u32 padding;
};

struct score_result {
  __s32 product; /* mul_shift_saturating(left, right, shift) */
  __s32 sum;
  __s32 difference;
  __s32 log2_q16;      /* of value */
  __u32 sigmoid_q16;   /* of left */
  __s32 calibrated_q16; /* left */
  __s32 log_odds_q16;
  __u32 probability_q16;
};

/* What the BPF program does otherwise than the header, to see that the test sees it. */
enum score_mutation {
  MUTATION_NONE = 0,
  MUTATION_ROUNDS_DOWN = 1,
  MUTATION_SHIFTS_ZEROS_IN = 2,
  MUTATION_SKIPS_LAST = 3,
};

/* The smaller functions of a case, as both sides compute them. */
PETREL_INLINE void check_operands(const struct scoring_model* model, const struct score_case* seen,
                                  struct score_result* out) {
  out->product = mul_shift_saturating(seen->left, seen->right, seen->shift);
  out->sum = add_saturating(seen->left, seen->right);
  out->difference = subtract_saturating(seen->left, seen->right);
  out->sigmoid_q16 = sigmoid_q16(seen->left);
  out->calibrated_q16 = calibrate_log_odds_q16(model->knots_q16, seen->left);
}

#ifdef __cplusplus
} /* namespace petrel::bpf */
#endif

#endif /* PETREL_TESTS_BPF_SCORE_CHECK_H */
