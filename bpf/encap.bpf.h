/* SPDX-License-Identifier: MIT */
/* Direct server return: IPv4 in IPv4 (RFC 2003), IPv6 in IPv6 (RFC 2473), IPv4 in IPv6.
 *
 * The outer source address spreads flows: receivers choose a queue by the outer addresses, and those
 * of one balancer and one backend would all be the same. The inner packet keeps everything but its
 * TTL, which tunnels count down as routers do. What would not fit the link is answered with "too
 * big" from the VIP, so that the sender's path MTU discovery works.
 */
#ifndef PETREL_BPF_ENCAP_BPF_H
#define PETREL_BPF_ENCAP_BPF_H

#include "bpf/hop.bpf.h"
#include "bpf/reply.bpf.h"

#define ICMP_HEADER_BYTES 8
#define QUOTE_V4_BYTES 512  /* RFC 1812, 4.3.2.3: the message stays within 576 bytes */
#define QUOTE_V6_BYTES 1232 /* RFC 4443, 2.4(c): the message fills 1280 bytes */
#define IPV6_LEAST_MTU 1280

/* The outer source: its first 16 bits (IPv4), its first 64 (IPv6). Set by the loader. */
const volatile __be32 encap_source_v4 = 0;
const volatile __be32 encap_source_v6[2] = {};

/* The frame's Ethernet header and VLAN tags, to be written again further forward. */
struct l2 {
  struct ethhdr eth;
  __be32 tags[VLAN_TAGS]; /* each: control information, then the next type */
  __u32 bytes;
};

static __always_inline bool read_l2(void *data, void *data_end, __u32 bytes, struct l2 *out) {
  if (data + sizeof(out->eth) > data_end) return false;
  __builtin_memcpy(&out->eth, data, sizeof(out->eth));
  out->bytes = bytes;
#pragma unroll
  for (__u32 i = 0; i < VLAN_TAGS; i++) {
    __be32 *tag = data + sizeof(out->eth) + i * 4;
    if (bytes < sizeof(out->eth) + (i + 1) * 4) break;
    if ((void *)(tag + 1) > data_end) return false;
    out->tags[i] = *tag;
  }
  return true;
}

/* Writes it at `data` with `type` as the type of what follows. */
static __always_inline bool write_l2(void *data, void *data_end, const struct l2 *l2,
                                     __be16 type) {
  struct ethhdr *eth = data;

  if ((void *)(eth + 1) > data_end) return false;
  __builtin_memcpy(eth, &l2->eth, sizeof(*eth));
  if (l2->bytes == sizeof(*eth)) eth->h_proto = type;
#pragma unroll
  for (__u32 i = 0; i < VLAN_TAGS; i++) {
    __be32 *tag = data + sizeof(*eth) + i * 4;
    if (l2->bytes < sizeof(*eth) + (i + 1) * 4) break;
    if ((void *)(tag + 1) > data_end) return false;
    *tag = l2->tags[i];
    if (l2->bytes == sizeof(*eth) + (i + 1) * 4) ((__be16 *)tag)[1] = type;
  }
  return true;
}

static __always_inline __u32 l2_bytes_of(const struct packet *packet) {
  __u32 bytes = (__u32)(packet->l3 - (void *)packet->eth);

  if (bytes > sizeof(struct ethhdr) + 4 * VLAN_TAGS) return 0;
  barrier_var(bytes); /* clang would move the bound to where the verifier does not see it */
  return bytes & 31;
}

/* Turns the frame at hand into "too big" for its sender, naming `mtu`. Returns the action. */
__noinline int answer_too_big(struct xdp_md *ctx, __u32 mtu) {
  struct packet packet;
  struct l2 l2 = {};

  if (parse_again(ctx, &packet) != PARSE_GOOD) return XDP_DROP;
  __u32 l2_bytes = l2_bytes_of(&packet);
  bool is_v6 = packet.is_v6;
  struct address source = packet.destination, destination = packet.source;
  __u32 quote = is_v6 ? QUOTE_V6_BYTES : QUOTE_V4_BYTES;
  __u32 has = (__u32)(packet.data_end - packet.l3);
  if (!l2_bytes || has < quote) return XDP_DROP;
  if (!read_l2(packet.eth, packet.data_end, l2_bytes, &l2)) return XDP_DROP;
  __builtin_memcpy(l2.eth.h_dest, packet.eth->h_source, sizeof(l2.eth.h_dest));
  __builtin_memcpy(l2.eth.h_source, packet.eth->h_dest, sizeof(l2.eth.h_source));
  __u32 whole = frame_bytes(ctx, l2_bytes + has);
  if (bpf_xdp_adjust_tail(ctx, (int)(l2_bytes + quote) - (int)whole)) return XDP_DROP;
  __u32 headers = (is_v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr)) + ICMP_HEADER_BYTES;
  if (bpf_xdp_adjust_head(ctx, -(int)headers)) return XDP_DROP;

  void *data = (void *)(long)ctx->data;
  void *data_end = (void *)(long)ctx->data_end;
  if (!write_l2(data, data_end, &l2, is_v6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP)))
    return XDP_DROP;
  void *l3 = data + l2_bytes;
  __u64 sum = 0;
  __be32 *icmp; /* type, code, checksum; then the MTU */
  if (is_v6) {
    struct ipv6hdr *ip = l3;
    icmp = (void *)(ip + 1);
    void *quoted = icmp + 2;
    if (quoted + QUOTE_V6_BYTES > data_end) return XDP_DROP;
    *(__be32 *)ip = bpf_htonl(6U << 28);
    ip->payload_len = bpf_htons(ICMP_HEADER_BYTES + QUOTE_V6_BYTES);
    ip->nexthdr = PROTOCOL_ICMPV6;
    ip->hop_limit = OUR_TTL;
    __builtin_memcpy(&ip->saddr, &source, sizeof(source));
    __builtin_memcpy(&ip->daddr, &destination, sizeof(destination));
    icmp[0] = bpf_htonl(2U << 24); /* packet too big: RFC 4443, 3.2 */
    icmp[1] = bpf_htonl(mtu);
    sum = sum_address(&source) + sum_address(&destination) + bpf_htons(PROTOCOL_ICMPV6) +
          bpf_htons(ICMP_HEADER_BYTES + QUOTE_V6_BYTES);
    sum += (__u32)bpf_csum_diff(NULL, 0, quoted, 512, 0);
    sum += (__u32)bpf_csum_diff(NULL, 0, quoted + 512, 512, 0);
    sum += (__u32)bpf_csum_diff(NULL, 0, quoted + 1024, QUOTE_V6_BYTES - 1024, 0);
  } else {
    struct iphdr *ip = l3;
    icmp = (void *)(ip + 1);
    void *quoted = icmp + 2;
    if (quoted + QUOTE_V4_BYTES > data_end) return XDP_DROP;
    __builtin_memset(ip, 0, sizeof(*ip));
    ip->version = 4;
    ip->ihl = 5;
    ip->tot_len = bpf_htons(sizeof(*ip) + ICMP_HEADER_BYTES + QUOTE_V4_BYTES);
    ip->ttl = OUR_TTL;
    ip->protocol = PROTOCOL_ICMP;
    ip->saddr = source.words_be[3];
    ip->daddr = destination.words_be[3];
    __u64 header = 0;
#pragma unroll
    for (int i = 0; i < 5; i++) header += ((__be32 *)ip)[i];
    ip->check = (__sum16)~checksum_fold(header);
    icmp[0] = bpf_htonl(3U << 24 | 4U << 16); /* fragmentation needed: RFC 1191, 4 */
    icmp[1] = bpf_htonl(mtu);
    sum = (__u32)bpf_csum_diff(NULL, 0, quoted, QUOTE_V4_BYTES, 0);
  }
  sum += (__u64)icmp[0] + icmp[1];
  ((__sum16 *)icmp)[1] = (__sum16)~checksum_fold(sum);
  return send_back(ctx);
}

/* Wraps the packet at hand for its backend and sends it. `hash` spreads. Returns the action, or
 * less than 0: longer than the link takes; less the MTU to be told. */
static __noinline int encapsulate(struct xdp_md *ctx, struct packet *packet,
                                  struct backend *backend, __u64 hash) {
  struct scratch *work = scratch_at_hand();
  struct l2 l2 = {};
  bool inner_v6 = packet->is_v6;
  bool outer_v6 = is_v6_address(&backend->address);
  __u32 outer_bytes = outer_v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
  __u32 inner_bytes = inner_v6 ? bpf_ntohs(packet->v6->payload_len) + sizeof(struct ipv6hdr)
                               : bpf_ntohs(packet->v4->tot_len);

  if (!work || (inner_v6 && !outer_v6)) return XDP_DROP; /* the configuration refuses the latter */
  if (backend->mtu && inner_bytes + outer_bytes > backend->mtu)
    return -(int)(backend->mtu - outer_bytes);
  if (inner_bytes + outer_bytes > 0xffff) return XDP_DROP;
  __u8 tos = inner_v6 ? (__u8)(bpf_ntohl(*(__be32 *)packet->v6) >> 20) : packet->v4->tos;
  /* The inner id with DF, in one word: where DF is not set a router on the way may fragment. */
  __be32 fragment = inner_v6 ? bpf_htonl(IP_DF)
                             : *(__be32 *)&packet->v4->id & bpf_htonl(0xffff0000 | IP_DF);
  __u32 l2_bytes = l2_bytes_of(packet);
  if (!l2_bytes || !read_l2(packet->eth, packet->data_end, l2_bytes, &l2)) return XDP_DROP;
  age_ttl(packet);

  struct trip *trip = &work->trip;
  trip->destination = backend->address;
  trip->service_id = backend->service_id;
  trip->is_v6 = outer_v6;
  trip->l3_bytes = inner_bytes + outer_bytes;
  trip->protocol = inner_v6 ? PROTOCOL_IPV6 : PROTOCOL_IPIP;
  if (outer_v6) {
    trip->source.words_be[0] = encap_source_v6[0];
    trip->source.words_be[1] = encap_source_v6[1];
    trip->source.words_be[2] = (__u32)(hash >> 32);
    trip->source.words_be[3] = (__u32)hash;
  } else {
    address_from_v4(&trip->source,
                    (encap_source_v4 & bpf_htonl(0xffff0000)) | bpf_htonl((hash >> 40) & 0xffff));
  }
  struct next_hop *hop = backend->hop.ifindex ? &backend->hop : find_hop(ctx);
  if (bpf_xdp_adjust_head(ctx, -(int)outer_bytes)) return XDP_DROP;
  void *data = (void *)(long)ctx->data;
  void *data_end = (void *)(long)ctx->data_end;
  if (!write_l2(data, data_end, &l2, outer_v6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP)))
    return XDP_DROP;
  if (outer_v6) {
    struct ipv6hdr *ip = data + l2_bytes;
    if ((void *)(ip + 1) > data_end) return XDP_DROP;
    *(__be32 *)ip = bpf_htonl(6U << 28 | (__u32)tos << 20 | ((__u32)hash & 0xfffff));
    ip->payload_len = bpf_htons(inner_bytes);
    ip->nexthdr = trip->protocol;
    ip->hop_limit = OUR_TTL;
    __builtin_memcpy(&ip->saddr, &trip->source, sizeof(trip->source));
    __builtin_memcpy(&ip->daddr, &trip->destination, sizeof(trip->destination));
  } else {
    struct iphdr *ip = data + l2_bytes;
    if ((void *)(ip + 1) > data_end) return XDP_DROP;
    __builtin_memset(ip, 0, sizeof(*ip));
    ip->version = 4;
    ip->ihl = 5;
    ip->tos = tos;
    ip->tot_len = bpf_htons(inner_bytes + outer_bytes);
    *(__be32 *)&ip->id = fragment;
    ip->ttl = OUR_TTL;
    ip->protocol = trip->protocol;
    ip->saddr = trip->source.words_be[3];
    ip->daddr = trip->destination.words_be[3];
    __u64 header = 0;
#pragma unroll
    for (int i = 0; i < 5; i++) header += ((__be32 *)ip)[i];
    ip->check = (__sum16)~checksum_fold(header);
  }
  return hop ? send_frame(ctx, data, hop) : XDP_PASS;
}

/* --- MSS ------------------------------------------------------------------------------------ */

#define MSS_OPTIONS 6 /* the most options that are looked at: MSS is nearly always the first */

/* Lowers the MSS of a SYN-ACK that a dsr backend sends through us, so that what it earns fits the
 * tunnel. True: it was lowered. */
static __always_inline bool lower_mss(struct packet *packet, __u16 most) {
  __u32 options_bytes = (__u32)(packet->tcp->doff * 4) - TCP_BYTES;
  __u32 offset = 0;

  for (int i = 0; i < MSS_OPTIONS; i++) {
    if (offset + 4 > options_bytes || offset > 36) return false;
    __u8 *option = (void *)(packet->tcp + 1) + offset;
    if ((void *)(option + 4) > packet->data_end) return false;
    if (option[0] == 0) return false;
    if (option[0] == 1) {
      offset++;
      continue;
    }
    if (option[0] == 2 && option[1] == 4) {
      __u16 mss = (__u16)(option[2] << 8 | option[3]);
      if (mss <= most) return false;
      option[2] = (__u8)(most >> 8);
      option[3] = (__u8)most;
      /* At an odd place the two bytes lie in two words: swapped, their difference is the same. */
      __u16 from = offset & 1 ? mss : bpf_htons(mss);
      __u16 to = offset & 1 ? most : bpf_htons(most);
      packet->tcp->check = checksum_adjust(packet->tcp->check, word_delta(from, to));
      return true;
    }
    if (option[1] < 2) return false;
    offset += option[1];
  }
  return false;
}

#endif /* PETREL_BPF_ENCAP_BPF_H */
