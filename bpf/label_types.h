/* SPDX-License-Identifier: MIT */
/* Structs of the retry label that the BPF programs and userspace share: which requests failed, how
 * soon and how often failures are repeated, and when a client would come anyway.
 *
 * As in types.h, which includes this. "Ticks" are units of 1.024 us, modulo 2^32 (73 minutes).
 */
#ifndef PETREL_BPF_LABEL_TYPES_H
#define PETREL_BPF_LABEL_TYPES_H

#ifdef __cplusplus
namespace petrel::bpf {
#endif

/* --- failures ----------------------------------------------------------------------------- */

/* Of an address at a service (identity 0), or of one of several hosts behind that address. */
struct client_key {
  struct address client;
  __u16 service_id;
  __u16 identity; /* by clock or by port: identity.bpf.h; 0: the address itself */
};

/* A request that failed, and what is taken for its retry. Written by X, or S for its connections. */
struct failure {
  __u64 syn_ns;             /* names the failed connection, with port_be; 0: no failure */
  __u64 retry_syn_ns;       /* the same of the retry */
  __u32 known_at;           /* ticks: when its client can know. A handshake that timed out: its SYN */
  __u32 backend_id;         /* 0: refused by us */
  __u32 request;            /* which request of its connection, from 1; 0: its handshake */
  __u32 retry_request;      /* the same of the retry */
  __be16 port_be;
  __be16 retry_port_be;     /* 0: no retry is known */
  __u16 hash;               /* connection.request_hash; 0: not known */
  __u8 kind;                /* enum failure_kind */
  __u8 attempt;             /* 1 = first */
  __u8 retry_odds_log2;     /* how sure the retry is: its odds are 2 to this */
  __u8 unreadable;          /* its connection had answered before, and is no HTTP/1.x */
  __u8 padding[6];
};

/* The evidence by which a retry is told: a host's last failures. Under identity 0 lies the host that
 * failed last, with what is known of the address as a whole; when another host fails, the first one
 * moves to an entry of its own. */
struct client {
  struct failure failures[HOST_FAILURES]; /* `next` is the oldest */
  __u64 failure_ns;         /* the last one; 0: none */
  __u32 since;              /* ticks: since when arrivals are counted */
  __u32 arrivals;           /* first attempts of this host since then */
  __u32 ts_offset_ms;       /* as in struct connection, of what failed last */
  __u32 clock_at_ms;        /* when that clock was read; modulo 2^32 */
  __be16 port_be;           /* of what failed last */
  __u8 flags;               /* enum client_flag */
  __u8 next;                /* index of the next failure in `failures` */
  /* Of the address as a whole: identity 0 only. */
  __u32 all_arrivals;       /* first attempts of all its hosts */
  __u8 clock_matches;       /* retries whose TCP timestamps told their host; saturating */
  __u8 port_matches;        /* retries whose source ports did; saturating */
  __u8 port_misses;         /* retries of a known host from a port that was not near; saturating */
  __u8 padding[5];
};

/* --- when clients come -------------------------------------------------------------------- */

/* A SYN without an answer: it may have failed by its client's next one. */
struct waiting_syn {
  __u32 at;                 /* ticks; 0 with port 0: none */
  __u32 ts_offset_ms;
  __be16 client_port_be;    /* 0: none */
  __be16 service_port_be;
  __u8 has_clock;           /* ts_offset_ms is known */
  __u8 padding[3];
};

/* A client's last SYN, and how regularly it sends them. Times in ticks. */
struct pending {
  __u32 tag;                /* hash of client and service; 0: none. The flow itself has the key */
  __u32 syn_at;             /* of the last SYN */
  __u32 first_at;           /* of the last SYN that was no retry */
  __u32 interval;           /* between the last two of those */
  __u32 gap;                /* the same, smoothed (1/8); 0: not known */
  __u32 ts_offset_ms;       /* of the last SYN */
  __be16 client_port_be;    /* of the last SYN */
  __u8 flags;               /* enum pending_flag */
  __u8 regular;             /* intervals in a row like the one before; saturating */
  __u8 same_host;           /* 0 to 15: of late, how often a SYN was of the host of the one before */
  __u8 padding[3];
  struct waiting_syn waits[PENDING_SYNS];
};

/* When one client asks for one thing: pollers come by the clock. Times in ticks. */
struct schedule {
  __u32 tag;      /* hash of client, service and request; 0: none */
  __u32 at;       /* its last first attempt */
  __u32 interval; /* between the last two */
  __u32 regular;  /* intervals in a row like the one before; at most 8 */
};

/* When a client last failed, by hash of client and service: most SYNs need not look further. */
struct client_filter {
  __u8 epochs[CLIENT_EPOCHS]; /* CLOCK_MONOTONIC >> CLIENT_EPOCH_SHIFT, not 0; 0: never */
};

/* --- how failures are repeated ------------------------------------------------------------ */

/* What a service's requests have taught of retries, on one CPU: sum it over the CPUs. Fractions of
 * requests, in 256ths: a request counts for each failure that it may answer by how likely it does.
 * Written by X (or S). */
struct retry_counts {
  __u64 delays[RETRY_CAUSES][RETRY_BUCKETS];    /* retries, by their delay */
  __u64 retried[RETRY_CAUSES][RETRY_ATTEMPTS];  /* failures that were repeated, by attempt number */
  __u64 failed[RETRY_CAUSES][RETRY_ATTEMPTS];   /* failures */
  __u64 others;                /* other requests of a host, for each failure in whose window they come;
                                  handshakes apart, of which is not known when they failed */
  __u64 gaps[RETRY_BUCKETS];   /* whole: between a client's SYNs, while it had no failure */
  __u64 same_requests;         /* whole: requests that ask for what another client's asked */
  __u64 compared_requests;     /* whole: how many were looked at for that */
  __u32 last_client;           /* hash of the one who asked last, */
  __u32 last_request;          /* and of what for */
};

/* What comes of it: rates at which retries, and other requests, are to be expected. Written by A. In
 * requests per 1,000 s. */
struct retry_odds {
  /* Of a failure that is not yet repeated: by cause, attempt number (the last: and above) and time
   * since it was known (the hazard of the delay's distribution). */
  __u32 retry_hazard[RETRY_CAUSES * RETRY_ATTEMPTS * RETRY_BUCKETS];
  __u32 burst_hazard[RETRY_BUCKETS]; /* of another SYN of a client after its last: page loads */
  __u32 host_gap;    /* ticks between the requests of a host that has failed, retries apart */
  __u32 usual_gap;   /* ticks between a client's first attempts, where its own are not known */
  __u32 same_factor; /* how much likelier the same request is a retry than not, times 16 */
};

PETREL_ASSERT_SIZE(struct client_key, 20);
PETREL_ASSERT_SIZE(struct failure, 48);
PETREL_ASSERT_SIZE(struct client, HOST_FAILURES * 48 + 40);
PETREL_ASSERT_SIZE(struct waiting_syn, 16);
PETREL_ASSERT_SIZE(struct pending, 32 + PENDING_SYNS * 16);
PETREL_ASSERT_SIZE(struct schedule, 16);
PETREL_ASSERT_SIZE(struct client_filter, CLIENT_EPOCHS);
PETREL_ASSERT_SIZE(struct retry_counts, 8 * (RETRY_CAUSES * (RETRY_BUCKETS + 2 * RETRY_ATTEMPTS) +
                                             RETRY_BUCKETS + 4));
PETREL_ASSERT_SIZE(struct retry_odds, 4 * (RETRY_CAUSES * RETRY_ATTEMPTS * RETRY_BUCKETS +
                                           RETRY_BUCKETS + 3));

#ifdef __cplusplus
}  // namespace petrel::bpf
#endif

#endif /* PETREL_BPF_LABEL_TYPES_H */
