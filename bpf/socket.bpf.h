/* SPDX-License-Identifier: MIT */
/* Which of this host's sockets are ours, and what each keeps of its connection.
 *
 * It is found out once, when a socket connects or has accepted, and kept in the socket's own storage:
 * what happens to it later costs no look-up, and a stranger's socket has no storage at all. The
 * placement of its service says which end tells of a connection's requests (owns it): where both ends
 * are on one host, the other one fills its socket_view and no more.
 */
#ifndef PETREL_BPF_SOCKET_BPF_H
#define PETREL_BPF_SOCKET_BPF_H

#include "bpf/half_open.bpf.h"
#include "bpf/service.bpf.h"

#define AF_INET_ 2
#define AF_INET6_ 10

#define SERVICE_AT_SOCKETS (SERVICE_AT_CLIENT | SERVICE_AT_BACKEND)

struct endpoints {
  struct address local;
  struct address remote;
  __be16 local_port_be;
  __be16 remote_port_be;
};

/* Names the connection to or from the backend of out->backend_id, whose host knows it by `port_be`.
 * `owner` is the flag of a service whose requests this end tells of. NULL: there is no such backend. */
static __noinline struct backend *name_by_backend(struct socket_state *out, __be16 port_be,
                                                  __u32 owner) {
  __u32 backend_id = out->backend_id;
  struct backend *backend = bpf_map_lookup_elem(&backends, &backend_id);

  if (!backend || !backend->service_id) return NULL;
  out->key.service_id = backend->service_id;
  out->key.service_port_be = backend->vip_port_be ? backend->vip_port_be : port_be;
  if (backend->service_flags & SERVICE_AT_SOCKETS) out->key.backend_id = backend_id;
  out->owns = !!(backend->service_flags & owner);
  out->counts = out->owns;
  return backend;
}

/* A socket that connects. A backend of a balanced service that it names itself is no business of
 * ours: such a connection goes round the balancer. */
static __noinline int name_connecting(const struct endpoints *ends, struct socket_state *out) {
  out->end = END_CONNECTING;
  out->key.client = ends->local;
  out->key.client_port_be = ends->local_port_be;
  out->backend_id = find_backend(&ends->remote, ends->remote_port_be, PROTOCOL_TCP);
  if (out->backend_id) {
    struct backend *backend = name_by_backend(out, ends->remote_port_be, SERVICE_AT_CLIENT);
    return backend && (backend->service_flags & SERVICE_AT_SOCKETS);
  }
  struct service *service = find_service(&ends->remote, ends->remote_port_be, PROTOCOL_TCP);
  if (!service || (service->flags & SERVICE_AT_SOCKETS)) return 0;
  out->key.service_id = service->service_id;
  out->key.service_port_be = ends->remote_port_be;
  return 1;
}

/* A socket that has accepted, or is about to. */
static __noinline int name_accepting(const struct endpoints *ends, struct socket_state *out) {
  out->end = END_ACCEPTING;
  out->key.client = ends->remote;
  out->key.client_port_be = ends->remote_port_be;
  out->backend_id = find_backend(&ends->local, ends->local_port_be, PROTOCOL_TCP);
  if (!out->backend_id) return 0;
  struct backend *backend = name_by_backend(out, ends->local_port_be, SERVICE_AT_BACKEND);
  if (!backend) return 0;
  /* Of a balanced service the accepting end counts. */
  if (!(backend->service_flags & SERVICE_AT_SOCKETS)) out->counts = 1;
  return 1;
}

static __always_inline struct connection *connection_of(const struct socket_state *socket) {
  return bpf_map_lookup_elem(&connections, &socket->key);
}

static __always_inline struct socket_view *view_in(struct connection *connection, __u8 end) {
  return end == END_CONNECTING ? &connection->sockets[END_CONNECTING]
                               : &connection->sockets[END_ACCEPTING];
}

/* The kernel keeps srtt times 8, and the mean deviation, RFC 6298's RTTVAR, times 4. */
static __always_inline void fill_rtt(struct socket_view *view, const struct tcp_sock *tcp) {
  __u32 srtt_us = tcp->srtt_us >> 3;

  if (!srtt_us) return; /* no sample yet, or all forgotten at the end */
  view->srtt_us = srtt_us;
  view->rttvar_us = tcp->mdev_us >> 2;
}

static __always_inline void tell_connect(struct socket_view *view, struct socket_state *socket) {
  if (!socket->connect_us) return;
  view->connect_ns = (__u64)socket->connect_us * 1000;
  socket->connect_us = 0;
}

static __always_inline void fill_bytes(struct socket_view *view, const struct tcp_sock *tcp,
                                       bool fin_received) {
  view->bytes_sent = tcp->bytes_sent - tcp->bytes_retrans;
  /* What was received counts the FIN's sequence number as a byte. */
  view->bytes_received = tcp->bytes_received - fin_received;
}

#endif /* PETREL_BPF_SOCKET_BPF_H */
