/* SPDX-License-Identifier: MIT */
/* The tap: packets as they came and as they left, with what was decided, for `petrel tap`.
 *
 * `tap_on` is rodata: in the program that normally runs the verifier removes all of this, and the
 * agent puts a second copy of the program in place for as long as somebody listens.
 */
#ifndef PETREL_BPF_TAP_BPF_H
#define PETREL_BPF_TAP_BPF_H

#include "bpf/clock.bpf.h"
#include "bpf/maps.bpf.h"
#include "bpf/packet.bpf.h"

#define TAP_BYTES 2048 /* the most that is copied of a packet */

const volatile bool tap_on = false;

/* Old kernels count the stack of code, too, that is never reached. */
static __always_inline bool is_tapping(void) {
#ifdef PETREL_BPF_OLD
  return false;
#else
  return tap_on;
#endif
}

/* tap_state: what is known of the packet at hand, until it leaves.
 * Key: 0.  Value: struct tap_header.  Writer and reader: balancer, when tapping.  Size: 1 a CPU. */
struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct tap_header);
} tap_state SEC(".maps");

static __always_inline struct tap_header *tap_at_hand(void) {
  __u32 zero = 0;

  return bpf_map_lookup_elem(&tap_state, &zero);
}

/* From count_verdict(): the packet's verdict, or a note on it. */
static __noinline int tap_note(__u32 service_id, __u32 verdict) {
  struct tap_header *at_hand = tap_at_hand();

  if (!at_hand) return 0;
  if (service_id) at_hand->service_id = service_id;
  if (verdict < FIRST_NOTE) {
    at_hand->verdict = verdict;
  } else {
    __u32 bit = verdict - FIRST_NOTE;
    if (bit < 32) at_hand->notes |= 1U << bit;
  }
  return 0;
}

static __always_inline void tap_backend(__u32 backend_id) {
  struct tap_header *at_hand = is_tapping() ? tap_at_hand() : NULL;

  if (at_hand) at_hand->backend_id = backend_id;
}

/* The interface that it leaves by, where that is another than it came in by. */
static __always_inline void tap_leaves_by(__u32 ifindex) {
  struct tap_header *at_hand = is_tapping() ? tap_at_hand() : NULL;

  if (at_hand) at_hand->ifindex = ifindex;
}

static __always_inline bool is_within(const struct address *address, const struct tap_wish *filter) {
  __u32 bits = filter->client_prefix_bits;

  for (int i = 0; i < 4; i++) {
    if (!bits) return true;
    __u32 mask = bits >= 32 ? 0xffffffff : bpf_htonl(~(0xffffffffU >> bits));
    if ((address->words_be[i] ^ filter->client.words_be[i]) & mask) return false;
    bits = bits >= 32 ? bits - 32 : 0;
  }
  return true;
}

static __noinline bool tap_wants(struct xdp_md *ctx) {
  __u32 zero = 0;
  struct tap_wish *filter = bpf_map_lookup_elem(&tap_filter, &zero);
  struct packet packet;

  if (!filter) return false;
  if (filter->sample > 1 && bpf_get_prandom_u32() % filter->sample) return false;
  if (!filter->client_prefix_bits) return true;
  return parse_again(ctx, &packet) == PARSE_GOOD &&
         (is_within(&packet.source, filter) || is_within(&packet.destination, filter));
}

static __noinline int tap_emit(struct xdp_md *ctx, struct tap_header *at_hand) {
  void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
  __u64 bytes = data_end - data;
  barrier_var(bytes);

  at_hand->time_ns = clock_ns();
  at_hand->packet_bytes = frame_bytes(ctx, (__u32)bytes);
  if (bytes > TAP_BYTES) bytes = TAP_BYTES;
  bpf_perf_event_output(ctx, &taps, BPF_F_CURRENT_CPU | bytes << 32, at_hand, sizeof(*at_hand));
  return 0;
}

/* As it came. A sequence of 0 in what is left at hand says that the packet is not wanted. */
static __noinline int tap_arrival(struct xdp_md *ctx) {
  struct tap_header *at_hand = tap_at_hand();

  if (!at_hand) return 0;
  __u32 sequence = at_hand->sequence;
  bool wanted = tap_wants(ctx);
  __builtin_memset(at_hand, 0, sizeof(*at_hand));
  at_hand->sequence = sequence + wanted;
  at_hand->wanted = wanted;
  at_hand->ifindex = ctx->ingress_ifindex;
  at_hand->verdict = VERDICTS;
  if (wanted) tap_emit(ctx, at_hand);
  return 0;
}

static __noinline int tap_departure(struct xdp_md *ctx, int action) {
  struct tap_header *at_hand = tap_at_hand();

  if (!at_hand || !at_hand->wanted) return 0;
  at_hand->leaving = 1;
  at_hand->action = action;
  return tap_emit(ctx, at_hand);
}

#endif /* PETREL_BPF_TAP_BPF_H */
