/* SPDX-License-Identifier: MIT */
/* What older kernels' verifiers need to be told, in one place. */
#ifndef PETREL_BPF_DRIFT_BPF_H
#define PETREL_BPF_DRIFT_BPF_H

/* Each program is compiled twice: as it is, and with PETREL_BPF_OLD for kernels before 5.12. Those have
 * no atomic operation that answers: what stands in for one is exact as long as one CPU at a time has
 * the connection, and else may count its end twice. And their global functions, which are verified
 * once by themselves, take numbers and the context, but no pointers. */
#ifdef PETREL_BPF_OLD
#define fetch_or(field, bits) \
  ({ __auto_type before_ = *(field); *(field) = before_ | (bits); before_; })
#define fetch_and(field, bits) \
  ({ __auto_type before_ = *(field); *(field) = before_ & (bits); before_; })
#define compare_and_swap(field, from, to)   \
  ({                                        \
    __auto_type before_ = *(field);         \
    if (before_ == (from)) *(field) = (to); \
    before_;                                \
  })
#else
#define fetch_or(field, bits) __sync_fetch_and_or(field, bits)
#define fetch_and(field, bits) __sync_fetch_and_and(field, bits)
#define compare_and_swap(field, from, to) __sync_val_compare_and_swap(field, from, to)
#endif

/* GLOBAL: a function to be verified once. APART: the same, of such weight that a program for old
 * kernels, if it says ARGUMENTS_BY_MAP, has it behind a global function <name>_here, which finds its
 * arguments in a map (ROOM_FOR), and is called by way of <name>_apart. FRAME_SAVED: those have no room
 * on the stack for its frame. */
#ifndef PETREL_BPF_OLD
#define GLOBAL __noinline
#define APART __noinline
#define FRAME_SAVED __noinline
#elif defined(ARGUMENTS_BY_MAP)
#define GLOBAL static __noinline
#define APART static __always_inline
#define FRAME_SAVED __always_inline
#else
#define GLOBAL static __noinline
#define APART static __noinline
#define FRAME_SAVED __noinline
#endif

#ifdef ARGUMENTS_BY_MAP
/* room_<...>: what a global function is given, or gives back. One for each, as none calls itself.
 * Key: 0.  Value: its argument.  Writer and reader: balancer of old kernels.  Size: 1, for each CPU. */
#define ROOM_FOR(what, name)                 \
  struct {                                   \
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); \
    __uint(max_entries, 1);                  \
    __type(key, __u32);                      \
    __type(value, what);                     \
  } name SEC(".maps")
#define room_of(name) ({ __u32 zero_ = 0; bpf_map_lookup_elem(&(name), &zero_); })
#endif

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
