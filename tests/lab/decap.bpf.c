/* SPDX-License-Identifier: MIT */
/* What a lab's nodes run on their eth0.
 *
 * decapsulate (TC ingress), on a dsr backend: takes the outer header off IPIP, IP6IP6 and
 * IPv4-in-IPv6 packets and hands the inner one to the stack, whose VIP is on lo. Kernels may lack
 * the tunnel devices that real backends would use. It checks nothing that it takes off: what the
 * stack or a capture finds wrong with a packet is the balancer's fault. TC, not XDP: captures are
 * taken between the two, and are to show the outer header.
 *
 * as_it_is (XDP): lets all pass. Being there keeps a veth's NAPI context without GRO.
 */
#include "vmlinux.h"

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86DD
#define PROTOCOL_IPIP 4
#define PROTOCOL_IPV6 41
#define FRAGMENT_MASK 0x3fff /* more-fragments flag and offset, in host order */
#define TC_ACT_OK 0
#define TC_ACT_SHOT 2

/* include/uapi/linux/bpf.h. vmlinux.h of a kernel before 6.3 has not all of them. */
#define ROOM_MAC 1
#define ROOM_FIXED_GSO (1ULL << 0)
#define ROOM_DECAP_L3_IPV4 (1ULL << 7)
#define REDIRECT_INGRESS 1

/* struct __sk_buff as far as we read it: bpf/vmlinux_minimal.h has none. The layout is ABI. */
struct tc_packet {
  __u32 not_read[10]; /* len to ingress_ifindex */
  __u32 ifindex;
  __u32 not_read_either[8]; /* tc_index to tc_classid */
  __u32 data;
  __u32 data_end;
};

/* What an outer header says: its length, and what it carries. */
struct outer {
  int header_bytes; /* 0: no tunnel of ours */
  __be16 type_be;
  __be16 inner_type_be;
};

static __always_inline struct outer read_v4(struct iphdr *ip, void *data_end) {
  struct outer outer = {.type_be = bpf_htons(ETH_P_IP), .inner_type_be = bpf_htons(ETH_P_IP)};

  if ((void *)(ip + 1) > data_end || ip->protocol != PROTOCOL_IPIP) return outer;
  /* Part of an inner packet only. A balancer that fragments what it encapsulates is not served. */
  if (ip->frag_off & bpf_htons(FRAGMENT_MASK)) return outer;
  outer.header_bytes = ip->ihl * 4;
  return outer;
}

static __always_inline struct outer read_v6(struct ipv6hdr *ip, void *data_end) {
  struct outer outer = {.type_be = bpf_htons(ETH_P_IPV6), .inner_type_be = bpf_htons(ETH_P_IPV6)};

  if ((void *)(ip + 1) > data_end) return outer;
  if (ip->nexthdr != PROTOCOL_IPIP && ip->nexthdr != PROTOCOL_IPV6) return outer;
  if (ip->nexthdr == PROTOCOL_IPIP) outer.inner_type_be = bpf_htons(ETH_P_IP);
  outer.header_bytes = sizeof(*ip);
  return outer;
}

SEC("tc")
int decapsulate(struct tc_packet *packet) {
  void *data_end = (void *)(long)packet->data_end;
  struct ethhdr *eth = (void *)(long)packet->data;
  struct __sk_buff *skb = (void *)packet;
  struct outer outer = {};

  if ((void *)(eth + 1) > data_end) return TC_ACT_OK;
  if (eth->h_proto == bpf_htons(ETH_P_IP)) {
    outer = read_v4((void *)(eth + 1), data_end);
  } else if (eth->h_proto == bpf_htons(ETH_P_IPV6)) {
    outer = read_v6((void *)(eth + 1), data_end);
  }
  if (outer.header_bytes < (int)sizeof(struct iphdr)) return TC_ACT_OK;

  bool changes = outer.type_be != outer.inner_type_be;
  /* Packets that GRO has merged keep their segment size: it is the inner segments'. */
  __u64 flags = ROOM_FIXED_GSO | (changes ? ROOM_DECAP_L3_IPV4 : 0);
  long failed = bpf_skb_adjust_room(skb, -outer.header_bytes, ROOM_MAC, flags);
  /* Kernels before 6.3 cannot change the protocol that the stack goes by (skb->protocol): the
   * packet has to come in once more, and to be one that would fit IPv6. */
  bool again = failed && changes;
  if (again) failed = bpf_skb_adjust_room(skb, -outer.header_bytes, ROOM_MAC, ROOM_FIXED_GSO);
  if (failed) return TC_ACT_SHOT;
  if (bpf_skb_store_bytes(skb, __builtin_offsetof(struct ethhdr, h_proto), &outer.inner_type_be,
                          sizeof(outer.inner_type_be), 0) != 0)
    return TC_ACT_SHOT;
  return again ? (int)bpf_redirect(packet->ifindex, REDIRECT_INGRESS) : TC_ACT_OK;
}

SEC("xdp")
int as_it_is(struct xdp_md *ctx __attribute__((unused))) { return XDP_PASS; }

char LICENSE[] SEC("license") = "Dual MIT/GPL";
