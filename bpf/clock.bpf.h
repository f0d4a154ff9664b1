/* SPDX-License-Identifier: MIT */
/* The time. Tests set it, so that seconds pass at once and the same way on each machine. */
#ifndef PETREL_BPF_CLOCK_BPF_H
#define PETREL_BPF_CLOCK_BPF_H

#include "bpf/types.h"

/* Set between open and load, by tests alone: the time is what `set_now_ns` says. */
const volatile bool clock_is_set = false;
volatile __u64 set_now_ns = 0;

static __always_inline __u64 clock_ns(void) {
  return clock_is_set ? set_now_ns : bpf_ktime_get_ns();
}

/* Milliseconds, as TCP timestamps are: 2^16 ns are 0.065536 ms, here to 1 in 10^7 without a division. */
static __always_inline __u32 clock_ms(__u64 now_ns) {
  return (__u32)((now_ns >> 16) * 4398047 >> 26);
}

/* Units of 1.024 us modulo 2^32, for what need not be exact. */
static __always_inline __u32 clock_ticks(__u64 now_ns) {
  return (__u32)(now_ns >> 10);
}

#define TICKS_PER_MS 977

#endif /* PETREL_BPF_CLOCK_BPF_H */
