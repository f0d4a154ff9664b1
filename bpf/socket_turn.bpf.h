/* SPDX-License-Identifier: MIT */
/* Requests and answers as a socket sends and receives them, for sockets that own their connection.
 *
 * The cgroup's programs see each segment with its socket, and hand those with payload, FIN or RST to
 * the wire sensor's own functions: what is a request, an answer or a failure is the same whoever sees
 * it. Segments are as the stack hands them over: several of the wire's may be one here.
 */
#ifndef PETREL_BPF_SOCKET_TURN_BPF_H
#define PETREL_BPF_SOCKET_TURN_BPF_H

#include "bpf/http.bpf.h"
#include "bpf/socket_flow.bpf.h"

#define SEGMENT_COPY_BYTES 1536 /* the TCP header, and as much text as is looked through */
#define SEGMENT_DEPTH 3         /* a program interrupted by itself, and that again */

/* A segment's first bytes in one piece: payload may lie in pages of its own. */
struct segment_copy {
  __u32 depth; /* of the first entry: how many are in use on this CPU */
  __u32 bytes_used;
  __u8 bytes[2 * SEGMENT_COPY_BYTES]; /* room for what the verifier cannot rule out */
};

#define SEGMENT struct segment_copy

static __always_inline __u32 payload_offset(const struct packet *packet) {
  return packet->tcp->doff * 4;
}

static __always_inline bool text_at(struct segment_copy *copy, __u32 offset, struct text *out) {
  if (!copy || offset > 255 || copy->bytes_used > SEGMENT_COPY_BYTES) return false;
  out->at = copy->bytes + offset;
  out->end = copy->bytes + copy->bytes_used;
  return out->at < out->end;
}

#include "bpf/wire.bpf.h"

/* segments: work space of one segment.
 * Key: depth.  Value: struct segment_copy.  Writer and reader: sensor.  Size: SEGMENT_DEPTH a CPU.
 * Full: the segment is not seen. */
struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, SEGMENT_DEPTH);
  __type(key, __u32);
  __type(value, struct segment_copy);
} segments SEC(".maps");

/* What a program sends in a process's context can be interrupted by what arrives: each has a copy of
 * its own. Pair it with release_copy(). */
static __always_inline struct segment_copy *claim_copy(void) {
  __u32 key = 0;
  struct segment_copy *first = bpf_map_lookup_elem(&segments, &key);

  if (!first) return NULL;
  key = first->depth;
  if (key >= SEGMENT_DEPTH) return NULL;
  first->depth = key + 1;
  return bpf_map_lookup_elem(&segments, &key);
}

static __always_inline void release_copy(void) {
  __u32 zero = 0;
  struct segment_copy *first = bpf_map_lookup_elem(&segments, &zero);

  if (first && first->depth) first->depth--;
}

/* Where the TCP header of an skb of the cgroup's programs begins, from its IP header; 0: there is
 * none, or it is none of the straight way (extension headers). */
static __always_inline __u32 tcp_offset(const struct __sk_buff *skb) {
  const void *data = (void *)(long)skb->data, *data_end = (void *)(long)skb->data_end;
  const struct iphdr *v4 = data;

  if ((const void *)(v4 + 1) > data_end) return 0;
  if (v4->version == 4) return v4->protocol == PROTOCOL_TCP ? v4->ihl * 4 : 0;
  const struct ipv6hdr *v6 = data;
  if ((const void *)(v6 + 1) > data_end || v6->nexthdr != PROTOCOL_TCP) return 0;
  return sizeof(*v6);
}

static __always_inline bool says_nothing(const struct tcphdr *tcp, __u32 payload_bytes) {
  return tcp->syn || (!payload_bytes && !tcp->fin && !tcp->rst);
}

/* A segment that brings payload or ends something, and of which connection. */
struct turn {
  const struct connection_key *key;
  struct connection *connection;
  __u32 offset; /* of the TCP header, from the IP header */
  __u32 payload_bytes;
  __u64 from_client;
};

static __noinline int sense_copy(const struct turn *turn, struct segment_copy *copy) {
  struct packet packet = {};

  packet.is_tcp = true;
  packet.tcp = (struct tcphdr *)copy->bytes;
  packet.payload_bytes = turn->payload_bytes;
  if (turn->from_client)
    sense_client_segment(copy, &packet, turn->key, turn->connection, false);
  else
    sense_backend_segment(copy, &packet, turn->key, turn->connection);
  if (turn->from_client) settle_unsettled();
  return 0;
}

static __noinline int sense_turn(struct __sk_buff *skb, const struct turn *turn) {
  struct segment_copy *copy = claim_copy();
  __u64 bytes = skb->len - turn->offset;

  if (!copy) return 0;
  if (bytes > SEGMENT_COPY_BYTES) bytes = SEGMENT_COPY_BYTES;
  /* Each bound by itself: clang would check a difference for both, and the verifier of 6.12 does not see
   * that the length is not 0. */
  bytes = seen_anew(bytes);
  bool whole = bytes >= sizeof(struct tcphdr);
  bytes = seen_anew(bytes);
  if (whole && bytes <= SEGMENT_COPY_BYTES &&
      !bpf_skb_load_bytes(skb, turn->offset, copy->bytes, bytes)) {
    copy->bytes_used = bytes;
    sense_copy(turn, copy);
  }
  release_copy();
  return 0;
}

/* What the socket knows itself goes into the connection before its segment is made an end of. */
static __always_inline void tell_view(struct socket_state *socket, struct connection *connection,
                                      struct bpf_sock *sk, bool ends) {
  struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
  struct socket_view *view = view_in(connection, socket->end);

  if (!tcp) return;
  fill_rtt(view, tcp);
  if (ends) fill_bytes(view, tcp, false);
}

/* One segment that a socket of this host sends or receives. */
static __always_inline int see_segment(struct __sk_buff *skb, bool sent) {
  struct bpf_sock *sk = skb->sk;

  if (!sk) return 1;
  struct socket_state *socket = bpf_sk_storage_get(&sockets, sk, NULL, 0);
  if (!socket || !socket->owns) return 1;
  __u32 offset = tcp_offset(skb);
  const struct tcphdr *tcp = (void *)(long)skb->data + (offset & 127);
  if (!offset || (void *)(tcp + 1) > (void *)(long)skb->data_end) return 1;
  struct turn turn = {.key = &socket->key,
                      .offset = offset,
                      .payload_bytes = skb->len - offset - tcp->doff * 4,
                      .from_client = (socket->end == END_CONNECTING) == sent};
  bool ends = tcp->fin || tcp->rst;
  if (says_nothing(tcp, turn.payload_bytes)) return 1;
  turn.connection = connection_of(socket);
  if (!turn.connection) return 1;
  if (ends || !sent) tell_view(socket, turn.connection, sk, ends);
  sense_turn(skb, &turn);
  return 1;
}

#endif /* PETREL_BPF_SOCKET_TURN_BPF_H */
