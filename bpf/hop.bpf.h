/* SPDX-License-Identifier: MIT */
/* Next hops: where a rewritten packet leaves, and with which Ethernet addresses.
 *
 * A backend's lies in `backends`, a client's in its connection, else in `routes`: all kept by the
 * agent from the kernel's own tables. Only where these have nothing is bpf_fib_lookup asked, and
 * where that has nothing the packet goes to the kernel's routing.
 */
#ifndef PETREL_BPF_HOP_BPF_H
#define PETREL_BPF_HOP_BPF_H

#include "bpf/account.bpf.h"
#include "bpf/rewrite.bpf.h"

#define AF_INET_ 2
#define AF_INET6_ 10

static __always_inline int send_frame(struct xdp_md *ctx, struct ethhdr *eth,
                                      const struct next_hop *hop) {
  __builtin_memcpy(eth->h_dest, hop->destination_mac, sizeof(hop->destination_mac));
  __builtin_memcpy(eth->h_source, hop->source_mac, sizeof(hop->source_mac));
  if (hop->ifindex == ctx->ingress_ifindex) return send_back(ctx);
  tap_leaves_by(hop->ifindex);
  return bpf_redirect(hop->ifindex, 0);
}

static __always_inline int send_to(struct xdp_md *ctx, struct packet *packet,
                                   const struct next_hop *hop) {
  age_ttl(packet);
  return send_frame(ctx, packet->eth, hop);
}

/* What a look-up needs of a packet. */
struct trip {
  struct address source;
  struct address destination;
  __u32 service_id;
  __u16 l3_bytes;
  __u8 is_v6;
  __u8 protocol;
};

/* What the rarer ways need besides the stack, which is 512 bytes for a whole chain of calls. */
struct scratch {
  struct trip trip;
  struct bpf_fib_lookup query;
  struct next_hop hop; /* what find_hop() found */
  __u32 mtu;           /* of that way; 0: unknown */
};

/* scratch: work space of one packet on one CPU.
 * Key: 0.  Value: struct scratch.  Writer and reader: balancer.  Size: 1, for each CPU. */
struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct scratch);
} scratch SEC(".maps");

static __always_inline struct scratch *scratch_at_hand(void) {
  __u32 zero = 0;

  return bpf_map_lookup_elem(&scratch, &zero);
}

static __always_inline bool ask_kernel(struct xdp_md *ctx, struct scratch *work) {
  struct bpf_fib_lookup *query = &work->query;
  const struct trip *trip = &work->trip;

  __builtin_memset(query, 0, sizeof(*query));
  query->ifindex = ctx->ingress_ifindex;
  query->l4_protocol = trip->protocol;
  query->tot_len = trip->l3_bytes;
  if (!trip->is_v6) {
    query->family = AF_INET_;
    query->ipv4_src = trip->source.words_be[3];
    query->ipv4_dst = trip->destination.words_be[3];
  } else {
    query->family = AF_INET6_;
    __builtin_memcpy(query->ipv6_src, &trip->source, sizeof(query->ipv6_src));
    __builtin_memcpy(query->ipv6_dst, &trip->destination, sizeof(query->ipv6_dst));
  }
  if (bpf_fib_lookup(ctx, query, sizeof(*query), 0) != BPF_FIB_LKUP_RET_SUCCESS) return false;
  __builtin_memcpy(work->hop.destination_mac, query->dmac, sizeof(work->hop.destination_mac));
  __builtin_memcpy(work->hop.source_mac, query->smac, sizeof(work->hop.source_mac));
  work->hop.ifindex = query->ifindex;
  work->mtu = 0;
  count_verdict(trip->service_id, VERDICT_FIB_LOOKUP);
  return true;
}

/* Where the (rewritten) packet of scratch.trip goes, in scratch.hop; NULL: the kernel itself must
 * say. */
static __noinline struct next_hop *find_hop(struct xdp_md *ctx) {
  struct scratch *work = scratch_at_hand();

  if (!work) return NULL;
  struct route_key key = {.prefix_bits = 128, .address = work->trip.destination};
  struct route *route = bpf_map_lookup_elem(&routes, &key);
  if (route && route->hop.ifindex) {
    work->hop = route->hop;
    work->mtu = route->mtu;
    return &work->hop;
  }
  return ask_kernel(ctx, work) ? &work->hop : NULL;
}

static __always_inline __u32 l3_bytes_of(const struct packet *packet) {
  return packet->is_v6 ? bpf_ntohs(packet->v6->payload_len) + sizeof(struct ipv6hdr)
                       : bpf_ntohs(packet->v4->tot_len);
}

/* Routers may cut it up: IPv4 without "don't fragment". */
static __always_inline bool may_be_cut(const struct packet *packet) {
  return !packet->is_v6 && !(packet->v4->frag_off & bpf_htons(IP_DF));
}

/* The same for a packet that will go from `source` to `destination`. */
static __noinline struct next_hop *find_hop_of(struct xdp_md *ctx, const struct packet *packet,
                                               const struct address *source,
                                               const struct address *destination,
                                               __u32 service_id) {
  struct scratch *work = scratch_at_hand();

  if (!work) return NULL;
  work->trip.source = *source;
  work->trip.destination = *destination;
  work->trip.service_id = service_id;
  work->trip.is_v6 = packet->is_v6;
  work->trip.protocol = packet->protocol;
  work->trip.l3_bytes = l3_bytes_of(packet);
  return find_hop(ctx);
}

static __always_inline __u32 route_generation(void) {
  __u32 zero = 0;
  struct control *state = bpf_map_lookup_elem(&control, &zero);

  return state ? state->route_generation : 0;
}

#endif /* PETREL_BPF_HOP_BPF_H */
