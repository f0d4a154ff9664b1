/* SPDX-License-Identifier: MIT */
/* Packets from backends to flows that are half open: SYN-ACKs, refusals, and what comes too late.
 *
 * A refusal is held back and the client's own SYN sent to another backend, at most MAX_MASKED times;
 * the client sees a connection that took a little longer. The late answer of a backend that a SYN
 * was moved off must not reach the client, whose stack would reset the connection that it has: that
 * backend is told by a RST.
 */
#ifndef PETREL_BPF_ANSWER_BPF_H
#define PETREL_BPF_ANSWER_BPF_H

#include "bpf/client.bpf.h"
#include "bpf/hop.bpf.h"
#include "bpf/service.bpf.h"

enum answer {
  ANSWER_FORWARD = 0, /* on to the client */
  ANSWER_UNKNOWN = 1, /* of no flow */
  ANSWER_LATE = 2,    /* of a flow that has left this backend */
  ANSWER_MASK = 3,    /* a refusal: the SYN goes to the backend that the flow names now */
};

/* A SYN of which we kept nothing may have had a payload (Fast Open), acknowledged with it. */
static __always_inline bool answers_syn(const struct packet *packet,
                                        const struct half_open *flow) {
  __u32 beyond_syn = bpf_ntohl(packet->tcp->ack_seq) - (flow->syn_seq + 1);

  return packet->tcp->ack && !(flow->flags & CONNECTION_ADOPTED) &&
         beyond_syn <= (flow->options_bytes == SYN_NOT_KEPT ? 65535 : 0);
}

/* A backend refuses the flow's SYN. True: another one is to have it. */
static __noinline bool mask_refusal(struct half_open *flow, const struct backend *backend,
                                    __u64 now_ns) {
  struct connection_key *key = &flow->key;

  if (!(backend->service_flags & SERVICE_MASK) || flow->masked >= MAX_MASKED ||
      flow->options_bytes == SYN_NOT_KEPT)
    return false;
  struct service *service = find_service(&backend->vip, key->service_port_be, PROTOCOL_TCP);
  if (!service) return false;
  __u64 ring_hash = hash_flow(key, service->hash_seed, service->flags & SERVICE_AFFINITY);
  __u32 other = next_backend(service, flow, ring_hash, agent_is_silent(now_ns));
  if (!other) return false;
  move_syn(flow, other, CONNECTION_MASKED, now_ns);
  return true;
}

/* A SYN does not ask whether its client's port has a flow in `connections`: the answer does. True:
 * it answers a new connection of that port. If that begins, the old one is gone: a forged SYN gets so
 * far only if the backend takes it, and a late copy of the old connection's SYN never does. */
static __noinline bool replaces_connection(const struct packet *packet,
                                           const struct connection_key *key, __u32 backend_id,
                                           struct connection *old) {
  struct half_open *flow = find_half_open(key, hash_flow(key, 0, false));

  if (!flow || flow->backend_id != backend_id || !answers_syn(packet, flow)) return false;
  if (flow->syn_seq == old->syn_seq && !(old->flags & CONNECTION_ADOPTED)) {
    end_half_open(flow, CLOSED_BY_REUSE, FAILURE_NONE, clock_ns());
    return false;
  }
  if (packet->tcp->rst) return true; /* refused: the old one may live on */
  end_connection(key, old, CLOSED_BY_REUSE, FAILURE_NONE, clock_ns());
  bpf_map_delete_elem(&connections, key);
  return true;
}

/* A backend's packet to a flow that `connections` does not know. */
static __noinline int answer_half_open(struct xdp_md *ctx, const struct packet *packet,
                                       const struct connection_key *key, __u32 backend_id,
                                       const struct backend *backend) {
  struct half_open *flow = find_half_open(key, hash_flow(key, 0, false));
  struct backend_stats *stats = stats_of_backend(backend_id);

  if (!flow || !stats) return ANSWER_UNKNOWN;
  if (flow->backend_id != backend_id) return ANSWER_LATE;
  if (!packet->is_tcp) {
    stats->packets_out++;
    stats->bytes_out += packet->payload_bytes;
    if (flow->state == CONNECTION_SYN) flow->synack_ns = clock_ns();
    flow->state = CONNECTION_ANSWERED;
    return ANSWER_FORWARD;
  }
  bool adopted = flow->flags & CONNECTION_ADOPTED;
  if (packet->tcp->rst) {
    __u64 now_ns = clock_ns();
    bool refused = flow->state == CONNECTION_SYN && !adopted;
    __u8 failure = refused ? FAILURE_REFUSED : adopted ? FAILURE_NONE : FAILURE_RESET;
    stats->packets_out++;
    /* Of an earlier flow: the client, in SYN-SENT, does not heed it either (RFC 9293, 3.10.7.3). */
    if (refused && !answers_syn(packet, flow)) return ANSWER_FORWARD;
    bool tagged = packet->l3 != (void *)(packet->eth + 1); /* a SYN of ours would lack the tag */
    if (refused && !tagged && mask_refusal(flow, backend, now_ns)) return ANSWER_MASK;
    end_half_open(flow, CLOSED_BY_BACKEND_RST, failure, now_ns);
    return ANSWER_FORWARD;
  }
  if (packet->tcp->syn) {
    stats->packets_out++;
    if (answers_syn(packet, flow)) end_handshake(flow, stats, bpf_ntohl(packet->tcp->seq));
    return ANSWER_FORWARD;
  }
  /* It knows a flow that we took up in its middle: so it is one. */
  struct connection *connection = NULL;
  if (adopted) connection = promote(flow, bpf_ntohl(packet->tcp->ack_seq));
  if (connection && wire_sensor)
    sense_backend_segment(ctx, packet, key, connection);
  else
    stats->packets_out++;
  return ANSWER_FORWARD;
}

/* Sends the client's SYN in the place of the refusal at hand; returns the action. */
static __noinline int send_syn_instead(struct xdp_md *ctx, const struct connection_key *key) {
  struct half_open *flow = find_half_open(key, hash_flow(key, 0, false));
  struct scratch *work = scratch_at_hand();

  if (!flow || !work) return XDP_DROP;
  __u32 backend_id = flow->backend_id;
  struct backend *backend = bpf_map_lookup_elem(&backends, &backend_id);
  if (!backend) return XDP_DROP;
  tap_backend(backend_id);
  struct ethhdr *eth = (void *)(long)ctx->data;
  if ((void *)(eth + 1) > (void *)(long)ctx->data_end) return XDP_DROP;
  struct ethhdr came = *eth; /* for the kernel, should it have to route */
  struct next_hop *hop = &backend->hop;
  if (!hop->ifindex) {
    work->trip = (struct trip){.source = key->client,
                               .destination = backend->address,
                               .service_id = key->service_id,
                               .l3_bytes = 60,
                               .is_v6 = is_v6_address(&backend->address),
                               .protocol = PROTOCOL_TCP};
    hop = find_hop(ctx);
  }
  if (!write_syn(ctx, flow, backend_id)) return XDP_DROP;
  eth = (void *)(long)ctx->data;
  if ((void *)(eth + 1) > (void *)(long)ctx->data_end) return XDP_DROP;
  if (!hop) {
    __builtin_memcpy(eth->h_dest, came.h_dest, sizeof(came.h_dest));
    __builtin_memcpy(eth->h_source, came.h_source, sizeof(came.h_source));
    return XDP_PASS;
  }
  return send_frame(ctx, eth, hop);
}

#endif /* PETREL_BPF_ANSWER_BPF_H */
