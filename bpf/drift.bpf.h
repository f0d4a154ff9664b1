/* SPDX-License-Identifier: MIT */
/* What older kernels' verifiers need to be told, in one place. */
#ifndef PETREL_BPF_DRIFT_BPF_H
#define PETREL_BPF_DRIFT_BPF_H

/* A number that clang knows nothing more of. What it knows (a bound, a sum) it checks where the verifier
 * of 6.1 does not follow: in another register, before an addition, or not at all. */
static __always_inline __u64 seen_anew(__u64 value) {
  barrier_var(value);
  return value;
}

/* What lies at `what` is to be read anew, not kept in registers and on the stack besides. */
static __always_inline void forget(const void *what) {
  asm volatile("" : : "r"(what) : "memory");
}

#endif
