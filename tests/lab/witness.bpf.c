/* SPDX-License-Identifier: MIT */
/* What the kernel's own TCP functions did, seen by fentry and fexit: what the socket sensor
 * (bpf/sensor.bpf.c: tracepoints, sockops) says of the same connections is held against it, by
 * scripts/kernels --extras fentry. IPv4 only. It shares nothing with the sensor: sockets are told
 * apart by where they lie in memory.
 */
#include "vmlinux.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#define AF_INET_ 2
#define MOST 65536
#define SOCK_DONE_ (1 << 1) /* enum sock_flags, a bit number */

enum { END_CONNECTING_, END_ACCEPTING_ };
enum { SYN_SENT_ = 2, CLOSED_ = 7, LISTENS_ = 10 };
enum { PASSIVE_ESTABLISHED_ = 5 }; /* BPF_SOCK_OPS_... */

/* A socket's connection. Packed as it is, there is no padding. */
struct witness_key {
  __be32 local_be;
  __be32 remote_be;
  __be16 local_port_be;
  __be16 remote_port_be;
  __u32 end;
};

struct witness {
  __u64 connect_ns; /* tcp_v4_connect() entered to tcp_finish_connect() left */
  __u64 bytes_sent; /* without repeats */
  __u64 bytes_received;
  __u32 begun; /* more than 1: the addresses came again */
  __u32 established;
  __u32 closed;
  __u32 srtt_us; /* as it was when the socket closed */
  __u32 retransmits;
  __u32 synack_retransmits;
  __u32 rtos;
  __u32 resets_sent;
  __u32 resets_received;
  __u32 syn_repeats;
};

/* witnesses: one a connection's end. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, MOST);
  __type(key, struct witness_key);
  __type(value, struct witness);
} witnesses SEC(".maps");

/* known: a socket's address to its connection; stays until the memory is another connection's, for a
 * RST may follow the end of a socket. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, MOST);
  __type(key, __u64);
  __type(value, struct witness_key);
} known SEC(".maps");

/* connecting: when a socket's tcp_v4_connect() was entered. */
struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, MOST);
  __type(key, __u64);
  __type(value, __u64);
} connecting SEC(".maps");

static __always_inline void name(struct witness_key *out, const void *of, __u32 end) {
  const struct sock *sk = of;
  __u16 port = BPF_CORE_READ(sk, __sk_common.skc_num);

  out->local_be = BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr);
  out->remote_be = BPF_CORE_READ(sk, __sk_common.skc_daddr);
  out->local_port_be = __builtin_bswap16(port);
  out->remote_port_be = BPF_CORE_READ(sk, __sk_common.skc_dport);
  out->end = end;
}

static __always_inline struct witness *witness_of_key(const struct witness_key *key) {
  struct witness fresh = {};

  bpf_map_update_elem(&witnesses, key, &fresh, BPF_NOEXIST);
  return bpf_map_lookup_elem(&witnesses, key);
}

static __always_inline struct witness *begin(const void *sk, __u32 end) {
  struct witness_key key;
  __u64 where = (__u64)sk;

  name(&key, sk, end);
  bpf_map_update_elem(&known, &where, &key, BPF_ANY);
  struct witness *witness = witness_of_key(&key);
  if (witness) __sync_fetch_and_add(&witness->begun, 1);
  return witness;
}

static __always_inline struct witness *witness_of(const void *sk) {
  __u64 where = (__u64)sk;
  struct witness_key *key = bpf_map_lookup_elem(&known, &where);

  return key ? bpf_map_lookup_elem(&witnesses, key) : NULL;
}

#define COUNT(sk, field)                                     \
  do {                                                       \
    struct witness *witness_ = witness_of(sk);               \
    if (witness_) __sync_fetch_and_add(&witness_->field, 1); \
  } while (0)

static __always_inline int state_of(const void *sk) {
  return BPF_CORE_READ((const struct sock *)sk, __sk_common.skc_state);
}

/* What each program is given: the arguments of the function. */
#define SOCKET(args) ((const struct sock *)(args)[0])

/* What it returns. Not by its place behind the arguments: stable kernels get further ones. */
static __always_inline __u64 returned(const __u64 *args) {
  __u64 value = 0;

  bpf_get_func_ret((void *)args, &value);
  return value;
}

/* --- beginnings ---------------------------------------------------------------------------- */

SEC("fentry/tcp_v4_connect")
int connect_begins(const __u64 *args) {
  __u64 where = (__u64)SOCKET(args), now_ns = bpf_ktime_get_ns();

  bpf_map_update_elem(&connecting, &where, &now_ns, BPF_ANY);
  return 0;
}

/* The addresses are known by now. */
SEC("fentry/tcp_connect")
int syn_is_sent(const __u64 *args) {
  if (BPF_CORE_READ(SOCKET(args), __sk_common.skc_family) == AF_INET_)
    begin(SOCKET(args), END_CONNECTING_);
  return 0;
}

SEC("fexit/tcp_finish_connect")
int connect_ends(const __u64 *args) {
  __u64 where = (__u64)SOCKET(args), *begun_ns = bpf_map_lookup_elem(&connecting, &where);
  struct witness *witness = witness_of(SOCKET(args));

  if (!begun_ns || !witness) return 0;
  witness->connect_ns = bpf_ktime_get_ns() - *begun_ns;
  __sync_fetch_and_add(&witness->established, 1);
  return 0;
}

/* Returns the child. */
SEC("fexit/tcp_v4_syn_recv_sock")
int accepts(const __u64 *args) {
  const void *child = (const void *)returned(args);

  if (child) begin(child, END_ACCEPTING_);
  return 0;
}

/* (socket, operation of sockops, skb) */
SEC("fentry/tcp_init_transfer")
int has_accepted(const __u64 *args) {
  if ((int)args[1] == PASSIVE_ESTABLISHED_) COUNT(SOCKET(args), established);
  return 0;
}

/* --- in between ---------------------------------------------------------------------------- */

/* Returns an error. A SYN that is sent again is of no connection yet. */
SEC("fexit/__tcp_retransmit_skb")
int retransmits(const __u64 *args) {
  if ((int)returned(args)) return 0;
  if (state_of(SOCKET(args)) == SYN_SENT_)
    COUNT(SOCKET(args), syn_repeats);
  else
    COUNT(SOCKET(args), retransmits);
  return 0;
}

/* (listener, request) returns an error. A request is no socket yet. */
SEC("fexit/tcp_rtx_synack")
int answers_again(const __u64 *args) {
  const struct sock *request = (const struct sock *)args[1];
  struct witness_key key;

  if ((int)returned(args) || BPF_CORE_READ(request, __sk_common.skc_family) != AF_INET_) return 0;
  name(&key, request, END_ACCEPTING_);
  struct witness *witness = witness_of_key(&key);
  if (witness) __sync_fetch_and_add(&witness->synack_retransmits, 1);
  return 0;
}

/* Called by the retransmission timer alone. */
SEC("fentry/tcp_enter_loss")
int times_out(const __u64 *args) {
  if (state_of(SOCKET(args)) != SYN_SENT_) COUNT(SOCKET(args), rtos);
  return 0;
}

/* --- ends ---------------------------------------------------------------------------------- */

SEC("fentry/tcp_reset")
int is_reset(const __u64 *args) {
  COUNT(SOCKET(args), resets_received);
  return 0;
}

SEC("fentry/tcp_send_active_reset")
int resets(const __u64 *args) {
  COUNT(SOCKET(args), resets_sent);
  return 0;
}

/* Of segments that an open socket does not want; those for none have none. */
SEC("fentry/tcp_v4_send_reset")
int answers_with_reset(const __u64 *args) {
  if (args[0] && state_of(SOCKET(args)) < LISTENS_) COUNT(SOCKET(args), resets_sent);
  return 0;
}

/* (socket, state) */
SEC("fentry/tcp_set_state")
int ends(const __u64 *args) {
  const struct tcp_sock *tcp = (const struct tcp_sock *)args[0];
  int before = state_of(tcp);

  if ((int)args[1] != CLOSED_ || before == CLOSED_ || before == SYN_SENT_) return 0;
  struct witness *witness = witness_of(tcp);
  if (!witness) return 0;
  witness->srtt_us = BPF_CORE_READ(tcp, srtt_us) >> 3;
  witness->bytes_sent = BPF_CORE_READ(tcp, bytes_sent) - BPF_CORE_READ(tcp, bytes_retrans);
  /* The kernel counts the peer's FIN as a byte. */
  bool fin = BPF_CORE_READ((const struct sock *)tcp, __sk_common.skc_flags) & SOCK_DONE_;
  witness->bytes_received = BPF_CORE_READ(tcp, bytes_received) - fin;
  __sync_fetch_and_add(&witness->closed, 1);
  return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
