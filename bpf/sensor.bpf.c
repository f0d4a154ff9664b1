/* SPDX-License-Identifier: MIT */
/* The socket sensor: what this host's kernel knows of connections to and from the backends.
 *
 * sockops (cgroup) see a socket connect and become established, RTT samples and RTOs; tracepoints
 * (tp_btf) see retransmits, resets and the end of every socket in every network namespace; the
 * cgroup's skb programs see the segments of sockets that tell of a connection's requests, and are
 * attached only where a service has its placement at sockets. All fill the balancer's maps: the
 * connection's socket_view, the socket_ counters of its backend, and, for who owns its connection,
 * everything that the balancer would.
 *
 * One host may hold both ends of a connection. A backend's socket_ counters come from one of them:
 * the end that owns it, and for balanced services the accepting one, but for connect times, which are
 * the connecting one's.
 */
#include "vmlinux.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

/* What a process sends is sent in its context, where packets that arrive interrupt it. */
#define ADD_EXACTLY(field, delta) __sync_fetch_and_add(&(field), delta)
#define HALF_OPEN_OWNER SENSOR_CONNECTING /* an accepting end sees none that stays half open */

#include "bpf/socket_flow.bpf.h"
#include "bpf/socket_turn.bpf.h"

#define SOCK_DONE_ (1 << 1) /* enum sock_flags, a bit number: the peer's FIN has come */

static __always_inline struct socket_state *state_of(const struct sock *sk) {
  return bpf_sk_storage_get(&sockets, (void *)sk, NULL, 0);
}

/* --- tracepoints -------------------------------------------------------------------------- */

static __always_inline void on_closed(struct socket_state *socket, const struct sock *sk) {
  struct tcp_sock *tcp = bpf_skc_to_tcp_sock((void *)sk);
  struct connection *connection = connection_of(socket);
  struct socket_view last = {};

  if (!tcp) return;
  fill_rtt(&last, tcp);
  fill_bytes(&last, tcp, sk->__sk_common.skc_flags & SOCK_DONE_);
  if (connection) {
    struct socket_view *view = view_in(connection, socket->end);
    tell_connect(view, socket);
    view->bytes_sent = last.bytes_sent;
    view->bytes_received = last.bytes_received;
    if (last.srtt_us) {
      view->srtt_us = last.srtt_us;
      view->rttvar_us = last.rttvar_us;
    }
    if (socket->owns && connection->state != CONNECTION_CLOSED)
      end_silently(socket, connection, sk->sk_err);
  }
  count_close(socket, last.bytes_sent, last.bytes_received, last.srtt_us);
}

static __always_inline void on_end(struct socket_state *socket, const struct sock *sk, int old_state) {
  if (old_state != TCP_SYN_SENT)
    on_closed(socket, sk);
  else if (socket->owns && socket->flow.key.service_id)
    connect_failed(socket, sk->sk_err);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(petrel_set_state, const struct sock *sk, int old_state, int new_state) {
  if (new_state != TCP_CLOSE) return 0;
  struct socket_state *socket = state_of(sk);
  if (socket) on_end(socket, sk, old_state);
  return 0;
}

/* A SYN that is sent again is counted as the balancer would. */
static __always_inline void on_syn_again(struct socket_state *socket) {
  struct backend_stats *stats = stats_of_backend(socket->backend_id);

  if (!socket->owns || !stats) return;
  SATURATING_INCREMENT(socket->flow.syn_repeats);
  stats->syn_repeats++;
}

static __always_inline void on_retransmit(struct socket_state *socket, __u32 state) {
  if (state == TCP_SYN_SENT) on_syn_again(socket);
  struct backend_stats *stats = stats_of_backend(socket->backend_id);
  struct connection *connection = connection_of(socket);
  if (connection) SATURATING_INCREMENT(view_in(connection, socket->end)->retransmits);
  if (stats && socket->counts) stats->socket_retransmits++;
}

SEC("tp_btf/tcp_retransmit_skb")
int BPF_PROG(petrel_retransmit, const struct sock *sk) {
  struct socket_state *socket = state_of(sk);

  if (socket) on_retransmit(socket, sk->__sk_common.skc_state);
  return 0;
}

static __always_inline void map_v4(struct address *address, __be32 v4) {
  address->words_be[0] = 0;
  address->words_be[1] = 0;
  address->words_be[2] = bpf_htonl(0xffff);
  address->words_be[3] = v4;
}

/* A request has no storage yet, only addresses; the listening socket may be bound to any. */
SEC("tp_btf/tcp_retransmit_synack")
int BPF_PROG(petrel_synack_again, const struct sock *listener, const struct request_sock *req) {
  const struct sock *sk = (const struct sock *)req;
  struct socket_state socket = {};
  struct endpoints ends = {};

  if (BPF_CORE_READ(sk, __sk_common.skc_family) == AF_INET_) {
    map_v4(&ends.local, BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr));
    map_v4(&ends.remote, BPF_CORE_READ(sk, __sk_common.skc_daddr));
  } else {
    BPF_CORE_READ_INTO(&ends.local, sk, __sk_common.skc_v6_rcv_saddr);
    BPF_CORE_READ_INTO(&ends.remote, sk, __sk_common.skc_v6_daddr);
  }
  ends.local_port_be = bpf_htons(BPF_CORE_READ(sk, __sk_common.skc_num));
  ends.remote_port_be = BPF_CORE_READ(sk, __sk_common.skc_dport);
  if (!name_accepting(&ends, &socket)) return 0;
  struct backend_stats *stats = stats_of_backend(socket.backend_id);
  if (stats) stats->socket_synack_retransmits++;
  return 0;
}

static __always_inline int on_reset(const struct sock *sk, bool sent) {
  /* No socket: the RST answers a segment for none (a refused SYN). The balancer counts those. */
  struct socket_state *socket = sk ? state_of(sk) : NULL;

  if (!socket) return 0;
  struct backend_stats *stats = stats_of_backend(socket->backend_id);
  struct connection *connection = connection_of(socket);
  if (connection) {
    struct socket_view *view = view_in(connection, socket->end);
    if (sent) SATURATING_INCREMENT(view->resets_sent);
    if (!sent) SATURATING_INCREMENT(view->resets_received);
  }
  if (!stats || !socket->counts) return 0;
  bool by_backend = (socket->end == END_ACCEPTING) == sent;
  if (by_backend)
    stats->socket_resets_sent++;
  else
    stats->socket_resets_received++;
  return 0;
}

SEC("tp_btf/tcp_receive_reset")
int BPF_PROG(petrel_reset_received, const struct sock *sk) {
  return on_reset(sk, false);
}

SEC("tp_btf/tcp_send_reset")
int BPF_PROG(petrel_reset_sent, const struct sock *sk) {
  return on_reset(sk, true);
}

/* --- sockops ------------------------------------------------------------------------------ */

static __always_inline bool endpoints_of(struct bpf_sock_ops *ops, struct endpoints *out) {
  if (ops->family == AF_INET_) {
    map_v4(&out->local, ops->local_ip4);
    map_v4(&out->remote, ops->remote_ip4);
  } else if (ops->family == AF_INET6_) {
    /* Word by word: the verifier rewrites each access by its constant offset. */
    out->local.words_be[0] = ops->local_ip6[0];
    out->local.words_be[1] = ops->local_ip6[1];
    out->local.words_be[2] = ops->local_ip6[2];
    out->local.words_be[3] = ops->local_ip6[3];
    out->remote.words_be[0] = ops->remote_ip6[0];
    out->remote.words_be[1] = ops->remote_ip6[1];
    out->remote.words_be[2] = ops->remote_ip6[2];
    out->remote.words_be[3] = ops->remote_ip6[3];
  } else {
    return false;
  }
  out->local_port_be = bpf_htons(ops->local_port);
  out->remote_port_be = bpf_htons(bpf_ntohl(ops->remote_port));
  return true;
}

/* Gives a socket of ours its storage; NULL: it is a stranger's. */
static __always_inline struct socket_state *take_up(struct bpf_sock_ops *ops, __u8 end) {
  struct endpoints ends;
  struct socket_state fresh = {};
  struct bpf_sock *sk = ops->sk;

  if (!sk || !endpoints_of(ops, &ends)) return NULL;
  /* A socket may connect a second time. */
  if (bpf_sk_storage_get(&sockets, sk, NULL, 0)) bpf_sk_storage_delete(&sockets, sk);
  bool ours = end == END_CONNECTING ? name_connecting(&ends, &fresh) : name_accepting(&ends, &fresh);
  if (!ours) return NULL;
  return bpf_sk_storage_get(&sockets, sk, &fresh, BPF_SK_STORAGE_GET_F_CREATE);
}

static __always_inline struct socket_state *taken_up(struct bpf_sock_ops *ops) {
  struct bpf_sock *sk = ops->sk;

  return sk ? bpf_sk_storage_get(&sockets, sk, NULL, 0) : NULL;
}

/* What is to be called for of a socket of ours from here on: RTOs; and for the RTT its first samples
 * and the beginning of its end, unless it is read with its segments. */
static __always_inline void watch(struct bpf_sock_ops *ops, const struct socket_state *socket) {
  int flags = ops->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_RTO_CB_FLAG;

  if (!socket->owns) flags |= BPF_SOCK_OPS_RTT_CB_FLAG | BPF_SOCK_OPS_STATE_CB_FLAG;
#ifdef PETREL_BPF_OLD
  flags |= BPF_SOCK_OPS_STATE_CB_FLAG | BPF_SOCK_OPS_RETRANS_CB_FLAG;
#endif
  bpf_sock_ops_cb_flags_set(ops, flags);
}

static __always_inline void on_connected(struct bpf_sock_ops *ops) {
  struct socket_state *socket = taken_up(ops);

  if (!socket) return;
  if (socket->owns)
    connect_done(socket, ops->snd_nxt, ops->rcv_nxt);
  else
    view_connected(socket, clock_ns() - socket->flow.syn_ns);
  watch(ops, socket);
}

/* The segment that ends the handshake may bring the request (TCP_DEFER_ACCEPT, a lost ACK): the
 * cgroup's programs have seen it as the listener's. Its payload is out of reach here. */
static __noinline int sense_first_segment(struct bpf_sock_ops *ops, struct socket_state *socket) {
  struct packet packet = {};
  struct tcphdr *tcp = ops->skb_data;

  if ((void *)(tcp + 1) > ops->skb_data_end) return 0;
  struct connection *connection = connection_of(socket);
  packet.is_tcp = true;
  packet.tcp = tcp;
  packet.payload_bytes = ops->skb_len - tcp->doff * 4;
  if (!connection || !packet.payload_bytes || tcp->syn) return 0;
  sense_client_segment(NULL, &packet, &socket->key, connection, false);
  settle_unsettled();
  return 0;
}

static __always_inline void on_accepted(struct bpf_sock_ops *ops) {
  struct socket_state *socket = take_up(ops, END_ACCEPTING);
  __u32 srtt_us = ops->srtt_us >> 3;

  if (!socket) return;
  if (socket->owns) {
    accept_done(socket, ops->snd_nxt, ops->rcv_nxt, srtt_us);
    sense_first_segment(ops, socket);
  } else {
    view_connected(socket, (__u64)srtt_us * 1000);
  }
  watch(ops, socket);
}

/* What the socket knows of its RTT now goes into the connection. */
static __noinline int tell_rtt(struct bpf_sock_ops *ops, struct socket_state *socket) {
  struct bpf_sock *sk = ops->sk;
  struct tcp_sock *tcp = sk ? bpf_skc_to_tcp_sock(sk) : NULL;
  struct connection *connection = connection_of(socket);
  struct backend_stats *stats = stats_of_backend(socket->backend_id);

  if (stats && socket->counts && ops->srtt_us) stats->socket_srtt_us = ops->srtt_us >> 3;
  if (!tcp || !connection) return 0;
  struct socket_view *view = view_in(connection, socket->end);
  fill_rtt(view, tcp);
  tell_connect(view, socket);
  return 0;
}

static __always_inline void on_rtt(struct bpf_sock_ops *ops) {
  struct socket_state *socket = taken_up(ops);

  if (!socket) return;
  tell_rtt(ops, socket);
  if (++socket->rtt_samples < RTT_SAMPLES) return;
  int flags = ops->bpf_sock_ops_cb_flags;
  bpf_sock_ops_cb_flags_set(ops, flags & ~BPF_SOCK_OPS_RTT_CB_FLAG);
}

#ifdef PETREL_BPF_OLD
/* Before 5.11 tracepoints cannot read a socket's storage. What they tell is told by calls of its own. */
static __noinline int on_end_here(struct bpf_sock_ops *ops, struct socket_state *socket) {
  struct bpf_sock *sk = ops->sk;
  struct tcp_sock *tcp = sk ? bpf_skc_to_tcp_sock(sk) : NULL;

  if (tcp) on_end(socket, (const struct sock *)tcp, ops->args[0]);
  return 0;
}
#endif

/* A FIN has come, or is about to be sent: the balancer's record, should it see the flow, is yet to be
 * made. */
static __always_inline void on_state(struct bpf_sock_ops *ops) {
  struct socket_state *socket = taken_up(ops);

  if (!socket) return;
  if (ops->args[1] != TCP_CLOSE) {
    if (!socket->owns) tell_rtt(ops, socket);
    return;
  }
#ifdef PETREL_BPF_OLD
  on_end_here(ops, socket);
#endif
}

static __always_inline void on_rto(struct bpf_sock_ops *ops) {
  struct socket_state *socket = taken_up(ops);

  if (!socket) return;
  struct backend_stats *stats = stats_of_backend(socket->backend_id);
  struct connection *connection = connection_of(socket);
  if (connection) SATURATING_INCREMENT(view_in(connection, socket->end)->rtos);
  if (stats && socket->counts) stats->socket_rtos++;
}

SEC("sockops")
int petrel_sockops(struct bpf_sock_ops *ops) {
  struct socket_state *socket;

  switch (ops->op) {
    case BPF_SOCK_OPS_TCP_CONNECT_CB:
      socket = take_up(ops, END_CONNECTING);
      if (socket) begin_connecting(socket);
#ifdef PETREL_BPF_OLD
      if (socket) watch(ops, socket);
#endif
      break;
    case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB: on_connected(ops); break;
    case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB: on_accepted(ops); break;
    case BPF_SOCK_OPS_RTT_CB: on_rtt(ops); break;
    case BPF_SOCK_OPS_RTO_CB: on_rto(ops); break;
    case BPF_SOCK_OPS_STATE_CB: on_state(ops); break;
#ifdef PETREL_BPF_OLD
    case BPF_SOCK_OPS_RETRANS_CB:
      socket = taken_up(ops);
      if (socket) on_retransmit(socket, ops->state);
      break;
#endif
  }
  return 1;
}

/* --- segments ----------------------------------------------------------------------------- */

SEC("cgroup_skb/egress")
int petrel_sent(struct __sk_buff *skb) {
  return see_segment(skb, true);
}

SEC("cgroup_skb/ingress")
int petrel_received(struct __sk_buff *skb) {
  return see_segment(skb, false);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
