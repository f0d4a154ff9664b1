/* SPDX-License-Identifier: MIT */
/* Fixed-point arithmetic that BPF programs and userspace share, so that both score bit for bit
 * alike.
 *
 * Every function is total: each input gives a defined result and what does not fit saturates.
 * No floating point, no division, no loop without a constant bound. Right shifts of negative values
 * round down: BPF's ARSH does, C++20 says so, C leaves it to the compiler, which is asked below.
 * `_q16` has 16 fractional bits: 65536 is 1.0, and an __s32 spans -32768 to 32767.99998.
 */
#ifndef PETREL_BPF_FIXED_POINT_H
#define PETREL_BPF_FIXED_POINT_H

#include "bpf/types.h"

#ifndef PETREL_INLINE
#define PETREL_INLINE static inline __attribute__((always_inline))
#endif

#ifdef __cplusplus
namespace petrel::bpf {
#endif

#define Q16_ONE 65536
#define Q16_S32_MAX 2147483647LL
#define Q16_S32_MIN (-2147483647LL - 1)

#ifdef __cplusplus
static_assert((-3 >> 1) == -2, "right shifts round down");
#else
_Static_assert((-3 >> 1) == -2, "right shifts round down");
#endif

/* 65536 / (1 + e^(x / 16)) for x = 0 to 192, rounded: the lower half of the sigmoid, to -12. */
#define SIGMOID_STEP_SHIFT 12 /* one table step is 2^12 in Q16: 1/16 */
#define SIGMOID_STEPS 192
#ifdef __bpf__ /* apart from the constants that are set before load: host.bpf.h */
__attribute__((section(".rodata.tables")))
#endif
__attribute__((unused)) static const __u16 sigmoid_tail_q16[SIGMOID_STEPS + 1] = {
    32768, 31744, 30723, 29705, 28693, 27689, 26695, 25712, 24743, 23788, 22849, 21928, 21025,
    20143, 19282, 18442, 17625, 16832, 16062, 15316, 14595, 13898, 13226, 12579, 11955, 11357,
    10782, 10230, 9702,  9197,  8714,  8252,  7812,  7392,  6992,  6611,  6249,  5904,  5577,
    5266,  4971,  4692,  4427,  4176,  3938,  3713,  3500,  3298,  3108,  2928,  2758,  2598,
    2446,  2303,  2168,  2041,  1921,  1808,  1701,  1601,  1506,  1417,  1333,  1253,  1179,
    1109,  1042,  980,   922,   867,   815,   766,   720,   677,   636,   598,   562,   528,
    497,   467,   439,   412,   387,   364,   342,   321,   302,   284,   267,   251,   236,
    221,   208,   195,   184,   172,   162,   152,   143,   134,   126,   119,   111,   105,
    98,    92,    87,    82,    77,    72,    68,    64,    60,    56,    53,    50,    47,
    44,    41,    39,    36,    34,    32,    30,    28,    27,    25,    23,    22,    21,
    19,    18,    17,    16,    15,    14,    13,    13,    12,    11,    10,    10,    9,
    9,     8,     8,     7,     7,     6,     6,     6,     5,     5,     5,     4,     4,
    4,     4,     3,     3,     3,     3,     3,     2,     2,     2,     2,     2,     2,
    2,     2,     1,     1,     1,     1,     1,     1,     1,     1,     1,     1,     1,
    1,     1,     1,     1,     1,     1,     1,     0,     0,     0,     0,
};

PETREL_INLINE __s32 saturate_s32(__s64 value) {
  if (value > Q16_S32_MAX) return (__s32)Q16_S32_MAX;
  if (value < Q16_S32_MIN) return (__s32)Q16_S32_MIN;
  return (__s32)value;
}

PETREL_INLINE __s32 add_saturating(__s32 left, __s32 right) {
  return saturate_s32((__s64)left + right);
}

PETREL_INLINE __s32 subtract_saturating(__s32 left, __s32 right) {
  return saturate_s32((__s64)left - right);
}

/* The next functions are free of branches: a verifier follows each side of each branch, and with 20
 * features of 2 branches each it gave up (a million instructions, Linux 6.18). */

/* 1 where value is neither 0 nor 2^63 or above, else 0. */
PETREL_INLINE __u64 is_nonzero(__u64 value) {
  return (0 - value) >> 63;
}

/* left * right / 2^shift, rounded to nearest, halves away from zero. Of the shift only the lower
 * 6 bits count. */
PETREL_INLINE __s32 mul_shift_saturating(__s32 left, __s32 right, __u32 shift) {
  __u64 product = (__u64)((__s64)left * right); /* its magnitude is at most 2^62 */
  __u64 sign_mask = 0 - (product >> 63);        /* all ones for a negative one */
  __u64 magnitude = (product ^ sign_mask) - sign_mask;
  __u64 over_mask;

  shift &= 63;
  magnitude = (magnitude + ((1ULL << shift) >> 1)) >> shift;
  over_mask = 0 - (((__u64)Q16_S32_MAX - magnitude) >> 63);
  magnitude = (magnitude & ~over_mask) | ((__u64)Q16_S32_MAX & over_mask);
  return (__s32)((magnitude ^ sign_mask) - sign_mask);
}

/* log2(value) in Q16, 0 to 64 * 65536; log2(0) is taken as 0, as log2(1). Never above the true
 * value and less than 2/65536 below it. Each round squares the mantissa and so yields one bit. */
PETREL_INLINE __s32 log2_q16(__u64 value) {
  __u32 result = 0;
  __u64 mantissa = value | (1 - ((value | (0 - value)) >> 63)); /* 0 becomes 1 */

  /* Moved up until its highest bit is bit 63; the integer part is how far it did not move. */
  for (__u32 step = 32; step > 0; step >>= 1) {
    __u64 large = is_nonzero(mantissa >> (64 - step));
    result += step * (__u32)large;
    mantissa <<= step * (__u32)(1 - large);
  }
  mantissa >>= 32; /* Q31: in [2^31, 2^32), so that its square fits */
  for (int round = 0; round < 16; round++) {
    __u64 bit;
    mantissa = (mantissa * mantissa) >> 31;
    bit = mantissa >> 32; /* 1 where the square is 2 or more */
    result = (result << 1) | (__u32)bit;
    mantissa >>= bit;
  }
  return (__s32)result;
}

/* Probability in Q16, 0 to 65536, of log-odds in Q16. Linear between table entries: less than
 * 4/65536 off, monotone, and sigmoid(-x) = 65536 - sigmoid(x). Past +-12 it is 65536 or 0. */
PETREL_INLINE __u32 sigmoid_q16(__s32 log_odds_q16) {
  __u32 magnitude = log_odds_q16 < 0 ? 0 - (__u32)log_odds_q16 : (__u32)log_odds_q16;
  __u32 tail = 0;

  if (magnitude < (SIGMOID_STEPS << SIGMOID_STEP_SHIFT)) {
    __u32 index = magnitude >> SIGMOID_STEP_SHIFT;
    __u32 within = magnitude & ((1U << SIGMOID_STEP_SHIFT) - 1);
    __u32 here = sigmoid_tail_q16[index];
    __u32 drop = here - sigmoid_tail_q16[index + 1]; /* the tail falls: never negative */
    tail = here - ((drop * within + (1U << (SIGMOID_STEP_SHIFT - 1))) >> SIGMOID_STEP_SHIFT);
  }
  return log_odds_q16 < 0 ? tail : Q16_ONE - tail;
}

/* A calibration maps a model's log-odds to those that were observed: piecewise linear, through knots at
 * -8, -7.5, ... 8. Beyond them the ends go on with a slope of 1, so that order is kept. Knots that are
 * -8, -7.5, ... 8 themselves change nothing, to the last bit. */
#define CALIBRATION_KNOTS 33
#define CALIBRATION_STEP_SHIFT 15 /* one step is 2^15 in Q16: 1/2 */
#define CALIBRATION_FIRST_Q16 (-8 * Q16_ONE)

/* Log-odds in Q16 through knots of Q16, which do not fall; a pair that does is taken as level. */
PETREL_INLINE __s32 calibrate_log_odds_q16(const __s32* knots_q16, __s32 log_odds_q16) {
  const __s64 span = (__s64)(CALIBRATION_KNOTS - 1) << CALIBRATION_STEP_SHIFT;
  __s64 from_first = (__s64)log_odds_q16 - CALIBRATION_FIRST_Q16;
  __u32 index, within;
  __s64 rise;

  if (from_first < 0) return saturate_s32((__s64)knots_q16[0] + from_first);
  if (from_first >= span)
    return saturate_s32((__s64)knots_q16[CALIBRATION_KNOTS - 1] + (from_first - span));
  index = ((__u32)from_first >> CALIBRATION_STEP_SHIFT) & (CALIBRATION_KNOTS - 2);
  within = (__u32)from_first & ((1U << CALIBRATION_STEP_SHIFT) - 1);
  rise = (__s64)knots_q16[index + 1] - knots_q16[index];
  if (rise < 0) rise = 0;
  rise = (rise * within + (1 << (CALIBRATION_STEP_SHIFT - 1))) >> CALIBRATION_STEP_SHIFT;
  return saturate_s32((__s64)knots_q16[index] + rise);
}

#ifdef __cplusplus
} /* namespace petrel::bpf */
#endif

#endif /* PETREL_BPF_FIXED_POINT_H */
