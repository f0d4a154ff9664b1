/* SPDX-License-Identifier: MIT */
/* Every map that the balancer and the socket sensor share.
 *
 * Both objects define them; the loader opens the balancer's first and hands its maps to the sensor
 * by name, so there is one set. Sizes below are the least that load: the loader sets the
 * configured ones between open and load. All are pinned under agent.pin_path.
 */
#ifndef PETREL_BPF_MAPS_BPF_H
#define PETREL_BPF_MAPS_BPF_H

#include "bpf/types.h"

/* services: which addresses are ours.
 * Key: struct service_key.  Value: struct service (where its rings lie, what may be done for it).
 * Writer: agent, at start.  Reader: balancer, each packet; sensor, each socket event.
 * Size: MAX_SERVICES.  Full: the configuration is refused before that. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, MAX_SERVICES);
  __type(key, struct service_key);
  __type(value, struct service);
} services SEC(".maps");

/* backends: where a backend is and how to reach it.
 * Key: backend id (0 is never used).  Value: struct backend.
 * Writer: agent, at start and when a neighbour or a backend's state changes.  Reader: balancer.
 * Size: highest configured id + 1. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 2);
  __type(key, __u32);
  __type(value, struct backend);
} backends SEC(".maps");

/* backend_ids: which backend an address is; tells replies, and sockets, of ours from all others.
 * Key: struct backend_key.  Value: backend id.
 * Writer: agent, at start.  Reader: balancer, each packet from a backend; sensor.
 * Size: MAX_BACKENDS.  Full: the configuration is refused before that. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, MAX_BACKENDS);
  __type(key, struct backend_key);
  __type(value, __u32);
} backend_ids SEC(".maps");

/* weights: the human-readable truth beside the ring, and the risk that two choices heed.
 * Key: backend id.  Value: struct weight.
 * Writer: agent, each tick that changes it.  Reader: balancer (base_weight, risk_q16), people.
 * Size: highest configured id + 1. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 2);
  __type(key, __u32);
  __type(value, struct weight);
} weights SEC(".maps");

/* ring: the slots of each service, u32 backend ids: the ring in force and, after it, the neutral
 * one (Maglev on the configured weights), which also serves when the agent is silent.
 * Key: slot (service.ring_offset or neutral_offset + hash).  Value: backend id, 0 = empty.
 * Writer: agent, through mmap; only changed slots, each a whole word, so that a half-published
 * ring is a valid one.  Reader: balancer, each new connection.
 * Size: twice the sum of all services' slots. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, 2);
  __type(key, __u32);
  __type(value, __u32);
} ring SEC(".maps");

/* control: what the agent tells the data path at run time: its heartbeat, the route generation.
 * Key: 0.  Value: struct control.
 * Writer: agent, through mmap, each tick.  Reader: balancer, each new connection and reply. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct control);
} control SEC(".maps");

/* connections: which backend a client's connection is pinned to, and what we saw of it.
 * Key: struct connection_key.  Value: struct connection.
 * Writer: balancer on packets, sensor on socket events (its own fields).  Reader: agent's sweep.
 * Size: agent.max_connections.  Full: LRU evicts; an evicted flow is placed again by the ring.
 * There is no second table for replies: a backend belongs to one service, so its reply's
 * addresses give this key, and one entry cannot outlive the other. */
struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 1024);
  __type(key, struct connection_key);
  __type(value, struct connection);
} connections SEC(".maps");

/* clients: the evidence by which a retry is told from a first attempt.
 * Key: struct client_key.  Value: struct client (its last failure, its unanswered SYN).
 * Writer: balancer, at each SYN, SYN-ACK and failure.  Reader: balancer.
 * Size: agent.max_clients.  Full: LRU evicts; an evicted client's next retry counts as first. */
struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 1024);
  __type(key, struct client_key);
  __type(value, struct client);
} clients SEC(".maps");

/* backend_stats: counters, histograms of connect and response time, and waiting requests by age.
 * Key: backend id.  Value: struct backend_stats, one a CPU.
 * Writer: balancer and sensor.  Reader: agent, each tick.
 * Size: highest configured id + 1. */
struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 2);
  __type(key, __u32);
  __type(value, struct backend_stats);
} backend_stats SEC(".maps");

/* inflight: unanswered SYNs and requests of each backend now, for the two choices.
 * Key: backend id.  Value: struct inflight, a cache line.
 * Writer: balancer, atomically; the agent's sweep gives back what a silent end took.
 * Reader: balancer, each new connection.  Size: highest configured id + 1. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, 2);
  __type(key, __u32);
  __type(value, struct inflight);
} inflight SEC(".maps");

/* service_stats: first attempts, retries and what was done about them.
 * Key: service id.  Value: struct service_stats, one a CPU.
 * Writer: balancer.  Reader: agent, people.  Size: highest configured id + 1. */
struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 2);
  __type(key, __u32);
  __type(value, struct service_stats);
} service_stats SEC(".maps");

/* verdicts: how packets left the balancer.
 * Key: enum verdict.  Value: packets, one count a CPU.
 * Writer: balancer.  Reader: agent, people.  Size: VERDICTS. */
struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, VERDICTS);
  __type(key, __u32);
  __type(value, __u64);
} verdicts SEC(".maps");

/* events: one record for each decision point of a connection, and for each retry.
 * Value: struct event.
 * Writer: balancer.  Reader: agent, each tick (never woken: it drains by its own clock).
 * Size: 4 MiB, about 45,000 events.  Full: the event is lost and counted in verdicts. */
struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, 4 << 20);
} events SEC(".maps");

#endif /* PETREL_BPF_MAPS_BPF_H */
