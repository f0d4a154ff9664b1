/* SPDX-License-Identifier: MIT */
/* The fixed-point functions as BPF computes them: what the test compares with userspace.
 *
 * `cases` and `results` are written and read by the test through mmap; one run does all cases.
 */
#include "vmlinux.h"

#include <bpf/bpf_helpers.h>

#include "tests/bpf/score_check.h"

struct scoring_model model;
struct score_case cases[SCORE_CASES];
struct score_result results[SCORE_CASES];
__u32 mutation;

/* Global functions, each verified once and by itself, as the balancer's are. */
__noinline int weigh(__u32 index) {
  index &= SCORE_CASES - 1;
  return scoring_log_odds_q16(&model, cases[index].features_q16, MODEL_MAX_FEATURES);
}

__noinline int weigh_wrongly(__u32 index) {
  index &= SCORE_CASES - 1;
  const __s32 *features = cases[index].features_q16;
  if (mutation == MUTATION_SKIPS_LAST)
    return scoring_log_odds_q16(&model, features, MODEL_MAX_FEATURES - 1);
  if (mutation != MUTATION_ROUNDS_DOWN && mutation != MUTATION_SHIFTS_ZEROS_IN) return 0;
  __s64 sum = scoring_sum(&model, features, MODEL_MAX_FEATURES);
  if (mutation == MUTATION_ROUNDS_DOWN) return saturate_s32(sum >> (model.shift & 63));
  return saturate_s32((__s64)(((__u64)sum >> (model.shift & 63))));
}

__noinline int log2_of(__u32 index) {
  return log2_q16(cases[index & (SCORE_CASES - 1)].value);
}

__noinline int check_one(__u32 index) {
  index &= SCORE_CASES - 1;
  struct score_result *out = &results[index];

  check_operands(&model, &cases[index], out);
  out->log2_q16 = log2_of(index);
  out->log_odds_q16 = mutation ? weigh_wrongly(index) : weigh(index);
  out->probability_q16 = calibrated_probability_q16(&model, out->log_odds_q16);
  return 0;
}

SEC("xdp")
int score_check(struct xdp_md *ctx) {
  for (__u32 i = 0; i < SCORE_CASES; i++) check_one(i);
  return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
