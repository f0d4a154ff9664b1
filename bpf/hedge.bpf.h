/* SPDX-License-Identifier: MIT */
/* Hedging: a SYN that its backend leaves unanswered for far longer than usual is sent to another one
 * before its client sends it again, which is a second later (RFC 6298, 2).
 *
 * The agent finds such SYNs in half_open, and has this program run once for each with a frame that
 * names it (BPF_PROG_TEST_RUN with live frames, Linux 5.18): the frame becomes the client's own SYN,
 * options and all, and leaves as what the balancer redirects does. No packet pays for this. What the
 * first backend answers late is swallowed as after a failover.
 */
#ifndef PETREL_BPF_HEDGE_BPF_H
#define PETREL_BPF_HEDGE_BPF_H

#include "bpf/answer.bpf.h"

/* The flow that the frame names, if its SYN still waits where it went first. */
static __always_inline struct half_open *flow_to_hedge(const struct hedge_wish *wish) {
  struct half_open *flow = find_half_open(&wish->key, hash_flow(&wish->key, 0, false));

  if (!flow || flow->syn_ns != wish->syn_ns || flow->synack_ns || flow->moves ||
      flow->options_bytes == SYN_NOT_KEPT || !(flow->flags & CONNECTION_WAITING_SYN))
    return NULL;
  return flow;
}

/* True: it is another backend's now. */
static __noinline bool hedge_flow(const struct hedge_wish *wish) {
  struct half_open *flow = flow_to_hedge(wish);
  __u64 now_ns = clock_ns();

  if (!flow || agent_is_silent(now_ns)) return false;
  __u32 backend_id = flow->backend_id;
  struct backend *backend = bpf_map_lookup_elem(&backends, &backend_id);
  if (!backend) return false;
  struct service *service =
      find_service(&backend->vip, wish->key.service_port_be, PROTOCOL_TCP);
  if (!service || !(service->flags & SERVICE_FAILOVER) || (service->flags & SERVICE_DSR))
    return false;
  __u64 ring_hash =
      hash_flow(&wish->key, service->hash_seed, service->flags & SERVICE_AFFINITY);
  __u32 other = next_backend(service, flow, ring_hash, false);
  if (!other) return false;
  move_syn(flow, other, CONNECTION_FAILED_OVER, now_ns);
  count_verdict(service->service_id, VERDICT_HEDGED);
  return true;
}

SEC("xdp")
int petrel_hedge(struct xdp_md *ctx) {
  void *data = (void *)(long)ctx->data;
  struct hedge_wish *asked = data + HEDGE_WISH_OFFSET;
  struct hedge_wish wish;

  if ((void *)(asked + 1) > (void *)(long)ctx->data_end) return XDP_DROP;
  __builtin_memcpy(&wish, asked, sizeof(wish));
  if (!hedge_flow(&wish)) return XDP_DROP;
  return send_syn_instead(ctx, &wish.key);
}

#endif /* PETREL_BPF_HEDGE_BPF_H */
