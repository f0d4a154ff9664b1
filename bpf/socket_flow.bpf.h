/* SPDX-License-Identifier: MIT */
/* A connection as its socket tells of it: begun, established, ended. The maps, events and labels are
 * the balancer's own, by the balancer's own functions.
 *
 * While it is being made a connection lives in its socket's storage, as a half_open that is in no
 * table: nothing evicts it, and a socket's end is never silent.
 */
#ifndef PETREL_BPF_SOCKET_FLOW_BPF_H
#define PETREL_BPF_SOCKET_FLOW_BPF_H

#include "bpf/socket.bpf.h"

#define ECONNREFUSED_ 111
#define ECONNRESET_ 104

static __always_inline void place_flow(struct socket_state *socket, struct half_open *flow,
                                       const struct attempt *attempt, __u64 syn_ns) {
  flow->key = socket->key;
  flow->backend_id = socket->backend_id;
  flow->state = CONNECTION_SYN;
  flow->syn_ns = syn_ns;
  flow->sent_ns = syn_ns;
  flow->options_bytes = SYN_NOT_KEPT;
  flow->attempt = attempt->number;
  flow->previous_failure = attempt->previous_failure;
  flow->previous_backend_id = attempt->previous_backend_id;
  flow->previous_hash = attempt->previous_hash;
  flow->evidence = attempt->evidence;
  flow->confidence = attempt->confidence;
}

/* A connection that begins at a socket. Of its host nothing but the address and the port is known. */
static __always_inline struct attempt *label_socket(const struct connection_key *key,
                                                    __u64 now_ns) {
  struct attempt *attempt = attempt_at_hand();

  if (!attempt) return NULL;
  attempt->client_hash = client_hash(key);
  label_syn(key, now_ns);
  return attempt;
}

/* A socket is about to send its SYN. */
static __noinline int begin_connecting(struct socket_state *socket) {
  struct backend_stats *stats = stats_of_backend(socket->backend_id);
  struct half_open *flow = &socket->flow;
  __u64 now_ns = clock_ns();

  flow->syn_ns = now_ns;
  if (!socket->owns || !stats) return 0;
  struct attempt *attempt = label_socket(&socket->key, now_ns);
  if (!attempt) return 0;
  place_flow(socket, flow, attempt, now_ns);
  stats->connections++;
  if (attempt->number > 1) stats->retry_connections++;
  flow->flags = CONNECTION_WAITING_SYN;
  struct wait wait = syn_wait_of(flow, socket->key.service_id);
  take_wait(&wait, stats, now_ns);
  return 0;
}

/* The entry of an established connection of which this socket tells. NULL: there is no room. */
static __always_inline struct connection *enter(struct socket_state *socket, __u32 client_next_seq,
                                                __u8 owner) {
  struct connection *connection = promote(&socket->flow, client_next_seq);

  if (!connection) return NULL;
  connection->owner = owner;
  connection->ack_ns = connection->synack_ns;
  return connection;
}

/* The connecting end is established: it has the SYN-ACK. */
static __noinline int connect_done(struct socket_state *socket, __u32 send_next, __u32 receive_next) {
  struct half_open *flow = &socket->flow;
  struct backend_stats *stats = stats_of_backend(socket->backend_id);
  struct connection *connection = NULL;

  if (!socket->owns || !stats || !flow->key.service_id) return 0;
  end_handshake(flow, stats, receive_next - 1);
  __u64 connect_ns = flow->synack_ns - flow->syn_ns;
  connection = enter(socket, send_next, SENSOR_CONNECTING);
  stats->socket_connects++;
  stats->socket_connect_ns += connect_ns;
  if (connection) connection->sockets[END_CONNECTING].connect_ns = connect_ns;
  return 0;
}

/* The accepting end is established: the client has shown that it is there. Its SYN came one round trip
 * before, as far as is known here. */
static __noinline int accept_done(struct socket_state *socket, __u32 send_next, __u32 receive_next,
                                  __u32 srtt_us) {
  struct backend_stats *stats = stats_of_backend(socket->backend_id);
  struct half_open *flow = &socket->flow;
  __u64 now_ns = clock_ns();
  __u64 connect_ns = (__u64)srtt_us * 1000;

  if (!socket->owns || !stats) return 0;
  struct attempt *attempt = label_socket(&socket->key, now_ns);
  if (!attempt) return 0;
  place_flow(socket, flow, attempt, now_ns - connect_ns);
  flow->state = CONNECTION_ANSWERED;
  flow->backend_seq = send_next - 1;
  flow->synack_ns = flow->syn_ns;
  stats->connections++;
  stats->established++;
  if (attempt->number > 1) stats->retry_connections++;
  struct connection *connection = enter(socket, receive_next, SENSOR_ACCEPTING);
  stats->socket_connects++;
  stats->socket_connect_ns += connect_ns;
  if (!connection) return 0;
  connection->ack_ns = now_ns;
  connection->sockets[END_ACCEPTING].connect_ns = connect_ns;
  return 0;
}

/* An end that owns nothing is established. The client's ACK is not on the wire yet: where the balancer
 * is on this host, the flow is half open and takes the time along. */
static __noinline int view_connected(struct socket_state *socket, __u64 connect_ns) {
  struct connection *connection = connection_of(socket);

  socket->connect_us = (__u32)(connect_ns / 1000);
  if (connection) {
    tell_connect(view_in(connection, socket->end), socket);
    socket->backend_id = connection->backend_id;
  } else if (socket->end == END_CONNECTING) {
    struct half_open *flow = find_half_open(&socket->key, hash_flow(&socket->key, 0, false));
    if (flow) {
      flow->connect_us = socket->connect_us;
      socket->connect_us = 0;
      socket->backend_id = flow->backend_id;
    }
  }
  if (socket->end != END_CONNECTING || !socket->backend_id || socket->key.backend_id) return 0;
  struct backend_stats *stats = stats_of_backend(socket->backend_id);
  if (!stats) return 0;
  stats->socket_connects++;
  stats->socket_connect_ns += connect_ns;
  return 0;
}

/* How a socket that never was established looks to its program. One that was closed soon after has
 * failed nobody: its user did not need it any more (happy eyeballs' slower family). */
static __always_inline __u8 failure_of_connect(const struct half_open *flow, int error,
                                               __u64 now_ns) {
  if (error == ECONNREFUSED_) return FAILURE_REFUSED;
  if (error || now_ns - flow->syn_ns >= handshake_timeout_ns) return FAILURE_HANDSHAKE_TIMEOUT;
  return FAILURE_NONE;
}

static __noinline int connect_failed(struct socket_state *socket, int error) {
  struct half_open *flow = &socket->flow;
  __u64 now_ns = clock_ns();
  __u8 failure = failure_of_connect(flow, error, now_ns);
  __u8 closed_by = error ? CLOSED_BY_TIMEOUT : CLOSED_BY_CLIENT_FIN;

  if (error == ECONNREFUSED_ || error == ECONNRESET_) closed_by = CLOSED_BY_BACKEND_RST;
  end_half_open(flow, closed_by, failure, now_ns);
  return 0;
}

/* A socket ends of whose connection nobody has seen a FIN or RST yet: it timed out, or its program
 * tears it down (the kernel sends the RST when the socket is closed already). */
static __noinline int end_silently(struct socket_state *socket, struct connection *connection,
                                   int error) {
  bool waiting = connection->flags & CONNECTION_WAITING;
  __u8 failure = waiting ? FAILURE_ABANDONED : FAILURE_NONE;
  __u8 closed_by = CLOSED_BY_CLIENT_RST;

  if (error) {
    closed_by = CLOSED_BY_TIMEOUT;
  } else if (socket->end == END_ACCEPTING) {
    closed_by = CLOSED_BY_BACKEND_RST;
    if (waiting || connection->requests == 0) failure = FAILURE_RESET;
  }
  end_connection(&socket->key, connection, closed_by, failure, clock_ns());
  return 0;
}

static __noinline int count_close(const struct socket_state *socket, __u64 sent, __u64 received,
                                  __u32 srtt_us) {
  struct backend_stats *stats = stats_of_backend(socket->backend_id);
  bool accepting = socket->end == END_ACCEPTING;

  if (!stats || !socket->counts) return 0;
  stats->socket_closes++;
  stats->socket_bytes_sent += accepting ? sent : received;
  stats->socket_bytes_received += accepting ? received : sent;
  if (srtt_us) stats->socket_srtt_us = srtt_us;
  return 0;
}

#endif /* PETREL_BPF_SOCKET_FLOW_BPF_H */
