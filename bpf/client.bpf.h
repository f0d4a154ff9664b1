/* SPDX-License-Identifier: MIT */
/* Packets from clients for which `connections` has no entry, or that begin a connection anew.
 *
 * A SYN is labelled, admitted and placed; the same SYN again may be moved off a backend that has not
 * answered it; the client's ACK of the SYN-ACK makes the flow an established one. What comes from
 * the middle of an unknown flow is placed by the ring, and is established once its backend knows it.
 */
#ifndef PETREL_BPF_CLIENT_BPF_H
#define PETREL_BPF_CLIENT_BPF_H

#include "bpf/admit.bpf.h"
#include "bpf/reply.bpf.h"
#include "bpf/wire.bpf.h"

/* A SYN that comes again sooner than this is a copy, not a sign that its backend is silent. */
const volatile __u64 failover_after_ns = 150000000ULL;

/* The wire sensor can be left out; the flow is still pinned and forwarded. Set before load. */
const volatile bool wire_sensor = true;

/* What becomes of a packet: a backend's id (0: there is none), or this and a verdict. */
#define REFUSED_WITH (1U << 31)

/* A packet from a client on its way in. */
struct arrival {
  struct xdp_md *ctx;
  const struct packet *packet;
  const struct service *service;
  const struct connection_key *key;
  __u64 hash; /* of the flow */
  __u64 now_ns;
  __u64 is_syn;
};

static __always_inline bool is_first_syn(const struct packet *packet) {
  return packet->is_tcp && packet->tcp->syn && !packet->tcp->ack;
}

/* As the service's affinity has it. */
static __always_inline __u64 ring_hash_of(const struct arrival *arrival) {
  const struct service *service = arrival->service;

  if (!service->hash_seed && !(service->flags & SERVICE_AFFINITY)) return arrival->hash;
  return hash_flow(arrival->key, service->hash_seed, service->flags & SERVICE_AFFINITY);
}

static __always_inline bool is_reset(const struct packet *packet) {
  return packet->is_tcp && packet->tcp->rst;
}

static __always_inline void count_placement(const struct arrival *arrival,
                                            const struct half_open *flow,
                                            struct backend_stats *stats) {
  __u32 service_id = arrival->service->service_id;
  struct service_stats *counts = stats_of_service(service_id);

  stats->connections++;
  stats->packets_in++;
  if (flow->attempt > 1) stats->retry_connections++;
  if (!(flow->flags & (CONNECTION_STEERED | CONNECTION_OFF_RING | CONNECTION_NEUTRAL)) || !counts)
    return;
  if (flow->flags & CONNECTION_STEERED) {
    counts->steered++;
    count_verdict(service_id, VERDICT_STEERED);
  }
  if (flow->flags & CONNECTION_OFF_RING) {
    counts->off_ring++;
    count_verdict(service_id, VERDICT_OFF_RING);
  }
  if (flow->flags & CONNECTION_NEUTRAL) counts->neutral++;
}

/* Fills a claimed entry; the caller has labelled and placed the flow. It is BUSY until the end. */
static __always_inline void fill_half_open(struct half_open *flow, const struct arrival *arrival,
                                           const struct placement *placement,
                                           const struct attempt *attempt, __u64 now_ns) {
  const struct packet *packet = arrival->packet;

  flow->key = *arrival->key;
  flow->backend_id = placement->backend_id;
  flow->syn_ns = now_ns;
  flow->synack_ns = 0;
  flow->sent_ns = now_ns;
  flow->syn_seq = packet->is_tcp ? bpf_ntohl(packet->tcp->seq) : 0;
  flow->backend_seq = 0;
  flow->previous_backend_id = attempt->previous_backend_id;
  flow->state = CONNECTION_SYN;
  flow->attempt = attempt->number;
  flow->previous_failure = attempt->previous_failure;
  flow->syn_repeats = 0;
  flow->moved_from[0] = 0;
  flow->moved_from[1] = 0;
  flow->connect_us = 0;
  flow->moves = 0;
  flow->masked = 0;
  flow->options_bytes = SYN_NOT_KEPT;
  flow->previous_hash = attempt->previous_hash;
  flow->evidence = attempt->evidence;
  flow->confidence = attempt->confidence;
}

/* What is known of a new flow before it is labelled. In a function of its own, as all that is called
 * from backend_of(): what it needs of the stack is free again for open_flow(). */
static __noinline int begin_attempt(const struct arrival *arrival) {
  struct attempt *attempt = attempt_at_hand();

  if (!attempt || !arrival->is_syn || !wire_sensor) return 0;
  attempt->client_hash = client_hash(arrival->key);
  identify_syn(arrival->packet, arrival->now_ns, &attempt->who);
  return 0;
}

/* A flow without an entry: places it and makes one. */
static __noinline __u32 open_flow(const struct arrival *arrival) {
  const struct service *service = arrival->service;
  const struct packet *packet = arrival->packet;
  __u32 service_id = service->service_id;
  __u64 now_ns = arrival->now_ns;
  struct label_work *work = label_at_hand();
  bool is_syn = arrival->is_syn;
  bool begins = is_syn || !packet->is_tcp;
  bool silent = agent_is_silent(now_ns);

  if (!work) return 0;
  const struct attempt *attempt = &work->attempt;
  struct placement *placement = &work->placement;
  bool admits = is_syn && !silent && (service->flags & (SERVICE_ADMIT | SERVICE_BUDGET));
  __u32 verdict = admits ? admit(service, attempt, now_ns) : VERDICT_FORWARDED;
  if (verdict == VERDICT_FORWARDED) {
    __u64 ring_hash = ring_hash_of(arrival);
    place(service, ring_hash, attempt, silent, placement);
    if (!placement->backend_id) return 0;
    if (admits && (service->flags & SERVICE_ADMIT)) {
      __u32 placed = placement->backend_id;
      placement->backend_id =
          admit_to_backend(service, placed, attempt->number > 1, ring_hash);
      if (placement->backend_id != placed) placement->flags |= CONNECTION_OFF_RING;
      if (!placement->backend_id)
        verdict = attempt->number > 1 ? VERDICT_RETRY_OVER_LIMIT : VERDICT_OVER_LIMIT;
    }
  }
  if (verdict != VERDICT_FORWARDED) return REFUSED_WITH | verdict;
  count_verdict(service_id, begins ? VERDICT_MISS_SYN : VERDICT_ADOPTED);
  /* A RST ends what it belongs to: nothing to be remembered. */
  if (is_reset(packet)) return placement->backend_id;

  struct backend_stats *stats = stats_of_backend(placement->backend_id);
  struct half_open *flow = claim_half_open(arrival->hash, now_ns);
  if (!flow || !stats) {
    count_verdict(service_id, VERDICT_TABLE_FULL);
    return placement->backend_id;
  }
  fill_half_open(flow, arrival, placement, attempt, now_ns);
  __u32 flags = placement->flags;
  if (is_syn) {
    keep_syn(flow, packet);
    if (wire_sensor && !(service->flags & SERVICE_DSR)) {
      flags |= CONNECTION_WAITING_SYN;
      struct wait wait = syn_wait_of(flow, service_id);
      take_wait(&wait, stats, now_ns);
    }
  } else if (!begins) {
    flags |= CONNECTION_ADOPTED;
    flow->backend_seq = bpf_ntohl(packet->tcp->ack_seq) - 1; /* what the client has of it */
  }
  flow->flags = flags;
  if (begins)
    count_placement(arrival, flow, stats);
  else
    stats->packets_in++;
  return placement->backend_id;
}

/* Gives the flow's SYN to another backend. */
APART int move_syn(struct half_open *flow, __u32 to, __u32 flag, __u64 now_ns) {
  if (!flow) return 0;
  struct backend_stats *left = stats_of_backend(flow->backend_id);
  struct backend_stats *taken = stats_of_backend(to);
  __u32 service_id = flow->key.service_id;

  if (!left || !taken) return 0;
  struct wait wait = syn_wait_of(flow, service_id);
  bool waited = end_wait(&wait, left, flow->sent_ns, now_ns);
  __u8 failure = FAILURE_HANDSHAKE_TIMEOUT;
  if (flag == CONNECTION_MASKED) {
    left->masked++;
    flow->masked++;
    failure = FAILURE_REFUSED;
  } else {
    left->failovers++;
  }
  /* One that waits no longer was blamed for when its client came again. */
  if (waited || !wire_sensor) blame(left, failure);
  struct event *event = begin_event(EVENT_MOVED, &flow->key, now_ns);
  if (event) {
    event->syn_ns = flow->syn_ns;
    event->backend_id = flow->backend_id;
    event->attempt = flow->attempt;
    event->syn_repeats = flow->syn_repeats;
    event->state = CONNECTION_SYN;
    event->failure = failure;
    event->waited_ns = now_ns - flow->sent_ns;
    if (scores_here() && failure != FAILURE_NONE) score_event(event);
    submit_event(event);
  }
  flow->moved_from[1] = flow->moved_from[0];
  flow->moved_from[0] = flow->backend_id;
  flow->backend_id = to;
  flow->moves++;
  flow->sent_ns = now_ns;
  fetch_or(&flow->flags, flag);
  wait.backend_id = to;
  taken->connections++;
  taken->packets_in++;
  if (waited) begin_wait(&wait, taken, now_ns);
  return 0;
}

#ifdef ARGUMENTS_BY_MAP
ROOM_FOR(struct connection_key, room_move);

__noinline int move_syn_here(__u32 to, __u32 flag, __u64 now_ns) {
  struct connection_key *key = room_of(room_move);
  struct half_open *flow = key ? find_half_open(key, hash_flow(key, 0, false)) : NULL;

  return flow ? move_syn(flow, to, flag, now_ns) : 0;
}

static __always_inline void move_syn_apart(struct half_open *flow, __u32 to, __u32 flag,
                                           __u64 now_ns) {
  struct connection_key *room = room_of(room_move);

  if (!room) return;
  *room = flow->key;
  move_syn_here(to, flag, now_ns);
}
#define move_syn move_syn_apart
#endif

/* Another backend for a SYN whose own does not take it; 0: there is none, or it has moved enough. */
static __always_inline __u32 next_backend(const struct service *service,
                                          const struct half_open *flow, __u64 ring_hash,
                                          bool neutral) {
  struct wanted wanted = {
      .avoid = {flow->backend_id, flow->moved_from[0], flow->moved_from[1]}, .neutral = neutral};

  if (flow->moves >= MAX_MOVES) return 0;
  return other_backend(service, &wanted, ring_hash);
}

/* The same SYN again: its answer is lost, or its backend is silent. */
static __noinline __u32 repeat_syn(const struct arrival *arrival, struct half_open *flow) {
  const struct service *service = arrival->service;
  struct backend_stats *stats = stats_of_backend(flow->backend_id);
  __u64 now_ns = clock_ns();
  __u32 other = 0;

  SATURATING_INCREMENT(flow->syn_repeats);
  if (stats) stats->syn_repeats++;
  if ((service->flags & SERVICE_FAILOVER) && !(service->flags & SERVICE_DSR) &&
      !flow->synack_ns && now_ns - flow->sent_ns >= failover_after_ns)
    other = next_backend(service, flow, ring_hash_of(arrival), agent_is_silent(now_ns));
  if (!other) {
    if (stats) stats->packets_in++;
    return flow->backend_id;
  }
  count_verdict(service->service_id, VERDICT_FAILED_OVER);
  move_syn(flow, other, CONNECTION_FAILED_OVER, now_ns);
  return other;
}

/* A segment of a half-open flow that is no SYN: perhaps the client's sign of life. */
static __noinline __u32 continue_flow(const struct arrival *arrival, struct half_open *flow) {
  const struct packet *packet = arrival->packet;
  bool one_way = arrival->service->flags & SERVICE_DSR;
  __u32 backend_id = flow->backend_id;
  struct backend_stats *stats = stats_of_backend(backend_id);
  bool proven;

  if (!packet->is_tcp) {
    proven = one_way || flow->state == CONNECTION_ANSWERED;
  } else {
    __u32 acked = bpf_ntohl(packet->tcp->ack_seq) - (flow->backend_seq + 1);
    if (packet->tcp->rst) {
      __u8 failure = flow->flags & CONNECTION_WAITING_SYN ? FAILURE_ABANDONED : FAILURE_NONE;
      if (stats) {
        stats->packets_in++;
        stats->client_resets++;
      }
      end_half_open(flow, CLOSED_BY_CLIENT_RST, failure, arrival->now_ns);
      return backend_id;
    }
    /* Without the backend's half (dsr) the client's own numbers must do. */
    if (one_way)
      proven = bpf_ntohl(packet->tcp->seq) == flow->syn_seq + 1 || (flow->flags & CONNECTION_ADOPTED);
    else
      proven = flow->synack_ns && packet->tcp->ack && acked < 65536;
  }
  struct connection *connection = NULL;
  if (proven) {
    __u32 next_seq = packet->is_tcp ? flow->syn_seq + 1 : 0;
    if (packet->is_tcp && (flow->flags & CONNECTION_ADOPTED))
      next_seq = bpf_ntohl(packet->tcp->seq);
    connection = promote(flow, next_seq);
  }
  if (connection) connection->ack_ns = arrival->now_ns;
  if (connection && wire_sensor)
    sense_client_segment(arrival->ctx, packet, arrival->key, connection, one_way);
  else if (stats)
    stats->packets_in++;
  return backend_id;
}

/* The flow's backend has left the service: its flow is reset or moved, as the service says. */
static __noinline __u32 leave_gone(const struct arrival *arrival, struct connection *connection) {
  const struct service *service = arrival->service;
  struct label_work *work = label_at_hand();
  __u64 now_ns = arrival->now_ns;

  if (!work) return 0;
  struct placement *placement = &work->placement;
  if ((service->flags & SERVICE_RESET_GONE) && arrival->packet->is_tcp) {
    /* The entry stays: what its backend still says of it is to be answered as well. */
    end_connection(arrival->key, connection, CLOSED_BY_US, FAILURE_NONE, now_ns);
    return REFUSED_WITH | VERDICT_GONE_RESET;
  }
  place(service, ring_hash_of(arrival), &work->attempt, agent_is_silent(now_ns), placement);
  if (!placement->backend_id) return 0;
  struct backend_stats *stats = stats_of_backend(connection->backend_id);
  struct wait wait = wait_of(connection, service->service_id);
  if (stats && (connection->flags & CONNECTION_WAITING))
    end_wait(&wait, stats, connection->request_ns, now_ns);
  if (connection->queued) end_queued(connection, service->service_id, now_ns);
  connection->backend_id = placement->backend_id;
  fetch_or(&connection->flags, CONNECTION_MOVED);
  count_verdict(service->service_id, VERDICT_GONE_MOVED);
  return placement->backend_id;
}

static __always_inline bool is_gone(__u32 backend_id, __u32 service_id) {
  struct backend *backend = bpf_map_lookup_elem(&backends, &backend_id);

  return !backend || backend->service_id != service_id || backend->state == BACKEND_REMOVED;
}

/* dsr: a SYN from a port whose flow is in `connections`. (nat: its answer will tell.) True: it is the
 * SYN that began that flow, and its backend is there. */
static __noinline bool is_old_syn(const struct arrival *arrival, struct connection *connection) {
  if (connection->state != CONNECTION_CLOSED && !(connection->flags & CONNECTION_ADOPTED) &&
      connection->syn_seq == bpf_ntohl(arrival->packet->tcp->seq) &&
      !is_gone(connection->backend_id, arrival->service->service_id)) {
    struct backend_stats *stats = stats_of_backend(connection->backend_id);
    SATURATING_INCREMENT(connection->syn_repeats);
    if (stats) {
      stats->syn_repeats++;
      stats->packets_in++;
    }
    return true;
  }
  end_connection(arrival->key, connection, CLOSED_BY_REUSE, FAILURE_NONE, arrival->now_ns);
  bpf_map_delete_elem(&connections, arrival->key);
  return false;
}

/* The backend of a packet that is not simply one of an established flow with a backend that is
 * there. Returns its id, 0 if there is none, or REFUSED_WITH a verdict. */
static __noinline __u32 backend_of(struct xdp_md *ctx, const struct packet *packet,
                                   const struct service *service,
                                   const struct connection_key *key,
                                   struct connection *connection) {
  struct arrival arrival = {.ctx = ctx,
                            .packet = packet,
                            .service = service,
                            .key = key,
                            .hash = hash_flow(key, 0, false),
                            .now_ns = clock_ns(),
                            .is_syn = is_first_syn(packet)};

  /* From here on clang knows no more of `arrival` than what it reads there: it would keep a second copy
   * of each on the stack. */
  forget(&arrival);
  if (connection && !arrival.is_syn) return leave_gone(&arrival, connection);
  if (connection && is_old_syn(&arrival, connection)) return connection->backend_id;

  struct half_open *flow = find_half_open(arrival.key, arrival.hash);
  if (flow && is_gone(flow->backend_id, arrival.service->service_id)) {
    end_half_open(flow, CLOSED_BY_US, FAILURE_NONE, arrival.now_ns);
    flow = NULL;
  }
  if (flow && !arrival.is_syn) return continue_flow(&arrival, flow);
  if (flow && !(flow->flags & CONNECTION_ADOPTED) &&
      flow->syn_seq == bpf_ntohl(arrival.packet->tcp->seq))
    return repeat_syn(&arrival, flow);
  if (flow) end_half_open(flow, CLOSED_BY_REUSE, FAILURE_NONE, arrival.now_ns);
  /* Here rather than in open_flow(): the stack is 512 bytes for a whole chain of calls. */
  begin_attempt(&arrival);
  if (arrival.is_syn && wire_sensor) {
    check_pending(arrival.key, arrival.now_ns);
    label_syn(arrival.key, arrival.now_ns);
  }
  __u32 backend_id = open_flow(&arrival);
  if (backend_id & REFUSED_WITH) record_refusal(arrival.key, arrival.now_ns);
  return backend_id;
}

#endif /* PETREL_BPF_CLIENT_BPF_H */
