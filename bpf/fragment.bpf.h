/* SPDX-License-Identifier: MIT */
/* Fragments: only the first has ports; the later ones follow it by their IP id. */
#ifndef PETREL_BPF_FRAGMENT_BPF_H
#define PETREL_BPF_FRAGMENT_BPF_H

#include "bpf/encap.bpf.h"
#include "bpf/hash.h"

static __always_inline struct fragment_key fragment_key_of(const struct packet *packet) {
  return (struct fragment_key){.source = packet->source,
                               .destination = packet->destination,
                               .id = packet->fragment_id,
                               .protocol = packet->protocol};
}

/* A first fragment to or from a backend: its later ones will go the same way. Before rewriting. */
static __noinline int remember_fragment(const struct packet *packet, __u32 service_id,
                                        __u32 backend_id) {
  struct fragment_key key = fragment_key_of(packet);

  count_verdict(service_id, VERDICT_FRAGMENT_FIRST);
  return (int)bpf_map_update_elem(&fragments, &key, &backend_id, BPF_ANY);
}

/* A later fragment with an address of ours. Returns the action; has counted. */
__noinline int follow_fragment(struct xdp_md *ctx) {
  struct packet packet;

  if (parse_again(ctx, &packet) != PARSE_GOOD || packet.fragment != FRAGMENT_LATER)
    return XDP_PASS;
  struct fragment_key key = fragment_key_of(&packet);
  __u32 *found = bpf_map_lookup_elem(&fragments, &key);
  __u32 backend_id = found ? *found : 0;
  struct backend *backend = bpf_map_lookup_elem(&backends, &backend_id);
  if (!found || !backend || !backend->service_id || packet_ttl(&packet) <= 1) {
    count_verdict(0, VERDICT_FRAGMENT);
    return XDP_PASS;
  }
  __u32 service_id = backend->service_id;
  bool replies = same_address(&packet.source, &backend->address);
  tap_backend(backend_id);
  count_verdict(service_id, VERDICT_FRAGMENT_FOLLOWED);
  if (!replies && (backend->service_flags & SERVICE_DSR)) {
    int action = encapsulate(ctx, &packet, backend, hash_address_from(0, &packet.source));
    if (action < 0) action = XDP_DROP; /* too big: its first fragment has been answered */
    count_verdict(service_id, action == XDP_DROP   ? VERDICT_DROPPED
                              : action == XDP_PASS ? VERDICT_KERNEL_ROUTED
                                                   : VERDICT_FORWARDED);
    return action;
  }
  struct scratch *work = scratch_at_hand();
  struct next_hop *hop = &backend->hop;
  __u32 mtu = backend->mtu;
  if (replies) {
    hop = find_hop_of(ctx, &packet, &backend->vip, &packet.destination, service_id);
    mtu = hop && work ? work->mtu : 0;
  } else if (!hop->ifindex) {
    hop = find_hop_of(ctx, &packet, &packet.source, &backend->address, service_id);
  }
  /* As with whole packets: the kernel cuts up what may be, and answers what may not. */
  bool too_long = mtu && l3_bytes_of(&packet) > mtu;
  if (too_long) hop = NULL;
  count_verdict(service_id, !hop      ? VERDICT_KERNEL_ROUTED
                            : replies ? VERDICT_RETURNED
                                      : VERDICT_FORWARDED);
  if (replies && too_long && !may_be_cut(&packet)) return XDP_PASS;
  if (replies)
    rewrite_ip(&packet, &packet.source, &backend->vip, false);
  else
    rewrite_ip(&packet, &packet.destination, &backend->address, true);
  return hop ? send_to(ctx, &packet, hop) : XDP_PASS;
}

#endif /* PETREL_BPF_FRAGMENT_BPF_H */
