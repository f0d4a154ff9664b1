/* SPDX-License-Identifier: MIT */
/* ICMP and ICMPv6: pings to a VIP are answered; errors follow the flow whose packet they quote.
 *
 * An error quotes the packet as its reporter saw it. About a client's packet it quotes the backend
 * that we wrote into it, and is on its way to the client: the VIP is put back, inside and out. About
 * a reply it quotes the VIP and was sent to it: inside and out the backend takes its place (dsr: it
 * is encapsulated as it is). Every checksum is kept right: the inner ones, and ICMP's over them.
 */
#ifndef PETREL_BPF_ICMP_BPF_H
#define PETREL_BPF_ICMP_BPF_H

#include "bpf/encap.bpf.h"
#include "bpf/half_open.bpf.h"
#include "bpf/service.bpf.h"

struct icmp {
  __u8 type;
  __u8 code;
  __sum16 check;
  __be32 rest;
};

/* The packet that an error quotes: as much of it as we need. */
struct quoted {
  struct iphdr *v4; /* IPv4: its header, whose checksum covers the addresses */
  void *address;    /* of the end that is rewritten: in the header, 4 or 16 bytes */
  void *l4;
  __u8 protocol;
  struct address source;
  struct address destination;
  __be16 source_port_be;
  __be16 destination_port_be;
};

static __always_inline bool is_error(bool is_v6, __u8 type) {
  if (is_v6) return type >= 1 && type <= 4; /* unreachable, too big, time exceeded, parameter */
  return type == 3 || type == 11 || type == 12;
}

/* Where the transport's header of a quoted IPv6 packet lies: its protocol, and in the lower 16 bits
 * its distance from the quoted header's begin; 0: it is not quoted, or behind too many headers. A
 * global function, as parse_slow() is. */
__noinline int skip_quoted(struct xdp_md *ctx, __u32 l3_offset) {
  void *data_end = (void *)(long)ctx->data_end;
  void *data = (void *)(long)ctx->data;

  if (l3_offset > 1024) return 0;
  struct ipv6hdr *ip = data + l3_offset;
  if ((void *)(ip + 1) > data_end) return 0;
  __u32 offset = sizeof(*ip);
  __u8 next = ip->nexthdr;
  for (int i = 0; i < EXTENSION_HEADERS; i++) {
    if (next != PROTOCOL_HOPOPTS && next != PROTOCOL_ROUTING && next != PROTOCOL_DSTOPTS &&
        next != PROTOCOL_FRAGMENT)
      break;
    if (offset > sizeof(*ip) + EXTENSION_BYTES) return 0;
    struct extension *extension = (void *)ip + offset;
    if ((void *)(extension + 1) > data_end) return 0;
    if (next != PROTOCOL_FRAGMENT)
      offset += extension->units * 8;
    else if (extension->fragment_offset_be & bpf_htons(0xfff8))
      return 0; /* a later fragment */
    offset += 8;
    next = extension->next;
  }
  return next << 16 | offset;
}

static __always_inline bool read_quoted(struct xdp_md *ctx, const struct packet *packet,
                                        struct quoted *out) {
  void *l3 = packet->l4 + sizeof(struct icmp);
  barrier_var(l3);

  if (packet->is_v6) {
    struct ipv6hdr *ip = l3;
    if ((void *)(ip + 1) > packet->data_end) return false;
    long l3_offset = l3 - (void *)packet->eth;
    barrier_var(l3_offset); /* a 64-bit difference: the verifier allows pointers no other */
    __u32 found = skip_quoted(ctx, (__u32)l3_offset);
    __u32 header_bytes = found & 0xffff;
    if (header_bytes < sizeof(*ip) || header_bytes > sizeof(*ip) + EXTENSION_BYTES) return false;
    if (packet->l4_bytes < sizeof(struct icmp) + header_bytes + 8) return false;
    out->protocol = found >> 16;
    __builtin_memcpy(&out->source, &ip->saddr, sizeof(out->source));
    __builtin_memcpy(&out->destination, &ip->daddr, sizeof(out->destination));
    out->l4 = l3 + header_bytes;
  } else {
    struct iphdr *ip = l3;
    if ((void *)(ip + 1) > packet->data_end) return false;
    __u32 header_bytes = ip->ihl * 4;
    if (header_bytes < sizeof(*ip) || (ip->frag_off & bpf_htons(IP_OFFSET_MASK))) return false;
    if (packet->l4_bytes < sizeof(struct icmp) + header_bytes + 8) return false;
    out->protocol = ip->protocol;
    address_from_v4(&out->source, ip->saddr);
    address_from_v4(&out->destination, ip->daddr);
    out->l4 = l3 + header_bytes;
  }
  __be16 *ports = out->l4;
  barrier_var(ports);
  if ((void *)ports + 8 > packet->data_end) return false;
  out->l4 = ports;
  out->source_port_be = ports[0];
  out->destination_port_be = ports[1];
  return out->protocol == PROTOCOL_TCP || out->protocol == PROTOCOL_UDP;
}

/* Replaces an address and a port of the quoted packet; returns what that adds to ICMP's sum. */
static __always_inline __u64 rewrite_quoted(const struct packet *packet, struct quoted *quoted,
                                            bool destination, const struct address *to,
                                            __be16 port_be) {
  const struct address *from = destination ? &quoted->destination : &quoted->source;
  __be16 old_port_be = destination ? quoted->destination_port_be : quoted->source_port_be;
  __u64 address = address_delta(from, to);
  __u64 l4 = address + word_delta(old_port_be, port_be);
  __u64 sum = l4;
  __be16 *words = quoted->l4;
  void *l3 = packet->l4 + sizeof(struct icmp);
  barrier_var(l3);

  if (packet->is_v6) {
    struct ipv6hdr *ip = l3;
    if ((void *)(ip + 1) > packet->data_end) return 0;
    __builtin_memcpy(destination ? (void *)&ip->daddr : (void *)&ip->saddr, to, sizeof(*to));
  } else {
    struct iphdr *ip = l3;
    if ((void *)(ip + 1) > packet->data_end) return 0;
    if (destination)
      ip->daddr = to->words_be[3];
    else
      ip->saddr = to->words_be[3];
    __sum16 before = ip->check;
    ip->check = checksum_adjust(before, address);
    sum += word_delta(before, ip->check);
  }
  if ((void *)(words + 4) > packet->data_end) return 0;
  words[destination ? 1 : 0] = port_be;
  /* The quoted transport checksum, where the quote reaches that far: UDP's always does. */
  __sum16 *check = NULL;
  if (quoted->protocol == PROTOCOL_UDP) {
    check = (__sum16 *)(words + 3);
    if (!*check) check = NULL;
  } else if ((void *)(words + 9) <= packet->data_end &&
             (void *)(words + 9) <= packet->l4 + packet->l4_bytes) {
    check = (__sum16 *)(words + 8);
  }
  if (check) {
    __sum16 before = *check;
    *check = checksum_adjust(before, l4);
    if (!*check && quoted->protocol == PROTOCOL_UDP) *check = 0xffff; /* 0: there is none */
    sum += word_delta(before, *check);
  }
  return sum;
}

/* The backend that holds the flow; 0: nobody knows it. */
static __always_inline __u32 backend_of_key(const struct connection_key *key) {
  struct connection *connection = bpf_map_lookup_elem(&connections, key);

  if (connection) return connection->backend_id;
  struct half_open *flow = find_half_open(key, hash_flow(key, 0, false));
  return flow ? flow->backend_id : 0;
}

static __always_inline int unmatched(void) {
  count_verdict(0, VERDICT_ICMP_UNMATCHED);
  return XDP_PASS;
}

static __always_inline struct icmp *icmp_of(const struct packet *packet) {
  void *l4 = packet->l4;
  barrier_var(l4);
  struct icmp *icmp = l4;

  return (void *)(icmp + 1) > packet->data_end ? NULL : icmp;
}

/* To a backend that answers by way of us: it takes the VIP's place, inside and out. In a function of
 * its own, lest its stack be encapsulate()'s too. */
static __noinline int rewrite_to_backend(struct xdp_md *ctx, struct packet *packet,
                                         struct quoted *quoted, struct backend *backend) {
  struct icmp *icmp = icmp_of(packet);
  __u32 service_id = backend->service_id;
  __be16 port_be = backend->port_be ? backend->port_be : quoted->source_port_be;

  if (!icmp) return unmatched();
  count_verdict(service_id, VERDICT_ICMP_FORWARDED);
  __u64 sum = rewrite_quoted(packet, quoted, false, &backend->address, port_be);
  __u64 outer = rewrite_ip(packet, &packet->destination, &backend->address, true);
  if (packet->is_v6) sum += outer;
  icmp->check = checksum_adjust(icmp->check, sum);
  struct next_hop *hop = &backend->hop;
  if (!hop->ifindex)
    hop = find_hop_of(ctx, packet, &packet->source, &backend->address, service_id);
  return hop ? send_to(ctx, packet, hop) : XDP_PASS;
}

/* About a reply of a backend: quotes the VIP as its source, was sent to the VIP. */
static __noinline int error_to_backend(struct xdp_md *ctx, struct packet *packet,
                                       struct quoted *quoted, __u32 service_id) {
  struct connection_key key = {.client = quoted->destination,
                               .client_port_be = quoted->destination_port_be,
                               .service_port_be = quoted->source_port_be,
                               .service_id = service_id};
  __u32 backend_id = backend_of_key(&key);
  struct backend *backend = bpf_map_lookup_elem(&backends, &backend_id);

  if (!backend_id || !backend || backend->service_id != service_id) return unmatched();
  tap_backend(backend_id);
  if (backend->service_flags & SERVICE_DSR) {
    int action = encapsulate(ctx, packet, backend, hash_flow(&key, 0, false));
    if (action < 0) action = XDP_DROP; /* errors are not answered with errors */
    count_verdict(service_id, action == XDP_DROP ? VERDICT_DROPPED : VERDICT_ICMP_FORWARDED);
    return action;
  }
  return rewrite_to_backend(ctx, packet, quoted, backend);
}

/* About a client's packet: quotes the backend as its destination, is on its way to the client. */
static __noinline int error_to_client(struct xdp_md *ctx, struct packet *packet,
                                      struct quoted *quoted, __u32 backend_id) {
  struct backend *backend = bpf_map_lookup_elem(&backends, &backend_id);
  struct icmp *icmp = icmp_of(packet);

  if (!backend || !backend->service_id || !icmp) return unmatched();
  __u32 service_id = backend->service_id;
  __be16 port_be = backend->vip_port_be ? backend->vip_port_be : quoted->destination_port_be;
  struct connection_key key = {.client = quoted->source,
                               .client_port_be = quoted->source_port_be,
                               .service_port_be = port_be,
                               .service_id = service_id};
  if (backend_of_key(&key) != backend_id || !same_address(&quoted->source, &packet->destination))
    return unmatched();
  tap_backend(backend_id);
  count_verdict(service_id, VERDICT_ICMP_FORWARDED);
  __u64 sum = rewrite_quoted(packet, quoted, true, &backend->vip, port_be);
  /* From the backend itself: clients know it as the VIP alone. A router keeps its own name. */
  if (same_address(&packet->source, &backend->address)) {
    __u64 outer = rewrite_ip(packet, &packet->source, &backend->vip, false);
    if (packet->is_v6) sum += outer;
  }
  icmp->check = checksum_adjust(icmp->check, sum);
  struct next_hop *hop =
      find_hop_of(ctx, packet, &backend->vip, &packet->destination, service_id);
  return hop ? send_to(ctx, packet, hop) : XDP_PASS;
}

/* An echo request to a VIP comes back as its reply (RFC 792, RFC 4443 4.2). */
static __always_inline int answer_ping(struct xdp_md *ctx, struct packet *packet,
                                       struct icmp *icmp) {
  __u8 reply = packet->is_v6 ? 129 : 0;
  __u16 before = *(__u16 *)icmp;
  __u8 mac[6];

  icmp->type = reply;
  icmp->check = checksum_adjust(icmp->check, word_delta(before, *(__u16 *)icmp));
  rewrite_ip(packet, &packet->destination, &packet->source, true);
  rewrite_ip(packet, &packet->source, &packet->destination, false);
  if (packet->is_v6) {
    packet->v6->hop_limit = OUR_TTL;
  } else {
    __u16 ttl = *(__u16 *)&packet->v4->ttl;
    packet->v4->ttl = OUR_TTL;
    packet->v4->check =
        checksum_adjust(packet->v4->check, word_delta(ttl, *(__u16 *)&packet->v4->ttl));
  }
  __builtin_memcpy(mac, packet->eth->h_dest, sizeof(mac));
  __builtin_memcpy(packet->eth->h_dest, packet->eth->h_source, sizeof(mac));
  __builtin_memcpy(packet->eth->h_source, mac, sizeof(mac));
  count_verdict(0, VERDICT_PING);
  return send_back(ctx);
}

/* An ICMP message, to whomever. Returns the action; has counted. */
__noinline int handle_icmp(struct xdp_md *ctx) {
  struct packet packet;
  struct quoted quoted = {};

  if (parse_again(ctx, &packet) != PARSE_GOOD || packet.fragment != FRAGMENT_NONE) {
    count_verdict(0, VERDICT_NOT_OURS);
    return XDP_PASS;
  }
  struct icmp *icmp = icmp_of(&packet);
  if (!icmp || packet.l4_bytes < sizeof(*icmp) ||
      packet.protocol != (packet.is_v6 ? PROTOCOL_ICMPV6 : PROTOCOL_ICMP)) {
    count_verdict(0, VERDICT_NOT_OURS);
    return XDP_PASS;
  }
  bool to_vip = bpf_map_lookup_elem(&vips, &packet.destination);
  if (to_vip && icmp->type == (packet.is_v6 ? 128 : 8) && icmp->code == 0)
    return answer_ping(ctx, &packet, icmp);
  if (!is_error(packet.is_v6, icmp->type)) {
    count_verdict(0, to_vip ? VERDICT_NO_SERVICE : VERDICT_NOT_OURS);
    return XDP_PASS;
  }
  if (packet_ttl(&packet) <= 1) {
    count_verdict(0, VERDICT_TTL_EXPIRED);
    return XDP_PASS;
  }
  if (!read_quoted(ctx, &packet, &quoted)) {
    count_verdict(0, to_vip ? VERDICT_ICMP_UNMATCHED : VERDICT_NOT_OURS);
    return XDP_PASS;
  }
  /* Errors go to whom their quote came from: nobody else is told of a flow. */
  if (to_vip && !same_address(&quoted.source, &packet.destination)) return unmatched();
  if (to_vip) {
    struct service *service =
        find_service(&quoted.source, quoted.source_port_be, quoted.protocol);
    return service ? error_to_backend(ctx, &packet, &quoted, service->service_id) : unmatched();
  }
  __u32 backend_id =
      find_backend(&quoted.destination, quoted.destination_port_be, quoted.protocol);
  if (backend_id) return error_to_client(ctx, &packet, &quoted, backend_id);
  count_verdict(0, VERDICT_NOT_OURS);
  return XDP_PASS;
}

#endif /* PETREL_BPF_ICMP_BPF_H */
