/* SPDX-License-Identifier: MIT */
/* Packets of our own making: a RST in answer to a segment, and a client's SYN sent a second time.
 *
 * Both turn the frame that has come into the one that leaves: what is needed of it is read first,
 * then its length is set, then every byte is written anew, so that nothing of the old one is left.
 * They grow and shrink at the head: veth refuses to grow a tail.
 */
#ifndef PETREL_BPF_REPLY_BPF_H
#define PETREL_BPF_REPLY_BPF_H

#include "bpf/rewrite.bpf.h"

#define OUR_TTL 64
#define TCP_BYTES 20
#define TCP_RST 0x04
#define TCP_ACK 0x10

/* One TCP segment without payload, to be written over a frame. */
struct segment {
  struct address source;
  struct address destination;
  __be16 source_port_be;
  __be16 destination_port_be;
  __u32 seq;
  __u32 ack_seq;
  __be16 window_be;
  __u8 flags; /* byte 13 of the TCP header */
  __u8 ttl;
  __u8 tos;
  bool is_v6;
  __u8 options_bytes; /* a multiple of 4, at most SYN_OPTIONS_BYTES */
  const __u8 *options;
};

static __always_inline __u64 sum_address(const struct address *address) {
  return (__u64)address->words_be[0] + address->words_be[1] + address->words_be[2] +
         address->words_be[3];
}

/* IP and TCP headers at `l3`, options not yet; `sum` is theirs. False: there is no room. */
static __always_inline bool write_segment(void *l3, void *data_end, const struct segment *segment,
                                          __u64 options_sum) {
  struct tcphdr *tcp;
  __u32 tcp_bytes = TCP_BYTES + segment->options_bytes;
  __u64 sum = options_sum;

  if (segment->is_v6) {
    struct ipv6hdr *ip = l3;
    if ((void *)(ip + 1) > data_end) return false;
    *(__be32 *)ip = bpf_htonl(6U << 28 | (__u32)segment->tos << 20);
    ip->payload_len = bpf_htons(tcp_bytes);
    ip->nexthdr = PROTOCOL_TCP;
    ip->hop_limit = segment->ttl;
    __builtin_memcpy(&ip->saddr, &segment->source, sizeof(ip->saddr));
    __builtin_memcpy(&ip->daddr, &segment->destination, sizeof(ip->daddr));
    sum += sum_address(&segment->source) + sum_address(&segment->destination);
    tcp = (void *)(ip + 1);
  } else {
    struct iphdr *ip = l3;
    if ((void *)(ip + 1) > data_end) return false;
    ip->version = 4;
    ip->ihl = 5;
    ip->tos = segment->tos;
    ip->tot_len = bpf_htons(sizeof(*ip) + tcp_bytes);
    ip->id = 0;
    ip->frag_off = bpf_htons(IP_DF);
    ip->ttl = segment->ttl;
    ip->protocol = PROTOCOL_TCP;
    ip->check = 0;
    ip->saddr = segment->source.words_be[3];
    ip->daddr = segment->destination.words_be[3];
    __u64 header = 0;
    __be32 *words = (void *)ip;
#pragma unroll
    for (int i = 0; i < 5; i++) header += words[i];
    ip->check = (__sum16)~checksum_fold(header);
    sum += (__u64)ip->saddr + ip->daddr;
    tcp = (void *)(ip + 1);
  }
  if ((void *)(tcp + 1) > data_end) return false;
  __be32 *words = (void *)tcp;
  tcp->source = segment->source_port_be;
  tcp->dest = segment->destination_port_be;
  tcp->seq = bpf_htonl(segment->seq);
  tcp->ack_seq = bpf_htonl(segment->ack_seq);
  ((__u8 *)tcp)[12] = (__u8)(tcp_bytes / 4 << 4);
  ((__u8 *)tcp)[13] = segment->flags;
  tcp->window = segment->window_be;
  tcp->check = 0;
  tcp->urg_ptr = 0;
#pragma unroll
  for (int i = 0; i < 5; i++) sum += words[i];
  sum += bpf_htons(PROTOCOL_TCP) + bpf_htons(tcp_bytes);
  tcp->check = (__sum16)~checksum_fold(sum);
  return true;
}

/* Answers the TCP segment in the frame with a RST to whoever sent it, as the host that it was sent
 * to would (RFC 9293, 3.10.7.1): with an ACK it takes its number; without, it acknowledges all that
 * the segment took, a SYN counting one. Returns the action. Never answers a RST. */
__noinline int answer_with_reset(struct xdp_md *ctx) {
  struct packet packet;

  if (parse_again(ctx, &packet) != PARSE_GOOD || packet.fragment != FRAGMENT_NONE)
    return XDP_DROP;
  if (parse_transport(&packet) != PARSE_GOOD || !packet.is_tcp) return XDP_DROP;
  if (packet.tcp->rst) return XDP_DROP;
  struct segment segment = {.source = packet.destination,
                            .destination = packet.source,
                            .source_port_be = packet.destination_port_be,
                            .destination_port_be = packet.source_port_be,
                            .flags = TCP_RST,
                            .ttl = OUR_TTL,
                            .is_v6 = packet.is_v6};
  if (packet.tcp->ack) {
    segment.seq = bpf_ntohl(packet.tcp->ack_seq);
  } else {
    segment.flags = TCP_RST | TCP_ACK;
    segment.ack_seq = bpf_ntohl(packet.tcp->seq) + packet.payload_bytes + packet.tcp->syn +
                      packet.tcp->fin;
  }
  __u8 l2[6];
  __builtin_memcpy(l2, packet.eth->h_dest, sizeof(l2));
  __builtin_memcpy(packet.eth->h_dest, packet.eth->h_source, sizeof(l2));
  __builtin_memcpy(packet.eth->h_source, l2, sizeof(l2));
  long l3_bytes = packet.l3 - (void *)packet.eth;
  long linear_bytes = packet.data_end - (void *)packet.eth;
  barrier_var(l3_bytes);
  barrier_var(linear_bytes);
  __u32 l3_offset = (__u32)l3_bytes;
  __u32 wanted = l3_offset + TCP_BYTES +
                 (segment.is_v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr));
  __u32 has = (__u32)linear_bytes;
  if (wanted > has || bpf_xdp_adjust_tail(ctx, (int)wanted - (int)frame_bytes(ctx, has)))
    return XDP_DROP;
  void *data = (void *)(long)ctx->data;
  void *data_end = (void *)(long)ctx->data_end;
  if (l3_offset > sizeof(struct ethhdr) + 4 * VLAN_TAGS) return XDP_DROP;
  barrier_var(l3_offset);
  l3_offset &= 31;
  if (!write_segment(data + l3_offset, data_end, &segment, 0)) return XDP_DROP;
  return send_back(ctx);
}

/* Writes the client's SYN, kept in entry `index` of half_open, over the frame at hand, addressed to
 * the backend that the entry names now; the Ethernet addresses are the caller's to fill. False: the
 * frame cannot be made to fit, and is as it was. */
APART int write_syn(struct xdp_md *ctx, struct half_open *flow, __u32 backend_id) {
  struct backend *backend = bpf_map_lookup_elem(&backends, &backend_id);
  void *data = (void *)(long)ctx->data;
  void *data_end = (void *)(long)ctx->data_end;

  if (!flow || !backend) return 0;
  bool is_v6 = is_v6_address(&backend->address);
  __u32 options_bytes = flow->options_bytes & ~3U;
  if (options_bytes > SYN_OPTIONS_BYTES) return 0;
  __u32 headers = sizeof(struct ethhdr) + TCP_BYTES +
                  (is_v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr));
  long has = data_end - data;
  barrier_var(has); /* a 64-bit difference: the verifier allows pointers no other */
  if (frame_bytes(ctx, (__u32)has) != (__u32)has) return 0; /* what lies in further buffers would stay */
  int grow = (int)(headers + options_bytes) - (int)has;
  if (bpf_xdp_adjust_head(ctx, -grow)) return 0;
  data = (void *)(long)ctx->data;
  data_end = (void *)(long)ctx->data_end;
  struct ethhdr *eth = data;
  if ((void *)(eth + 1) > data_end) return 0;
  eth->h_proto = is_v6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP);
  struct segment segment = {.source = flow->key.client,
                            .destination = backend->address,
                            .source_port_be = flow->key.client_port_be,
                            .destination_port_be =
                                backend->port_be ? backend->port_be : flow->key.service_port_be,
                            .seq = flow->syn_seq,
                            .flags = flow->tcp_flags,
                            .window_be = flow->window_be,
                            .ttl = flow->ttl - 1,
                            .tos = flow->tos,
                            .is_v6 = is_v6,
                            .options_bytes = options_bytes};
  __u64 sum = 0;
  void *at = data + headers;
#pragma unroll
  for (__u32 i = 0; i < SYN_OPTIONS_BYTES / 4; i++) {
    if (i * 4 >= options_bytes) break;
    __be32 *word = at + i * 4;
    if ((void *)(word + 1) > data_end) return 0;
    *word = *(__be32 *)(flow->options + i * 4);
    sum += *word;
  }
  return write_segment(data + sizeof(*eth), data_end, &segment, sum);
}

#ifdef ARGUMENTS_BY_MAP
ROOM_FOR(struct half_open, room_syn);

__noinline int write_syn_here(struct xdp_md *ctx, __u32 backend_id) {
  struct half_open *flow = room_of(room_syn);

  return flow ? write_syn(ctx, flow, backend_id) : 0;
}

static __always_inline int write_syn_apart(struct xdp_md *ctx, struct half_open *flow,
                                           __u32 backend_id) {
  struct half_open *room = room_of(room_syn);

  if (!room) return 0;
  __builtin_memcpy(room, flow, sizeof(*room));
  return write_syn_here(ctx, backend_id);
}
#define write_syn write_syn_apart
#endif

/* Keeps what write_syn() needs of the SYN at hand. */
static __always_inline void keep_syn(struct half_open *flow, const struct packet *packet) {
  const struct tcphdr *tcp = packet->tcp;
  __u32 options_bytes = (__u32)(tcp->doff * 4) - TCP_BYTES;

  flow->window_be = tcp->window;
  flow->tcp_flags = ((const __u8 *)tcp)[13];
  flow->ttl = packet_ttl(packet);
  flow->tos = packet->is_v6 ? (__u8)(bpf_ntohl(*(__be32 *)packet->v6) >> 20) : packet->v4->tos;
  /* Payload in a SYN (Fast Open) would be lost; other ways round need all of the packet. */
  if (options_bytes > SYN_OPTIONS_BYTES || packet->payload_bytes) {
    flow->options_bytes = SYN_NOT_KEPT;
    return;
  }
  flow->options_bytes = options_bytes;
#pragma unroll
  for (__u32 i = 0; i < SYN_OPTIONS_BYTES / 4; i++) {
    const __be32 *word = (const void *)(tcp + 1) + i * 4;
    if (i * 4 >= options_bytes || (void *)(word + 1) > packet->data_end) break;
    *(__be32 *)(flow->options + i * 4) = *word;
  }
}

#endif /* PETREL_BPF_REPLY_BPF_H */
