/* SPDX-License-Identifier: MIT */
/* The wire sensor: what the packets of a NAT service tell of each connection, in both directions.
 *
 * A request is a turn: client bytes, then backend bytes. Where the first one reads as HTTP/1.x, a turn
 * begins only where a request does, so that a body in many packets, an early answer or requests sent
 * ahead (pipelining) are told for what they are. TLS and HTTP/2 are turns with right times and no
 * status. The clock is read only where something begins or ends, so that the packets between cost a
 * look at two sequence numbers. A FIN from the client with its request unanswered counts as abandoned,
 * although a half-closed client may still read: HTTP clients do not half-close.
 */
#ifndef PETREL_BPF_WIRE_BPF_H
#define PETREL_BPF_WIRE_BPF_H

#include "bpf/half_open.bpf.h"
#include "bpf/http.bpf.h"
#include "bpf/packet.bpf.h"

static __always_inline __u8 failure_of_status(__u16 status) {
  if (status == 429) return FAILURE_OVERLOAD;
  return status >= 500 ? FAILURE_SERVER_ERROR : FAILURE_NONE;
}

static __always_inline void count_status(struct backend_stats *stats, __u16 status) {
  if (status >= 200 && status < 300) stats->status_2xx++;
  if (status >= 300 && status < 400) stats->status_3xx++;
  if (status >= 400 && status < 500 && status != 429) stats->status_4xx++;
}

/* True when the segment brings payload not seen before; else it is counted as repeated. */
static __always_inline bool new_payload(const struct packet *packet, __u32 *end_seq,
                                        __u16 *repeats, __u64 *stats_repeats) {
  __u32 end = bpf_ntohl(packet->tcp->seq) + packet->payload_bytes;

  if ((__s32)(end - *end_seq) > 0) {
    *end_seq = end;
    return true;
  }
  SATURATING_INCREMENT(*repeats);
  (*stats_repeats)++;
  return false;
}

/* Begins a request whose first byte came at start_ns; whether it waits is the caller's to say. */
static __always_inline void start_request(const struct connection_key *key,
                                          struct connection *connection,
                                          struct backend_stats *stats, __u64 start_ns) {
  note_request(key, connection, start_ns);
  connection->requests++;
  connection->request_ns = start_ns;
  connection->response_ns = 0;
  connection->last_byte_ns = 0;
  connection->request_bytes_out = connection->bytes_out;
  connection->failure = FAILURE_NONE;
  connection->status = 0;
  connection->waiting_at_start = inflight_of(connection->backend_id);
  stats->requests++;
}

static __always_inline void take_queued(const struct connection_key *key,
                                        struct connection *connection,
                                        struct backend_stats *stats, __u8 method, __u64 now_ns) {
  __u32 queued = connection->queued;

  if (queued >= QUEUED_REQUESTS) return; /* not seen: nothing waits, and its answer ends nothing */
  struct wait wait = wait_of(connection, key->service_id);
  take_wait(&wait, stats, now_ns);
  barrier_var(queued); /* the verifier wants its bound said anew */
  queued &= QUEUED_REQUESTS - 1;
  connection->queued_ns[queued] = now_ns;
  connection->queued_method[queued] = method;
  connection->queued = queued + 1;
}

/* Requests that came while another was unanswered: they wait from now on, each for its turn. The
 * client's packets add and the backend's take away, perhaps on two CPUs at once: should one of a
 * pipelining client's waits be lost by that, the agent's audit gives it back. */
static __noinline int queue_requests(const struct connection_key *key,
                                     struct connection *connection, struct backend_stats *stats,
                                     const struct request_head *head, __u32 count) {
  __u64 now_ns = clock_ns();

  fetch_or(&connection->flags, CONNECTION_PIPELINED);
  for (__u32 i = 0; i <= QUEUED_REQUESTS && i < count; i++)
    take_queued(key, connection, stats, head->method, now_ns);
  return 0;
}

/* A request's first bytes, from a client whose earlier ones are answered. */
static __always_inline int begin_request(const struct connection_key *key,
                                         struct connection *connection,
                                         struct backend_stats *stats,
                                         const struct request_head *head, __u32 payload_bytes) {
  __u64 now_ns = clock_ns();


  if (connection->requests > 0 && is_recording())
    send_record(key, connection, payload_bytes, now_ns);
  connection->request_bytes_in = connection->bytes_in - payload_bytes;
  if (connection->requests == 0 && head->method > METHOD_OTHER)
    fetch_or(&connection->flags, CONNECTION_HTTP);
  bool readable = connection->flags & CONNECTION_HTTP;
  connection->method = readable ? head->method : METHOD_NONE;
  connection->request_hash = readable ? head->hash : 0;
  start_request(key, connection, stats, now_ns);
  struct wait wait = wait_of(connection, key->service_id);
  begin_wait(&wait, stats, now_ns);
  /* The backend may be closing it at this moment, on another CPU: whoever comes second sees what the
   * other has marked. A compare-and-swap orders the two on every architecture; a load would not. */
  if (compare_and_swap(&connection->close_ns, 0, 0)) {
    end_wait(&wait, stats, now_ns, now_ns);
    return 0;
  }
  if (readable && head->more) queue_requests(key, connection, stats, head, head->more);
  return 0;
}

/* The one that was queued first is the current one now. It waits already. */
static __noinline int next_request(const struct connection_key *key, struct connection *connection,
                                   struct backend_stats *stats, __u64 now_ns) {
  __u32 queued = connection->queued;
  __u64 start_ns = connection->queued_ns[0];

  if (is_recording()) send_record(key, connection, 0, now_ns);
  connection->request_bytes_in = connection->bytes_in; /* its own came with the earlier ones' */
  connection->method = connection->queued_method[0];
  connection->request_hash = 0; /* not kept */
#pragma unroll
  for (int i = 0; i + 1 < QUEUED_REQUESTS; i++) {
    connection->queued_ns[i] = connection->queued_ns[i + 1];
    connection->queued_method[i] = connection->queued_method[i + 1];
  }
  connection->queued = queued ? queued - 1 : 0;
  start_request(key, connection, stats, start_ns);
  fetch_or(&connection->flags, CONNECTION_WAITING);
  return 0;
}

/* The first bytes of the current request's answer. Returns whether it waited for one. */
static __noinline int end_request(const struct connection_key *key, struct connection *connection,
                                  struct backend_stats *stats, __u16 status) {
  __u64 now_ns = clock_ns();
  __u64 waited_ns = now_ns - connection->request_ns;
  __u8 failure = failure_of_status(status);

  struct wait wait = wait_of(connection, key->service_id);
  if (!end_wait(&wait, stats, connection->request_ns, now_ns)) return 0;
  connection->response_ns = now_ns;
  connection->last_byte_ns = now_ns;
  connection->status = status;
  stats->answers++;
  count_status(stats, status);
  add_to_histogram(stats->response_histogram, waited_ns);
  if (failure != FAILURE_NONE) {
    connection->failure = failure;
    count_failure(stats, key->service_id, failure);
    record_request_failure(key, connection, failure, now_ns);
  }
  struct event *event = begin_connection_event(EVENT_ANSWER, key, connection, now_ns);
  if (event) {
    event->waited_ns = waited_ns;
    event->failure = failure;
    if (scores_here()) score_event(event);
    submit_event(event);
  }
  if (connection->queued) next_request(key, connection, stats, now_ns);
  return 1;
}

#ifndef SEGMENT
/* What a segment's text is read from: the frame that a program of XDP has; who sees it elsewhere says
 * so before this file, with these two. */
#define SEGMENT struct xdp_md

/* Where a segment's payload lies in its frame. */
static __always_inline __u32 payload_offset(const struct packet *packet) {
  long bytes = (void *)packet->tcp - (void *)packet->eth;

  barrier_var(bytes); /* a difference of packet pointers: only as a scalar */
  return (__u32)bytes + packet->tcp->doff * 4;
}

static __always_inline bool text_at(struct xdp_md *ctx, __u32 offset, struct text *out) {
  if (offset > 255) return false;
  out->at = (void *)(long)ctx->data + offset;
  out->end = (void *)(long)ctx->data_end;
  return out->at < out->end;
}
#endif

/* These two stand alone, so that the verifier sees their loops once. */
APART int read_request(SEGMENT *ctx, __u32 offset, struct request_head *out) {
  struct text text;

  if (!out) return 0;
  __builtin_memset(out, 0, sizeof(*out));
  if (text_at(ctx, offset, &text)) read_head(&text, half_open_secret, out);
  return 0;
}

#ifdef ARGUMENTS_BY_MAP
ROOM_FOR(struct request_head, room_read);

__noinline int read_request_here(SEGMENT *ctx, __u32 offset) {
  struct request_head *head = room_of(room_read);

  return head ? read_request(ctx, offset, head) : 0;
}

static __always_inline void read_request_apart(SEGMENT *ctx, __u32 offset, struct request_head *out) {
  struct request_head *head = room_of(room_read);

  read_request_here(ctx, offset);
  if (head) *out = *head;
}
#define read_request read_request_apart
#endif

APART int find_answers(SEGMENT *ctx, __u32 offset, struct answers *out) {
  struct text text;

  if (!out) return 0;
  __builtin_memset(out, 0, sizeof(*out));
  if (text_at(ctx, offset, &text)) read_answers(&text, out);
  return 0;
}

#ifdef ARGUMENTS_BY_MAP
ROOM_FOR(struct answers, room_answers);

__noinline int find_answers_here(SEGMENT *ctx, __u32 offset) {
  struct answers *answers = room_of(room_answers);

  return answers ? find_answers(ctx, offset, answers) : 0;
}

static __always_inline void find_answers_apart(SEGMENT *ctx, __u32 offset, struct answers *out) {
  struct answers *answers = room_of(room_answers);

  find_answers_here(ctx, offset);
  if (answers) *out = *answers;
}
#define find_answers find_answers_apart
#endif

/* New bytes from the client of an established connection, which may begin a request. Like what hears
 * the backend it stands alone, so that the verifier sees it once. `offset`: of the payload. */
APART int hear_client(SEGMENT *ctx, const struct connection_key *key,
                           struct connection *connection, __u32 offset, __u32 payload_bytes) {
  struct request_head head;

  if (!key || !connection) return 0;
  struct backend_stats *stats = stats_of_backend(connection->backend_id);
  if (!stats) return 0;
  __u32 flags = connection->flags;
  __builtin_memset(&head, 0, sizeof(head));
  if (payload_bytes >= 8) read_request(ctx, offset, &head); /* a frame may go on after its packet */
  if (flags & CONNECTION_WAITING) {
    if (head.method > METHOD_OTHER)
      queue_requests(key, connection, stats, &head, 1 + head.more);
    return 0;
  }
  if (flags & CONNECTION_HTTP) {
    /* The rest of a body whose answer came early begins no request. */
    if (head.method == METHOD_NONE) return 0;
    if (head.method == METHOD_OTHER && !has_no_body(connection->method)) return 0;
  }
  return begin_request(key, connection, stats, &head, payload_bytes);
}

#ifdef ARGUMENTS_BY_MAP
ROOM_FOR(struct connection_key, room_client);

__noinline int hear_client_here(SEGMENT *ctx, __u32 offset, __u32 payload_bytes) {
  struct connection_key *key = room_of(room_client);
  struct connection *connection = key ? bpf_map_lookup_elem(&connections, key) : NULL;

  return connection ? hear_client(ctx, key, connection, offset, payload_bytes) : 0;
}

static __always_inline void hear_client_apart(SEGMENT *ctx, const struct connection_key *key,
                                              struct connection *connection, __u32 offset,
                                              __u32 payload_bytes) {
  struct connection_key *room = room_of(room_client);

  if (!room) return;
  *room = *key;
  hear_client_here(ctx, offset, payload_bytes);
}
#define hear_client hear_client_apart
#endif

/* Nothing but the next request can follow at once, and it would have to be read. */
static __always_inline bool may_pipeline(const struct connection *connection) {
  return (connection->flags & CONNECTION_HTTP) && has_no_body(connection->method);
}

/* New bytes from the backend while a request waits. */
APART int hear_backend(SEGMENT *ctx, const struct connection_key *key,
                            struct connection *connection, __u32 offset, __u32 payload_bytes) {
  struct answers answers;
  struct text text;
  __u16 status = 0;

  if (!key || !connection) return 0;
  struct backend_stats *stats = stats_of_backend(connection->backend_id);
  if (!stats) return 0;
  if (payload_bytes >= HTTP_STATUS_LINE_BYTES && text_at(ctx, offset, &text))
    status = http_status(text.at, text.end);
  bool pipelined = connection->flags & CONNECTION_PIPELINED;
  if (!pipelined && (status == 0 || is_final(status)))
    return end_request(key, connection, stats, status);
  /* Several answers in one segment, an answer behind a body's end, or behind a "100 Continue". */
  find_answers(ctx, offset, &answers);
  for (__u32 i = 0; i <= QUEUED_REQUESTS; i++) {
    if (i >= answers.count) break;
    if (!end_request(key, connection, stats, answers.status[i])) break;
  }
  return 0;
}

#ifdef ARGUMENTS_BY_MAP
ROOM_FOR(struct connection_key, room_backend);

__noinline int hear_backend_here(SEGMENT *ctx, __u32 offset, __u32 payload_bytes) {
  struct connection_key *key = room_of(room_backend);
  struct connection *connection = key ? bpf_map_lookup_elem(&connections, key) : NULL;

  return connection ? hear_backend(ctx, key, connection, offset, payload_bytes) : 0;
}

static __always_inline void hear_backend_apart(SEGMENT *ctx, const struct connection_key *key,
                                               struct connection *connection, __u32 offset,
                                               __u32 payload_bytes) {
  struct connection_key *room = room_of(room_backend);

  if (!room) return;
  *room = *key;
  hear_backend_here(ctx, offset, payload_bytes);
}
#define hear_backend hear_backend_apart
#endif

/* A segment closes its sender's window: it is asked to wait. */
static __always_inline bool closes_window(const struct packet *packet) {
  return !packet->tcp->window && !packet->tcp->rst;
}

/* A packet from the client that is no SYN. `one_way`: the answers do not pass here (dsr), so nothing
 * waits for them. */
static __always_inline void sense_client_segment(SEGMENT *ctx, const struct packet *packet,
                                                 const struct connection_key *key,
                                                 struct connection *connection, bool one_way) {
  struct backend_stats *stats = stats_of_backend(connection->backend_id);

  if (!stats) return;
  stats->packets_in++;
  if (!packet->is_tcp) {
    stats->bytes_in += packet->payload_bytes;
    connection->bytes_in += packet->payload_bytes;
    return;
  }
  if (packet->payload_bytes) {
    stats->bytes_in += packet->payload_bytes;
    connection->bytes_in += packet->payload_bytes;
    if (new_payload(packet, &connection->client_end_seq, &connection->client_repeats,
                    &stats->client_repeats) &&
        connection->state == CONNECTION_ESTABLISHED && !one_way &&
        (!(connection->flags & CONNECTION_WAITING) || may_pipeline(connection)))
      hear_client(ctx, key, connection, payload_offset(packet), packet->payload_bytes);
  }
  if (closes_window(packet)) SATURATING_INCREMENT(connection->zero_windows_in);
  if (!packet->tcp->fin && !packet->tcp->rst) return;
  if (packet->tcp->rst) stats->client_resets++;
  if (connection->state == CONNECTION_CLOSED) return;
  bool unanswered = connection->flags & CONNECTION_WAITING;
  if (packet->tcp->fin) fetch_or(&connection->flags, CONNECTION_CLIENT_FIN);
  end_connection(key, connection, packet->tcp->rst ? CLOSED_BY_CLIENT_RST : CLOSED_BY_CLIENT_FIN,
                 unanswered ? FAILURE_ABANDONED : FAILURE_NONE, clock_ns());
}

/* How a backend's FIN or RST looks to the client whose request it may have left unanswered. */
static __always_inline __u8 failure_of_close(const struct connection *connection, bool reset) {
  if (connection->flags & CONNECTION_WAITING) return reset ? FAILURE_RESET : FAILURE_EMPTY;
  /* A connection reset before its request came through has failed its client all the same. */
  return reset && connection->requests == 0 ? FAILURE_RESET : FAILURE_NONE;
}

/* A segment from the backend that its connection belongs to. */
static __always_inline void sense_backend_segment(SEGMENT *ctx, const struct packet *packet,
                                                  const struct connection_key *key,
                                                  struct connection *connection) {
  struct backend_stats *stats = stats_of_backend(connection->backend_id);

  if (!stats) return;
  stats->packets_out++;
  if (!packet->is_tcp) {
    stats->bytes_out += packet->payload_bytes;
    connection->bytes_out += packet->payload_bytes;
    return;
  }
  if (packet->tcp->syn) return; /* the SYN-ACK again: its first was seen in half_open */
  if (packet->payload_bytes) {
    stats->bytes_out += packet->payload_bytes;
    connection->bytes_out += packet->payload_bytes;
    if (new_payload(packet, &connection->backend_end_seq, &connection->backend_repeats,
                    &stats->backend_repeats)) {
      if (connection->flags & CONNECTION_WAITING)
        hear_backend(ctx, key, connection, payload_offset(packet), packet->payload_bytes);
      else if (is_recording())
        connection->last_byte_ns = clock_ns();
    }
  }
  if (closes_window(packet)) SATURATING_INCREMENT(connection->zero_windows_out);
  if (!packet->tcp->fin && !packet->tcp->rst) return;
  if (connection->state == CONNECTION_CLOSED) return;
  if (packet->tcp->fin) fetch_or(&connection->flags, CONNECTION_BACKEND_FIN);
  end_connection(key, connection, packet->tcp->rst ? CLOSED_BY_BACKEND_RST : CLOSED_BY_BACKEND_FIN,
                 failure_of_close(connection, packet->tcp->rst), clock_ns());
}

#endif /* PETREL_BPF_WIRE_BPF_H */
