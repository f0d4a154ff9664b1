/* SPDX-License-Identifier: MIT */
/* The balancer: XDP NAT for TCP over IPv4 and IPv6, both directions, with the wire sensor in path.
 *
 * To a VIP: pin the flow to a backend, rewrite the destination, send to the backend's next hop.
 * From a backend: find the flow, rewrite the source to the VIP, send to the client's next hop.
 * All else, and whatever cannot be parsed, passes untouched. Next hops come from the cache the
 * agent keeps, else from bpf_fib_lookup, else the rewritten packet goes to the kernel's routing.
 */
#include "vmlinux.h"

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "bpf/wire.bpf.h"

#include "bpf/place.bpf.h"

#define AF_INET_ 2
#define AF_INET6_ 10

/* The wire sensor can be left out; the flow is still pinned and forwarded. Set before load. */
const volatile bool wire_sensor = true;

/* new_connection: one connection record under construction; 184 bytes would crowd the stack.
 * Key: 0.  Value: struct connection.  Writer and reader: balancer.  Size: 1, for each CPU. */
struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct connection);
} new_connection SEC(".maps");

static __always_inline int pass(__u32 verdict) {
  count_verdict(verdict);
  return XDP_PASS;
}

/* --- next hops ---------------------------------------------------------------------------- */

static __always_inline int send_to(struct xdp_md *ctx, struct packet *packet,
                                   const struct next_hop *hop) {
  __builtin_memcpy(packet->eth->h_dest, hop->destination_mac, sizeof(hop->destination_mac));
  __builtin_memcpy(packet->eth->h_source, hop->source_mac, sizeof(hop->source_mac));
  age_ttl(packet);
  if (hop->ifindex == ctx->ingress_ifindex) return XDP_TX;
  return bpf_redirect(hop->ifindex, 0);
}

/* Asks the kernel's tables where the (rewritten) packet goes; false: the kernel itself must. */
static __noinline bool find_hop(struct xdp_md *ctx, struct packet *packet, struct next_hop *hop) {
  struct bpf_fib_lookup query = {};

  query.ifindex = ctx->ingress_ifindex;
  query.l4_protocol = IPPROTO_TCP_;
  if (!packet->is_v6) {
    query.family = AF_INET_;
    query.tot_len = bpf_ntohs(packet->v4->tot_len);
    query.ipv4_src = packet->v4->saddr;
    query.ipv4_dst = packet->v4->daddr;
  } else {
    query.family = AF_INET6_;
    query.tot_len = bpf_ntohs(packet->v6->payload_len) + sizeof(struct ipv6hdr);
    __builtin_memcpy(query.ipv6_src, &packet->v6->saddr, sizeof(query.ipv6_src));
    __builtin_memcpy(query.ipv6_dst, &packet->v6->daddr, sizeof(query.ipv6_dst));
  }
  if (bpf_fib_lookup(ctx, &query, sizeof(query), 0) != BPF_FIB_LKUP_RET_SUCCESS) return false;
  __builtin_memcpy(hop->destination_mac, query.dmac, sizeof(hop->destination_mac));
  __builtin_memcpy(hop->source_mac, query.smac, sizeof(hop->source_mac));
  hop->ifindex = query.ifindex;
  count_verdict(VERDICT_FIB_LOOKUP);
  return true;
}

static __always_inline __u32 route_generation(void) {
  __u32 zero = 0;
  struct control *state = bpf_map_lookup_elem(&control, &zero);

  return state ? state->route_generation : 0;
}

/* --- client to backend -------------------------------------------------------------------- */

/* Fills the entry of a new flow; the caller has labelled and placed it. */
static __always_inline void fill_connection(struct connection *connection,
                                            const struct placement *placement,
                                            const struct attempt *attempt,
                                            const struct packet *packet, __u64 now_ns) {
  __u32 seq = bpf_ntohl(packet->tcp->seq);

  __builtin_memset(connection, 0, sizeof(*connection));
  connection->backend_id = placement->backend_id;
  connection->flags = placement->flags;
  connection->attempt = attempt->number;
  connection->previous_failure = attempt->previous_failure;
  connection->previous_backend_id = attempt->previous_backend_id;
  connection->syn_ns = now_ns;
  connection->syn_seq = seq;
  connection->client_end_seq = seq + 1;
  connection->state = CONNECTION_SYN;
}

static __always_inline void count_placement(const struct service *service,
                                            const struct connection *connection,
                                            struct backend_stats *stats) {
  struct service_stats *service_counts = stats_of_service(service->service_id);

  stats->connections++;
  stats->packets_in++;
  if (connection->attempt > 1) stats->retry_connections++;
  if (!service_counts) return;
  if (connection->flags & CONNECTION_STEERED) service_counts->steered++;
  if (connection->flags & CONNECTION_OFF_RING) service_counts->off_ring++;
  if (connection->flags & CONNECTION_NEUTRAL) service_counts->neutral++;
}

/* Pins a flow that has no entry: a new SYN, or a segment from the middle of an unknown one.
 * Returns the backend's id, 0 if there is none. */
static __noinline __u32 open_connection(const struct packet *packet, const struct service *service,
                                        const struct connection_key *key) {
  __u32 zero = 0;
  __u64 now_ns = bpf_ktime_get_ns();
  struct attempt attempt = {.number = 1};
  struct placement placement = {};
  bool is_syn = packet->tcp->syn && !packet->tcp->ack;
  struct connection *fresh = bpf_map_lookup_elem(&new_connection, &zero);

  if (!fresh) return 0;
  if (is_syn && wire_sensor) label_request(key, true, now_ns, &attempt);
  place(service, key, &attempt, now_ns, &placement);
  if (!placement.backend_id) return 0;
  fill_connection(fresh, &placement, &attempt, packet, now_ns);
  if (!is_syn) {
    fresh->state = CONNECTION_ESTABLISHED;
    fresh->flags |= CONNECTION_ADOPTED;
    fresh->client_end_seq = bpf_ntohl(packet->tcp->seq) + packet->payload_bytes;
    fresh->backend_end_seq = bpf_ntohl(packet->tcp->ack_seq); /* what the client has of it */
    count_verdict(VERDICT_ADOPTED);
  }
  struct backend_stats *stats = stats_of_backend(placement.backend_id);
  if (stats && is_syn) {
    count_placement(service, fresh, stats);
    if (wire_sensor) begin_wait(fresh, stats, CONNECTION_WAITING_SYN, now_ns);
  }
  if (bpf_map_update_elem(&connections, key, fresh, BPF_ANY)) {
    count_verdict(VERDICT_TABLE_FULL);
    if (stats && (fresh->flags & CONNECTION_WAITING_SYN))
      end_wait(fresh, stats, CONNECTION_WAITING_SYN, now_ns, now_ns);
  }
  return placement.backend_id;
}

/* A SYN of a flow that has an entry. True: it is the same SYN again; false: a new connection. */
static __always_inline bool is_repeated_syn(const struct packet *packet,
                                            struct connection *connection) {
  if (connection->state == CONNECTION_CLOSED) return false;
  if (connection->flags & CONNECTION_ADOPTED) return false;
  if (connection->syn_seq != bpf_ntohl(packet->tcp->seq)) return false;
  struct backend_stats *stats = stats_of_backend(connection->backend_id);
  SATURATING_INCREMENT(connection->syn_repeats);
  if (stats) {
    stats->syn_repeats++;
    stats->packets_in++;
  }
  return true;
}

/* The backend of the packet's flow, pinned if it was not; 0 if there is none. */
static __always_inline __u32 backend_of_flow(const struct packet *packet,
                                             const struct service *service,
                                             const struct connection_key *key) {
  struct connection *connection = bpf_map_lookup_elem(&connections, key);
  bool is_syn = packet->tcp->syn && !packet->tcp->ack;

  if (!connection) return open_connection(packet, service, key);
  if (is_syn) {
    if (is_repeated_syn(packet, connection)) return connection->backend_id;
    end_connection(key, connection, CLOSED_BY_REUSE, FAILURE_NONE, bpf_ktime_get_ns());
    return open_connection(packet, service, key);
  }
  if (wire_sensor) sense_client_segment(packet, key, connection);
  return connection->backend_id;
}

static __always_inline int to_backend(struct xdp_md *ctx, struct packet *packet,
                                      const struct service *service) {
  struct connection_key key = {.client = packet->source,
                               .client_port_be = packet->tcp->source,
                               .service_id = service->service_id};
  struct next_hop hop;

  if (!(service->flags & SERVICE_READY)) return pass(VERDICT_NOT_READY);
  if (packet_ttl(packet) <= 1) return pass(VERDICT_TTL_EXPIRED);
  __u32 backend_id = backend_of_flow(packet, service, &key);
  struct backend *backend = bpf_map_lookup_elem(&backends, &backend_id);
  if (!backend || !backend_id || !backend->service_id) return pass(VERDICT_NO_BACKEND);
  rewrite_destination(packet, &backend->address, backend->port_be);
  count_verdict(VERDICT_FORWARDED);
  if (backend->hop.ifindex) return send_to(ctx, packet, &backend->hop);
  if (find_hop(ctx, packet, &hop)) return send_to(ctx, packet, &hop);
  return pass(VERDICT_KERNEL_ROUTED);
}

/* --- backend to client -------------------------------------------------------------------- */

static __always_inline int to_client(struct xdp_md *ctx, struct packet *packet, __u32 backend_id,
                                     const struct backend *backend) {
  struct connection_key key = {.client = packet->destination,
                               .client_port_be = packet->tcp->dest,
                               .service_id = backend->service_id};
  struct connection *connection = bpf_map_lookup_elem(&connections, &key);

  if (!connection) return pass(VERDICT_NO_CONNECTION);
  if (connection->backend_id != backend_id) return pass(VERDICT_LATE_BACKEND);
  if (packet_ttl(packet) <= 1) return pass(VERDICT_TTL_EXPIRED);
  if (wire_sensor) sense_backend_segment(packet, &key, connection);
  rewrite_source(packet, &backend->vip, backend->vip_port_be);
  count_verdict(VERDICT_RETURNED);
  __u32 generation = route_generation();
  if (!connection->client_hop.ifindex || connection->client_hop_generation != generation) {
    struct next_hop hop;
    if (!find_hop(ctx, packet, &hop)) return pass(VERDICT_KERNEL_ROUTED);
    connection->client_hop = hop;
    connection->client_hop_generation = generation;
  }
  return send_to(ctx, packet, &connection->client_hop);
}

/* --- entry -------------------------------------------------------------------------------- */

SEC("xdp")
int petrel_balancer(struct xdp_md *ctx) {
  struct packet packet;

  switch (parse_packet(ctx, &packet)) {
    case PARSE_TCP: break;
    case PARSE_FRAGMENT: return pass(VERDICT_FRAGMENT);
    case PARSE_MALFORMED: return pass(VERDICT_MALFORMED);
    default: return pass(VERDICT_NOT_OURS);
  }
  struct service_key service_key = {.vip = packet.destination,
                                    .port_be = packet.tcp->dest,
                                    .protocol = IPPROTO_TCP_};
  struct service *service = bpf_map_lookup_elem(&services, &service_key);
  if (service) return to_backend(ctx, &packet, service);

  struct backend_key backend_key = {.address = packet.source, .port_be = packet.tcp->source};
  __u32 *backend_id = bpf_map_lookup_elem(&backend_ids, &backend_key);
  if (!backend_id) return pass(VERDICT_NOT_OURS);
  __u32 id = *backend_id;
  struct backend *backend = bpf_map_lookup_elem(&backends, &id);
  if (!backend || !backend->service_id) return pass(VERDICT_NOT_OURS);
  return to_client(ctx, &packet, id, backend);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
