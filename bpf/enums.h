/* SPDX-License-Identifier: MIT */
/* Limits, flags, states and reasons that the BPF programs and userspace share.
 *
 * Plain C for both sides. A value is frozen once shipped: it is what a pinned map holds.
 */
#ifndef PETREL_BPF_ENUMS_H
#define PETREL_BPF_ENUMS_H

#ifdef __cplusplus
namespace petrel::bpf {
#endif

/* --- limits ------------------------------------------------------------------------------- */

#define MAX_SERVICES 513  /* ids 1 to 512; 0 is "unset" */
#define MAX_BACKENDS 4097 /* ids 1 to 4096 */
#define VIP_RANGES 16     /* services with more than one port, of one address */
#define HALF_OPEN_WAYS 2  /* entries that a new flow may take: a set of the half_open table */
#define MAX_MOVES 3       /* backends that one SYN may be moved off: failovers and maskings */
#define MAX_MASKED 2      /* of these: refusals held back from the client */
#define SYN_OPTIONS_BYTES 32 /* of a SYN that can be sent again: TCP has 40, stacks send 20 to 28 */
#define SYN_NOT_KEPT 255
#define HEDGE_WISH_OFFSET 16 /* of struct hedge_wish in the frame: after the Ethernet header, aligned */
#define BUDGET_SHARES 64 /* kinds of client, by hash, among which a budget that is short is shared */

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

/* address_filter: 2^16 bits for VIPs, and as many for backends. */
#define FILTER_BITS 65536
#define FILTER_WORDS (FILTER_BITS / 64)

#define ENDPOINT_SLOTS 16384 /* a power of two, a few times the services and backends there can be */

/* client_filter: a byte for each of 2^16 hashes, in epochs of 2^30 ns (1.07 s). */
#define CLIENT_EPOCHS 65536
#define CLIENT_EPOCH_SHIFT 30

/* --- connections -------------------------------------------------------------------------- */

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
  CLOSED_BY_EVICTION = 7, /* its half-open entry was taken by another */
  CLOSED_BY_US = 8,      /* its backend was removed, or it was beyond a limit or budget */
};

enum connection_state {
  CONNECTION_SYN = 1,         /* SYN sent on, no SYN-ACK yet; in half_open */
  CONNECTION_ANSWERED = 2,    /* SYN-ACK seen, the client's ACK not yet; in half_open */
  CONNECTION_ESTABLISHED = 3, /* the client has shown that it is there; in connections */
  CONNECTION_CLOSED = 4,      /* FIN or RST seen and accounted for; stays until evicted */
};

#define QUEUED_REQUESTS 4 /* pipelined requests of a connection whose times are kept */

/* By the first bytes of a request. */
enum http_method {
  METHOD_NONE = 0,  /* not HTTP/1.x as far as was seen: TLS, HTTP/2 and all else */
  METHOD_OTHER = 1, /* looks like one */
  METHOD_GET = 2,
  METHOD_HEAD = 3,
  METHOD_POST = 4,
  METHOD_PUT = 5,
  METHOD_DELETE = 6,
  METHOD_OPTIONS = 7,
  METHOD_PATCH = 8,
  METHOD_CONNECT = 9,
  METHOD_TRACE = 10,
};

/* connection.owner: who tells of a connection's requests, so that two sensors on one host count
 * nothing twice. The first one that saw it. */
enum sensor {
  SENSOR_NONE = 0,
  SENSOR_WIRE = 1,       /* the balancer */
  SENSOR_CONNECTING = 2, /* the socket that connects, on this host */
  SENSOR_ACCEPTING = 3,  /* the socket that accepts, on this host */
};

/* socket_state.end, and the index of its socket_view in a connection. */
enum socket_end {
  END_CONNECTING = 0,
  END_ACCEPTING = 1,
};

#define RTT_SAMPLES 8 /* of a socket that are listened to: they come with most ACKs */

/* connection.evidence: what speaks for and against a request's being a retry. The odds are those of
 * retry.bpf.h; the confidence in the label is what comes of them, in 255ths. */
enum label_evidence {
  EVIDENCE_FAILURE = 1 << 0,       /* its client's address had a failure in the window */
  EVIDENCE_SAME_CLOCK = 1 << 1,    /* its TCP timestamp goes on where the failed one's stood */
  EVIDENCE_OTHER_CLOCK = 1 << 2,   /* it does not: another host behind the same address */
  EVIDENCE_NEAR_PORT = 1 << 3,     /* its source port is one that the failed one's host takes next */
  EVIDENCE_OTHER_PORT = 1 << 4,    /* it is not, though hosts of this address count up their ports */
  EVIDENCE_SAME_REQUEST = 1 << 5,  /* its first bytes are those of the failed request */
  EVIDENCE_OTHER_REQUEST = 1 << 6, /* they are not: something else is asked for */
  EVIDENCE_SCHEDULED = 1 << 7,     /* it comes when this client would have come anyway: a poller */
};

/* A request is a retry (attempt above 1) from this confidence on. */
#define CONFIDENCE_RETRY 128

#define HOST_FAILURES 4 /* a host's last failures that are remembered */
#define PENDING_SYNS 3  /* a client's unanswered SYNs that are remembered */

/* Delays of retries are counted in buckets of a quarter of an octave: bucket 0 is what is shorter than
 * 32 ticks of 1.024 us, the last one is what is longer than 5 s. */
#define RETRY_FIRST_OCTAVE 5
#define RETRY_BUCKETS 72
#define RETRY_ATTEMPTS 4 /* attempt numbers that are told apart: 1, 2, 3, and above */

/* What a delay is counted from. */
enum retry_cause {
  CAUSE_HANDSHAKE = 0, /* a SYN without an answer: when it was sent, for when it was given up is unknown */
  CAUSE_REFUSED = 1,   /* the RST that came for it */
  CAUSE_REQUEST = 2,   /* the end of a connection, or the answer, that failed the request */
  RETRY_CAUSES = 3,
};

/* client.flags */
enum client_flag {
  CLIENT_TIMESTAMPS = 1 << 0, /* ts_offset_ms is known */
};

/* pending.flags */
enum pending_flag {
  PENDING_TIMESTAMPS = 1 << 1, /* ts_offset_ms is known */
  PENDING_SHARED = 1 << 2,     /* another host's SYN waited here: they are kept by host as well */
  PENDING_CLOCKS = 1 << 3,     /* a clock went on over two connections: hosts are told by theirs */
};

/* connection.flags and half_open.flags. Changed by both directions at once: with atomic operations
 * where a lost change would be felt (the WAITING ones). */
enum connection_flag {
  CONNECTION_WAITING = 1 << 0,     /* a request is unanswered: it is in waiting[] and inflight */
  CONNECTION_WAITING_SYN = 1 << 1, /* the SYN is unanswered: it is in waiting_syn[] and inflight */
  CONNECTION_STEERED = 1 << 2,     /* a retry kept away from the backend that failed it */
  CONNECTION_OFF_RING = 1 << 3,    /* two choices, or a limit, took another one */
  CONNECTION_ADOPTED = 1 << 4,     /* taken up in the middle: no SYN was seen */
  CONNECTION_CLIENT_FIN = 1 << 5,
  CONNECTION_BACKEND_FIN = 1 << 6,
  CONNECTION_NEUTRAL = 1 << 7,     /* placed by the neutral ring, the agent being silent */
  CONNECTION_FAILED_OVER = 1 << 8, /* its SYN was moved off a backend that did not answer */
  CONNECTION_MASKED = 1 << 9,      /* its SYN was moved off a backend that refused it */
  CONNECTION_MOVED = 1 << 10,      /* moved in its middle: its backend was removed */
  CONNECTION_HTTP = 1 << 11,       /* its first request began as HTTP/1.x does */
  CONNECTION_PIPELINED = 1 << 12,  /* requests came while others were unanswered */
  CONNECTION_TIMESTAMPS = 1 << 13, /* ts_offset_ms is known */
  HALF_OPEN_BUSY = 1 << 15,        /* half_open only: being filled or emptied by one CPU */
};

/* --- services and backends ---------------------------------------------------------------- */

/* service.flags: what the balancer may do for a service; set by A. */
enum service_flag {
  SERVICE_READY = 1 << 0,       /* both rings are complete: without it packets pass untouched */
  SERVICE_ACT = 1 << 1,         /* use the ring in force; else the neutral one */
  SERVICE_STEER = 1 << 2,       /* a retry avoids the backend that failed it */
  SERVICE_TWO_CHOICES = 1 << 3, /* the less loaded of two backends takes a new connection */
  SERVICE_DSR = 1 << 4,         /* encapsulate; the backend answers the client itself */
  SERVICE_AFFINITY = 1 << 5,    /* hash the client's address without its port */
  SERVICE_FAILOVER = 1 << 6,    /* a repeated SYN without an answer goes to another backend (nat) */
  SERVICE_MASK = 1 << 7,        /* a refused SYN goes to another backend (nat) */
  SERVICE_BUDGET = 1 << 8,      /* retries beyond their budget are refused */
  SERVICE_ADMIT = 1 << 9,       /* new connections beyond the limits in flight are refused */
  SERVICE_RESET_GONE = 1 << 10, /* flows of a removed backend are reset; else moved */
  SERVICE_KEEP_PORT = 1 << 11,  /* a range: backends are addressed at the port asked for */
  SERVICE_AT_CLIENT = 1 << 12,  /* not balanced: told of by this host's sockets that connect to it */
  SERVICE_AT_BACKEND = 1 << 13, /* not balanced: told of by this host's sockets that accept */
};

/* endpoint.kind */
enum endpoint_kind {
  ENDPOINT_FREE = 0,
  ENDPOINT_SERVICE = 1,
  ENDPOINT_BACKEND = 2,
};

/* backend.state: set by A. */
enum backend_state {
  BACKEND_UNUSED = 0,
  BACKEND_UP = 1,
  BACKEND_QUARANTINED = 2, /* refuses or never answers: weight 0, probed */
  BACKEND_DRAINING = 3,    /* keeps its flows, takes no new ones */
  BACKEND_REMOVED = 4,     /* its flows are reset or moved, as its service says */
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
  REASON_DRAINING = 10,  /* asked to end: its old flows only */
};

/* --- verdicts ----------------------------------------------------------------------------- */

/* V(name, "name", "what happened"): how a packet left the balancer. Each packet is counted under
 * exactly one of the verdicts, and under as many of the notes as apply. New ones go to the end of
 * their list's kind only in a new map layout: pinned counters are known by their position. */
#define PETREL_VERDICTS(V)                                                                        \
  V(FORWARDED, "forwarded", "sent to a backend")                                                  \
  V(RETURNED, "returned", "sent to a client, from the VIP")                                       \
  V(NOT_OURS, "not_ours", "no service, no backend: passed untouched")                             \
  V(MALFORMED, "malformed", "lengths that do not fit, or too many headers: passed untouched")       \
  V(FRAGMENT, "fragment", "a later fragment whose first was not seen: passed untouched")          \
  V(TTL_EXPIRED, "ttl_expired", "passed untouched: the kernel answers with time exceeded")        \
  V(NO_BACKEND, "no_backend", "no slot names a usable backend: passed untouched")                 \
  V(NOT_READY, "not_ready", "service not marked complete: passed untouched")                      \
  V(KERNEL_ROUTED, "kernel_routed", "left to the kernel: no hop is known, or it is too long")        \
  V(NO_CONNECTION, "no_connection", "from a backend, of no tracked flow: passed untouched")       \
  V(LATE_BACKEND, "late_backend", "from a backend that its flow has left: answered with a RST")   \
  V(NO_SERVICE, "no_service", "to a VIP, but to no service of it: passed untouched")              \
  V(PING, "ping", "an echo request to a VIP: answered")                                           \
  V(ICMP_FORWARDED, "icmp_forwarded", "an ICMP error about a tracked flow: sent to its end")      \
  V(ICMP_UNMATCHED, "icmp_unmatched", "an ICMP error about no tracked flow: passed untouched")    \
  V(OVER_BUDGET, "over_budget", "a retry beyond its service's budget: refused with a RST")        \
  V(OVER_LIMIT, "over_limit", "a new connection beyond the requests in flight: refused, RST")     \
  V(RETRY_OVER_LIMIT, "retry_over_limit", "a retry beyond its part of that limit: refused, RST")  \
  V(TOO_BIG, "too_big", "longer than the path to its backend once encapsulated: told the sender") \
  V(GONE_RESET, "gone_reset", "of a flow whose backend was removed: answered with a RST")         \
  V(REFUSAL_MASKED, "refusal_masked", "a refusal held back: its SYN was sent to another backend") \
  V(DROPPED, "dropped", "no reply could be built for it: dropped")                                \
  /* notes */                                                                                     \
  V(MISS_SYN, "miss_syn", "a SYN without an entry: a new connection")                             \
  V(ADOPTED, "adopted", "a packet of an established flow without an entry: placed by the ring")   \
  V(TABLE_FULL, "table_full", "no entry could be made: forwarded by the ring, untracked")         \
  V(HALF_OPEN_EVICTED, "half_open_evicted", "a half-open flow gave up its entry to a new one")    \
  V(EVENT_LOST, "event_lost", "the events ring buffer was full")                                  \
  V(NEUTRAL_RING, "neutral_ring", "a new flow placed by the neutral ring, the agent silent")      \
  V(BAD_SLOT, "bad_slot", "a slot named no usable backend: others were asked")                    \
  V(FIB_LOOKUP, "fib_lookup", "next hop asked of the kernel: the cache had none")                 \
  V(FAILED_OVER, "failed_over", "a repeated SYN moved to another backend")                        \
  V(GONE_MOVED, "gone_moved", "a flow moved on: its backend was removed")                         \
  V(FRAGMENT_FIRST, "fragment_first", "a first fragment: its later ones will follow it")          \
  V(FRAGMENT_FOLLOWED, "fragment_followed", "a later fragment sent where its first went")         \
  V(MSS_CLAMPED, "mss_clamped", "a SYN-ACK's MSS lowered to what encapsulation leaves")           \
  V(STEERED, "steered", "a retry kept off the backend that failed it")                            \
  V(OFF_RING, "off_ring", "placed off its ring slot: busy, or at its limit")                      \
  V(RECORD_LOST, "record_lost", "the events ring buffer had no room for a captured record")       \
  V(ENDED_ABANDONED, "ended_abandoned", "a FIN from who left unanswered: sent on as a RST")       \
  V(HEDGED, "hedged", "a SYN that waited long, sent to another backend by the agent")

enum verdict {
#define PETREL_VERDICT_ENUM(name, text, meaning) VERDICT_##name,
  PETREL_VERDICTS(PETREL_VERDICT_ENUM)
#undef PETREL_VERDICT_ENUM
      VERDICTS,
  FIRST_NOTE = VERDICT_MISS_SYN, /* what comes before is a verdict */
};

enum event_type {
  EVENT_RETRY = 1,  /* a request began that repeats a failed one: `previous_*` name it */
  EVENT_ANSWER = 2, /* the first byte of an answer */
  EVENT_END = 3,    /* the connection ended, well or badly */
  EVENT_MOVED = 4,  /* a SYN was moved off a backend that refused or did not answer it: the client
                       does not know, so no retry will follow, but the backend is to blame */
  EVENT_NO_RETRY = 5, /* a request that was announced as a retry asks for something else */
};

#ifdef __cplusplus
}  // namespace petrel::bpf
#endif

#endif /* PETREL_BPF_ENUMS_H */
