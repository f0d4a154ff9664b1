/* SPDX-License-Identifier: MIT */
/* Structs that the BPF programs and userspace share: the layout of every map's key and value.
 *
 * Plain C for both sides; a layout is frozen once shipped, which the assertions at the end hold.
 * Times are CLOCK_MONOTONIC nanoseconds; `_be` is network byte order, all else is host order;
 * `_q16` is fixed point with 16 fractional bits. Writers are named: X = XDP balancer,
 * S = socket sensor, A = agent. Backend id 0 and service id 0 mean "unset".
 */
#ifndef PETREL_BPF_TYPES_H
#define PETREL_BPF_TYPES_H

#ifndef __VMLINUX_H__
#include <linux/bpf.h> /* struct bpf_spin_lock */
#include <linux/types.h>
#endif

#include "bpf/enums.h"

#ifdef __cplusplus
#define PETREL_ASSERT_SIZE(type, bytes) static_assert(sizeof(type) == (bytes), #type)
#else
#define PETREL_ASSERT_SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), #type)
#endif

#ifdef __cplusplus
namespace petrel::bpf {
#endif

/* --- addresses ---------------------------------------------------------------------------- */

/* IPv6, or IPv4 as ::ffff:a.b.c.d (RFC 4291, 2.5.5.2): one key layout for both families. */
struct address {
  union {
    __u8 bytes[16];
    __be32 words_be[4];
  };
};

#ifdef __cplusplus
}  // namespace petrel::bpf
#endif

#include "bpf/label_types.h"

#ifdef __cplusplus
namespace petrel::bpf {
#endif

/* --- configuration, written by A ---------------------------------------------------------- */

/* A service of several ports is kept under the first of them: `vips` finds it. */
struct service_key {
  struct address vip;
  __be16 port_be;
  __u8 protocol; /* IPPROTO_TCP or IPPROTO_UDP */
  __u8 padding;  /* 0 */
};

/* A service of the ports first to last of a VIP. Host order. */
struct port_range {
  __u16 first;
  __u16 last;
  __u8 protocol;
  __u8 padding[3];
};

/* What an address of ours has beyond services of one port. */
struct vip {
  __u32 ranges; /* how many of `range` are used */
  struct port_range range[VIP_RANGES];
};

/* A Bloom filter of one hash: a packet whose addresses have no bit here is not ours. */
struct address_filter {
  __u64 vips[FILTER_WORDS];
  __u64 backends[FILTER_WORDS];
};

struct service {
  __u32 service_id;     /* 1 to MAX_SERVICES - 1 */
  __u32 flags;          /* enum service_flag */
  __u32 ring_offset;    /* first slot of the ring in force, in `ring` */
  __u32 neutral_offset; /* first slot of the neutral ring (configured weights), in `ring` */
  __u32 slots;          /* length of each of both, a prime; 1 or more */
  __u32 hash_seed;
};

/* One of our endpoints, found without a hash map: a service, or a backend whose replies are ours. */
struct endpoint {
  struct address address;
  __be16 port_be;
  __u8 protocol;
  __u8 kind;              /* enum endpoint_kind; 0: free. Cleared first and set last by A */
  __u32 backend_id;       /* of a backend */
  struct service service; /* of a service: the same as in `services` */
  __u32 padding[4];
};

/* Where to send a frame. Valid while ifindex != 0. */
struct next_hop {
  __u32 ifindex; /* 0: unknown, ask bpf_fib_lookup */
  __u8 source_mac[6];
  __u8 destination_mac[6];
};

struct backend {
  struct address address;
  struct address vip;   /* of its service: what replies are rewritten to */
  __be16 port_be;       /* 0: the port asked for (SERVICE_KEEP_PORT, and dsr) */
  __be16 vip_port_be;   /* 0: the port it answers from */
  __u32 service_id;     /* 0: unused entry */
  __u16 state;          /* enum backend_state */
  __u16 mtu;            /* of the link towards it, bytes from the IP header on; 0: unknown */
  struct next_hop hop;  /* kept by A from the kernel's neighbour table */
  __u32 service_flags;  /* its service's, for what comes back from it; enum service_flag */
};

/* Where replies come from. dsr backends have none: their replies do not name them. */
struct backend_key {
  struct address address;
  __be16 port_be;  /* 0: all ports of the address that have no entry of their own */
  __u8 protocol;
  __u8 padding;    /* 0 */
};

/* The route or neighbour that a destination is reached by: longest prefix wins. */
struct route_key {
  __u32 prefix_bits; /* 0 to 128; of an IPv4 address 96 more than its own */
  struct address address;
};

/* A route towards clients. hop.ifindex 0: reached in a way that only the kernel knows. */
struct route {
  struct next_hop hop;
  __u32 mtu;
};

/* The human-readable truth beside the ring. */
struct weight {
  char backend[16];     /* name, cut to 15 characters */
  __u32 base_weight;    /* as configured, 0 to 65535 */
  __u32 factor_q16;     /* weight in force as a part of the base: 65536 = all of it */
  __u32 risk_q16;       /* predicted retry probability, 0 to 65536 */
  __u32 reason;         /* enum weight_reason */
  __u64 changed_ns;     /* when factor_q16 last changed */
  __u64 drained_ns;     /* when a draining backend's flows are reset or moved; 0: not draining */
};

/* What the agent tells the balancer at run time. */
struct control {
  __u64 heartbeat_ns;       /* when A last ticked; 0: never */
  __u64 heartbeat_limit_ns; /* older than this: the neutral ring serves */
  __u32 route_generation;   /* grows with each change of routes or neighbours: cached hops are old */
  __u32 secret;             /* of half_open's hash: drawn once, kept by agents that take over */
  __u32 recording;          /* 1: somebody captures: records are sent, last bytes are timed */
  __u32 padding;
};

/* --- connections -------------------------------------------------------------------------- */

struct connection_key {
  struct address client;
  __be16 client_port_be;
  __be16 service_port_be; /* that the client asked for */
  __u16 service_id;
  __u16 backend_id; /* where sockets tell of it: a client's port may be in use to several backends
                       at once; 0: the balancer does, and the flow is of the service */
};

/* What a kernel socket on this host told of the connection; all zero where none did. Written by S. */
struct socket_view {
  __u64 connect_ns;         /* SYN_SENT (or SYN_RECV) to ESTABLISHED as the socket saw it */
  __u64 bytes_sent;         /* payload, repeats not counted */
  __u64 bytes_received;     /* payload */
  __u32 srtt_us;            /* smoothed RTT at its last report */
  __u32 rttvar_us;          /* its variation (RFC 6298's RTTVAR) then */
  __u16 retransmits;        /* segments, saturating */
  __u16 rtos;               /* retransmission timeouts, each a doubling of the RTO; saturating */
  __u8 resets_sent;         /* saturating */
  __u8 resets_received;     /* saturating */
  __u8 padding[2];
};

/* A flow of which the client has not shown that it is there: a SYN without the client's ACK, a
 * segment from the middle of an unknown flow, a UDP datagram without an answer. Such flows can be
 * made up at will, so they live in a table of their own. Two cache lines. Written by X. */
struct half_open {
  struct connection_key key; /* service_id 0: a free entry */
  __u32 backend_id;
  __u32 flags;               /* enum connection_flag; HALF_OPEN_BUSY guards the rest */
  __u64 syn_ns;              /* first SYN (or first packet) */
  __u64 synack_ns;           /* 0: none yet */
  __u32 syn_seq;             /* of the client's SYN */
  __u32 backend_seq;         /* of the SYN-ACK */
  __u32 previous_backend_id; /* which backend failed the request that this one repeats; 0: none */
  __u8 state;                /* CONNECTION_SYN or CONNECTION_ANSWERED */
  __u8 attempt;              /* as in struct connection */
  __u8 previous_failure;
  __u8 syn_repeats;
  __u64 sent_ns;             /* when the SYN went to the backend that has it now */
  __u32 moved_from[2];       /* the backends that it was moved off last; 0: none */
  __u32 connect_us;          /* SYN_SENT to ESTABLISHED of the connecting socket. Written by S */
  /* The client's own SYN, to be sent again to another backend. */
  __u16 window_be;
  __u8 options_bytes;        /* of `options`, a multiple of 4; SYN_NOT_KEPT: they are longer */
  __u8 moves;                /* how often it was moved; at most MAX_MOVES */
  __u8 masked;               /* of these: refusals held back; at most MAX_MASKED */
  __u8 tcp_flags;            /* byte 13 of the TCP header: SYN, perhaps ECE and CWR */
  __u8 tos;                  /* TOS or traffic class */
  __u8 ttl;                  /* as it came */
  __u8 options[SYN_OPTIONS_BYTES];
  __u16 previous_hash;       /* as in struct connection; of 16 bits for want of room */
  __u8 evidence;             /* as in struct connection */
  __u8 confidence;
};

/* A SYN that is to be sent to another backend, too. Written by A, into the frame that petrel_hedge runs
 * on. */
struct hedge_wish {
  struct connection_key key;
  __u64 syn_ns; /* names the flow, with the key */
};

struct connection {
  /* What each packet touches comes first: with the key it fills the table element's second cache
   * line. Written by X. */
  __u32 backend_id;
  __u32 flags;           /* enum connection_flag */
  __u32 client_end_seq;  /* sequence number after the last payload byte seen from the client */
  __u32 backend_end_seq; /* the same from the backend */
  __u64 bytes_in;        /* client to backend, payload, repeats included */
  __u64 bytes_out;       /* backend to client, the same */
  struct next_hop client_hop; /* way back to the client */
  __u32 client_hop_generation; /* control.route_generation when it was looked up */
  __u8 state;            /* enum connection_state */
  __u8 attempt;          /* of the current request: 1 = first, n = retry n-1; saturating */
  __u16 client_mtu;      /* of the way back, bytes from the IP header on; 0: unknown */
  __u64 syn_ns;          /* first SYN (or first packet seen); names the connection in events */
  __u64 synack_ns;       /* 0: none yet */
  __u64 request_ns;      /* first byte of the current request; 0: none yet */
  __u64 response_ns;     /* first byte of its answer; 0: none yet */
  __u64 close_ns;        /* FIN or RST that ended it; 0: open */
  __u32 syn_seq;         /* of the client's SYN: the same again is a retransmission, not a retry */
  __u32 requests;        /* begun so far; turns of client then backend bytes */
  __u16 client_repeats;  /* data segments from the client seen before; saturating */
  __u16 backend_repeats; /* the same from the backend */
  __u8 failure;          /* enum failure_kind of the current request */
  __u8 previous_failure; /* of the request that this one repeats; FAILURE_NONE for a first attempt */
  __u16 status;          /* last HTTP/1.x status, 0 if none was seen */
  __u32 previous_backend_id; /* which backend failed it before; 0 for a first attempt */
  __u8 moves;            /* how often its SYN was moved to another backend */
  __u8 syn_repeats;      /* SYNs beyond the first; saturating */
  __u8 closed_by;        /* enum closed_by */
  __u8 method;           /* enum http_method of the current request */
  __u64 ack_ns;          /* the client's ACK of the SYN-ACK, or its first packet; 0: none yet */
  __u64 last_byte_ns;    /* last payload from the backend; only while control.recording */
  __u64 request_bytes_in;  /* bytes_in as the current request began */
  __u64 request_bytes_out; /* bytes_out, the same */
  __u64 queued_ns[QUEUED_REQUESTS]; /* pipelined requests that wait behind the current one, by age */
  __u32 waiting_at_start;  /* unanswered requests at the backend as the current one began */
  __u32 ts_offset_ms;      /* TSval of the client's SYN less CLOCK_MONOTONIC ms; modulo 2^32 */
  __u16 zero_windows_in;   /* segments from the client that closed its window; saturating */
  __u16 zero_windows_out;  /* the same from the backend */
  __u16 request_hash;      /* keyed, of the current request's first bytes; 0: not HTTP/1.x */
  __u16 previous_hash;     /* the same of the request that this one repeats; 0: not known */
  __u8 queued;             /* how many of queued_ns are in use */
  __u8 evidence;           /* enum label_evidence: why the current request is, or is not, a retry */
  __u8 confidence;         /* in that label, 0 to 255: 255 is certain */
  __u8 owner;              /* enum sensor: who tells of its requests */
  __u8 queued_method[QUEUED_REQUESTS]; /* enum http_method of those of queued_ns */
  /* Socket sensor: [0] the connecting end, [1] the accepting end. */
  struct socket_view sockets[2];
};

/* A socket of ours on this host, kept with it by the kernel for as long as it lives. Written by S. */
struct socket_state {
  struct connection_key key; /* of the connection that it is an end of */
  __u32 backend_id;          /* 0: not known (a connection to a VIP, not yet seen by the balancer) */
  __u8 end;                  /* enum socket_end */
  __u8 counts;               /* 1: its counters are its backend's */
  __u8 owns;                 /* 1: it tells of the connection's requests */
  __u8 padding;
  struct half_open flow;     /* until it is established; for who owns nothing syn_ns alone */
  __u32 rtt_samples;         /* heard of so far, at most RTT_SAMPLES */
  __u32 connect_us;          /* of an end that owns nothing, until the connection has it */
};

/* One later fragment's way: which backend its first fragment went to, or came from. */
struct fragment_key {
  struct address source;
  struct address destination;
  __u32 id;       /* IPv4: 16 bits */
  __u32 protocol;
};

/* --- statistics --------------------------------------------------------------------------- */

/* Counters of one backend on one CPU: sum them over the CPUs. Written by X, the socket_ ones by S. */
struct backend_stats {
  __u64 connections;       /* new connections placed here, or moved here before an answer */
  __u64 retry_connections; /* of these: retries of a failed request */
  __u64 failovers;         /* unanswered SYNs that were moved off it */
  __u64 masked;            /* refusals of it that were held back: their SYNs were moved off it */
  __u64 established;       /* SYN-ACKs */
  __u64 requests;
  __u64 answers;
  __u64 refused;           /* failures by kind */
  __u64 handshake_timeouts;
  __u64 resets;
  __u64 abandoned;
  __u64 empty;
  __u64 overloads;         /* status 429 */
  __u64 server_errors;     /* status 5xx */
  __u64 status_2xx;
  __u64 status_3xx;
  __u64 status_4xx;        /* without 429 */
  __u64 closes;            /* connections that ended, in whatever way */
  __u64 client_resets;     /* RSTs from clients */
  __u64 syn_repeats;
  __u64 client_repeats;    /* data segments seen before */
  __u64 backend_repeats;
  __u64 packets_in;
  __u64 packets_out;
  __u64 bytes_in;          /* TCP payload to the backend */
  __u64 bytes_out;
  __u64 waited_out;        /* ends of requests and SYNs older than WAITING_YOUNG_SLOTS */
  __u64 socket_connects;   /* connections established as sockets saw them */
  __u64 socket_connect_ns; /* their summed connect time */
  __u64 socket_retransmits;
  __u64 socket_synack_retransmits;
  __u64 socket_rtos;
  __u64 socket_resets_sent; /* by the backend's own socket */
  __u64 socket_resets_received;
  __u64 socket_closes;
  __u64 socket_bytes_sent;     /* payload, by backends' sockets */
  __u64 socket_bytes_received;
  __u64 socket_srtt_us;     /* last reported smoothed RTT, not a sum */
  __u32 connect_histogram[HISTOGRAM_BUCKETS];  /* SYN to SYN-ACK at the balancer */
  __u32 response_histogram[HISTOGRAM_BUCKETS]; /* request's first byte to answer's first byte */
  /* Started less ended on this CPU, by the slot of the start: only the sum over CPUs means much. */
  __s32 waiting_syn[WAITING_SLOTS];
  __s32 waiting[WAITING_SLOTS];
};

struct service_stats {
  __u64 first_attempts; /* requests that repeat no failed one */
  __u64 retries;
  __u64 steered;        /* retries kept away from the backend that failed them */
  __u64 off_ring;       /* connections that two choices or a limit took off their slot */
  __u64 neutral;        /* connections placed by the neutral ring, the agent being silent */
  __u64 failures[FAILURE_KINDS]; /* by enum failure_kind */
  __u64 shed;           /* new connections refused: beyond a limit in flight */
  __u64 shed_retries;   /* retries refused: beyond the budget or their part of a limit */
  /* Of failures on connections that had answered before and cannot be read (not HTTP/1.x): their
   * retries may travel where no SYN tells of them. */
  __u64 unreadable_failures;
  __u64 unreadable_retries; /* of these failures: retries that were seen all the same */
};

/* One cache line each, so that two CPUs serving two backends do not share one. */
struct inflight {
  __s64 requests;    /* unanswered SYNs and requests now; added and subtracted atomically by X */
  __u64 limit;       /* at most so many, or new connections are refused; 0: no limit. Written by A */
  __u64 retry_limit; /* the same for retries, which are refused first; 0: no limit. Written by A */
  /* Of a service, written by A: a client's FIN that leaves its request unanswered is made a RST, so
   * that the backend need not work for it; 0: it is not. */
  __u64 ends_abandoned;
  __u64 padding[4];
};

/* What clients whose addresses fall on one share have had in `second`. */
struct budget_share {
  __u32 second;
  __u32 spent;
};

/* A token bucket for the retries of one service (SRE's retry budget). One token is one retry; held
 * in 2^-16 tokens. Rate and burst are written by A, the rest by X under the lock. In `admissions`:
 * of all new connections, by rate and shares alone. */
struct budget {
  struct bpf_spin_lock lock;
  __u32 rate_q16;    /* tokens a second */
  __u64 burst_q16;   /* the most that can be saved up */
  __u64 tokens_q16;  /* as of filled_ns */
  __u64 filled_ns;
  __u64 admitted;    /* retries let through since the start */
  __u64 refused;
  __u64 refused_unfair; /* of these: beyond their client's share of a budget that was short */
  __u32 second;      /* CLOCK_MONOTONIC >> 30, of the last retry */
  __u32 sharers;     /* shares that asked in that second, */
  __u32 sharers_before; /* and in the one before it */
  __u32 padding;
  struct budget_share shares[BUDGET_SHARES];
};

/* What the tap is to copy. Written by A before it is switched on. */
struct tap_wish {
  struct address client;
  __u32 client_prefix_bits; /* 0: any client; of IPv4 96 more than its own */
  __u32 sample;             /* one of so many packets; 0 or 1: all */
};

/* What comes before a packet's bytes in `taps`. */
struct tap_header {
  __u64 time_ns;
  __u32 sequence;     /* the same for a packet as it came and as it left; by CPU */
  __u32 packet_bytes; /* its whole length; what follows may be less */
  __u32 backend_id;   /* 0: none */
  __u32 notes;        /* bit v - FIRST_NOTE is set for each note */
  __u32 ifindex;      /* where it came in; of a packet as it left: where it leaves */
  __u16 service_id;   /* 0: none */
  __u8 verdict;       /* enum verdict; of a packet as it came: VERDICTS */
  __u8 leaving;       /* 0: as it came, 1: as it left */
  __u8 action;        /* enum xdp_action, of a packet as it left */
  __u8 wanted;        /* 1; the balancer's own */
  __u8 padding[6];
};

/* --- events ------------------------------------------------------------------------------- */

/* One decision point of a connection, or one retry. Written by X, read by A. */
struct event {
  __u64 time_ns;
  __u64 syn_ns;            /* names the connection, with key */
  struct connection_key key;
  __u32 backend_id;
  __u64 connect_ns;        /* SYN to SYN-ACK; 0: no SYN-ACK */
  __u64 waited_ns;         /* ANSWER: request to answer. END: how long what is unanswered waited */
  __u64 previous_syn_ns;   /* RETRY: the failed connection */
  __u32 previous_backend_id;
  __u32 previous_request;  /* which of its requests, from 1; 0: its handshake */
  __be16 previous_port_be;
  __u16 status;            /* HTTP/1.x status of the answer, 0: not seen */
  __u32 request;           /* which request of the connection, from 1; 0: none begun */
  __u16 repeats;           /* data segments repeated, both ways */
  __u8 type;               /* enum event_type */
  __u8 failure;            /* enum failure_kind of the request (RETRY: of the failed one) */
  __u8 attempt;            /* 1 = first */
  __u8 closed_by;          /* enum closed_by */
  __u8 syn_repeats;
  __u8 state;              /* enum connection_state before the event */
  __u32 waiting_at_start;  /* as in struct connection */
  __u8 method;             /* enum http_method */
  __u8 evidence;           /* enum label_evidence */
  __u8 confidence;         /* 0 to 255 */
  __u8 padding;
  __u32 request_bytes;     /* payload of the request so far, repeats included; saturating */
  __u32 srtt_us;           /* last smoothed RTT that a socket of it told, the connecting one's first */
  __u16 rtos;              /* retransmission timeouts of its sockets; saturating */
  __u16 score_model;       /* low bits of the generation of the model in the kernel; 0: not scored */
  __u32 score_q16;         /* its probability of a retry, 0 to 65536, as the kernel scored it */
};

/* All that was seen of one request, once nothing more can be said of it: the next one of its
 * connection begins, or the connection has ended. Told from struct event by its size. Written by X
 * (or S, where it is the owner) while control.recording, read by A. */
struct record {
  __u64 time_ns;
  struct connection_key key;
  struct connection connection; /* one that never got so far as to have a request: requests is 0 */
};

PETREL_ASSERT_SIZE(struct address, 16);
PETREL_ASSERT_SIZE(struct service_key, 20);
PETREL_ASSERT_SIZE(struct port_range, 8);
PETREL_ASSERT_SIZE(struct vip, 132);
PETREL_ASSERT_SIZE(struct address_filter, 16384);
PETREL_ASSERT_SIZE(struct service, 24);
PETREL_ASSERT_SIZE(struct endpoint, 64);
PETREL_ASSERT_SIZE(struct next_hop, 16);
PETREL_ASSERT_SIZE(struct backend, 64);
PETREL_ASSERT_SIZE(struct backend_key, 20);
PETREL_ASSERT_SIZE(struct route_key, 20);
PETREL_ASSERT_SIZE(struct route, 20);
PETREL_ASSERT_SIZE(struct weight, 48);
PETREL_ASSERT_SIZE(struct control, 32);
PETREL_ASSERT_SIZE(struct connection_key, 24);
PETREL_ASSERT_SIZE(struct socket_view, 40);
PETREL_ASSERT_SIZE(struct half_open, 128);
PETREL_ASSERT_SIZE(struct connection, 288);
PETREL_ASSERT_SIZE(struct socket_state, 168);
PETREL_ASSERT_SIZE(struct fragment_key, 40);
PETREL_ASSERT_SIZE(struct backend_stats, 5168);
PETREL_ASSERT_SIZE(struct service_stats, 136);
PETREL_ASSERT_SIZE(struct hedge_wish, 32);
PETREL_ASSERT_SIZE(struct inflight, 64);
PETREL_ASSERT_SIZE(struct budget, 72 + BUDGET_SHARES * 8);
PETREL_ASSERT_SIZE(struct tap_wish, 24);
PETREL_ASSERT_SIZE(struct tap_header, 40);
PETREL_ASSERT_SIZE(struct event, 120);
PETREL_ASSERT_SIZE(struct record, 320);

#ifdef __cplusplus
}  // namespace petrel::bpf
#endif

#endif /* PETREL_BPF_TYPES_H */
