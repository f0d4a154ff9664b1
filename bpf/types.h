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
#include <linux/types.h>
#endif

#ifdef __cplusplus
#define PETREL_ASSERT_SIZE(type, bytes) static_assert(sizeof(type) == (bytes), #type)
#else
#define PETREL_ASSERT_SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), #type)
#endif

#ifdef __cplusplus
namespace petrel::bpf {
#endif

/* --- limits ------------------------------------------------------------------------------- */

#define MAX_SERVICES 512
#define MAX_BACKENDS 4096

/* waiting[]: requests without an answer, by the time slot in which they began.
 * 512 slots of 2^24 ns (16.8 ms) span 8.6 s before a slot is used again. What has waited for
 * WAITING_YOUNG_SLOTS (7.5 s) is carried over by the agent and no longer given back to its slot. */
#define WAITING_SLOT_SHIFT 24
#define WAITING_SLOTS 512
#define WAITING_YOUNG_SLOTS 448

/* Histograms are log-linear: 4 buckets an octave from 2^10 ns (1 us) to 2^34 ns (17 s). */
#define HISTOGRAM_FIRST_OCTAVE 10
#define HISTOGRAM_OCTAVES 24
#define HISTOGRAM_BUCKETS (HISTOGRAM_OCTAVES * 4)

/* --- enums -------------------------------------------------------------------------------- */

/* Why a request counts as failed, and so why its repetition counts as a retry. */
enum failure_kind {
  FAILURE_NONE = 0,
  FAILURE_REFUSED = 1,           /* RST in answer to a SYN */
  FAILURE_HANDSHAKE_TIMEOUT = 2, /* SYN unanswered when the client came again or the sweep found it */
  FAILURE_RESET = 3,             /* RST from the backend on an established connection */
  FAILURE_ABANDONED = 4,         /* the client closed or reset with its request unanswered */
  FAILURE_EMPTY = 5,             /* FIN from the backend with the request unanswered */
  FAILURE_OVERLOAD = 6,          /* HTTP 429 */
  FAILURE_SERVER_ERROR = 7,      /* HTTP 5xx */
  FAILURE_KINDS = 8,
};

enum closed_by {
  CLOSED_BY_NOBODY = 0,
  CLOSED_BY_CLIENT_FIN = 1,
  CLOSED_BY_CLIENT_RST = 2,
  CLOSED_BY_BACKEND_FIN = 3,
  CLOSED_BY_BACKEND_RST = 4,
  CLOSED_BY_TIMEOUT = 5, /* nothing was heard: found by the next SYN or by the agent's sweep */
  CLOSED_BY_REUSE = 6,   /* the client began a new connection from the same port */
};

enum connection_state {
  CONNECTION_SYN = 1,         /* SYN sent on, no SYN-ACK yet */
  CONNECTION_ESTABLISHED = 2, /* SYN-ACK seen (or a flow taken up in the middle) */
  CONNECTION_CLOSED = 3,      /* FIN or RST seen and accounted for; stays until evicted */
};

/* connection.flags */
enum connection_flag {
  CONNECTION_WAITING = 1 << 0,     /* a request is unanswered: it is in waiting[] and inflight */
  CONNECTION_WAITING_SYN = 1 << 1, /* the SYN is unanswered: it is in waiting_syn[] and inflight */
  CONNECTION_STEERED = 1 << 2,     /* a retry kept away from the backend that failed it */
  CONNECTION_OFF_RING = 1 << 3,    /* two choices took the second one */
  CONNECTION_ADOPTED = 1 << 4,     /* taken up in the middle: no SYN was seen */
  CONNECTION_CLIENT_FIN = 1 << 5,
  CONNECTION_BACKEND_FIN = 1 << 6,
  CONNECTION_NEUTRAL = 1 << 7,     /* placed by the neutral ring, the agent being silent */
};

/* service.flags: what the balancer may do for a service; set by A. */
enum service_flag {
  SERVICE_READY = 1 << 0,       /* both rings are complete: without it packets pass untouched */
  SERVICE_ACT = 1 << 1,         /* use the ring in force; else the neutral one */
  SERVICE_STEER = 1 << 2,       /* a retry avoids the backend that failed it */
  SERVICE_TWO_CHOICES = 1 << 3, /* the less loaded of two backends takes a new connection */
};

/* backend.state: set by A. */
enum backend_state {
  BACKEND_UNUSED = 0,
  BACKEND_UP = 1,
  BACKEND_QUARANTINED = 2, /* refuses or never answers: weight 0, probed */
};

/* Why a weight is what it is: weight.reason; set by A, shown by status and explain. */
enum weight_reason {
  REASON_BASE = 0,       /* at its configured weight */
  REASON_RISK = 1,       /* lowered by the backend's own risk */
  REASON_FLOOR = 2,      /* lowered, and held at the least weight */
  REASON_QUARANTINE = 3, /* refuses or never answers */
  REASON_RECOVERING = 4, /* on the way back */
  REASON_PANIC = 5,      /* too much of the service looks bad: spread evenly */
  REASON_SHARED = 6,     /* the trouble is the whole service's: weights go to base */
  REASON_CAPPED = 7,     /* its share may not grow past the cap */
  REASON_NEUTRAL = 8,    /* the service's mode is neutral or shadow */
  REASON_SAMPLES = 9,    /* too few samples to move it down */
};

/* verdicts: one counter for each way a packet leaves the balancer other than plainly forwarded. */
enum verdict {
  VERDICT_FORWARDED = 0,       /* to a backend */
  VERDICT_RETURNED = 1,        /* to a client */
  VERDICT_NOT_OURS = 2,        /* no service, no backend: passed untouched */
  VERDICT_MALFORMED = 3,       /* ours by address, but cannot be parsed: passed untouched */
  VERDICT_FRAGMENT = 4,        /* a fragment to or from us: passed untouched */
  VERDICT_TTL_EXPIRED = 5,     /* passed untouched: the kernel answers with time exceeded */
  VERDICT_NO_BACKEND = 6,      /* no slot names a usable backend: passed untouched */
  VERDICT_NOT_READY = 7,       /* service not marked complete: passed untouched */
  VERDICT_FIB_LOOKUP = 8,      /* next hop came from bpf_fib_lookup, not from the cache */
  VERDICT_KERNEL_ROUTED = 9,   /* rewritten, then passed to the kernel to be routed */
  VERDICT_NO_CONNECTION = 10,  /* from a backend, but of no tracked connection: passed untouched */
  VERDICT_LATE_BACKEND = 11,   /* from a backend that its connection no longer belongs to: passed */
  VERDICT_ADOPTED = 12,        /* an established flow without an entry: placed by the ring */
  VERDICT_TABLE_FULL = 13,     /* no entry could be made: forwarded by the ring, untracked */
  VERDICT_EVENT_LOST = 14,     /* the events ring buffer was full */
  VERDICT_NEUTRAL_RING = 15,   /* a new connection placed by the neutral ring, agent silent */
  VERDICT_BAD_SLOT = 16,       /* a slot named no usable backend: the neutral ring was asked */
  VERDICTS = 17,
};

enum event_type {
  EVENT_RETRY = 1,  /* a request began that repeats a failed one: `previous_*` name it */
  EVENT_ANSWER = 2, /* the first byte of an answer */
  EVENT_END = 3,    /* the connection ended, well or badly */
};

/* --- addresses ---------------------------------------------------------------------------- */

/* IPv6, or IPv4 as ::ffff:a.b.c.d (RFC 4291, 2.5.5.2): one key layout for both families. */
struct address {
  union {
    __u8 bytes[16];
    __be32 words_be[4];
  };
};

/* --- configuration, written by A ---------------------------------------------------------- */

struct service_key {
  struct address vip;
  __be16 port_be;
  __u8 protocol; /* IPPROTO_TCP */
  __u8 padding;  /* 0 */
};

struct service {
  __u32 service_id;     /* 1 to MAX_SERVICES - 1 */
  __u32 flags;          /* enum service_flag */
  __u32 ring_offset;    /* first slot of the ring in force, in `ring` */
  __u32 neutral_offset; /* first slot of the neutral ring (configured weights), in `ring` */
  __u32 slots;          /* length of each of both, a prime; 1 or more */
  __u32 hash_seed;
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
  __be16 port_be;
  __be16 vip_port_be;
  __u32 service_id;     /* 0: unused entry */
  __u32 state;          /* enum backend_state */
  struct next_hop hop;  /* kept by A from the kernel's neighbour table */
};

struct backend_key {
  struct address address;
  __be16 port_be;
  __u16 padding; /* 0 */
};

/* The human-readable truth beside the ring. */
struct weight {
  char backend[16];     /* name, cut to 15 characters */
  __u32 base_weight;    /* as configured, 0 to 65535 */
  __u32 factor_q16;     /* weight in force as a part of the base: 65536 = all of it */
  __u32 risk_q16;       /* predicted retry probability, 0 to 65536 */
  __u32 reason;         /* enum weight_reason */
  __u64 changed_ns;     /* when factor_q16 last changed */
};

/* What the agent tells the balancer at run time. */
struct control {
  __u64 heartbeat_ns;       /* when A last ticked; 0: never */
  __u64 heartbeat_limit_ns; /* older than this: the neutral ring serves */
  __u32 route_generation;   /* grows with each change of routes or neighbours: cached hops are old */
  __u32 padding;
};

/* --- connections -------------------------------------------------------------------------- */

struct connection_key {
  struct address client;
  __be16 client_port_be;
  __u16 service_id;
};

/* What a kernel socket on this host told of the connection; all zero where none did. Written by S. */
struct socket_view {
  __u64 connect_ns;         /* SYN_SENT (or SYN_RECV) to ESTABLISHED as the socket saw it */
  __u64 bytes_sent;         /* payload, repeats not counted */
  __u64 bytes_received;     /* payload */
  __u32 srtt_us;            /* smoothed RTT at its last report */
  __u16 retransmits;        /* segments, saturating */
  __u8 resets_sent;         /* saturating */
  __u8 resets_received;     /* saturating */
};

struct connection {
  /* What each packet touches comes first. Written by X. */
  __u32 backend_id;
  __u16 flags;           /* enum connection_flag */
  __u8 state;            /* enum connection_state */
  __u8 attempt;          /* of the current request: 1 = first, n = retry n-1; saturating */
  __u32 client_end_seq;  /* sequence number after the last payload byte seen from the client */
  __u32 backend_end_seq; /* the same from the backend */
  __u64 syn_ns;          /* first SYN (or first packet seen); names the connection in events */
  __u64 synack_ns;       /* 0: none yet */
  __u64 request_ns;      /* first byte of the current request; 0: none yet */
  __u64 response_ns;     /* first byte of its answer; 0: none yet */
  __u64 close_ns;        /* FIN or RST that ended it; 0: open */
  __u64 bytes_in;        /* client to backend, TCP payload, repeats included */
  __u64 bytes_out;       /* backend to client, the same */
  __u32 syn_seq;         /* of the client's SYN: the same again is a retransmission, not a retry */
  __u32 requests;        /* begun so far; turns of client then backend bytes */
  __u16 client_repeats;  /* data segments from the client seen before; saturating */
  __u16 backend_repeats; /* the same from the backend */
  __u8 syn_repeats;      /* SYNs beyond the first; saturating */
  __u8 closed_by;        /* enum closed_by */
  __u8 failure;          /* enum failure_kind of the current request */
  __u8 previous_failure; /* of the request that this one repeats; FAILURE_NONE for a first attempt */
  __u16 status;          /* last HTTP/1.x status, 0 if none was seen */
  __u16 padding;
  __u32 previous_backend_id; /* which backend failed it before; 0 for a first attempt */
  struct next_hop client_hop; /* way back to the client, from bpf_fib_lookup */
  __u32 client_hop_generation; /* control.route_generation when it was looked up */
  /* Socket sensor: [0] the connecting end, [1] the accepting end. */
  struct socket_view sockets[2];
};

struct client_key {
  struct address client;
  __u32 service_id;
};

/* The evidence by which a retry is told: the client's last failure, and its SYN still unanswered. */
struct client {
  __u64 failure_ns;          /* 0: none */
  __u64 failed_syn_ns;       /* names the failed connection, with failed_port_be */
  __u32 failed_backend_id;
  __u32 failed_request;      /* which request of that connection, from 1; 0: its handshake */
  __u32 unclaimed;           /* failures that no retry has answered yet: each explains one retry */
  __be16 failed_port_be;
  __u8 failure;              /* enum failure_kind */
  __u8 failed_attempt;       /* attempt number of what failed */
  __u64 pending_syn_ns;      /* SYN without an answer; 0: none */
  __be16 pending_port_be;
  __u16 padding[3];
};

/* --- statistics --------------------------------------------------------------------------- */

/* Counters of one backend on one CPU: sum them over the CPUs. Written by X, the socket_ ones by S. */
struct backend_stats {
  __u64 connections;       /* new connections placed here */
  __u64 retry_connections; /* of these: retries of a failed request */
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
  __u64 off_ring;       /* connections that two choices took off their slot */
  __u64 neutral;        /* connections placed by the neutral ring, the agent being silent */
  __u64 failures[FAILURE_KINDS]; /* by enum failure_kind */
};

/* One cache line each, so that two CPUs serving two backends do not share one. */
struct inflight {
  __s64 requests; /* unanswered SYNs and requests now; added and subtracted atomically by X */
  __u64 padding[7];
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
};

PETREL_ASSERT_SIZE(struct address, 16);
PETREL_ASSERT_SIZE(struct service_key, 20);
PETREL_ASSERT_SIZE(struct service, 24);
PETREL_ASSERT_SIZE(struct next_hop, 16);
PETREL_ASSERT_SIZE(struct backend, 60);
PETREL_ASSERT_SIZE(struct backend_key, 20);
PETREL_ASSERT_SIZE(struct weight, 40);
PETREL_ASSERT_SIZE(struct control, 24);
PETREL_ASSERT_SIZE(struct connection_key, 20);
PETREL_ASSERT_SIZE(struct socket_view, 32);
PETREL_ASSERT_SIZE(struct connection, 184);
PETREL_ASSERT_SIZE(struct client_key, 20);
PETREL_ASSERT_SIZE(struct client, 48);
PETREL_ASSERT_SIZE(struct backend_stats, 5152);
PETREL_ASSERT_SIZE(struct service_stats, 104);
PETREL_ASSERT_SIZE(struct inflight, 64);
PETREL_ASSERT_SIZE(struct event, 88);

#ifdef __cplusplus
}  // namespace petrel::bpf
#endif

#endif /* PETREL_BPF_TYPES_H */
