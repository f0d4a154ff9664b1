/* SPDX-License-Identifier: MIT */
/* The driver of the packet benchmark: makes each iteration of BPF_PROG_TEST_RUN a fresh packet.
 *
 * The kernel hands the same buffer to every iteration, so a program that rewrites packets would see
 * its own output from the second one on. The driver restores the packet, gives it the source of
 * the stream's next flow, and tail-calls the program under test. What the driver costs is measured
 * with `bench_empty` as the program under test, and subtracted.
 */
#include "vmlinux.h"

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "bpf/features.h"
#include "bpf/model.h"
#include "tests/bench/bench.h"

/* Where things lie in an IPv4 packet without IP options. */
#define SOURCE_OFFSET 26
#define PORTS_OFFSET 34
#define SEQ_OFFSET 38

struct bench_stream stream;

/* What is scored, written by userspace. */
struct scoring_model scored_by;
struct backend_view scored_backend;
struct service_view scored_service;
struct observation scored;
__s32 scored_features_q16[MODEL_MAX_FEATURES];
__s32 made_features_q16[MODEL_MAX_FEATURES];
__s32 log_odds_q16;
__u32 score_q16;

/* targets: the programs to be measured.
 * Key: bench_stream.target.  Value: program.  Writer: userspace.  Reader: bench_driver. */
struct {
  __uint(type, BPF_MAP_TYPE_PROG_ARRAY);
  __uint(max_entries, BENCH_TARGETS);
  __type(key, __u32);
  __type(value, __u32);
} targets SEC(".maps");

struct flow_key {
  __be32 source_be;
  __be32 destination_be;
  __u32 ports_be;
  __u32 protocol;
};

struct flow_value {
  __u64 words[4];
};

/* reference_flows: what any balancer that tracks flows must look up at least.
 * Key: 5-tuple.  Value: of no meaning.  Writer: userspace.  Reader: bench_lru. */
struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 131072);
  __type(key, struct flow_key);
  __type(value, struct flow_value);
} reference_flows SEC(".maps");

static __always_inline __u32 pick_flow(void) {
  if (stream.order == BENCH_IN_TURN) {
    __u32 flow = stream.next_flow;
    stream.next_flow = flow + 1 < stream.flows ? flow + 1 : 0;
    return flow;
  }
  __u32 random = stream.random;
  random ^= random << 13;
  random ^= random >> 17;
  random ^= random << 5;
  stream.random = random;
  return (__u32)(((__u64)random * stream.flows) >> 32);
}

/* Copies the headers so that no field lies across two stores: a load that does would wait for both
 * to reach the cache, which a packet that came from a network card never makes anybody do. IPv4
 * addresses and TCP words begin 2 bytes past a multiple of 4, hence the 6 bytes first. */
static __always_inline void restore_headers(void *data) {
  *(volatile __u32 *)data = *(__u32 *)stream.header;
  *(volatile __u16 *)(data + 4) = *(__u16 *)(stream.header + 4);
#pragma unroll
  for (int i = 6; i + 8 <= BENCH_HEADER_BYTES; i += 8)
    *(volatile __u64 *)(data + i) = *(__u64 *)(stream.header + i);
  *(volatile __u32 *)(data + BENCH_HEADER_BYTES - 4) =
      *(__u32 *)(stream.header + BENCH_HEADER_BYTES - 4);
}

SEC("xdp")
int bench_driver(struct xdp_md *ctx) {
  /* In 64 bits throughout: the verifier refuses to subtract halves of packet pointers. */
  __s64 excess = (void *)(long)ctx->data_end - (void *)(long)ctx->data - stream.packet_bytes;

  if (excess) {
    if (stream.restore_head ? bpf_xdp_adjust_head(ctx, (int)excess)
                            : bpf_xdp_adjust_tail(ctx, (int)-excess))
      return XDP_ABORTED;
  }
  void *data = (void *)(long)ctx->data;
  if (data + BENCH_HEADER_BYTES > (void *)(long)ctx->data_end) return XDP_ABORTED;
  restore_headers(data);
  if (stream.order != BENCH_FIXED) {
    __u32 flow = pick_flow();
    *(volatile __u32 *)(data + SOURCE_OFFSET) = bpf_htonl(bench_flow_address(flow));
    /* Both ports in one store, for who loads them as one word. */
    __u32 ports = *(__u32 *)(stream.header + PORTS_OFFSET) & bpf_htonl(0xffff);
    *(volatile __u32 *)(data + PORTS_OFFSET) = ports | bpf_htons(bench_flow_port(flow));
  }
  *(volatile __u32 *)(data + SEQ_OFFSET) =
      bpf_htonl(stream.seq + stream.packets * stream.seq_step);
  stream.packets++;
  bpf_tail_call(ctx, &targets, stream.target);
  return XDP_ABORTED;
}

SEC("xdp")
int bench_empty(struct xdp_md *ctx) {
  return XDP_PASS;
}

/* Changes the length as the program under test does, so that the driver has to restore it. */
SEC("xdp")
int bench_grow_head(struct xdp_md *ctx) {
  return bpf_xdp_adjust_head(ctx, -20) ? XDP_ABORTED : XDP_PASS;
}

SEC("xdp")
int bench_cut_tail(struct xdp_md *ctx) {
  return bpf_xdp_adjust_tail(ctx, -20) ? XDP_ABORTED : XDP_PASS;
}

/* Parses to the 5-tuple and looks it up. */
SEC("xdp")
int bench_lru(struct xdp_md *ctx) {
  struct ethhdr *eth = (void *)(long)ctx->data;
  void *data_end = (void *)(long)ctx->data_end;
  struct iphdr *ip = (void *)(eth + 1);
  struct tcphdr *tcp = (void *)(ip + 1);

  if ((void *)(tcp + 1) > data_end || eth->h_proto != bpf_htons(0x0800)) return XDP_PASS;
  if (ip->ihl != 5 || ip->protocol != 6) return XDP_PASS;
  struct flow_key key = {.source_be = ip->saddr,
                         .destination_be = ip->daddr,
                         .ports_be = *(__u32 *)tcp,
                         .protocol = ip->protocol};
  return bpf_map_lookup_elem(&reference_flows, &key) ? XDP_TX : XDP_DROP;
}

/* As score_event() of the balancer has it: one function of its own, sums kept in a map. */
static __always_inline int score_of(const __s32 *features_q16) {
  barrier();
  log_odds_q16 = scoring_log_odds_q16(&scored_by, features_q16, FEATURES);
  barrier();
  score_q16 = calibrated_probability_q16(&scored_by, log_odds_q16);
  return 0;
}

__noinline int score_alone(void) {
  return score_of(scored_features_q16);
}

__noinline int score_with_features(void) {
  compute_features(&scored_service, &scored_backend, &scored, made_features_q16);
  return score_of(made_features_q16);
}

/* The score of a feature vector, the call included. */
SEC("xdp")
int bench_score(struct xdp_md *ctx) {
  score_alone();
  return XDP_PASS;
}

/* The same with the features of an observation. */
SEC("xdp")
int bench_features(struct xdp_md *ctx) {
  score_with_features();
  return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
