/* SPDX-License-Identifier: MIT */
/* From an Ethernet frame to the header above IP, of either family; nothing is changed.
 *
 * Three steps, so that what is not ours costs the first alone: parse_addresses() reads Ethernet and
 * IP; parse_transport() TCP and UDP; parse_slow() stands in for the first where VLAN tags, fragments
 * or IPv6 extension headers are in the way. Each is bounded by data_end and by the lengths that the
 * headers claim: what cannot be parsed can be passed on untouched.
 */
#ifndef PETREL_BPF_PACKET_BPF_H
#define PETREL_BPF_PACKET_BPF_H

#include "bpf/drift.bpf.h"
#include "bpf/types.h"

#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86DD
#define ETH_P_8021Q 0x8100
#define ETH_P_8021AD 0x88A8
#define VLAN_TAGS 2          /* the most that are looked through */
#define IP_DF 0x4000
#define IP_MF 0x2000
#define IP_OFFSET_MASK 0x1fff /* in units of 8 bytes, host order */
#define IP_FRAGMENT_MASK (IP_MF | IP_OFFSET_MASK)

#define PROTOCOL_HOPOPTS 0
#define PROTOCOL_ICMP 1
#define PROTOCOL_IPIP 4
#define PROTOCOL_TCP 6
#define PROTOCOL_UDP 17
#define PROTOCOL_IPV6 41
#define PROTOCOL_ROUTING 43
#define PROTOCOL_FRAGMENT 44
#define PROTOCOL_ICMPV6 58
#define PROTOCOL_DSTOPTS 60
#define EXTENSION_HEADERS 6  /* the most that are looked through; RFC 8200 recommends that few */
#define EXTENSION_BYTES 256  /* the same in bytes, all together */

/* The kernel hands over packets in several buffers (BPF_F_XDP_HAS_FRAGS, Linux 5.18): as far as
 * data_end lies the first of them, with all headers that are read here. Set between open and load. */
const volatile bool multi_buffer = false;

/* Of the frame at hand, of which the first `linear` lie before data_end. */
static __always_inline __u32 frame_bytes(struct xdp_md *ctx, __u32 linear) {
  return multi_buffer ? (__u32)bpf_xdp_get_buff_len(ctx) : linear;
}

/* Whether what does not end before data_end lies in further buffers. */
static __always_inline bool goes_on(struct xdp_md *ctx, __u32 bytes) {
  return multi_buffer && bpf_xdp_get_buff_len(ctx) >= bytes;
}

enum parse_result {
  PARSE_GOOD = 0,
  PARSE_OTHER = 1,     /* neither IPv4 nor IPv6: not ours */
  PARSE_MALFORMED = 2, /* lengths do not fit, or more headers than we look through */
};

enum fragment_kind {
  FRAGMENT_NONE = 0,
  FRAGMENT_FIRST = 1, /* has the transport header */
  FRAGMENT_LATER = 2,
};

struct packet {
  void *data_end;
  struct ethhdr *eth;
  /* What the verifier must remember of which header was checked: it follows constants, not nullness,
   * of packet pointers, and constants on the stack only where each fills 8 bytes. */
  __u64 is_v6;
  __u64 is_tcp; /* `protocol` again, once parse_transport() has looked */
  __u8 protocol;
  __u8 fragment;       /* enum fragment_kind */
  __u32 fragment_id;   /* of a fragment, host order */
  union {
    void *l3;
    struct iphdr *v4;
    struct ipv6hdr *v6;
  };
  union {
    void *l4;
    struct tcphdr *tcp;
    struct udphdr *udp;
  };
  __u32 l4_bytes;      /* transport header and payload of this packet */
  __u32 payload_bytes; /* above TCP or UDP */
  __be16 source_port_be;
  __be16 destination_port_be;
  struct address source;
  struct address destination;
};

static __always_inline void address_from_v4(struct address *address, __be32 v4) {
  address->words_be[0] = 0;
  address->words_be[1] = 0;
  address->words_be[2] = bpf_htonl(0xffff);
  address->words_be[3] = v4;
}

static __always_inline bool same_address(const struct address *a, const struct address *b) {
  return a->words_be[3] == b->words_be[3] && a->words_be[2] == b->words_be[2] &&
         a->words_be[1] == b->words_be[1] && a->words_be[0] == b->words_be[0];
}

static __always_inline bool is_v6_address(const struct address *address) {
  return address->words_be[0] || address->words_be[1] || address->words_be[2] != bpf_htonl(0xffff);
}

/* An IPv6 header with an IPv4 address in it belongs on no wire (RFC 6890, 2.2.3). In our tables those
 * stand for IPv4 packets: it would be taken for one of their flows. */
static __always_inline bool names_v4(const struct packet *packet) {
  return packet->is_v6 &&
         !(is_v6_address(&packet->source) && is_v6_address(&packet->destination));
}

/* Where the headers of a frame lie, as parse_slow() found them. */
struct layout {
  __u32 l3_offset;
  __u32 l4_offset;
  __u32 l4_bytes;
  __u32 fragment_id;
  __u8 result; /* enum parse_result */
  __u8 is_v6;
  __u8 protocol;
  __u8 fragment; /* enum fragment_kind */
};

/* A header of IPv6 between the fixed one and the transport's: next header, length. */
struct extension {
  __u8 next;
  __u8 units; /* of 8 bytes, the first not counted */
  /* Of a fragment header: offset in its upper 13 bits, more-fragments in bit 0. Of a routing header:
   * its type, then the segments left. */
  __be16 fragment_offset_be;
  __be32 fragment_id_be;
};

/* As bpf_ntohs(). The verifier of 6.1 knows nothing of a register whose bytes were swapped,
 * not even that it has 16 bits, and adds none such to a packet's pointer. */
static __always_inline __u32 length_of(__be16 bytes_be) {
  return seen_anew(bpf_ntohs(bytes_be)) & 0xffff;
}

static __always_inline int parse_slow_v4(struct xdp_md *ctx, void *data, void *data_end,
                                         struct layout *out) {
  struct iphdr *ip = data + out->l3_offset;

  if ((void *)(ip + 1) > data_end) return PARSE_MALFORMED;
  __u32 header_bytes = ip->ihl * 4;
  __u32 total_bytes = length_of(ip->tot_len);
  if (ip->version != 4 || header_bytes < sizeof(*ip) || total_bytes < header_bytes)
    return PARSE_MALFORMED;
  if ((void *)ip + total_bytes > data_end && !goes_on(ctx, out->l3_offset + total_bytes))
    return PARSE_MALFORMED;
  __u32 fragment = bpf_ntohs(ip->frag_off);
  if (fragment & IP_OFFSET_MASK)
    out->fragment = FRAGMENT_LATER;
  else if (fragment & IP_MF)
    out->fragment = FRAGMENT_FIRST;
  out->fragment_id = bpf_ntohs(ip->id);
  out->protocol = ip->protocol;
  out->l4_offset = out->l3_offset + header_bytes;
  out->l4_bytes = total_bytes - header_bytes;
  return PARSE_GOOD;
}

static __always_inline int parse_slow_v6(struct xdp_md *ctx, void *data, void *data_end,
                                         struct layout *out) {
  struct ipv6hdr *ip = data + out->l3_offset;

  if ((void *)(ip + 1) > data_end) return PARSE_MALFORMED;
  __u32 bytes = length_of(ip->payload_len);
  if (ip->version != 6) return PARSE_MALFORMED;
  if ((void *)(ip + 1) + bytes > data_end &&
      !goes_on(ctx, out->l3_offset + sizeof(*ip) + bytes))
    return PARSE_MALFORMED;
  __u32 offset = 0; /* of the next header, from the end of the fixed one */
  __u8 next = ip->nexthdr;
  for (int i = 0; i < EXTENSION_HEADERS; i++) {
    if (next != PROTOCOL_HOPOPTS && next != PROTOCOL_ROUTING && next != PROTOCOL_DSTOPTS &&
        next != PROTOCOL_FRAGMENT)
      break;
    if (offset > EXTENSION_BYTES) return PARSE_MALFORMED;
    struct extension *extension = (void *)(ip + 1) + offset;
    if ((void *)(extension + 1) > data_end) return PARSE_MALFORMED;
    /* Segments left: the transport's checksum covers the last stop, not this one (RFC 8200, 8.1). */
    if (next == PROTOCOL_ROUTING && (extension->fragment_offset_be & bpf_htons(0xff)))
      return PARSE_MALFORMED;
    if (next == PROTOCOL_FRAGMENT) {
      __u32 place = bpf_ntohs(extension->fragment_offset_be);
      if (place & ~7U)
        out->fragment = FRAGMENT_LATER;
      else if (place & 1)
        out->fragment = FRAGMENT_FIRST;
      out->fragment_id = bpf_ntohl(extension->fragment_id_be);
      offset += 8;
    } else {
      offset += 8 + extension->units * 8;
    }
    next = extension->next;
    if (out->fragment == FRAGMENT_LATER) break; /* what follows is the middle of something */
  }
  if (offset > EXTENSION_BYTES || offset > bytes) return PARSE_MALFORMED;
  out->protocol = next;
  out->l4_offset = out->l3_offset + sizeof(*ip) + offset;
  out->l4_bytes = bytes - offset;
  return PARSE_GOOD;
}

/* A global function: verified once by itself, and what it finds is unknown to the verifier after it,
 * so that the many ways through these headers do not multiply with the rest of the program. */
APART int parse_slow(struct xdp_md *ctx, struct layout *out) {
  if (!out) return 0;
  void *data_end = (void *)(long)ctx->data_end;
  void *data = (void *)(long)ctx->data;
  struct ethhdr *eth = data;

  __builtin_memset(out, 0, sizeof(*out));
  out->result = PARSE_OTHER;
  if ((void *)(eth + 1) > data_end) return 0;
  __be16 type = eth->h_proto;
  out->l3_offset = sizeof(*eth);
  for (int i = 0; i < VLAN_TAGS; i++) {
    if (type != bpf_htons(ETH_P_8021Q) && type != bpf_htons(ETH_P_8021AD)) break;
    __be16 *tag = data + out->l3_offset; /* control information, then the type of what follows */
    if ((void *)(tag + 2) > data_end) return 0;
    type = tag[1];
    out->l3_offset += 4;
  }
  if (type == bpf_htons(ETH_P_IP)) {
    out->result = parse_slow_v4(ctx, data, data_end, out);
  } else if (type == bpf_htons(ETH_P_IPV6)) {
    out->is_v6 = 1;
    out->result = parse_slow_v6(ctx, data, data_end, out);
  }
  return 0;
}

#ifdef ARGUMENTS_BY_MAP
ROOM_FOR(struct layout, room_layout);

__noinline int parse_slow_here(struct xdp_md *ctx) {
  struct layout *layout = room_of(room_layout);

  return layout ? parse_slow(ctx, layout) : 0;
}

static __always_inline void parse_slow_apart(struct xdp_md *ctx, struct layout *out) {
  struct layout *layout = room_of(room_layout);

  out->result = PARSE_OTHER;
  parse_slow_here(ctx);
  if (layout) *out = *layout;
}
#define parse_slow parse_slow_apart
#endif

static __always_inline void read_addresses(struct packet *packet) {
  if (packet->is_v6) {
    __builtin_memcpy(&packet->source, &packet->v6->saddr, sizeof(packet->source));
    __builtin_memcpy(&packet->destination, &packet->v6->daddr, sizeof(packet->destination));
    return;
  }
  address_from_v4(&packet->source, packet->v4->saddr);
  address_from_v4(&packet->destination, packet->v4->daddr);
}

static __always_inline int parse_rare(struct xdp_md *ctx, struct packet *packet) {
  struct layout layout = {};

  parse_slow(ctx, &layout);
  /* Constants: older verifiers do not see that what is not PARSE_GOOD is not 0. */
  if (layout.result == PARSE_MALFORMED) return PARSE_MALFORMED;
  if (layout.result != PARSE_GOOD) return PARSE_OTHER;
  void *data = (void *)(long)ctx->data;
  __u32 l3_offset = layout.l3_offset;
  __u32 l4_offset = layout.l4_offset;
  if (l3_offset > sizeof(struct ethhdr) + 4 * VLAN_TAGS || l4_offset > 512) return PARSE_MALFORMED;
  packet->data_end = (void *)(long)ctx->data_end;
  packet->eth = data;
  packet->l3 = data + l3_offset;
  packet->l4 = data + l4_offset;
  packet->protocol = layout.protocol;
  packet->fragment = layout.fragment;
  packet->fragment_id = layout.fragment_id;
  packet->l4_bytes = layout.l4_bytes;
  if ((void *)(packet->eth + 1) > packet->data_end) return PARSE_MALFORMED;
  /* Constants, so that the verifier knows later which of the two was checked. */
  if (layout.is_v6) {
    if ((void *)(packet->v6 + 1) > packet->data_end) return PARSE_MALFORMED;
    packet->is_v6 = true;
  } else {
    if ((void *)(packet->v4 + 1) > packet->data_end) return PARSE_MALFORMED;
    packet->is_v6 = false;
  }
  read_addresses(packet);
  return names_v4(packet) ? PARSE_OTHER : PARSE_GOOD;
}

/* Ethernet and IP. `l4` is not checked against data_end yet. */
static __always_inline int parse_addresses(struct xdp_md *ctx, struct packet *packet) {
  packet->data_end = (void *)(long)ctx->data_end;
  packet->eth = (void *)(long)ctx->data;
  packet->fragment = FRAGMENT_NONE;
  packet->fragment_id = 0;
  if ((void *)(packet->eth + 1) > packet->data_end) return PARSE_OTHER;
  __be16 type = packet->eth->h_proto;
  if (type == bpf_htons(ETH_P_IP)) {
    struct iphdr *ip = (void *)(packet->eth + 1);
    if ((void *)(ip + 1) > packet->data_end) return PARSE_MALFORMED;
    if (ip->frag_off & bpf_htons(IP_FRAGMENT_MASK)) return parse_rare(ctx, packet);
    __u32 header_bytes = ip->ihl * 4;
    __u32 total_bytes = length_of(ip->tot_len);
    if (ip->version != 4 || header_bytes < sizeof(*ip) || total_bytes < header_bytes)
      return PARSE_MALFORMED;
    packet->v4 = ip;
    packet->is_v6 = false;
    packet->protocol = ip->protocol;
    packet->l4 = (void *)ip + header_bytes;
    packet->l4_bytes = total_bytes - header_bytes;
    if ((void *)ip + total_bytes > packet->data_end &&
        !goes_on(ctx, sizeof(struct ethhdr) + total_bytes))
      return PARSE_MALFORMED;
    read_addresses(packet);
    return PARSE_GOOD;
  }
  if (type == bpf_htons(ETH_P_IPV6)) {
    struct ipv6hdr *ip = (void *)(packet->eth + 1);
    if ((void *)(ip + 1) > packet->data_end) return PARSE_MALFORMED;
    if (ip->nexthdr != PROTOCOL_TCP && ip->nexthdr != PROTOCOL_UDP) return parse_rare(ctx, packet);
    packet->v6 = ip;
    packet->is_v6 = true;
    packet->protocol = ip->nexthdr;
    packet->l4 = ip + 1;
    packet->l4_bytes = length_of(ip->payload_len);
    if (ip->version != 6) return PARSE_MALFORMED;
    if (packet->l4 + packet->l4_bytes > packet->data_end &&
        !goes_on(ctx, sizeof(struct ethhdr) + sizeof(*ip) + packet->l4_bytes))
      return PARSE_MALFORMED;
    read_addresses(packet);
    return names_v4(packet) ? PARSE_OTHER : PARSE_GOOD;
  }
  if (type == bpf_htons(ETH_P_8021Q) || type == bpf_htons(ETH_P_8021AD))
    return parse_rare(ctx, packet);
  return PARSE_OTHER;
}

/* The same for functions of the rarer ways, which begin from the frame again. */
static __noinline int parse_again(struct xdp_md *ctx, struct packet *packet) {
  packet->l4 = NULL;
  packet->l3 = NULL;
  packet->l4_bytes = 0;
  packet->is_v6 = false;
  packet->protocol = 0;
  return parse_addresses(ctx, packet);
}

/* The TCP or UDP header of a packet that is no later fragment. */
static __always_inline int parse_transport(struct packet *packet) {
  /* Keeps clang from computing the pointer anew after the check: the verifier would not know it. */
  void *l4 = packet->l4;
  barrier_var(l4);

  if (packet->protocol == PROTOCOL_TCP) {
    struct tcphdr *tcp = l4;
    if ((void *)(tcp + 1) > packet->data_end || packet->l4_bytes < sizeof(*tcp))
      return PARSE_MALFORMED;
    __u32 header_bytes = tcp->doff * 4;
    if (header_bytes < sizeof(*tcp) || header_bytes > packet->l4_bytes) return PARSE_MALFORMED;
    packet->tcp = tcp;
    packet->is_tcp = true;
    packet->payload_bytes = packet->l4_bytes - header_bytes;
    packet->source_port_be = tcp->source;
    packet->destination_port_be = tcp->dest;
    return PARSE_GOOD;
  }
  struct udphdr *udp = l4;
  if ((void *)(udp + 1) > packet->data_end || packet->l4_bytes < sizeof(*udp))
    return PARSE_MALFORMED;
  packet->udp = udp;
  packet->is_tcp = false;
  packet->payload_bytes = packet->l4_bytes - sizeof(*udp);
  packet->source_port_be = udp->source;
  packet->destination_port_be = udp->dest;
  return PARSE_GOOD;
}

/* The time to live, or hop limit, with which the packet came. */
static __always_inline __u8 packet_ttl(const struct packet *packet) {
  return packet->is_v6 ? packet->v6->hop_limit : packet->v4->ttl;
}

#endif /* PETREL_BPF_PACKET_BPF_H */
