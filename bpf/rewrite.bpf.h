/* SPDX-License-Identifier: MIT */
/* Rewriting addresses and ports in place, with every checksum kept right (RFC 1624). */
#ifndef PETREL_BPF_REWRITE_BPF_H
#define PETREL_BPF_REWRITE_BPF_H

#include "bpf/packet.bpf.h"

/* Frames that go back where they came from leave by XDP_TX, or by a redirect to the same interface:
 * veth hands over what is sent by XDP_TX only if its far end has an XDP program too (veth_xdp_flush(),
 * drivers/net/veth.c; seen on 6.18). Set by the loader, by driver. */
const volatile bool back_by_redirect = false;

static __always_inline int send_back(struct xdp_md *ctx) {
  __u32 ifindex = ctx->ingress_ifindex;
  barrier_var(ifindex); /* clang would choose between pointers to it and to another's */

  return back_by_redirect ? (int)bpf_redirect(ifindex, 0) : XDP_TX;
}

/* --- ones' complement sums: HC' = ~(~HC + ~m + m') ----------------------------------------- */

/* What replacing `from` by `to` adds to a ones' complement sum; at most 8 words of 32 bits. */
static __always_inline __u64 address_delta(const struct address *from, const struct address *to) {
  __u64 delta = 0;

#pragma unroll
  for (int i = 0; i < 4; i++) delta += (__u64)(__u32)~from->words_be[i] + to->words_be[i];
  return delta;
}

static __always_inline __u64 word_delta(__u16 from, __u16 to) {
  return (__u64)(__u16)~from + to;
}

static __always_inline __u16 checksum_fold(__u64 sum) {
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  return (__u16)sum;
}

static __always_inline __sum16 checksum_adjust(__sum16 check, __u64 delta) {
  return (__sum16)~checksum_fold((__u16)~check + delta);
}

/* --- whole packets ------------------------------------------------------------------------- */

static __always_inline void age_ttl(struct packet *packet) {
  if (packet->is_v6) {
    packet->v6->hop_limit--;
    return;
  }
  struct iphdr *ip = packet->v4;
  __u16 before = *(__u16 *)&ip->ttl; /* TTL and protocol share a 16-bit word */
  ip->ttl--;
  ip->check = checksum_adjust(ip->check, word_delta(before, *(__u16 *)&ip->ttl));
}

/* The transport's checksum covers the addresses too. UDP over IPv4 may have none (0), and sends the
 * sum 0 as its other form (RFC 768). */
static __always_inline void adjust_transport(struct packet *packet, __u64 delta) {
  if (packet->is_tcp) {
    packet->tcp->check = checksum_adjust(packet->tcp->check, delta);
    return;
  }
  if (packet->udp->check == 0) return;
  __sum16 check = checksum_adjust(packet->udp->check, delta);
  packet->udp->check = check ? check : 0xffff;
}

static __always_inline __u64 rewrite_ip(struct packet *packet, const struct address *from,
                                        const struct address *to, bool destination) {
  __u64 delta = address_delta(from, to);

  if (!packet->is_v6) {
    if (destination)
      packet->v4->daddr = to->words_be[3];
    else
      packet->v4->saddr = to->words_be[3];
    packet->v4->check = checksum_adjust(packet->v4->check, delta);
  } else if (destination) {
    __builtin_memcpy(&packet->v6->daddr, to, sizeof(*to));
  } else {
    __builtin_memcpy(&packet->v6->saddr, to, sizeof(*to));
  }
  return delta;
}

/* Replaces the destination (to a backend). */
static __always_inline void rewrite_destination(struct packet *packet, const struct address *to,
                                                __be16 port_be) {
  __u64 delta = rewrite_ip(packet, &packet->destination, to, true);

  delta += word_delta(packet->destination_port_be, port_be);
  adjust_transport(packet, delta);
  if (packet->is_tcp)
    packet->tcp->dest = port_be;
  else
    packet->udp->dest = port_be;
}

/* Replaces the source (of a reply, by the VIP). */
static __always_inline void rewrite_source(struct packet *packet, const struct address *to,
                                           __be16 port_be) {
  __u64 delta = rewrite_ip(packet, &packet->source, to, false);

  delta += word_delta(packet->source_port_be, port_be);
  adjust_transport(packet, delta);
  if (packet->is_tcp)
    packet->tcp->source = port_be;
  else
    packet->udp->source = port_be;
}

/* A segment with FIN becomes one with RST, at the same place in the sequence: where its receiver has all
 * that came before, it takes it (RFC 5961, 3.2). */
static __always_inline void make_reset(struct packet *packet) {
  __u16 *flags = (__u16 *)packet->tcp + 6; /* data offset and flags are one word of the sum */
  __u16 before = *flags;

  packet->tcp->fin = 0;
  packet->tcp->psh = 0;
  packet->tcp->rst = 1;
  packet->tcp->check = checksum_adjust(packet->tcp->check, word_delta(before, *flags));
}

#endif /* PETREL_BPF_REWRITE_BPF_H */
