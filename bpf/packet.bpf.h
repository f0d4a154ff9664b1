/* SPDX-License-Identifier: MIT */
/* From an Ethernet frame to a TCP segment of either family, and back by rewriting in place.
 *
 * parse_packet() reads Ethernet, IPv4 (with options) or IPv6 (no extension headers), and TCP, each
 * bounded by data_end and by the lengths the headers claim. It changes nothing: what cannot be
 * parsed can be passed on untouched.
 */
#ifndef PETREL_BPF_PACKET_BPF_H
#define PETREL_BPF_PACKET_BPF_H

#include "bpf/types.h"

#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86DD
#define IPPROTO_TCP_ 6
#define IP_FRAGMENT_MASK 0x3fff /* more-fragments flag and offset, in host order */

enum parse_result {
  PARSE_TCP = 0,       /* a whole TCP header */
  PARSE_OTHER = 1,     /* not TCP over IP: not ours */
  PARSE_FRAGMENT = 2,  /* a fragment of an IPv4 TCP datagram */
  PARSE_MALFORMED = 3, /* claims to be TCP, but lengths do not fit */
};

struct packet {
  void *data_end;
  struct ethhdr *eth;
  bool is_v6; /* a flag, not a NULL: the verifier follows constants, not nullness, of packet pointers */
  union {
    void *l3;
    struct iphdr *v4;
    struct ipv6hdr *v6;
  };
  struct tcphdr *tcp;
  __u32 payload_bytes; /* TCP payload */
  struct address source;
  struct address destination;
};

static __always_inline void address_from_v4(struct address *address, __be32 v4) {
  address->words_be[0] = 0;
  address->words_be[1] = 0;
  address->words_be[2] = bpf_htonl(0xffff);
  address->words_be[3] = v4;
}

static __always_inline int parse_tcp(struct packet *packet, void *l4, __u32 l4_bytes) {
  /* Keeps clang from computing the pointer anew after the check: the verifier would not know it. */
  barrier_var(l4);
  struct tcphdr *tcp = l4;

  if ((void *)(tcp + 1) > packet->data_end || l4_bytes < sizeof(*tcp)) return PARSE_MALFORMED;
  __u32 header_bytes = tcp->doff * 4;
  if (header_bytes < sizeof(*tcp) || header_bytes > l4_bytes) return PARSE_MALFORMED;
  packet->tcp = tcp;
  packet->payload_bytes = l4_bytes - header_bytes;
  return PARSE_TCP;
}

static __always_inline int parse_v4(struct packet *packet, void *l3) {
  struct iphdr *ip = l3;

  if ((void *)(ip + 1) > packet->data_end) return PARSE_OTHER;
  if (ip->protocol != IPPROTO_TCP_) return PARSE_OTHER;
  __u32 header_bytes = ip->ihl * 4;
  __u32 total_bytes = bpf_ntohs(ip->tot_len);
  if (ip->version != 4 || header_bytes < sizeof(*ip) || total_bytes < header_bytes)
    return PARSE_MALFORMED;
  if (bpf_ntohs(ip->frag_off) & IP_FRAGMENT_MASK) return PARSE_FRAGMENT;
  if (l3 + total_bytes > packet->data_end) return PARSE_MALFORMED;
  packet->v4 = ip;
  packet->is_v6 = false;
  address_from_v4(&packet->source, ip->saddr);
  address_from_v4(&packet->destination, ip->daddr);
  return parse_tcp(packet, l3 + header_bytes, total_bytes - header_bytes);
}

static __always_inline int parse_v6(struct packet *packet, void *l3) {
  struct ipv6hdr *ip = l3;

  if ((void *)(ip + 1) > packet->data_end) return PARSE_OTHER;
  if (ip->nexthdr != IPPROTO_TCP_) return PARSE_OTHER;
  __u32 l4_bytes = bpf_ntohs(ip->payload_len);
  if (ip->version != 6 || (void *)(ip + 1) + l4_bytes > packet->data_end) return PARSE_MALFORMED;
  packet->v6 = ip;
  packet->is_v6 = true;
  __builtin_memcpy(&packet->source, &ip->saddr, sizeof(packet->source));
  __builtin_memcpy(&packet->destination, &ip->daddr, sizeof(packet->destination));
  return parse_tcp(packet, ip + 1, l4_bytes);
}

static __always_inline int parse_packet(struct xdp_md *ctx, struct packet *packet) {
  packet->data_end = (void *)(long)ctx->data_end;
  packet->eth = (void *)(long)ctx->data;
  if ((void *)(packet->eth + 1) > packet->data_end) return PARSE_OTHER;
  if (packet->eth->h_proto == bpf_htons(ETH_P_IP)) return parse_v4(packet, packet->eth + 1);
  if (packet->eth->h_proto == bpf_htons(ETH_P_IPV6)) return parse_v6(packet, packet->eth + 1);
  return PARSE_OTHER;
}

/* The time to live, or hop limit, with which the packet came. */
static __always_inline __u8 packet_ttl(const struct packet *packet) {
  return packet->is_v6 ? packet->v6->hop_limit : packet->v4->ttl;
}

/* --- checksums (RFC 1624: HC' = ~(~HC + ~m + m')) ------------------------------------------ */

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

static __always_inline __sum16 checksum_adjust(__sum16 check, __u64 delta) {
  __u64 sum = (__u16)~check + delta;

  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  return (__sum16)~sum;
}

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

/* Replaces the destination (to a backend). */
static __always_inline void rewrite_destination(struct packet *packet, const struct address *to,
                                                __be16 port_be) {
  __u64 delta = address_delta(&packet->destination, to);

  if (!packet->is_v6) {
    packet->v4->daddr = to->words_be[3];
    packet->v4->check = checksum_adjust(packet->v4->check, delta);
  } else {
    __builtin_memcpy(&packet->v6->daddr, to, sizeof(*to));
  }
  delta += word_delta(packet->tcp->dest, port_be);
  packet->tcp->check = checksum_adjust(packet->tcp->check, delta);
  packet->tcp->dest = port_be;
}

/* Replaces the source (of a reply, by the VIP). */
static __always_inline void rewrite_source(struct packet *packet, const struct address *to,
                                           __be16 port_be) {
  __u64 delta = address_delta(&packet->source, to);

  if (!packet->is_v6) {
    packet->v4->saddr = to->words_be[3];
    packet->v4->check = checksum_adjust(packet->v4->check, delta);
  } else {
    __builtin_memcpy(&packet->v6->saddr, to, sizeof(*to));
  }
  delta += word_delta(packet->tcp->source, port_be);
  packet->tcp->check = checksum_adjust(packet->tcp->check, delta);
  packet->tcp->source = port_be;
}

#endif /* PETREL_BPF_PACKET_BPF_H */
