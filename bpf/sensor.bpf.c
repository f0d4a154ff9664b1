/* SPDX-License-Identifier: MIT */
/* The socket sensor: what this host's kernel knows of connections to and from the backends.
 *
 * Tracepoints (tp_btf) see connect, close, retransmits and resets of every socket in every network
 * namespace; sockops (cgroup) see RTT samples and RTOs. A socket is ours when its remote end is a
 * VIP or a backend, or its local end is a backend. It fills the same maps as the balancer: the
 * connection's socket_view, and the socket_ counters of its backend.
 *
 * One host may hold both ends of a connection. A backend's counters come from its own end
 * (accepting), or from a connecting socket that names the backend itself (a proxy); a connecting
 * socket that names the VIP adds its connect time only, so that nothing counts twice.
 */
#include "vmlinux.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "bpf/account.bpf.h"
#include "bpf/half_open.bpf.h"
#include "bpf/service.bpf.h"

#define AF_INET_ 2
#define AF_INET6_ 10

#define SOCK_DONE_ (1 << 1) /* enum sock_flags, a bit number: the peer's FIN has come */

enum socket_end { END_CONNECTING = 0, END_ACCEPTING = 1 };

/* connecting: sockets that have sent a SYN, so that ESTABLISHED can tell how long it took.
 * Key: the socket's kernel address, an opaque id.  Value: CLOCK_MONOTONIC ns of the connect.
 * Writer and reader: sensor.  Size: 16384.  Full: LRU evicts; that connect time is not seen. */
struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 16384);
  __type(key, __u64);
  __type(value, __u64);
} connecting SEC(".maps");

struct endpoints {
  struct address local;
  struct address remote;
  __be16 local_port_be;
  __be16 remote_port_be;
};

/* One of our sockets: which connection it is an end of, and whether it speaks for the backend. */
struct owner {
  struct connection_key key;
  __u32 backend_id; /* 0: not known (its flow has no entry) */
  __u32 end;        /* enum socket_end */
  bool counts;      /* its counters are the backend's */
};

static __always_inline void map_v4(struct address *address, __be32 v4) {
  address->words_be[0] = 0;
  address->words_be[1] = 0;
  address->words_be[2] = bpf_htonl(0xffff);
  address->words_be[3] = v4;
}

static __always_inline bool endpoints_of(const struct sock *sk, struct endpoints *out) {
  __u16 family = sk->__sk_common.skc_family;

  if (family == AF_INET_) {
    map_v4(&out->local, sk->__sk_common.skc_rcv_saddr);
    map_v4(&out->remote, sk->__sk_common.skc_daddr);
  } else if (family == AF_INET6_) {
    BPF_CORE_READ_INTO(&out->local, sk, __sk_common.skc_v6_rcv_saddr);
    BPF_CORE_READ_INTO(&out->remote, sk, __sk_common.skc_v6_daddr);
  } else {
    return false;
  }
  /* A socket that closes has given up its port number by then, but not its source port; a request
   * that is no full socket yet has the number alone. */
  __u16 number = sk->__sk_common.skc_num;
  if (number)
    out->local_port_be = bpf_htons(number);
  else
    out->local_port_be = BPF_CORE_READ((const struct inet_sock *)sk, inet_sport);
  out->remote_port_be = sk->__sk_common.skc_dport;
  return true;
}

/* The key of a connection to or from this backend; `port_be` is the one that its host knows. */
static __always_inline void name_backend(struct owner *out, __be16 port_be) {
  __u32 backend_id = out->backend_id;
  struct backend *backend = bpf_map_lookup_elem(&backends, &backend_id);

  if (!backend) return;
  out->key.service_id = backend->service_id;
  out->key.service_port_be = backend->vip_port_be ? backend->vip_port_be : port_be;
}

static __noinline int find_owner(const struct endpoints *ends, struct owner *out) {
  __builtin_memset(out, 0, sizeof(*out));
  out->backend_id = find_backend(&ends->local, ends->local_port_be, PROTOCOL_TCP);
  if (out->backend_id) {
    out->end = END_ACCEPTING;
    out->counts = true;
    out->key.client = ends->remote;
    out->key.client_port_be = ends->remote_port_be;
    name_backend(out, ends->local_port_be);
    return 1;
  }
  out->key.client = ends->local;
  out->key.client_port_be = ends->local_port_be;
  out->end = END_CONNECTING;
  out->backend_id = find_backend(&ends->remote, ends->remote_port_be, PROTOCOL_TCP);
  if (out->backend_id) {
    out->counts = true;
    name_backend(out, ends->remote_port_be);
    return 1;
  }
  struct service *service = find_service(&ends->remote, ends->remote_port_be, PROTOCOL_TCP);
  if (!service) return 0;
  out->key.service_id = service->service_id;
  out->key.service_port_be = ends->remote_port_be;
  struct connection *connection = bpf_map_lookup_elem(&connections, &out->key);
  if (connection) {
    out->backend_id = connection->backend_id;
    return 1;
  }
  struct half_open *flow = find_half_open(&out->key, hash_flow(&out->key, 0, false));
  if (flow) out->backend_id = flow->backend_id;
  return 1;
}

static __always_inline struct socket_view *view_of(const struct owner *owner) {
  struct connection *connection = bpf_map_lookup_elem(&connections, &owner->key);

  if (!connection) return NULL;
  return owner->end == END_CONNECTING ? &connection->sockets[END_CONNECTING]
                                      : &connection->sockets[END_ACCEPTING];
}

static __always_inline bool owner_of(const struct sock *sk, struct owner *owner) {
  struct endpoints ends;

  return endpoints_of(sk, &ends) && find_owner(&ends, owner);
}

static __noinline int on_connected(const struct owner *owner, __u64 connect_ns) {
  struct backend_stats *stats = stats_of_backend(owner->backend_id);
  struct socket_view *view = view_of(owner);

  if (view) {
    view->connect_ns = connect_ns;
  } else if (owner->end == END_CONNECTING) {
    /* The client's ACK is not on the wire yet: the flow is half open, and takes the time along. */
    struct half_open *flow = find_half_open(&owner->key, hash_flow(&owner->key, 0, false));
    if (flow) flow->connect_us = (__u32)(connect_ns / 1000);
  }
  if (!stats || !owner->backend_id) return 0;
  stats->socket_connects++;
  stats->socket_connect_ns += connect_ns;
  return 0;
}

static __always_inline void on_closed(const struct owner *owner, const struct tcp_sock *tcp) {
  struct backend_stats *stats = stats_of_backend(owner->backend_id);
  struct socket_view *view = view_of(owner);
  __u64 sent = BPF_CORE_READ(tcp, bytes_sent) - BPF_CORE_READ(tcp, bytes_retrans);
  /* What was received counts the FIN's sequence number as a byte. */
  bool fin_received = BPF_CORE_READ((const struct sock *)tcp, __sk_common.skc_flags) & SOCK_DONE_;
  __u64 received = BPF_CORE_READ(tcp, bytes_received) - fin_received;
  __u32 srtt_us = BPF_CORE_READ(tcp, srtt_us) >> 3; /* kept times 8 by the kernel */

  if (view) {
    view->bytes_sent = sent;
    view->bytes_received = received;
    if (srtt_us) view->srtt_us = srtt_us;
  }
  if (!stats || !owner->counts) return;
  stats->socket_closes++;
  bool accepting = owner->end == END_ACCEPTING;
  stats->socket_bytes_sent += accepting ? sent : received;
  stats->socket_bytes_received += accepting ? received : sent;
  if (srtt_us) stats->socket_srtt_us = srtt_us;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(petrel_set_state, const struct sock *sk, int old_state, int new_state) {
  __u64 id = (__u64)sk;
  struct owner owner;

  /* The source port is not chosen yet when a socket enters SYN_SENT: keep the time by socket. */
  if (new_state == TCP_SYN_SENT) {
    __u64 now_ns = bpf_ktime_get_ns();
    bpf_map_update_elem(&connecting, &id, &now_ns, BPF_ANY);
    return 0;
  }
  if (old_state == TCP_SYN_SENT) {
    __u64 *start_ns = bpf_map_lookup_elem(&connecting, &id);
    if (start_ns && new_state == TCP_ESTABLISHED && owner_of(sk, &owner))
      on_connected(&owner, bpf_ktime_get_ns() - *start_ns);
    bpf_map_delete_elem(&connecting, &id);
  }
  if (new_state == TCP_CLOSE && owner_of(sk, &owner))
    on_closed(&owner, (const struct tcp_sock *)sk);
  return 0;
}

SEC("tp_btf/tcp_retransmit_skb")
int BPF_PROG(petrel_retransmit, const struct sock *sk) {
  struct owner owner;

  if (!owner_of(sk, &owner)) return 0;
  struct backend_stats *stats = stats_of_backend(owner.backend_id);
  struct socket_view *view = view_of(&owner);
  if (view) SATURATING_INCREMENT(view->retransmits);
  if (stats && owner.counts) stats->socket_retransmits++;
  return 0;
}

SEC("tp_btf/tcp_retransmit_synack")
int BPF_PROG(petrel_synack_again, const struct sock *listener, const struct request_sock *req) {
  struct owner owner;
  /* The request has the addresses; the listening socket may be bound to any. */
  const struct sock *sk = (const struct sock *)req;

  if (!owner_of(sk, &owner) || owner.end != END_ACCEPTING) return 0;
  struct backend_stats *stats = stats_of_backend(owner.backend_id);
  if (stats) stats->socket_synack_retransmits++;
  return 0;
}

static __always_inline int on_reset(const struct sock *sk, bool sent) {
  struct owner owner;

  /* No socket: the RST answers a segment for none (a refused SYN). The balancer counts those. */
  if (!sk || !owner_of(sk, &owner)) return 0;
  struct backend_stats *stats = stats_of_backend(owner.backend_id);
  struct socket_view *view = view_of(&owner);
  if (view && sent) SATURATING_INCREMENT(view->resets_sent);
  if (view && !sent) SATURATING_INCREMENT(view->resets_received);
  if (!stats || !owner.counts) return 0;
  bool by_backend = (owner.end == END_ACCEPTING) == sent;
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

static __always_inline bool endpoints_of_sockops(struct bpf_sock_ops *ops,
                                                 struct endpoints *out) {
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

static __always_inline void sample_rtt(struct bpf_sock_ops *ops, const struct owner *owner) {
  struct socket_view *view = view_of(owner);
  __u32 srtt_us = ops->srtt_us >> 3;

  if (view) view->srtt_us = srtt_us;
  struct backend_stats *stats = stats_of_backend(owner->backend_id);
  if (stats && owner->counts) stats->socket_srtt_us = srtt_us;
}

SEC("sockops")
int petrel_sockops(struct bpf_sock_ops *ops) {
  struct endpoints ends;
  struct owner owner;
  __u32 op = ops->op;

  if (op != BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB && op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB &&
      op != BPF_SOCK_OPS_RTT_CB && op != BPF_SOCK_OPS_RTO_CB)
    return 1;
  if (!endpoints_of_sockops(ops, &ends) || !find_owner(&ends, &owner)) return 1;
  if (op == BPF_SOCK_OPS_RTT_CB) {
    sample_rtt(ops, &owner);
  } else if (op == BPF_SOCK_OPS_RTO_CB) {
    struct backend_stats *stats = stats_of_backend(owner.backend_id);
    if (stats && owner.counts) stats->socket_rtos++;
  } else {
    bpf_sock_ops_cb_flags_set(ops, BPF_SOCK_OPS_RTT_CB_FLAG | BPF_SOCK_OPS_RTO_CB_FLAG);
  }
  return 1;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
