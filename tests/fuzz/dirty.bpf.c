/* SPDX-License-Identifier: MIT */
/* Before the balancer: fills with a pattern what it may use but must not send.
 *
 * That is the packet's headroom (into which it grows), the room behind the packet, and the kernel
 * stack that its frames will lie on: the kernel gives zeros for the first two, which would hide
 * that a byte was never written. Then the balancer is called, as a tail call, with the same packet.
 */
#include "vmlinux.h"

#include <bpf/bpf_helpers.h>

#define HEAD_BYTES 128
#define TAIL_BYTES 64
#define STACK_WORDS 50

const volatile __u64 pattern = 0;

/* next: the balancer.  Key: 0.  Writer: the fuzzer. */
struct {
  __uint(type, BPF_MAP_TYPE_PROG_ARRAY);
  __uint(max_entries, 1);
  __uint(key_size, sizeof(__u32));
  __uint(value_size, sizeof(__u32));
} next SEC(".maps");

static __noinline int fill_stack(__u64 with) {
  volatile __u64 words[STACK_WORDS];

#pragma unroll
  for (int i = 0; i < STACK_WORDS; i++) words[i] = with;
  return words[0] == 0;
}

static __always_inline void fill_head(struct xdp_md *ctx) {
  if (bpf_xdp_adjust_head(ctx, -HEAD_BYTES)) return;
  __u64 *word = (void *)(long)ctx->data;
  if ((void *)word + HEAD_BYTES <= (void *)(long)ctx->data_end) {
#pragma unroll
    for (int i = 0; i < HEAD_BYTES / 8; i++) word[i] = pattern;
  }
  bpf_xdp_adjust_head(ctx, HEAD_BYTES);
}

static __always_inline void fill_tail(struct xdp_md *ctx) {
  if (bpf_xdp_adjust_tail(ctx, TAIL_BYTES)) return;
  void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
  __u64 offset = data_end - data - TAIL_BYTES;
  if (offset <= 4096) {
    barrier_var(offset); /* clang would check one pointer and write through another */
    __u64 *word = data + offset;
    barrier_var(word);
    if ((void *)word + TAIL_BYTES <= data_end) {
#pragma unroll
      for (int i = 0; i < TAIL_BYTES / 8; i++) word[i] = pattern;
    }
  }
  bpf_xdp_adjust_tail(ctx, -TAIL_BYTES);
}

SEC("xdp")
int petrel_dirty(struct xdp_md *ctx) {
  fill_head(ctx);
  fill_tail(ctx);
  fill_stack(pattern);
  bpf_tail_call(ctx, &next, 0);
  return XDP_ABORTED; /* the call failed: a finding, if only about the fuzzer */
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
