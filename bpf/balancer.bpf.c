/* SPDX-License-Identifier: MIT */
/* The balancer: XDP, for TCP and UDP over IPv4 and IPv6, with the wire sensor in path.
 *
 * To a VIP: find the flow's backend or pin it to one, then rewrite the destination (nat) or wrap the
 * packet (dsr), and send it to the backend's next hop. From a backend: find the flow, rewrite the
 * source to the VIP, send to the client's next hop. All else, and whatever cannot be parsed, passes
 * untouched. The packet of an established flow takes the straight way through this file; what is
 * rarer is done by functions of the headers.
 */
#include "vmlinux.h"

#ifdef PETREL_BPF_OLD
#define ARGUMENTS_BY_MAP
#endif

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "bpf/answer.bpf.h"
#include "bpf/encap.bpf.h"
#include "bpf/fragment.bpf.h"
#include "bpf/hedge.bpf.h"
#include "bpf/icmp.bpf.h"

static __always_inline int done(__u32 service_id, __u32 verdict, int action) {
  count_verdict(service_id, verdict);
  return action;
}

/* What is left to be done once balance() has returned and its stack is free: an action of XDP, or one
 * of these with what it needs. */
enum rest {
  REST_ICMP = 1 << 8,
  REST_FRAGMENT = 1 << 9,
  REST_CLIENT = 1 << 10,  /* for old kernels: from a client */
  REST_BACKEND = 1 << 11, /* the same, from a backend */
  REST_REFUSE = 1 << 30,  /* | verdict << 16 | service id */
  REST_TOO_BIG = 1 << 29, /* | service id << 16 | MTU */
};

/* --- client to backend -------------------------------------------------------------------- */

static __always_inline int refuse(__u32 service_id, __u32 verdict) {
  return REST_REFUSE | (verdict & 0xff) << 16 | service_id;
}

/* The sender is told, by a message that is built once balance() has returned. */
static __always_inline int too_big(__u32 service_id, __u32 mtu) {
  return REST_TOO_BIG | service_id << 16 | (mtu & 0xffff);
}

static __noinline int forward_encapsulated(struct xdp_md *ctx, struct packet *packet,
                                           const struct connection_key *key,
                                           struct backend *backend) {
  __u32 service_id = key->service_id;
  int action = encapsulate(ctx, packet, backend, hash_flow(key, 0, false));

  if (action < 0) return too_big(service_id, -action);
  if (action == XDP_PASS) return done(service_id, VERDICT_KERNEL_ROUTED, action);
  if (action == XDP_DROP) return done(service_id, VERDICT_DROPPED, action);
  return done(service_id, VERDICT_FORWARDED, action);
}

/* While admission limits the service: a client that has left its request unanswered is told of as gone.
 * To a backend a FIN alone might be of one that still reads. */
static __noinline int end_abandoned(struct packet *packet, __u32 service_id) {
  struct inflight *all = bpf_map_lookup_elem(&svc_inflight, &service_id);

  if (!packet || !packet->tcp || !all || !all->ends_abandoned || agent_is_silent(clock_ns()))
    return 0;
  make_reset(packet);
  count_verdict(service_id, VERDICT_ENDED_ABANDONED);
  return 0;
}

static __always_inline int to_backend(struct xdp_md *ctx, struct packet *packet,
                                      const struct service *service) {
  __u32 service_id = service->service_id;
  struct connection_key key = {.client = packet->source,
                               .client_port_be = packet->source_port_be,
                               .service_port_be = packet->destination_port_be,
                               .service_id = service_id};

  if (!(service->flags & SERVICE_READY)) return done(service_id, VERDICT_NOT_READY, XDP_PASS);
  if (packet_ttl(packet) <= 1) return done(service_id, VERDICT_TTL_EXPIRED, XDP_PASS);
  struct connection *connection = NULL;
  struct backend *backend = NULL;
  __u32 backend_id = 0;
  bool is_syn = is_first_syn(packet);
  bool leaves = false;
  if (!is_syn || (service->flags & SERVICE_DSR)) connection = bpf_map_lookup_elem(&connections, &key);
  if (connection && !is_syn) {
    backend_id = connection->backend_id;
    backend = bpf_map_lookup_elem(&backends, &backend_id);
  }
  if (backend && backend->service_id == service_id && backend->state != BACKEND_REMOVED) {
    leaves = packet->is_tcp && packet->tcp->fin && connection->state != CONNECTION_CLOSED;
    if (wire_sensor)
      sense_client_segment(ctx, packet, &key, connection, service->flags & SERVICE_DSR);
    leaves = leaves && connection->failure == FAILURE_ABANDONED;
  } else {
    backend_id = backend_of(ctx, packet, service, &key, connection);
    if (backend_id & REFUSED_WITH) return refuse(service_id, backend_id & ~REFUSED_WITH);
    backend = bpf_map_lookup_elem(&backends, &backend_id);
    if (!backend || !backend_id || !backend->service_id)
      return done(service_id, VERDICT_NO_BACKEND, XDP_PASS);
  }
  if (packet->payload_bytes && wire_sensor) settle_unsettled();
  tap_backend(backend_id);
  if (packet->fragment == FRAGMENT_FIRST) remember_fragment(packet, service_id, backend_id);
  if (service->flags & SERVICE_DSR) return forward_encapsulated(ctx, packet, &key, backend);
  bool too_long = backend->mtu && l3_bytes_of(packet) > backend->mtu;
  if (too_long && !may_be_cut(packet)) return too_big(service_id, backend->mtu);
  if (leaves) end_abandoned(packet, service_id);
  rewrite_destination(packet, &backend->address,
                      backend->port_be ? backend->port_be : packet->destination_port_be);
  /* The kernel cuts up what is too long. */
  if (too_long) return done(service_id, VERDICT_KERNEL_ROUTED, XDP_PASS);
  struct next_hop *hop = &backend->hop;
  if (!hop->ifindex)
    hop = find_hop_of(ctx, packet, &packet->source, &backend->address, service_id);
  if (!hop) return done(service_id, VERDICT_KERNEL_ROUTED, XDP_PASS);
  return done(service_id, VERDICT_FORWARDED, send_to(ctx, packet, hop));
}

/* --- backend to client -------------------------------------------------------------------- */

static __always_inline bool is_too_long(const struct packet *packet, __u32 mtu) {
  return mtu && l3_bytes_of(packet) > mtu;
}

/* A reply that its way does not take goes to the kernel, to be cut up; if it may not be, as the backend
 * sent it: the "too big" that the kernel answers with then names addresses that the backend knows. */
static __noinline int leave_too_long(struct packet *packet, const struct backend *backend,
                                     __be16 vip_port_be) {
  if (may_be_cut(packet)) rewrite_source(packet, &backend->vip, vip_port_be);
  return done(backend->service_id, VERDICT_KERNEL_ROUTED, XDP_PASS);
}

static __always_inline int to_client(struct xdp_md *ctx, struct packet *packet, __u32 backend_id,
                                     struct backend *backend) {
  /* The service and the port are the key's from here on: older verifiers count the stack of a chain of
   * calls in steps of 32 bytes, and have room for each but once. */
  __be16 vip_port_be = backend->vip_port_be ? backend->vip_port_be : packet->source_port_be;
  struct connection_key key = {.client = packet->destination,
                               .client_port_be = packet->destination_port_be,
                               .service_port_be = vip_port_be,
                               .service_id = backend->service_id};
  struct connection *connection = bpf_map_lookup_elem(&connections, &key);

  tap_backend(backend_id);
  if (packet_ttl(packet) <= 1) return done(key.service_id, VERDICT_TTL_EXPIRED, XDP_PASS);
  if (connection && packet->is_tcp && (packet->tcp->syn || packet->tcp->rst) &&
      replaces_connection(packet, &key, backend_id, connection))
    connection = NULL;
  if (connection) {
    if (connection->backend_id != backend_id) return refuse(key.service_id, VERDICT_LATE_BACKEND);
    if (backend->state == BACKEND_REMOVED) return refuse(key.service_id, VERDICT_GONE_RESET);
    if (wire_sensor) sense_backend_segment(ctx, packet, &key, connection);
  } else {
    switch (answer_half_open(ctx, packet, &key, backend_id, backend)) {
      case ANSWER_FORWARD: break;
      case ANSWER_LATE: return refuse(key.service_id, VERDICT_LATE_BACKEND);
      case ANSWER_MASK:
        return done(key.service_id, VERDICT_REFUSAL_MASKED, send_syn_instead(ctx, &key));
      default: return done(key.service_id, VERDICT_NO_CONNECTION, XDP_PASS);
    }
  }
  if (packet->fragment == FRAGMENT_FIRST) remember_fragment(packet, key.service_id, backend_id);
  __u32 generation = route_generation();
  if (connection && connection->client_hop.ifindex &&
      connection->client_hop_generation == generation) {
    if (is_too_long(packet, connection->client_mtu))
      return leave_too_long(packet, backend, key.service_port_be);
    rewrite_source(packet, &backend->vip, key.service_port_be);
    return done(key.service_id, VERDICT_RETURNED, send_to(ctx, packet, &connection->client_hop));
  }
  struct next_hop *hop =
      find_hop_of(ctx, packet, &backend->vip, &packet->destination, key.service_id);
  struct scratch *work = scratch_at_hand();
  if (hop && work && is_too_long(packet, work->mtu))
    return leave_too_long(packet, backend, key.service_port_be);
  rewrite_source(packet, &backend->vip, key.service_port_be);
  if (!hop || !work) return done(key.service_id, VERDICT_KERNEL_ROUTED, XDP_PASS);
  if (connection) {
    connection->client_hop = *hop;
    connection->client_hop_generation = generation;
    connection->client_mtu = work->mtu < 0xffff ? work->mtu : 0;
  }
  return done(key.service_id, VERDICT_RETURNED, send_to(ctx, packet, hop));
}

/* A dsr backend's SYN-ACK that happens to come through us: what it earns is encapsulated. */
static __noinline int clamp_answer(struct packet *packet) {
  struct service *service = find_service(&packet->source, packet->source_port_be, PROTOCOL_TCP);

  if (!service || !(service->flags & SERVICE_DSR)) return 0;
  struct connection_key key = {.client = packet->destination,
                               .client_port_be = packet->destination_port_be,
                               .service_port_be = packet->source_port_be,
                               .service_id = service->service_id};
  struct half_open *flow = find_half_open(&key, hash_flow(&key, 0, false));
  if (!flow) return 0;
  __u32 backend_id = flow->backend_id;
  struct backend *backend = bpf_map_lookup_elem(&backends, &backend_id);
  if (!backend || backend->mtu < 576) return 0;
  bool outer_v6 = is_v6_address(&backend->address);
  __u32 headers = (outer_v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr)) + TCP_BYTES +
                  (packet->is_v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr));
  if (lower_mss(packet, backend->mtu - headers)) count_verdict(key.service_id, VERDICT_MSS_CLAMPED);
  return 0;
}

/* --- entry -------------------------------------------------------------------------------- */

/* For old kernels, whose verifier gives up on the whole, the work is divided: see go_on(). */
enum part { PART_WHOLE, PART_ENTRY, PART_CLIENT, PART_BACKEND, PART_RARE, PARTS };

/* An action, or enum rest. `part` is a constant where this is inlined. */
static __always_inline int balance_part(struct xdp_md *ctx, enum part part) {
  struct packet packet;
  __u32 zero = 0;
  int parsed = parse_addresses(ctx, &packet);

  if (parsed == PARSE_OTHER) return done(0, VERDICT_NOT_OURS, XDP_PASS);
  if (parsed != PARSE_GOOD) return done(0, VERDICT_MALFORMED, XDP_PASS);
  struct address_filter *filter = bpf_map_lookup_elem(&address_filter, &zero);
  if (!filter) return done(0, VERDICT_NOT_READY, XDP_PASS);
  if (packet.protocol == PROTOCOL_ICMP || packet.protocol == PROTOCOL_ICMPV6)
    return REST_ICMP;
  bool to_vip = part == PART_CLIENT ||
                (part != PART_BACKEND && may_be_vip(filter, hash_address(&packet.destination)));
  bool from_backend = false, from_vip = false;
  if (!to_vip) {
    __u32 bit = hash_address(&packet.source);
    from_backend = may_be_backend(filter, bit);
    from_vip = may_be_vip(filter, bit);
    if (!from_backend && !from_vip) return done(0, VERDICT_NOT_OURS, XDP_PASS);
  }
  if (packet.protocol != PROTOCOL_TCP && packet.protocol != PROTOCOL_UDP)
    return done(0, VERDICT_NOT_OURS, XDP_PASS);
  if (packet.fragment == FRAGMENT_LATER) return REST_FRAGMENT;
  if (part == PART_ENTRY) return to_vip ? REST_CLIENT : REST_BACKEND;
  if (parse_transport(&packet) != PARSE_GOOD) return done(0, VERDICT_MALFORMED, XDP_PASS);

  if (to_vip) {
    struct service *service =
        find_service(&packet.destination, packet.destination_port_be, packet.protocol);
    if (service) return to_backend(ctx, &packet, service);
    if (bpf_map_lookup_elem(&vips, &packet.destination))
      return done(0, VERDICT_NO_SERVICE, XDP_PASS);
    /* A stranger whose address shares a bit with a VIP: perhaps a backend's client. */
    from_backend = may_be_backend(filter, hash_address(&packet.source));
    if (part == PART_CLIENT && from_backend) return REST_BACKEND;
    if (part == PART_CLIENT) return done(0, VERDICT_NOT_OURS, XDP_PASS);
  }
  if (from_backend) {
    __u32 id = find_backend(&packet.source, packet.source_port_be, packet.protocol);
    struct backend *backend = bpf_map_lookup_elem(&backends, &id);
    /* Not ready: sockets tell of its service, and it has flows that are none of ours. */
    if (id && backend && (backend->service_flags & SERVICE_READY))
      return to_client(ctx, &packet, id, backend);
  }
  if (from_vip && packet.is_tcp && packet.tcp->syn && packet.tcp->ack) clamp_answer(&packet);
  return done(0, VERDICT_NOT_OURS, XDP_PASS);
}

static __noinline int answer_sender(struct xdp_md *ctx, int rest) {
  if (rest & REST_REFUSE) {
    __u32 verdict = rest >> 16 & 0xff;
    int action = answer_with_reset(ctx);
    /* What a backend says too late is dropped when no answer is due: a RST is not answered. */
    if (action == XDP_DROP && verdict != VERDICT_LATE_BACKEND && verdict != VERDICT_GONE_RESET)
      verdict = VERDICT_DROPPED;
    return done(rest & 0xffff, verdict, action);
  }
  int action = answer_too_big(ctx, rest & 0xffff);
  return done(rest >> 16 & 0x1fff, action == XDP_DROP ? VERDICT_DROPPED : VERDICT_TOO_BIG, action);
}

static __noinline int do_rest(struct xdp_md *ctx, int rest) {
  if (rest & (REST_REFUSE | REST_TOO_BIG)) return answer_sender(ctx, rest);
  return rest & REST_ICMP ? handle_icmp(ctx) : follow_fragment(ctx);
}

#ifndef PETREL_BPF_OLD
static __noinline int balance(struct xdp_md *ctx) { return balance_part(ctx, PART_WHOLE); }

SEC("xdp")
int petrel_balancer(struct xdp_md *ctx) {
  if (is_tapping()) tap_arrival(ctx);
  int action = balance(ctx);
  if (action > 0xff) action = do_rest(ctx, action);
  if (is_tapping()) tap_departure(ctx, action);
  return action;
}
#else
/* What is left to be done: an enum rest. */
ROOM_FOR(int, room_rest);

int petrel_client(struct xdp_md *ctx);
int petrel_backend(struct xdp_md *ctx);
int petrel_rare(struct xdp_md *ctx);

/* parts: the programs that the balancer of old kernels goes on to.
 * Key: enum part.  Value: program.
 * Writer: agent, at a start.  Reader: balancer.  Size: PARTS. */
struct {
  __uint(type, BPF_MAP_TYPE_PROG_ARRAY);
  __uint(max_entries, PARTS);
  __uint(key_size, sizeof(__u32)); /* of such a map the kernel takes no BTF */
  __array(values, int(void *));
} parts SEC(".maps") = {.values = {[PART_CLIENT] = (void *)&petrel_client,
                                   [PART_BACKEND] = (void *)&petrel_backend,
                                   [PART_RARE] = (void *)&petrel_rare}};

/* The action; or another program does the rest of the work, with a stack of its own. */
static __always_inline int go_on(struct xdp_md *ctx, int action) {
  if (action <= 0xff) return action;
  __u32 part = action == REST_CLIENT    ? PART_CLIENT
               : action == REST_BACKEND ? PART_BACKEND
                                        : PART_RARE;
  int *rest = room_of(room_rest);
  if (rest) *rest = action;
  bpf_tail_call(ctx, &parts, part);
  return XDP_PASS;
}

SEC("xdp")
int petrel_balancer(struct xdp_md *ctx) { return go_on(ctx, balance_part(ctx, PART_ENTRY)); }

SEC("xdp")
int petrel_client(struct xdp_md *ctx) { return go_on(ctx, balance_part(ctx, PART_CLIENT)); }

SEC("xdp")
int petrel_backend(struct xdp_md *ctx) { return go_on(ctx, balance_part(ctx, PART_BACKEND)); }

SEC("xdp")
int petrel_rare(struct xdp_md *ctx) {
  int *rest = room_of(room_rest);

  return rest ? do_rest(ctx, *rest) : XDP_PASS;
}
#endif

char LICENSE[] SEC("license") = "Dual MIT/GPL";
