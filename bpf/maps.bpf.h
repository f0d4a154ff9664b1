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

/* services: which addresses and ports are ours.
 * Key: struct service_key.  Value: struct service (where its rings lie, what may be done for it).
 * Writer: agent, at start and at a reload.  Reader: balancer, each packet; sensor, each socket
 * event.  Size: MAX_SERVICES.  Full: the configuration is refused before that.
 * Not preallocated: an entry that is replaced stays whole for who still reads it. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, MAX_SERVICES);
  __type(key, struct service_key);
  __type(value, struct service);
} services SEC(".maps");

/* endpoints: services of one port and backends again, where a hash map would cost every packet 20 ns.
 * Key: hash_endpoint().  Value: struct endpoint, which says whose it is.
 * Writer: agent, with services and backend_ids, through mmap.  Reader: balancer, each packet.
 * Size: ENDPOINT_SLOTS.  Two of one key: the later is found in `services` or `backend_ids`. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, ENDPOINT_SLOTS);
  __type(key, __u32);
  __type(value, struct endpoint);
} endpoints SEC(".maps");

/* vips: the addresses of services, with those services that have more than one port.
 * Key: address.  Value: struct vip.
 * Writer: agent, as services.  Reader: balancer: packets to an address of ours that no service of
 * one port takes, and echo requests.  Size: MAX_SERVICES. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, MAX_SERVICES);
  __type(key, struct address);
  __type(value, struct vip);
} vips SEC(".maps");

/* address_filter: which addresses cannot be ours, told without a look-up.
 * Key: 0.  Value: struct address_filter (hash_address() of each VIP and backend has its bit set).
 * Writer: agent, through mmap: bits are set before their entries and cleared after them.
 * Reader: balancer, each packet. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct address_filter);
} address_filter SEC(".maps");

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
 * Size: agent.max_connections, and some that each CPU keeps to itself.  Full: LRU evicts; an evicted
 * flow is placed again by the ring.  Only flows whose client has shown that it is there come here.
 * There is no second table for replies: a backend's port belongs to one service, so its reply's
 * addresses give this key, and one entry cannot outlive the other. */
struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 1024);
  __type(key, struct connection_key);
  __type(value, struct connection);
} connections SEC(".maps");

/* sockets: which connection of ours a socket of this host is an end of.
 * Key: the socket itself (its kernel object, or a process's descriptor).  Value: struct socket_state.
 * Writer and reader: sensor.  Size: none: the kernel frees an entry with its socket. */
struct {
  __uint(type, BPF_MAP_TYPE_SK_STORAGE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, int);
  __type(value, struct socket_state);
} sockets SEC(".maps");

/* half_open: flows whose client has not shown that it is there, so that a flood of them costs no
 * established one its entry.
 * Key: set (hash of the flow) * HALF_OPEN_WAYS + way.  Value: struct half_open, which holds its key.
 * Writer: balancer; sensor (connect_us); the agent's sweep gives back what a silent end took.
 * Reader: balancer, each packet that `connections` does not know.
 * Size: agent.max_half_open.  Full: the oldest of its set gives way, and gives back what it took. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, 1024);
  __type(key, __u32);
  __type(value, struct half_open);
} half_open SEC(".maps");

/* pending: each client's last SYN, and how regularly they come.
 * Key: hash of client and service; where another host's SYN waits too, of the host as well.
 * Value: struct pending, which says whose it is.
 * Writer and reader: balancer, at each SYN and SYN-ACK.
 * Size: agent.max_half_open / 4.  Two of one key: the later SYN stays; a handshake that times out is
 * then not told from a first attempt. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 256);
  __type(key, __u32);
  __type(value, struct pending);
} pending SEC(".maps");

/* client_filter: which clients cannot be in `clients`, told without a look-up.
 * Key: 0.  Value: struct client_filter.
 * Writer: balancer, at each failure.  Reader: balancer, at each request that begins. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct client_filter);
} client_filter SEC(".maps");

/* fragments: where the later fragments of a datagram go.
 * Key: struct fragment_key.  Value: backend id.
 * Writer: balancer, at a first fragment.  Reader: balancer, at each later one.
 * Size: 4096.  Full: LRU evicts; the later fragments then pass to the kernel. */
struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 4096);
  __type(key, struct fragment_key);
  __type(value, __u32);
} fragments SEC(".maps");

/* routes: the way to clients: the kernel's routes and neighbours, as the agent follows them.
 * Key: struct route_key.  Value: struct route.
 * Writer: agent, as they change.  Reader: balancer, a flow's first replies.
 * Size: 8192.  Full: the rest is asked of bpf_fib_lookup. */
struct {
  __uint(type, BPF_MAP_TYPE_LPM_TRIE);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, 8192);
  __type(key, struct route_key);
  __type(value, struct route);
} routes SEC(".maps");

/* clients: the evidence by which a retry is told from a first attempt.
 * Key: struct client_key: an address, or a host behind it that has failures while another one failed.
 * Value: struct client (its last failure).
 * Writer: balancer, at each failure and each retry.  Reader: balancer, at each request of a client
 * that client_filter knows.
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

/* svc_inflight: the same summed over each service's backends, for admission.
 * Key: service id.  Value: struct inflight.
 * Writer: balancer, as inflight; agent (limits).  Reader: balancer, each new connection.
 * Size: highest configured id + 1. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, 2);
  __type(key, __u32);
  __type(value, struct inflight);
} svc_inflight SEC(".maps");

/* budgets: what each service may still spend on retries.
 * Key: service id.  Value: struct budget.
 * Writer: balancer, at each retry; agent (rate, burst), under the lock.  Reader: agent, people.
 * Size: highest configured id + 1. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 2);
  __type(key, __u32);
  __type(value, struct budget);
} budgets SEC(".maps");

/* admissions: who has had what of a service that is near its limit of requests in flight.
 * Key: service id.  Value: struct budget, of which `rate_q16` is what the service can answer (0: all
 * may ask for what they like) and tokens mean nothing.
 * Writer: balancer, at new connections beyond three quarters of the limit; agent (rate), under the
 * lock.  Reader: agent, people.  Size: highest configured id + 1. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 2);
  __type(key, __u32);
  __type(value, struct budget);
} admissions SEC(".maps");

/* service_stats: first attempts, retries and what was done about them.
 * Key: service id.  Value: struct service_stats, one a CPU.
 * Writer: balancer.  Reader: agent, people.  Size: highest configured id + 1. */
struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 2);
  __type(key, __u32);
  __type(value, struct service_stats);
} service_stats SEC(".maps");

/* verdicts: how packets left the balancer, and what else is to be said of them.
 * Key: service id * VERDICTS + enum verdict; service 0: of no service.  Value: packets, one count a
 * CPU.  Writer: balancer.  Reader: agent, people.
 * Size: VERDICTS for each of the highest configured id + 1. */
struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, VERDICTS);
  __type(key, __u32);
  __type(value, __u64);
} verdicts SEC(".maps");

/* events: what happened, in order: each decision point of a connection, each retry; and while somebody
 * captures all that was seen of each request.
 * Value: struct event or, by its size, struct record.
 * Writer: balancer.  Reader: agent, each tick (never woken: it drains by its own clock).
 * Size: 4 MiB, about 37,000 events.  Full: it is lost and counted in verdicts. */
struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, 4 << 20);
} events SEC(".maps");

/* tap_filter: which packets `taps` is to have.
 * Key: 0.  Value: struct tap_wish.
 * Writer: agent, before it puts the tapping program in place.  Reader: balancer, when tapping. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct tap_wish);
} tap_filter SEC(".maps");

/* taps: packets as they came and as they left: struct tap_header, then the packet's first bytes.
 * Key: CPU.  Value: perf event.
 * Writer: balancer, when tapping.  Reader: `petrel tap`.  Full: the reader is told how many it lost. */
struct {
  __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
  __uint(key_size, sizeof(__u32));
  __uint(value_size, sizeof(__u32));
} taps SEC(".maps");

#endif /* PETREL_BPF_MAPS_BPF_H */
