/* SPDX-License-Identifier: MIT */
/* Which host it is, behind an address that many may share.
 *
 * By its TCP timestamps: Linux draws one offset for each pair of addresses and counts milliseconds, so
 * that TSval less our own clock stays where it is for a host, and is somewhere in 2^32 for another.
 * Where clocks run slower (250, 100, 10 Hz) it moves by what that rate explains. By its source
 * ports: Linux takes ports for one destination upwards, 2 to 16 at a time (RFC 6056, algorithm 3),
 * and NAT keeps them where it can. Stacks that draw either anew for each connection are never told
 * by it; whether those of an address are, its entry in `clients` learns.
 */
#ifndef PETREL_BPF_IDENTITY_BPF_H
#define PETREL_BPF_IDENTITY_BPF_H

#include "bpf/clock.bpf.h"
#include "bpf/packet.bpf.h"

#define CLOCK_TOLERANCE_MS 32 /* jitter of two SYNs' ways, granularity of 10 ms, twice */
#define CLOCK_DRIFT_SHIFT 12  /* and 1 in 4096 of the time between: four times what NTP allows */
#define CLOCK_BUCKET_SHIFT 6  /* identities are kept by offset in buckets of 64 ms */
#define PORT_BUCKET_SHIFT 4   /* or by port in buckets of 16 */
#define NEXT_PORTS 16         /* the farthest that a Linux host's next port lies */
#define NEAR_PORTS 64         /* a few connections on */
#define IDENTITIES_BESIDE (NEAR_PORTS >> PORT_BUCKET_SHIFT)
#define EPHEMERAL_PORTS 28232 /* 32768 to 60999: net.ipv4.ip_local_port_range by default */

/* NOP NOP timestamps, or SACK-permitted timestamps: the word before TSval in a SYN's options. Stacks
 * align it so. */
#define NOP_TIMESTAMPS 0x0101080a
#define SACK_TIMESTAMPS 0x0402080a

/* What tells the host of a SYN, or of a connection. */
struct identity {
  __u32 ts_offset_ms;
  __u32 has_clock; /* ts_offset_ms is known */
};

static __always_inline bool is_timestamps(__be32 word) {
  return word == bpf_htonl(SACK_TIMESTAMPS) || word == bpf_htonl(NOP_TIMESTAMPS);
}

/* After the MSS: Linux; after a window scale too: BSD and macOS. Others go without. */
static __always_inline void identify_syn(const struct packet *packet, __u64 now_ns,
                                         struct identity *out) {
  const __be32 *options = (const void *)(packet->tcp + 1);
  __u32 bytes = packet->tcp->doff * 4 - sizeof(struct tcphdr);

  out->has_clock = 0;
  out->ts_offset_ms = 0;
  if (bytes < 16 || (const void *)(options + 4) > packet->data_end) return;
  __be32 value;
  if (is_timestamps(options[1]))
    value = options[2];
  else if (is_timestamps(options[2]))
    value = options[3];
  else
    return;
  out->has_clock = 1;
  out->ts_offset_ms = bpf_ntohl(value) - clock_ms(now_ns);
}

/* The same of a half-open flow, by the options that are kept of its SYN. */
static __always_inline void identify_flow(const struct half_open *flow, struct identity *out) {
  const __be32 *options = (const __be32 *)flow->options;

  out->has_clock = 0;
  out->ts_offset_ms = 0;
  if (flow->options_bytes == SYN_NOT_KEPT || flow->options_bytes < 16) return;
  __be32 value;
  if (is_timestamps(options[1]))
    value = options[2];
  else if (is_timestamps(options[2]))
    value = options[3];
  else
    return;
  out->has_clock = 1;
  out->ts_offset_ms = bpf_ntohl(value) - clock_ms(flow->syn_ns);
}

static __always_inline void identify_connection(const struct connection *connection,
                                                struct identity *out) {
  out->has_clock = connection->flags & CONNECTION_TIMESTAMPS;
  out->ts_offset_ms = connection->ts_offset_ms;
}

static __always_inline __u32 distance(__s32 difference) {
  return difference < 0 ? -difference : difference;
}

/* Whether two offsets, taken `elapsed_ms` apart, may be one clock's. */
static __always_inline bool same_clock(__u32 earlier, __u32 later, __u32 elapsed_ms) {
  __u32 tolerance = CLOCK_TOLERANCE_MS + (elapsed_ms >> CLOCK_DRIFT_SHIFT);
  __s32 moved = (__s32)(later - earlier);

  if (distance(moved) <= tolerance) return true;
  /* A clock of 250, 100 or 10 Hz falls behind milliseconds by 750, 900 or 990 a second. */
  if (elapsed_ms > 1U << 22) return false;
  return distance(moved + (__s32)(elapsed_ms - elapsed_ms / 4)) <= tolerance ||
         distance(moved + (__s32)(elapsed_ms - elapsed_ms / 10)) <= tolerance ||
         distance(moved + (__s32)(elapsed_ms - elapsed_ms / 100)) <= tolerance;
}

/* How far on from `earlier` the port `later` is; negative: back. Beyond the end of Linux's range ports
 * begin again. */
static __always_inline __s32 ports_on(__be16 earlier, __be16 later) {
  __s32 on = (__s32)bpf_ntohs(later) - (__s32)bpf_ntohs(earlier);

  return on < NEAR_PORTS - EPHEMERAL_PORTS ? on + EPHEMERAL_PORTS : on;
}

/* client_key.identity of a clock: never 0. */
static __always_inline __u16 clock_identity(__u32 bucket) {
  return 0x8000 | (bucket & 0x7fff);
}

static __always_inline __u16 port_identity(__u32 bucket) {
  return 1 + bucket;
}

/* Under which a host's failures are kept beside those of its address. */
static __always_inline __u16 identity_of(bool by_clock, __u32 ts_offset_ms, __be16 port_be) {
  return by_clock ? clock_identity(ts_offset_ms >> CLOCK_BUCKET_SHIFT)
                  : port_identity(bpf_ntohs(port_be) >> PORT_BUCKET_SHIFT);
}

/* The others that it may be under, n from 1 to IDENTITIES_BESIDE: the clock's nearer neighbour, or the
 * ports before; 0: no more. */
static __always_inline __u16 identity_beside(bool by_clock, __u32 ts_offset_ms, __be16 port_be,
                                             __u32 n) {
  if (!by_clock) return port_identity((bpf_ntohs(port_be) >> PORT_BUCKET_SHIFT) - n);
  if (n > 1) return 0;
  __u32 half = 1U << (CLOCK_BUCKET_SHIFT - 1);
  return clock_identity((ts_offset_ms & half ? ts_offset_ms + half : ts_offset_ms - half) >>
                        CLOCK_BUCKET_SHIFT);
}

#endif /* PETREL_BPF_IDENTITY_BPF_H */
