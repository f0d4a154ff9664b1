/* SPDX-License-Identifier: MIT */
/* Gives each host behind a lab's NAT a TCP timestamp clock of its own: a constant, by the host's
 * address, is added to what it sends and taken off what it is sent back.
 *
 * Linux had such clocks from 4.12 (one offset for each pair of addresses) until stable kernels of
 * 2026 drew the offset anew for each connection; Windows and the BSDs have their own. Needs
 * net.ipv4.tcp_timestamps = 2 (no offset of the kernel's) in the namespace. The NAT has done its
 * work before TC egress, but the socket still knows the host's own address.
 */
#include "vmlinux.h"

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define TC_ACT_OK 0
#define PROTOCOL_TCP 6
#define FAMILY_IPV4 2
#define ETH_BYTES 14
#define TCP_CHECKSUM 16 /* offsets within the TCP header */
#define TCP_OPTIONS 20
#define MOST_OPTIONS 12 /* each of two bytes or more, or padding; stacks send 3 to 7 */
#define OPTION_END 0
#define OPTION_PADDING 1
#define OPTION_TIMESTAMPS 8
#define OFFSET_VALUE 2 /* of TSval in the option, and of TSecr */
#define OFFSET_ECHO 6
#define FLAG_SYN 2

/* struct __sk_buff and struct bpf_sock as far as we read them. The layout is ABI. */
struct clock_packet {
  __u32 not_read[42]; /* len to gso_segs */
  struct bpf_sock *socket;
};

struct clock_socket {
  __u32 bound_device;
  __u32 family;
  __u32 not_read[4]; /* type to priority */
  __be32 source4_be;
  __be32 source6_be[4];
};

/* host_clocks: how far a flow's host is ahead of the namespace's clock.
 * Key: the flow's port behind the NAT (all flows are one address's).  Value: ms.
 * Writer: send, at a SYN.  Reader: both.  When full: the oldest flow loses its clock, and ends. */
struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 65536);
  __type(key, __be16);
  __type(value, __u32);
} host_clocks SEC(".maps");

/* Where the TCP header begins, 0 for what is no TCP. IPv6 without extensions. */
static __always_inline __u32 find_tcp(struct __sk_buff *skb) {
  __u8 head[10];

  if (bpf_skb_load_bytes(skb, ETH_BYTES, head, sizeof(head)) != 0) return 0;
  if (head[0] >> 4 == 4 && head[9] == PROTOCOL_TCP) return ETH_BYTES + (head[0] & 15) * 4;
  if (head[0] >> 4 == 6 && head[6] == PROTOCOL_TCP) return ETH_BYTES + 40;
  return 0;
}

/* Where the timestamps option begins, 0 if there is none. */
static __always_inline __u32 find_timestamps(struct __sk_buff *skb, __u32 tcp) {
  __u32 at = tcp + TCP_OPTIONS;
  __u8 offset, option[2];

  if (bpf_skb_load_bytes(skb, tcp + 12, &offset, 1) != 0) return 0;
  __u32 end = tcp + (offset >> 4) * 4;
  for (int i = 0; i < MOST_OPTIONS; i++) {
    if (at + 2 > end || bpf_skb_load_bytes(skb, at, option, 2) != 0) return 0;
    if (option[0] == OPTION_TIMESTAMPS) return at;
    if (option[0] == OPTION_END) return 0;
    at += option[0] == OPTION_PADDING ? 1 : option[1];
  }
  return 0;
}

static __always_inline void add_to(struct __sk_buff *skb, __u32 tcp, __u32 at, __u32 added_ms) {
  __be32 before_be, after_be;

  if (bpf_skb_load_bytes(skb, at, &before_be, sizeof(before_be)) != 0 || !before_be) return;
  after_be = bpf_htonl(bpf_ntohl(before_be) + added_ms);
  bpf_l4_csum_replace(skb, tcp + TCP_CHECKSUM, before_be, after_be, sizeof(after_be));
  bpf_skb_store_bytes(skb, at, &after_be, sizeof(after_be), 0);
}

/* Some number of 32 bits for each address, which no two of a lab's hosts share or are near in. */
static __always_inline __u32 clock_of(volatile struct clock_socket *socket) {
  /* Volatile: two loads and a choice, not a load from a chosen address, which the verifier refuses. */
  __u32 source4 = socket->source4_be, source6 = socket->source6_be[3];
  __u32 mixed = socket->family == FAMILY_IPV4 ? source4 : source6;

  mixed = (mixed ^ (mixed >> 16)) * 0x85ebca6b;
  mixed = (mixed ^ (mixed >> 13)) * 0xc2b2ae35;
  return mixed ^ (mixed >> 16);
}

SEC("tc/send")
int send(struct clock_packet *packet) {
  struct __sk_buff *skb = (void *)packet;
  __u32 tcp = find_tcp(skb);
  __be16 port_be;
  __u8 flags;

  if (!tcp || bpf_skb_load_bytes(skb, tcp, &port_be, sizeof(port_be)) != 0 ||
      bpf_skb_load_bytes(skb, tcp + 13, &flags, 1) != 0)
    return TC_ACT_OK;
  if (flags & FLAG_SYN) {
    struct bpf_sock *socket = packet->socket ? bpf_sk_fullsock(packet->socket) : 0;
    if (!socket) return TC_ACT_OK;
    __u32 ahead_ms = clock_of((struct clock_socket *)socket);
    bpf_map_update_elem(&host_clocks, &port_be, &ahead_ms, BPF_ANY);
  }
  __u32 *ahead_ms = bpf_map_lookup_elem(&host_clocks, &port_be);
  __u32 at = ahead_ms ? find_timestamps(skb, tcp) : 0;
  if (at) add_to(skb, tcp, at + OFFSET_VALUE, *ahead_ms);
  return TC_ACT_OK;
}

SEC("tc/receive")
int receive(struct __sk_buff *skb) {
  __u32 tcp = find_tcp(skb);
  __be16 port_be;

  if (!tcp || bpf_skb_load_bytes(skb, tcp + 2, &port_be, sizeof(port_be)) != 0) return TC_ACT_OK;
  __u32 *ahead_ms = bpf_map_lookup_elem(&host_clocks, &port_be);
  __u32 at = ahead_ms ? find_timestamps(skb, tcp) : 0;
  if (at) add_to(skb, tcp, at + OFFSET_ECHO, -*ahead_ms);
  return TC_ACT_OK;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
