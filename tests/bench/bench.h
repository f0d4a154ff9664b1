/* SPDX-License-Identifier: MIT */
/* What the benchmark's driver program and its userspace share: the stream of packets to make.
 *
 * Plain C for both sides. Addresses and ports in host order, as numbers to count with.
 */
#ifndef PETREL_TESTS_BENCH_BENCH_H
#define PETREL_TESTS_BENCH_BENCH_H

#ifndef __VMLINUX_H__
#include <linux/types.h>
#endif

/* No namespace: the skeleton names struct bench_stream as C does. */
#ifdef __cplusplus
#define BENCH_INLINE inline
#else
#define BENCH_INLINE static __always_inline
#endif

/* How much of each packet is restored: Ethernet, IPv4 and a TCP header with 20 bytes of options.
 * Packets are at least so long. */
#define BENCH_HEADER_BYTES 74
#define BENCH_FLOWS_MAX (1U << 24)
#define BENCH_TARGETS 32

enum bench_order {
  BENCH_FIXED = 0,   /* always the packet as it is */
  BENCH_IN_TURN = 1, /* flow 0 to flows - 1, and again */
  BENCH_RANDOM = 2,  /* any of them, pseudo-random */
};

/* One stream: written by userspace before a run, its cursor read after it. */
struct bench_stream {
  __u32 target;        /* index in `targets` of the program under test */
  __u32 order;         /* enum bench_order */
  __u32 flows;         /* 1 to BENCH_FLOWS_MAX */
  __u32 packet_bytes;  /* length of the packet before the program under test changes it */
  __u32 restore_head;  /* 1: the program changes the length at the packet's head, 0: at its tail */
  __u32 seq;           /* TCP sequence number of packet 0 */
  __u32 seq_step;      /* added for each packet */
  __u32 packets;       /* cursor: packets so far */
  __u32 next_flow;     /* cursor of BENCH_IN_TURN */
  __u32 random;        /* cursor of BENCH_RANDOM: state of xorshift32, never 0 */
  __u8 header[BENCH_HEADER_BYTES];
  __u8 padding[6];
};

/* The source of flow n: each flow has an address of 10.0.0.0/8 to itself, in no order that a hash
 * could profit from. Odd factors and shifts permute the 24-bit numbers. */
BENCH_INLINE __u32 bench_flow_address(__u32 flow) {
  flow = (flow * 0x9e3779b1U) & 0xffffff;
  flow ^= flow >> 12;
  flow = (flow * 0x85ebca6bU) & 0xffffff;
  return 10U << 24 | flow;
}

BENCH_INLINE __u16 bench_flow_port(__u32 flow) {
  return (__u16)(1024 + ((flow * 2654435761U) >> 17));
}

#endif /* PETREL_TESTS_BENCH_BENCH_H */
